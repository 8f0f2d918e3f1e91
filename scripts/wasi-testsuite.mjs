// Runs a checkout of a WASI preview 1 test suite, program by program, each in a sandbox of its own.
//
//   node scripts/build.mjs && node scripts/wasi-testsuite.mjs DIR [--only TEXT] [--output json]
//
// Every NAME.wasm below DIR is a test. NAME.json beside it, if there is one, says how it is run and what it must do:
//
//   args       arguments behind the program's name
//   env        environment variables
//   dirs       directories beside the manifest, each found open under its name
//   root       one directory beside the manifest, found open as /
//   stdout, stderr   what it must write, exactly; absent: anything
//   exit_code  what it must end with; absent: 0
//
// Directories are copied for each test and may be written. Standard input is empty. Nothing else is open. Ends with 0
// when everything passed, 1 when something failed, 2 when there was nothing to run.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const TEST_TIMEOUT_MS = 60_000
const KNOWN_KEYS = ['args', 'env', 'dirs', 'root', 'stdin', 'stdout', 'stderr', 'exit_code']

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string' }, output: { type: 'string' } },
})
const [suite, ...others] = positionals
if (suite === undefined || others.length > 0 || !existsSync(suite)) {
  console.error('usage: node scripts/wasi-testsuite.mjs DIR [--only TEXT] [--output json]')
  process.exit(2)
}

const executorModule = join(import.meta.dirname, '../dist/executors/wasm/index.js')
if (!existsSync(executorModule)) {
  console.error('wasi-testsuite: build first: node scripts/build.mjs')
  process.exit(2)
}
const { createWasmExecutor } = await import(executorModule)
const work = mkdtempSync(join(tmpdir(), 'weir-wasi-testsuite-'))
const executor = createWasmExecutor({ nodeId: 'n-suite', dataDir: join(work, 'wasm'), preopens: 'volumes' })
let results = []
try {
  const health = await executor.probe(new AbortController().signal)
  if (!health.available) {
    console.error(`wasi-testsuite: ${health.message}\n${health.hint}`)
    process.exitCode = 2
  } else {
    results = await runAll(programs(suite).filter((file) => file.includes(values.only ?? '')))
  }
} finally {
  await executor.close()
  rmSync(work, { recursive: true, force: true })
}

const failed = results.filter(({ problems }) => problems.length > 0).length
if (values.output === 'json') console.log(JSON.stringify(results, undefined, 2))
else if (results.length > 0) console.log(`\n${results.length - failed} passed, ${failed} failed`)
if (results.length === 0 && process.exitCode === undefined)
  console.error(`wasi-testsuite: no programs in ${suite}`)
process.exitCode ??= results.length === 0 ? 2 : failed > 0 ? 1 : 0

async function runAll(files) {
  const done = []
  const width = Math.max(0, ...files.map((file) => relative(suite, file).length))
  for (const file of files) {
    const begin = performance.now()
    const problems = await runOne(file, done.length)
    const result = { test: relative(suite, file), problems, ms: Math.round(performance.now() - begin) }
    done.push(result)
    if (values.output === 'json') continue
    const verdict = problems.length === 0 ? 'pass' : 'FAIL'
    console.log(`${verdict}  ${result.test.padEnd(width)}  ${String(result.ms).padStart(6)} ms`)
    for (const problem of problems) console.log(`      ${problem}`)
  }
  return done
}

/** What is wrong with one program, one line each. */
async function runOne(file, number) {
  const manifestFile = file.replace(/\.wasm$/, '.json')
  const dir = join(work, String(number))
  mkdirSync(dir)
  try {
    const manifest = existsSync(manifestFile) ? JSON.parse(readFileSync(manifestFile, 'utf8')) : {}
    const odd = Object.keys(manifest).filter((key) => !KNOWN_KEYS.includes(key))
    if (odd.length > 0) return [`the manifest has keys that are not understood: ${odd.join(', ')}`]
    if ((manifest.stdin ?? '') !== '') return ['the manifest gives standard input, which jobs do not have']
    return await judge(file, manifest, dir)
  } catch (error) {
    return [`${error.code ?? error.name}: ${error.message}`]
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

async function judge(file, manifest, dir) {
  const told = { stdout: [], stderr: [] }
  const signal = new AbortController().signal
  const running = await executor.start(runSpec(file, manifest, dir, told), () => undefined, signal)
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    void running.stop(0)
  }, TEST_TIMEOUT_MS)
  const exit = await running.exit
  clearTimeout(timer)
  if (isLate) return [`it ran for ${TEST_TIMEOUT_MS / 1000} s and was ended`]
  const problems = []
  const expected = manifest.exit_code ?? 0
  const code = Number(exit.details?.wasmExitCode ?? exit.exitCode)
  const lastWords = Object.values(told).flatMap((pieces) =>
    Buffer.concat(pieces).toString().trim().split('\n').slice(-3),
  )
  if (code !== expected || (exit.code !== '' && expected === 0)) {
    const why = [exit.message, ...lastWords].filter((text) => text !== '').map((text) => text.slice(0, 300))
    problems.push([`exit code ${code}, expected ${expected}`, ...why].join(' | '))
  }
  for (const stream of ['stdout', 'stderr']) {
    const text = Buffer.concat(told[stream]).toString()
    if (manifest[stream] === undefined || manifest[stream] === text) continue
    problems.push(
      `${stream} ${JSON.stringify(text.slice(0, 200))}, expected ${JSON.stringify(manifest[stream])}`,
    )
  }
  return problems
}

function runSpec(file, manifest, dir, told) {
  const here = dirname(resolve(file))
  const names = [
    ...(manifest.dirs ?? []).map((name) => [name, name]),
    ...(manifest.root ? [[manifest.root, '/']] : []),
  ]
  const volumes = names.map(([name, target], index) => {
    const hostPath = join(dir, String(index))
    // An empty directory is not part of a checkout.
    if (existsSync(join(here, name)))
      cpSync(join(here, name), hostPath, {
        recursive: true,
        verbatimSymlinks: true,
        preserveTimestamps: true,
      })
    else mkdirSync(hostPath)
    return { hostPath, target, writable: true }
  })
  const Params = {
    EntryModule: { Source: { Type: 'inline' }, Alias: '', Target: '/module' },
    Parameters: manifest.args ?? [],
    EnvironmentVariables: manifest.env ?? {},
  }
  return {
    nodeId: 'n-suite',
    jobId: 'j-suite',
    executionId: `e-${basename(dir)}`,
    task: { Engine: { Type: 'wasm', Params } },
    engine: { Type: 'wasm' },
    env: {},
    resources: { cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 },
    volumes,
    outputs: [],
    modules: { entry: { hostPath: resolve(file), target: '/module', writable: false }, imports: [] },
    network: { mode: 'none', release: async () => undefined },
    output: { write: (stream, data) => void told[stream].push(Buffer.from(data)) },
    scratchDir: dir,
  }
}

/** Every module below a directory, in the order of the names. */
function programs(dir) {
  return readdirSync(dir, { withFileTypes: true })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(dir, entry.name)
      if (entry.isDirectory()) return programs(path)
      return entry.name.endsWith('.wasm') ? [path] : []
    })
}
