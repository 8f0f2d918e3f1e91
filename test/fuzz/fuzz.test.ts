import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { KEPT_CASES } from './kept.js'
import { FUZZ_TARGETS } from './targets/index.js'
import { fuzz } from './target.js'

/** The same texts at each run of the tests; `scripts/fuzz.mjs` looks at new ones. */
const SEED = 20_261
const RUNS = 400

describe('whatever strangers write', () => {
  it.each(FUZZ_TARGETS.map((target) => [target.promise, target] as const))('%s', async (_promise, target) => {
    expect(await fuzz(target, { seed: SEED, numRuns: RUNS })).toBeUndefined()
  })

  it.each(KEPT_CASES.map((kept) => [kept.target, kept.why, kept] as const))(
    'stays mended: %s, %s',
    async (name, _why, { seed, path }) => {
      const target = FUZZ_TARGETS.find((one) => one.name === name)
      if (target === undefined) throw new Error(`there is no target "${name}"`)
      const parameters = { seed, numRuns: RUNS, ...(path === undefined ? {} : { path }) }
      expect(await fuzz(target, parameters)).toBeUndefined()
    },
  )

  it('is fuzzed for as long as one likes by a script that finds the same targets', {
    timeout: 60_000,
  }, () => {
    const script = join(import.meta.dirname, '../../scripts/fuzz.mjs')
    const args = [script, '--replay', 'algebra', '--seed', String(SEED)]
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    expect([stdout.trim(), stderr]).toEqual(['the promise is kept', ''])
  })
})
