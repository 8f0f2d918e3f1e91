import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { PACKAGE_ROOT } from '../../../src/package-root.js'
import { sandboxProblem, wat } from './harness.js'

const problem = await sandboxProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`

describe.skipIf(problem !== undefined)(`scripts/wasi-testsuite.mjs${skipped}`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-suite-test-'))
  afterAll(() => rmSync(dir, { recursive: true, force: true }))
  const add = (name: string, module: string, manifest?: object): void => {
    mkdirSync(dirname(join(dir, name)), { recursive: true })
    copyFileSync(wat(module), join(dir, `${name}.wasm`))
    if (manifest !== undefined) writeFileSync(join(dir, `${name}.json`), JSON.stringify(manifest))
  }
  const run = (...args: string[]): { status: number | null; lines: string[] } => {
    const script = join(PACKAGE_ROOT, 'scripts/wasi-testsuite.mjs')
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' })
    return { status, lines: `${stdout}${stderr}`.split('\n').filter((line) => line !== '') }
  }

  it('runs every program with its directories, and says what each did wrong', () => {
    mkdirSync(join(dir, 'one/files.dir'), { recursive: true })
    writeFileSync(join(dir, 'one/files.dir/given'), 'hello')
    // It makes a file and may not find one: each run has a copy of its own.
    add('one/by-name', 'first-preopen', { dirs: ['files.dir'], stdout: 'files.dir\nhello\n' })
    add('one/by-name-again', 'first-preopen', { dirs: ['files.dir'], args: ['x'], env: { A: 'b' } })
    add('one/as-root', 'first-preopen', { root: 'files.dir', stdout: '/\nhello\n' })
    add('one/empty-dir', 'first-preopen', { dirs: ['not-in-the-checkout'], exit_code: 44 })
    add('one/no-dir', 'first-preopen', { exit_code: 8 })
    add('two/plain', 'hello')
    add('two/exit', 'exit-3', { exit_code: 3 })
    add('two/trap', 'trap', { exit_code: 134 })
    add('two/wrong-exit', 'exit-3', {})
    add('two/wrong-output', 'hello', { stdout: 'goodbye\n' })
    add('two/unknown', 'hello', { network: true })
    const { status, lines } = run(dir)
    expect(status).toBe(1)
    const told = lines.map((line) =>
      line
        .trim()
        .replace(/\s+\d+ ms$/, '')
        .replace(/ +/g, ' '),
    )
    expect(told).toEqual([
      'pass one/as-root.wasm',
      'pass one/by-name-again.wasm',
      'pass one/by-name.wasm',
      'pass one/empty-dir.wasm',
      'pass one/no-dir.wasm',
      'pass two/exit.wasm',
      'pass two/plain.wasm',
      'pass two/trap.wasm',
      'FAIL two/unknown.wasm',
      'the manifest has keys that are not understood: network',
      'FAIL two/wrong-exit.wasm',
      'exit code 3, expected 0',
      'FAIL two/wrong-output.wasm',
      'stdout "hello from wat\\n", expected "goodbye\\n"',
      '8 passed, 3 failed',
    ])
    expect(readdirSync(join(dir, 'one/files.dir'))).toEqual(['given'])
    expect(run(dir, '--only', 'one/').status).toBe(0)
  })

  it('says when there is nothing to run', () => {
    expect(run(join(dir, 'missing'))).toMatchObject({ status: 2 })
    expect(run(join(dir, 'one/files.dir'))).toMatchObject({ status: 2 })
  })
})
