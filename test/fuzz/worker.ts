import { FUZZ_TARGETS } from './targets/index.js'
import { fuzz } from './target.js'

/**
 * Run by `scripts/fuzz.mjs`: `list` prints the targets, `run NAME SEED RUNS [PATH]` one target, each a line of JSON.
 */
const [what = '', name = '', seed = '', runs = '', path] = process.argv.slice(2)
if (what === 'list') {
  for (const target of FUZZ_TARGETS) print({ name: target.name, promise: target.promise })
} else if (what === 'run') {
  const target = FUZZ_TARGETS.find((one) => one.name === name)
  if (target === undefined) throw new Error(`there is no fuzz target "${name}"`)
  const parameters = { seed: Number(seed), numRuns: Number(runs), ...(path === undefined ? {} : { path }) }
  print({ counterexample: (await fuzz(target, parameters)) ?? null })
}

function print(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
