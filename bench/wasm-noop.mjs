// What a WebAssembly job costs in the node, from the hand-over to the executor to its result. Prints a table.
//
//   node scripts/build.mjs && node scripts/build-wasm-fixtures.mjs && node bench/wasm-noop.mjs [runs]
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const { createWasmExecutor } = await import(join(root, 'dist/executors/wasm/index.js'))
const runs = Number(process.argv[2] ?? 30)
const dir = mkdtempSync(join(tmpdir(), 'weir-bench-wasm-'))
let count = 0

try {
  const modules = {
    'no-op (WAT)': 'test/fixtures/wasm/bin/noop.wasm',
    'hello (WAT)': 'test/fixtures/wasm/bin/hello.wasm',
    'files (C)': 'dist/test-fixtures/wasm/c-files.wasm',
  }
  console.log(
    `${'program'.padEnd(14)} ${'slot'.padEnd(5)} ${'median ms'.padStart(10)} ${'p90 ms'.padStart(8)} ${'min ms'.padStart(8)}`,
  )
  for (const [name, file] of Object.entries(modules)) {
    if (!existsSync(join(root, file))) console.log(`${name.padEnd(14)} not built`)
    else for (const warmSlots of [1, 0]) await measure(name, join(root, file), warmSlots)
  }
  await throughput(join(root, modules['no-op (WAT)']))
} finally {
  rmSync(dir, { recursive: true, force: true })
}

async function measure(name, file, warmSlots) {
  const executor = open(warmSlots)
  const times = []
  for (let run = 0; run < runs + 2; run++) {
    if (warmSlots > 0) await executor.probe(new AbortController().signal)
    // The slots of before are gone and the next one is up, so that only the job itself is measured.
    await new Promise((resolve) => setTimeout(resolve, 60))
    const begin = performance.now()
    const running = await executor.start(spec(file), () => undefined, new AbortController().signal)
    const exit = await running.exit
    times.push(performance.now() - begin)
    if (exit.code !== '') throw new Error(exit.message)
  }
  await executor.close()
  const sorted = times.slice(2).toSorted((a, b) => a - b)
  const at = (share) => sorted[Math.floor((sorted.length - 1) * share)].toFixed(1)
  console.log(
    `${name.padEnd(14)} ${(warmSlots > 0 ? 'warm' : 'cold').padEnd(5)} ${at(0.5).padStart(10)} ${at(0.9).padStart(8)} ${at(0).padStart(8)}`,
  )
}

async function throughput(file) {
  const executor = open(2)
  await executor.probe(new AbortController().signal)
  const begin = performance.now()
  let left = 100
  const worker = async () => {
    while (left-- > 0)
      await (await executor.start(spec(file), () => undefined, new AbortController().signal)).exit
  }
  await Promise.all([worker(), worker(), worker(), worker()])
  const perSecond = 100_000 / (performance.now() - begin)
  const rss = ownRss() + slotRss()
  console.log(
    `\n100 no-op jobs, 4 at a time: ${perSecond.toFixed(1)} jobs/s; node and waiting slots: ${rss.toFixed(0)} MiB private`,
  )
  await executor.close()
}

function open(warmSlots) {
  return createWasmExecutor({ nodeId: 'n-bench', dataDir: join(dir, `wasm-${count++}`), warmSlots })
}

function spec(file) {
  const hostDir = join(dir, `out-${count++}`)
  mkdirSync(hostDir)
  const inputs = join(dir, 'inputs')
  mkdirSync(inputs, { recursive: true })
  return {
    nodeId: 'n-bench',
    jobId: 'j-bench',
    executionId: `e-${count}`,
    task: {
      Engine: {
        Type: 'wasm',
        Params: { EntryModule: { Source: { Type: 'inline' }, Alias: '', Target: '/m' } },
      },
    },
    engine: { Type: 'wasm' },
    env: {},
    resources: { cpu: 0, memoryBytes: 64 << 20, diskBytes: 0, gpu: 0 },
    volumes: file.includes('c-files')
      ? [{ hostPath: join(root, 'package.json'), target: '/inputs/data.txt', writable: false }]
      : [],
    outputs: [{ name: 'outputs', hostDir, path: '/outputs' }],
    modules: { entry: { hostPath: file, target: '/m', writable: false }, imports: [] },
    network: { mode: 'none', release: async () => undefined },
    output: { write() {} },
    scratchDir: dir,
  }
}

function ownRss() {
  return process.memoryUsage().rss / 2 ** 20
}

/** Private memory of the sandboxes that wait. */
function slotRss() {
  let kib = 0
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('/run.cjs')) continue
      const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
      for (const [, amount] of rollup.matchAll(/^Private_\w+:\s+(\d+) kB/gm)) kib += Number(amount)
    } catch {
      // The process has ended meanwhile.
    }
  }
  return kib / 1024
}
