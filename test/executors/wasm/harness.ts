import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PACKAGE_ROOT } from '../../../src/package-root.js'
import { type WasmExecutorOptions, createWasmExecutor } from '../../../src/executors/wasm/index.js'
import type { TaskSpec } from '../../../src/model/index.js'
import type {
  Executor,
  NetworkSlot,
  RunExit,
  RunSpec,
  RunningExecution,
  Volume,
} from '../../../src/ports/index.js'

export const FIXTURES = join(PACKAGE_ROOT, 'test/fixtures/wasm/bin')
const BUILT = join(PACKAGE_ROOT, 'dist/test-fixtures/wasm')

/** A committed module. */
export const wat = (name: string): string => join(FIXTURES, `${name}.wasm`)

/** The example of a component. */
export const HELLO_COMPONENT = join(PACKAGE_ROOT, 'examples/hello-component/hello.wasm')

/** A module that is built where its compiler is; undefined elsewhere. */
export function built(name: string): string | undefined {
  const file = join(BUILT, `${name}.wasm`)
  if (!existsSync(file)) {
    spawnSync(process.execPath, [join(PACKAGE_ROOT, 'scripts/build-wasm-fixtures.mjs')], {
      cwd: PACKAGE_ROOT,
    })
  }
  return existsSync(file) ? file : undefined
}

/** The module with a section that nobody reads, so that it is worth keeping its code. `number` makes it another module. */
export function padded(module: string, number = 0): Buffer {
  const text = Buffer.from(`\x03padx${String(number)}`.padEnd(8_192, '.'))
  const size = Buffer.from([(text.length & 0x7f) | 0x80, text.length >> 7])
  return Buffer.concat([readFileSync(module), Buffer.from([0]), size, text])
}

/** Why sandboxes cannot be built here, or undefined. Asked with the real thing. */
export async function sandboxProblem(): Promise<string | undefined> {
  const bench = new Bench()
  try {
    const health = await bench.executor.probe(new AbortController().signal)
    return health.available ? undefined : health.message
  } finally {
    await bench.close()
  }
}

export interface ProgramOptions {
  args?: string[]
  env?: Record<string, string>
  engineEnv?: Record<string, string>
  entryPoint?: string
  imports?: { alias: string; file: string }[]
  memoryBytes?: number
  diskBytes?: number
  volumes?: Volume[]
  /** Paths of result directories; default `/outputs`. */
  outputs?: string[]
  signal?: AbortSignal
  onProgress?: (message: string) => void
  /** Default: none. */
  network?: NetworkSlot
  onOutput?: (stream: 'stdout' | 'stderr', data: Uint8Array) => Promise<void> | void
}

export interface Started {
  running: RunningExecution
  stdout: () => string
  stderr: () => string
  /** By path inside the job. */
  outputDirs: Record<string, string>
}

export interface Finished extends Started {
  exit: RunExit
  lines: string[]
}

/** One executor in a directory of its own. */
export class Bench {
  readonly dir = mkdtempSync(join(tmpdir(), 'weir-wasm-test-'))
  readonly dataDir = join(this.dir, 'wasm')
  readonly executor: Executor
  #runs = 0

  constructor(options: Partial<WasmExecutorOptions> = {}) {
    this.executor = createWasmExecutor({ nodeId: 'n-test', dataDir: this.dataDir, ...options })
  }

  async start(module: string, options: ProgramOptions = {}): Promise<Started> {
    const kept = { stdout: '', stderr: '' }
    const number = ++this.#runs
    const outputs = (options.outputs ?? ['/outputs']).map((path, index) => {
      const hostDir = this.makeDir(`out-${number}-${index}`)
      chmodSync(hostDir, 0o777)
      return { name: `out-${index}`, hostDir, path }
    })
    const run: RunSpec = {
      nodeId: 'n-test',
      jobId: 'j-test',
      executionId: `e-${number}`,
      task: taskOf(options),
      engine: { Type: 'wasm' },
      env: options.env ?? {},
      resources: {
        cpu: 0,
        memoryBytes: options.memoryBytes ?? 64 << 20,
        diskBytes: options.diskBytes ?? 0,
        gpu: 0,
      },
      volumes: options.volumes ?? [],
      outputs,
      modules: {
        entry: readOnly(module, '/wasm/entry.wasm'),
        imports: (options.imports ?? []).map(({ alias, file }) => ({
          alias,
          volume: readOnly(file, '/wasm/i.wasm'),
        })),
      },
      network: options.network ?? { mode: 'none', release: () => Promise.resolve() },
      output: {
        write(stream, data) {
          if (options.onOutput !== undefined) return options.onOutput(stream, data)
          kept[stream] += Buffer.from(data).toString('utf8')
        },
      },
      scratchDir: this.dir,
    }
    const running = await this.executor.start(
      run,
      options.onProgress ?? (() => undefined),
      options.signal ?? new AbortController().signal,
    )
    const outputDirs = Object.fromEntries(outputs.map(({ path, hostDir }) => [path, hostDir]))
    return { running, stdout: () => kept.stdout, stderr: () => kept.stderr, outputDirs }
  }

  async run(module: string, options: ProgramOptions = {}): Promise<Finished> {
    const started = await this.start(module, options)
    const exit = await started.running.exit
    return {
      ...started,
      exit,
      lines: started
        .stdout()
        .split('\n')
        .filter((line) => line !== ''),
    }
  }

  /** A directory below this bench's with the given files. */
  makeDir(name: string, files: Record<string, string> = {}): string {
    const dir = join(this.dir, name)
    mkdirSync(dir, { recursive: true })
    for (const [file, text] of Object.entries(files)) writeFileSync(join(dir, file), text)
    return dir
  }

  /** A file of this bench's; returns its path. */
  file(name: string, bytes: Uint8Array): string {
    const path = join(this.dir, name)
    writeFileSync(path, bytes)
    return path
  }

  async close(): Promise<void> {
    await this.executor.close()
    rmSync(this.dir, { recursive: true, force: true })
  }
}

export function readOnly(hostPath: string, target: string): Volume {
  return { hostPath, target, writable: false }
}

function taskOf(options: ProgramOptions): TaskSpec {
  const module = { Source: { Type: 'inline' }, Alias: '', Target: '/wasm/entry.wasm' }
  return {
    Name: 'main',
    Engine: {
      Type: 'wasm',
      Params: {
        EntryModule: module,
        ...(options.entryPoint !== undefined && { EntryPoint: options.entryPoint }),
        Parameters: options.args ?? [],
        EnvironmentVariables: options.engineEnv ?? {},
      },
    },
    Publisher: { Type: '' },
    Env: {},
    Meta: {},
    InputSources: [],
    ResultPaths: [],
    Resources: { CPU: '', Memory: '', Disk: '', GPU: '' },
    Network: { Type: 'None', Domains: [] },
    Timeouts: { ExecutionTimeout: 0, QueueTimeout: 0, TotalTimeout: 0 },
  }
}
