import type { Resources } from '../../../src/model/index.js'
import type { Executor, OutputSink, RunExit, RunSpec, RunningExecution } from '../../../src/ports/index.js'
import type { VirtualClock } from '../virtual-time.js'
import type { ProcessLife } from './process-life.js'

/** What a program does. */
export interface Nature {
  /** Until it is pulled and begins. */
  startMs: number
  /** Infinity: until it is stopped. */
  runMs: number
  exitCode: number
  /** The engine fails it instead: retryable or not. */
  fails?: 'retryable' | 'hopeless'
  /** It does not mind SIGTERM. */
  isStubborn: boolean
  stdout: string
}

/** Told of every program of the world. */
export interface ProgramWatch {
  began(nodeId: string, executionId: string, resources: Resources | undefined): void
  /** `byItself`: it ran to its end. */
  ended(nodeId: string, executionId: string, byItself: boolean): void
}

interface Program {
  executionId: string
  resources: Resources
  beganMs: number
  endedMs?: number
  stdout: string
  /** Set when it is over. */
  exit?: RunExit
  isStubborn: boolean
  listeners: Set<(exit: RunExit) => void>
  callOff: () => void
}

export interface EngineOptions {
  nodeId: string
  time: VirtualClock
  /** The machine's own clock. */
  now: () => number
  watch: ProgramWatch
  natureOf: (executionId: string, run: RunSpec) => Nature
  /** Why the engine refuses everything now; undefined = it does not. */
  refuses: () => string | undefined
  /** Programs outlive the process of the node and can be taken up by the next one. */
  canResume: boolean
}

/** The programs of one machine: they outlive the processes of its node, and end with its power. */
export class Engine {
  readonly #options: EngineOptions
  readonly #programs = new Map<string, Program>()

  constructor(options: EngineOptions) {
    this.#options = options
  }

  get running(): { executionId: string; resources: Resources }[] {
    return [...this.#programs.values()].filter((program) => program.exit === undefined)
  }

  /** The power is gone. `wiped`: also what the engine keeps. */
  powerCut(): void {
    for (const program of this.running) this.#end(this.#programs.get(program.executionId), KILLED, false)
    this.#programs.clear()
  }

  /** As a process of the node uses it, until its death. */
  forProcess(life: ProcessLife): Executor {
    const { canResume } = this.#options
    return {
      engine: 'docker',
      probe: async () => ({ available: true, details: {} }),
      admit: async () => this.#admit(),
      start: (run, progress, signal) => life.awaits(this.#start(run, progress, signal, life)),
      ...(canResume && {
        resume: async ({ executionId, output }) => this.#resume(executionId, output, life),
      }),
      reap: async (keep) => this.#reap(keep),
      close: async () => undefined,
    }
  }

  #admit(): { code: 'compute.policy'; message: string; hint: string }[] {
    const reason = this.#options.refuses()
    if (reason === undefined) return []
    const refusal = {
      code: 'compute.policy' as const,
      message: reason,
      hint: 'Try again later',
      retryable: true,
    }
    return [refusal]
  }

  async #start(
    run: RunSpec,
    progress: (message: string) => void,
    signal: AbortSignal,
    life: ProcessLife,
  ): Promise<RunningExecution> {
    const { time, natureOf, watch, nodeId } = this.#options
    const nature = natureOf(run.executionId, run)
    progress('Pulling')
    if (nature.startMs > 0) await time.sleep(nature.startMs, signal)
    signal.throwIfAborted()
    await run.beforeStart?.()
    if (!life.isAlive) return new Promise(() => undefined)
    if (this.#programs.has(run.executionId)) throw new Error(`${run.executionId} is there already`)
    const program: Program = {
      executionId: run.executionId,
      resources: run.resources,
      beganMs: this.#options.now(),
      stdout: nature.stdout,
      isStubborn: nature.isStubborn,
      listeners: new Set(),
      callOff: () => undefined,
    }
    this.#programs.set(run.executionId, program)
    watch.began(nodeId, run.executionId, run.resources)
    if (nature.stdout !== '') void run.output.write('stdout', Buffer.from(nature.stdout))
    if (nature.runMs < Infinity) {
      program.callOff = time.schedule(nature.runMs, () =>
        this.#end(program, exitOf(nature), nature.fails === undefined),
      )
    }
    return this.#handle(program, life)
  }

  async #resume(
    executionId: string,
    output: OutputSink,
    life: ProcessLife,
  ): Promise<RunningExecution | 'not started' | undefined> {
    const program = this.#programs.get(executionId)
    if (program === undefined) return undefined
    const missing = Buffer.from(program.stdout).subarray(output.held?.stdout ?? 0)
    if (missing.length > 0) void output.write('stdout', missing)
    return { ...this.#handle(program, life), hadEnded: program.exit !== undefined }
  }

  #handle(program: Program, life: ProcessLife): RunningExecution {
    const { time, canResume } = this.#options
    let left = false
    const exit = new Promise<RunExit>((resolve) => {
      const tell = (how: RunExit): void => {
        if (life.isAlive && !left) resolve(how)
      }
      if (program.exit !== undefined) tell(program.exit)
      else program.listeners.add(tell)
    })
    return {
      exit,
      startTimeMs: program.beganMs,
      stop: async (graceMs) => {
        if (program.exit !== undefined || !life.isAlive) return
        program.callOff()
        if (program.isStubborn && graceMs > 0) await time.sleep(graceMs)
        this.#end(program, KILLED, false)
      },
      ...(canResume && {
        remove: async () => {
          if (life.isAlive && program.exit !== undefined) this.#programs.delete(program.executionId)
        },
        leave: async () => {
          left = true
        },
      }),
    }
  }

  #end(program: Program | undefined, exit: RunExit, byItself: boolean): void {
    if (program === undefined || program.exit !== undefined) return
    program.callOff()
    program.endedMs = this.#options.now()
    program.exit = { ...exit, endTimeMs: program.endedMs }
    this.#options.watch.ended(this.#options.nodeId, program.executionId, byItself)
    for (const listener of program.listeners) listener(program.exit)
    program.listeners.clear()
    if (!this.#options.canResume) this.#programs.delete(program.executionId)
  }

  #reap(keep: ReadonlySet<string>): string[] {
    const removed = [...this.#programs.keys()].filter((id) => !keep.has(id))
    for (const id of removed) {
      this.#end(this.#programs.get(id), KILLED, false)
      this.#programs.delete(id)
    }
    return removed
  }
}

function exitOf({ exitCode, fails }: Nature): RunExit {
  if (fails === undefined) return { exitCode, code: '', message: '', hint: '', details: {} }
  const retryable = fails === 'retryable'
  return { exitCode: 1, code: 'engine.failed', message: 'broken', hint: 'mend it', retryable, details: {} }
}

const KILLED: RunExit = Object.freeze({ exitCode: 137, code: '', message: '', hint: '', details: {} })
