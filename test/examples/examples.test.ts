import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { validateWasm } from '../../src/model/index.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'

const EXAMPLES = join(PACKAGE_ROOT, 'examples')

describe('the examples', () => {
  it('are built from their sources, byte for byte, where the compilers are', { timeout: 120_000 }, () => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(PACKAGE_ROOT, 'scripts/build-examples.mjs'), '--check'],
      { encoding: 'utf8' },
    )
    // Skipped ones are visible in what it prints; a difference is not taken for one.
    expect({ status, stderr }, stdout).toEqual({ status: 0, stderr: '' })
    for (const name of readdirSync(EXAMPLES))
      expect(stdout).toMatch(new RegExp(`^${name}: (same|skipped)`, 'm'))
  })

  it.each(readdirSync(EXAMPLES))('%s is small, runs on weir and says how to build it', (name) => {
    const dir = join(EXAMPLES, name)
    const module = readdirSync(dir).find((file) => file.endsWith('.wasm')) ?? ''
    expect(statSync(join(dir, module)).size).toBeLessThan(200_000)
    const report = validateWasm(readFileSync(join(dir, module)), { compile: true })
    expect(report).toMatchObject({ valid: true })
    const readme = readFileSync(join(dir, 'README.md'), 'utf8')
    expect(readme).toContain('weir wasm run ')
    if (report.component !== undefined) return
    const needs = name.startsWith('http-') ? '--network http --domain' : '--input ./sales.csv'
    expect(readme).toContain(`weir wasm run ${needs}`)
    expect(readme).toContain('wasm32-wasip1')
  })
})
