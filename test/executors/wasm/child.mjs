// A node process of its own with one executor: `node child.mjs DATA_DIR MODULE`. Prints the engine's health, starts
// the module if there is one, says "running", and stays.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

const [dataDir, module] = process.argv.slice(2)
const dist = join(import.meta.dirname, '../../../dist/executors/wasm/index.js')
const { createWasmExecutor } = await import(dist)
const executor = createWasmExecutor({ nodeId: 'n-child', dataDir })
const signal = new AbortController().signal
console.log(JSON.stringify(await executor.probe(signal)))
const hostDir = join(dataDir, 'out')
mkdirSync(hostDir)
const run = {
  nodeId: 'n-child',
  jobId: 'j',
  executionId: 'e',
  task: {
    Engine: {
      Type: 'wasm',
      Params: { EntryModule: { Source: { Type: 'inline' }, Alias: '', Target: '/m' } },
    },
  },
  engine: { Type: 'wasm' },
  env: {},
  resources: { cpu: 0, memoryBytes: 64 << 20, diskBytes: 0, gpu: 0 },
  volumes: [],
  outputs: [{ name: 'outputs', hostDir, path: '/outputs' }],
  modules: { entry: { hostPath: module, target: '/m', writable: false }, imports: [] },
  network: { mode: 'none', release: async () => undefined },
  output: { write: (_stream, data) => void process.stdout.write(data) },
  scratchDir: dataDir,
}
const running = await executor.start(run, () => undefined, signal)
console.log('running')
console.log(JSON.stringify(await running.exit))
await executor.close()
