// Fuzzes everything that reads what strangers write: hosts, patterns, client hellos, request heads, bodies, DNS answers,
// list files, and the decisions made from them. The promises stand in test/fuzz/targets/.
//
//   node scripts/fuzz.mjs [--minutes 10] [--only NAME] [--seed N]   new texts until the time is over
//   node scripts/fuzz.mjs --replay NAME --seed N [--path P]         one counterexample again
//
// A counterexample prints a line for test/fuzz/kept.ts, so that it is tried at every run of the tests from then on.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { build } from 'esbuild'

const root = join(import.meta.dirname, '..')
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    only: { type: 'string' },
    seed: { type: 'string' },
    replay: { type: 'string' },
    path: { type: 'string' },
  },
})

/** Texts that one process looks at before a new one takes over. */
const RUNS = 5_000
/** What the tests run, so that a seed means the same there. */
const RUNS_OF_TESTS = 400
/** A target that hangs has broken its promise as well. */
const BATCH_TIMEOUT_MS = 300_000

// Below the package, because parts of it look for its files from where they lie.
const scratch = mkdtempSync(join(root, 'node_modules/.weir-fuzz-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))

const program = join(scratch, 'fuzz.mjs')
await bundle()
process.exitCode = values.replay === undefined ? await longRun() : await replay()

async function longRun() {
  const targets = (await lines(['list'])).filter(
    ({ name }) => values.only === undefined || name === values.only,
  )
  if (targets.length === 0) throw new Error(`there is no fuzz target "${values.only}"`)
  const endMs = Date.now() + Number(values.minutes) * 60_000
  const tally = new Map(targets.map(({ name }) => [name, { runs: 0, found: 0, ms: 0 }]))
  let seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
  console.error(`first seed ${seed}`)
  do {
    for (const { name, promise } of targets) {
      const startMs = Date.now()
      const one = tally.get(name)
      const [{ counterexample }] = await lines(['run', name, String(seed), String(RUNS)])
      one.ms += Date.now() - startMs
      one.runs += RUNS
      if (counterexample !== null) {
        one.found += 1
        tell(name, promise, counterexample)
      }
      if (Date.now() >= endMs) break
    }
    seed = (seed + 1) % 2 ** 31
  } while (Date.now() < endMs)
  console.log(
    `${'target'.padEnd(18)} ${'texts'.padStart(10)} ${'a second'.padStart(9)} ${'broken'.padStart(7)}`,
  )
  for (const [name, { runs, found, ms }] of tally) {
    const perSecond = ms === 0 ? 0 : Math.round(runs / (ms / 1000))
    console.log(
      `${name.padEnd(18)} ${String(runs).padStart(10)} ${String(perSecond).padStart(9)} ${String(found).padStart(7)}`,
    )
  }
  return [...tally.values()].some(({ found }) => found > 0) ? 1 : 0
}

async function replay() {
  const args = ['run', values.replay, values.seed ?? '1', String(RUNS_OF_TESTS)]
  const [{ counterexample }] = await lines(values.path === undefined ? args : [...args, values.path])
  if (counterexample === null) console.log('the promise is kept')
  else tell(values.replay, '', counterexample)
  return counterexample === null ? 0 : 1
}

function tell(name, promise, { seed, path, example, error }) {
  console.log(`BROKEN ${name}: ${promise}\n  ${error}\n  ${example}`)
  console.log(`  keep it: { target: '${name}', seed: ${seed}, path: '${path}', why: '…' },`)
}

async function bundle() {
  await build({
    entryPoints: [join(root, 'test/fuzz/worker.ts')],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
    absWorkingDir: root,
    external: ['better-sqlite3'],
    // Paths of the sources: the corpus is read from where it lies.
    define: { 'import.meta.dirname': JSON.stringify(join(root, 'src/conformance')) },
    banner: {
      js: `import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(${JSON.stringify(join(root, 'package.json'))});`,
    },
  })
}

/** What the program prints, a JSON value per line. */
function lines(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    const timer = setTimeout(() => child.kill('SIGKILL'), BATCH_TIMEOUT_MS)
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (data) => (text += data))
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (code === 0)
        return resolve(
          text
            .trim()
            .split('\n')
            .map((line) => JSON.parse(line)),
        )
      reject(new Error(`${args.join(' ')}: ended with ${code ?? signal}`))
    })
  })
}
