import { spawn, type ChildProcess } from 'node:child_process'
import type { ErrorCode } from '../../src/errors.js'
import type { NetworkProvider, RunExit, RunSpec, Executor, RunningExecution } from '../../src/ports/index.js'

/** What a test can tell the executor. */
export interface ProcessExecutorOptions {
  /** With a network provider; its modes may be changed while the node runs. */
  modes?: { http: boolean; full: boolean; problems: string[] }
  /** Called before the program starts: wait here, or throw. */
  beforeStart?: (run: RunSpec, signal: AbortSignal) => Promise<void>
  /** Called when a network slot is asked for. */
  beforeAcquire?: (signal: AbortSignal) => Promise<void>
  admit?: () => { code: ErrorCode; message: string; hint: string }[]
  available?: boolean
  /** Says that it can give GPUs. */
  allotsGpus?: boolean
  /** Never confirms that a program is gone, like an engine that hangs. */
  deaf?: boolean
  /** Where else programs can write. */
  writablePaths?: string[]
  /** Default `process`. */
  engine?: string
}

/**
 * Engine `process`: runs `Params.Command` as a real child process in a process group of its own. It isolates nothing; the
 * program finds its directories in `OUT_<name>` and `IN_<index>`.
 */
export class ProcessExecutor implements Executor {
  readonly engine: string
  readonly network?: NetworkProvider
  readonly allotsGpus: boolean
  readonly runs: RunSpec[] = []
  /** Network slots that were not given back. */
  slotsOpen = 0
  slotsAcquired = 0
  readonly children = new Set<ChildProcess>()
  options: ProcessExecutorOptions

  constructor(options: ProcessExecutorOptions = {}) {
    this.options = options
    this.engine = options.engine ?? 'process'
    this.allotsGpus = options.allotsGpus ?? false
    if (options.modes !== undefined) this.network = this.#provider()
  }

  async probe() {
    return this.options.available === false
      ? { available: false as const, message: 'processes are out', hint: 'Wait' }
      : { available: true as const, details: {} }
  }

  async admit() {
    return this.options.admit?.() ?? []
  }

  async start(
    run: RunSpec,
    progress: (message: string) => void,
    signal: AbortSignal,
  ): Promise<RunningExecution> {
    this.runs.push(run)
    progress('Preparing the process')
    await this.options.beforeStart?.(run, signal)
    signal.throwIfAborted()
    const [program = '', ...args] = (run.engine.Params?.Command ?? []) as string[]
    const places = Object.fromEntries([
      ...run.outputs.map(({ name, hostDir }) => [`OUT_${name}`, hostDir]),
      ...run.volumes.map(({ hostPath }, index) => [`IN_${index}`, hostPath]),
    ]) as Record<string, string>
    const child = spawn(program, args, {
      env: { PATH: process.env.PATH, ...places, ...run.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    this.children.add(child)
    const running = watch(child, run, () => this.children.delete(child))
    const never = new Promise<never>(() => {})
    if (this.options.deaf === true) return { exit: never, stop: () => never }
    return { ...running, writablePaths: async () => this.options.writablePaths ?? [] }
  }

  async reap(): Promise<string[]> {
    return []
  }

  async close(): Promise<void> {
    for (const child of this.children) kill(child, 'SIGKILL')
  }

  #provider(): NetworkProvider {
    return {
      modes: async () => this.options.modes ?? { http: false, full: false, problems: [] },
      acquire: async (mode, _who, signal) => {
        await this.options.beforeAcquire?.(signal)
        this.slotsOpen += 1
        this.slotsAcquired += 1
        let held = true
        return {
          mode,
          ...(mode === 'http' && {
            attachment: { id: String(this.slotsAcquired), proxyUrl: 'http://127.0.0.1:3128' },
          }),
          release: async () => {
            if (held) this.slotsOpen -= 1
            held = false
          },
        }
      },
    }
  }
}

function watch(child: ChildProcess, run: RunSpec, gone: () => void): RunningExecution {
  const deliver = async (stream: 'stdout' | 'stderr') => {
    for await (const data of child[stream] ?? []) await run.output.write(stream, data as Buffer)
  }
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 137))
  })
  const exit: Promise<RunExit> = Promise.all([ended, deliver('stdout'), deliver('stderr')]).then(
    ([exitCode]) => ({ exitCode, code: '' as const, message: '', hint: '', details: {} }),
    (error: Error) => ({
      exitCode: 127,
      code: 'engine.failed' as const,
      message: error.message,
      hint: '',
      details: {},
    }),
  )
  void exit.then(gone)
  return {
    exit,
    async stop(graceMs) {
      kill(child, 'SIGTERM')
      const timer = setTimeout(() => kill(child, 'SIGKILL'), graceMs)
      await exit
      clearTimeout(timer)
      kill(child, 'SIGKILL')
    },
  }
}

function kill(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal)
  } catch {
    // The whole group is gone.
  }
}
