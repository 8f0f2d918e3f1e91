// What the component model adds to a program: the same C as a core module of WASI preview 1 and as a component. Prints a table.
//
//   npm run build && node bench/wasm-components.mjs [--rounds 20]
//
// Needs clang-14 with wasi-libc for the module; the component is committed. Every run has a waiting sandbox; `first` has
// nothing compiled, `cached` has the code that was kept.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createWasmExecutor } from '../dist/executors/wasm/index.js'
import { PACKAGE_ROOT } from '../dist/package-root.js'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '20' } } })
const rounds = Math.min(200, Math.max(3, Number(values.rounds)))
const dir = mkdtempSync(join(tmpdir(), 'weir-bench-components-'))
const fixtures = join(PACKAGE_ROOT, 'test/fixtures/wasm')
const component = join(fixtures, 'bin/component-c-files.wasm')
const module = join(dir, 'c-files.wasm')
const sources = [join(fixtures, 'c/files.c'), join(fixtures, 'component/realloc.c')]
const flags = ['--target=wasm32-wasi', '-Oz', '-Wl,--strip-all', '-o', module]
const built = spawnSync('clang-14', [...flags, ...sources], { encoding: 'utf8' })
if (built.status !== 0) throw new Error(built.error?.message ?? built.stderr)
mkdirSync(join(dir, 'inputs'))
writeFileSync(join(dir, 'inputs/data.txt'), 'one two\nthree')
let count = 0

try {
  const first = { module: [], component: [] }
  for (let round = 0; round < Math.ceil(rounds / 4); round++) {
    for (const [kind, file] of Object.entries({ module, component })) {
      first[kind].push(await withExecutor(0, (executor) => run(executor, file)))
    }
  }
  const cached = { module: [], component: [] }
  await withExecutor(64 << 20, async (executor) => {
    for (const file of [module, component]) {
      for (let tries = 0; tries < 100; tries++) {
        if ((await run(executor, file)).compiler === 'cached') break
      }
    }
    for (let round = 0; round < rounds; round++) {
      cached.module.push(await run(executor, module))
      cached.component.push(await run(executor, component))
    }
  })
  console.log('                 size         first        cached')
  for (const [kind, file] of Object.entries({ module, component })) {
    const size = `${Math.round(readFileSync(file).length / 1000)} KB`
    console.log(
      `${kind.padEnd(12)} ${size.padStart(8)} ${ms(first[kind]).padStart(13)} ${ms(cached[kind]).padStart(13)}`,
    )
  }
} finally {
  rmSync(dir, { recursive: true, force: true })
}

async function withExecutor(codeBytesMax, use) {
  const executor = createWasmExecutor({
    nodeId: 'n-bench',
    dataDir: join(dir, `wasm-${count++}`),
    codeBytesMax,
  })
  try {
    const health = await executor.probe(new AbortController().signal)
    if (!health.available) throw new Error(health.message)
    return await use(executor)
  } finally {
    await executor.close()
  }
}

/** One run in a waiting sandbox: milliseconds from the request to the end of the program. */
async function run(executor, file) {
  await new Promise((resolve) => setTimeout(resolve, 150))
  const hostDir = join(dir, `out-${count++}`)
  mkdirSync(hostDir)
  const source = { Source: { Type: 'inline' }, Alias: '', Target: '/wasm/entry.wasm' }
  const started = performance.now()
  const running = await executor.start(
    {
      nodeId: 'n-bench',
      jobId: 'j-bench',
      executionId: `e-${count}`,
      task: {
        Name: 'main',
        Engine: { Type: 'wasm', Params: { EntryModule: source, Parameters: [], EnvironmentVariables: {} } },
        Env: {},
        InputSources: [],
        ResultPaths: [],
      },
      engine: { Type: 'wasm' },
      env: {},
      resources: { cpu: 0, memoryBytes: 64 << 20, diskBytes: 0, gpu: 0 },
      volumes: [{ hostPath: join(dir, 'inputs'), target: '/inputs', writable: false }],
      outputs: [{ name: 'out', hostDir, path: '/outputs' }],
      modules: { entry: { hostPath: file, target: '/wasm/entry.wasm', writable: false }, imports: [] },
      network: { mode: 'none', release: () => Promise.resolve() },
      output: { write: () => undefined },
      scratchDir: dir,
    },
    () => undefined,
    new AbortController().signal,
  )
  const exit = await running.exit
  if (exit.exitCode !== 0) throw new Error(`exit code ${exit.exitCode}: ${exit.message}`)
  return { ms: performance.now() - started, compiler: exit.details.compiler }
}

function ms(runs) {
  const sorted = runs.map((one) => one.ms).toSorted((a, b) => a - b)
  return `${(sorted[sorted.length >> 1] ?? 0).toFixed(1)} ms`
}
