// What WebAssembly jobs cost on this machine, native code beside them. Prints one table.
//
//   npm run build && node scripts/build-wasm-fixtures.mjs && node bench/wasm.mjs [--seconds 10] [--rounds 5] [--node FILE]
//
// Needs clang-14 with wasi-libc for the rows that compute. `--node` names another Node.js for the sandboxes (it may be
// given more than once); every row is then measured with each. Rows that compute show processor time, taken by the
// programs themselves, so that other work on the machine counts for little.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { WeirClient } from '../dist/client/index.js'
import { startDemoServer } from '../dist/demo/server.js'
import { createWasmExecutor } from '../dist/executors/wasm/index.js'
import { PACKAGE_ROOT } from '../dist/package-root.js'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '5' },
    node: { type: 'string', multiple: true, default: [] },
  },
})
const seconds = Math.min(600, Math.max(1, Number(values.seconds)))
const rounds = Math.min(100, Math.max(1, Number(values.rounds)))
const nodes = [process.execPath, ...values.node]
const dir = mkdtempSync(join(tmpdir(), 'weir-bench-wasm-'))
const hello = firstOf(['dist/test-fixtures/wasm/rust-hello.wasm', 'dist/test-fixtures/wasm/c-probe.wasm'])
const noop = join(PACKAGE_ROOT, 'test/fixtures/wasm/bin/noop.wasm')
const programs = [
  { name: 'SHA-256 of 256 MiB', file: 'sha256', args: ['256'] },
  { name: 'n-body, 5 million steps', file: 'n-body', args: ['5000000'] },
  { name: 'Mandelbrot, 2000 × 2000', file: 'mandelbrot', args: ['2000'] },
].flatMap((one) => build(one))
const rows = []
let count = 0

try {
  for (const node of nodes) {
    const version = spawnSync(node, ['-p', 'process.version'], { encoding: 'utf8' }).stdout.trim()
    await inServer(version, node)
    for (const one of programs) await compute(version, node, one)
  }
  print(['What', 'Node.js', 'weir', 'native', 'ratio'], rows)
} finally {
  rmSync(dir, { recursive: true, force: true })
}

/** Everything between the API and the job's end. */
async function inServer(version, node) {
  const server = await startDemoServer(join(dir, `server-${count++}`), { 'Engines.Types.Wasm.Node': node })
  const client = new WeirClient({ baseUrl: `http://127.0.0.1:${server.port}` })
  try {
    if (hello !== undefined) {
      const size = `${Math.round(readFileSync(hello).length / 1000)} KB`
      const first = await inNode(client, hello)
      await pause(3_000)
      const times = []
      for (let round = 0; round < rounds * 4; round++) {
        // The sandboxes of before are gone and the next one is up, so that only the job itself is measured.
        await pause(200)
        times.push(await inNode(client, hello))
      }
      rows.push([`hello (${size}), submitted → finished, first job`, version, ms(first), '', ''])
      rows.push([
        `the same, later jobs in a waiting sandbox`,
        version,
        ms(median(times)),
        ms(nativeStart()),
        '',
      ])
    }
    rows.push(['no-op jobs per second', version, (await perSecond(client)).toFixed(1), '', ''])
  } finally {
    client.close()
    await server.close()
  }
}

/** Milliseconds from submission to the end of the job, by the server's own clock. */
async function inNode(client, module) {
  const { JobID } = await client.submit(jobOf(module))
  const job = await ended(client, JobID)
  return Number(BigInt(Math.round(job.ModifyTime)) - BigInt(Math.round(job.CreateTime))) / 1e6
}

async function perSecond(client) {
  const job = jobOf(noop)
  const until = performance.now() + seconds * 1_000
  const begin = performance.now()
  let done = 0
  const worker = async () => {
    while (performance.now() < until) {
      const { JobID } = await client.submit(job)
      await ended(client, JobID)
      done++
    }
  }
  await Promise.all(Array.from({ length: 8 }, worker))
  return (done * 1_000) / (performance.now() - begin)
}

async function ended(client, id) {
  for (;;) {
    const { Job } = await client.job(id)
    if (Job.State.StateType === 'Completed') return Job
    if (['Failed', 'Stopped'].includes(Job.State.StateType))
      throw new Error(`job ${Job.State.StateType}: ${Job.State.Message}`)
    await pause(10)
  }
}

