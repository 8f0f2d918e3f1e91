// How fast programs in the sandbox read and write files, the same C program compiled natively beside them. Prints a table.
//
//   npm run build && node bench/wasm-files.mjs [--mib 128] [--rounds 5] [--node FILE]
//
// Needs clang-14 with wasi-libc. Programs take their own processor time, so that other work on the machine counts for
// little. Files stay in the page cache, which counts against the memory of a sandbox: with much more than the default its
// kernel has to make room. `--node` names another Node.js for the sandboxes.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createWasmExecutor } from '../dist/executors/wasm/index.js'

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '128' },
    rounds: { type: 'string', default: '5' },
    node: { type: 'string' },
  },
})
const mib = Math.min(2_048, Math.max(1, Number(values.mib)))
const rounds = Math.min(100, Math.max(1, Number(values.rounds)))
const dir = mkdtempSync(join(tmpdir(), 'weir-bench-files-'))
const [native, wasm] = [join(dir, 'file-io'), join(dir, 'file-io.wasm')]
const executor = createWasmExecutor({
  nodeId: 'n-bench',
  dataDir: join(dir, 'wasm'),
  ...(values.node !== undefined && { node: values.node }),
})
let count = 0

try {
  compile(['-o', native])
  compile(['--target=wasm32-wasi', '-o', wasm])
  console.log(
    `${'block'.padEnd(8)} ${'what'.padEnd(6)} ${'weir'.padStart(12)} ${'native'.padStart(12)}  share`,
  )
  for (const block of [65_536, 4_096]) {
    const seen = { weir: [], native: [] }
    for (let round = 0; round < rounds; round++) {
      seen.native.push(inProcess(block))
      seen.weir.push(await inSandbox(block))
    }
    for (const [index, what] of ['write', 'read'].entries()) {
      const [weir, own] = [seen.weir, seen.native].map(
        (all) => mib / (median(all.map((one) => one[index])) / 1_000),
      )
      const cells = [weir, own].map((rate) => `${rate.toFixed(0)} MiB/s`.padStart(12))
      console.log(
        `${String(block).padEnd(8)} ${what.padEnd(6)} ${cells.join(' ')}  ${Math.round((100 * weir) / own)} %`,
      )
    }
  }
} finally {
  await executor.close()
  rmSync(dir, { recursive: true, force: true })
}

function compile(flags) {
  const source = join(import.meta.dirname, 'wasm/file-io.c')
  const { status, stderr, error } = spawnSync('clang-14', ['-O2', ...flags, source], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`clang-14: ${error?.message ?? stderr}`)
}

function inProcess(block) {
  const args = [join(dir, 'native-file'), String(mib), String(block)]
  return times(spawnSync(native, args, { encoding: 'utf8' }).stdout)
}

async function inSandbox(block) {
  const hostDir = join(dir, `out-${count++}`)
  mkdirSync(hostDir)
  let told = ''
  const module = { Source: { Type: 'inline' }, Alias: '', Target: '/m' }
  const Parameters = ['/outputs/file', String(mib), String(block)]
  const running = await executor.start(
    {
      nodeId: 'n-bench',
      jobId: 'j-bench',
      executionId: `e-${count}`,
      task: { Engine: { Type: 'wasm', Params: { EntryModule: module, Parameters } } },
      engine: { Type: 'wasm' },
      env: {},
      resources: { cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 },
      volumes: [],
      outputs: [{ name: 'outputs', hostDir, path: '/outputs' }],
      modules: { entry: { hostPath: wasm, target: '/m', writable: false }, imports: [] },
      network: { mode: 'none', release: async () => undefined },
      output: { write: (_stream, data) => void (told += Buffer.from(data).toString()) },
      scratchDir: dir,
    },
    () => undefined,
    new AbortController().signal,
  )
  const exit = await running.exit
  if (exit.exitCode !== 0) throw new Error(`the program ended with ${exit.exitCode} ${exit.message}`)
  return times(told)
}

/** Milliseconds for writing and for reading. */
function times(text) {
  const found = /write ([\d.]+) read ([\d.]+)/.exec(text)
  if (found === null) throw new Error(`the program said ${JSON.stringify(text)}`)
  return [Number(found[1]), Number(found[2])]
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]
}