function jobOf(module) {
  const URL = `data:application/wasm;base64,${readFileSync(module).toString('base64')}`
  const EntryModule = { Source: { Type: 'inline', Params: { URL } }, Target: '/module.wasm' }
  return {
    Type: 'batch',
    Tasks: [
      {
        Name: 'main',
        Engine: { Type: 'wasm', Params: { EntryModule } },
        Network: { Type: 'None' },
        Resources: { CPU: '100m', Memory: '64mb' },
      },
    ],
  }
}

/** The same source, in turns: as a job with its code already kept, and natively. */
async function compute(version, node, { name, wasm, native, args }) {
  const executor = createWasmExecutor({
    nodeId: 'n-bench',
    dataDir: join(dir, `wasm-${count++}`),
    node,
    codeBytesMax: 64 << 20,
  })
  const ours = []
  const theirs = []
  try {
    // The first run has the code made; it is short.
    await run(executor, wasm, ['1'])
    await pause(1_500)
    for (let round = 0; round < rounds; round++) {
      const job = await run(executor, wasm, args)
      const peer = spawnSync(native, args, { encoding: 'utf8' })
      if (job.stdout !== peer.stdout) throw new Error(`${name}: ${job.stdout} is not ${peer.stdout}`)
      if (!(Number(job.stderr) > 0)) throw new Error(`${name}: ${JSON.stringify(job.stderr)} is no time`)
      ours.push(Number(job.stderr))
      theirs.push(Number(peer.stderr))
    }
  } finally {
    await executor.close()
  }
  const ratio = (median(ours) / median(theirs)).toFixed(2)
  rows.push([`${name}, processor time`, version, ms(median(ours)), ms(median(theirs)), ratio])
}

async function run(executor, module, args) {
  const signal = new AbortController().signal
  const hostDir = join(dir, `out-${count++}`)
  mkdirSync(hostDir)
  const said = { stdout: '', stderr: '' }
  const source = { Source: { Type: 'inline' }, Alias: '', Target: '/m' }
  const running = await executor.start(
    {
      nodeId: 'n-bench',
      jobId: 'j-bench',
      executionId: `e-${count}`,
      task: { Engine: { Type: 'wasm', Params: { EntryModule: source, Parameters: args } } },
      engine: { Type: 'wasm' },
      env: {},
      resources: { cpu: 0, memoryBytes: 64 << 20, diskBytes: 0, gpu: 0 },
      volumes: [],
      outputs: [{ name: 'outputs', hostDir, path: '/outputs' }],
      modules: { entry: { hostPath: module, target: '/m', writable: false }, imports: [] },
      network: { mode: 'none', release: async () => undefined },
      output: { write: (stream, data) => void (said[stream] += Buffer.from(data).toString()) },
      scratchDir: dir,
    },
    () => undefined,
    signal,
  )
  const exit = await running.exit
  if (exit.code !== '' || exit.exitCode !== 0) throw new Error(`${module}: ${exit.exitCode} ${exit.message}`)
  return said
}

/** Both forms of a program of bench/wasm; none where there is no compiler. */
function build({ name, file, args }) {
  const source = join(PACKAGE_ROOT, 'bench/wasm', `${file}.c`)
  const native = join(dir, file)
  const wasm = join(dir, `${file}.wasm`)
  const made = [
    spawnSync('clang-14', ['-O2', '-o', native, source, '-lm']),
    spawnSync('clang-14', ['--target=wasm32-wasi', '-O2', '-Wl,--strip-all', '-o', wasm, source]),
  ]
  if (made.every(({ status }) => status === 0)) return [{ name, native, wasm, args }]
  console.error(`${name}: not built (needs clang-14 and wasi-libc)`)
  return []
}

/** What the machine takes to start and end a program at all. */
function nativeStart() {
  const times = []
  for (let round = 0; round < 20; round++) {
    const begin = performance.now()
    spawnSync('/bin/true')
    times.push(performance.now() - begin)
  }
  return median(times)
}

function firstOf(files) {
  return files.map((one) => join(PACKAGE_ROOT, one)).find((one) => existsSync(one))
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN
}

function ms(number) {
  return `${number.toFixed(1)} ms`
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

function print(head, body) {
  const lines = [head, ...body]
  const widths = head.map((_one, column) => Math.max(...lines.map((line) => line[column].length)))
  for (const line of lines)
    console.log(
      line
        .map((cell, column) => (column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
        .join('  '),
    )
}
