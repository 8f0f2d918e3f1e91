import type { SpecConfig, TaskSpec } from '../model/job-spec.js'
import type { OutputStream } from '../model/log.js'
import type { Resources } from '../model/resources.js'
import type { ExecutionId, JobId, NodeId } from '../model/state.js'
import type { ErrorCode } from '../errors.js'
import type { GatewayAttachment } from './egress-gateway.js'

export type EngineHealth =
  | { available: true; details: Record<string, string> }
  /** `message` says what is missing, `hint` what to install or start. */
  | { available: false; message: string; hint: string }

/** Data that was prepared for a run. */
export interface Volume {
  /** Absolute path on the node: a file or a directory. */
  hostPath: string
  /** Absolute path inside the job. */
  target: string
  writable: boolean
}

/** A directory whose regular files become part of the result. */
export interface OutputMount {
  /** Directory name in the result. */
  name: string
  /**
   * Absolute path on the node; empty and writable for the job's user when the run starts. `start` may put another
   * directory in its place: who holds it open does so from after `start`.
   */
  hostDir: string
  /** Absolute path inside the job. */
  path: string
}

/**
 * Where the program's output goes while it runs. `write` never rejects and keeps only up to its own bound; when the
 * promise is pending the executor stops reading from the program.
 */
export interface OutputSink {
  write(stream: OutputStream, data: Uint8Array): Promise<void> | void
  /** For a run that is taken up: what is kept already. Absent = nothing. */
  readonly held?: HeldOutput
  /** Told when output is missing that was written before what comes next. Absent: nobody wants to know. */
  missing?(): void
}

/** Output of a run that an earlier process of the node has kept: its first bytes. */
export interface HeldOutput {
  /** Bytes of each stream, from its beginning. */
  readonly stdout: number
  readonly stderr: number
  /** When the last of them arrived, by the clock of the machine; 0 = nothing has arrived. */
  readonly untilMs: number
}

/**
 * The network of one run, made before the run. The executor decides nothing: it joins what it is handed.
 *
 * `none` and `http` are namespaces with a loopback interface only; `http` has the gateway's listeners inside.
 */
export interface NetworkSlot {
  readonly mode: 'none' | 'http' | 'full'
  /** Present for `http`: pass it to `EgressGateway.open`. */
  readonly attachment?: GatewayAttachment
  /** Gives the slot back; namespaces are single-use. Idempotent. */
  release(): Promise<void>
  /** Lets go of the slot but leaves it to the program in it, to be adopted by the next process. Absent: `release` does. */
  leave?(): Promise<void>
}

/** An executor that can give its runs a network has this as well. */
export interface NetworkProvider {
  /** Modes it can provide now; problems say why one is missing. */
  modes(): Promise<{ http: boolean; full: boolean; problems: string[] }>
  /** Rejects with `engine.unavailable` when the mode cannot be provided. */
  acquire(
    mode: 'none' | 'http' | 'full',
    who: { executionId: ExecutionId },
    signal: AbortSignal,
  ): Promise<NetworkSlot>
  /**
   * Takes over the slot that an earlier process of this node gave to an execution whose program is still there. With
   * `who.ended` the program is gone and the slot is only to be given back. Until this resolves nothing leaves a slot
   * of mode `http`. Rejects with `engine.unavailable` when the slot is gone or the mode cannot be guarded any more: then the
   * program must not go on.
   */
  adopt?(
    mode: 'none' | 'http' | 'full',
    who: { executionId: ExecutionId; ended: boolean },
    signal: AbortSignal,
  ): Promise<NetworkSlot>
}

/** The modules of a WASM run. */
export interface RunModules {
  entry: Volume
  /** In the order of the specification. `alias` is the module name that imports ask for; empty = the file's name. */
  imports: { alias: string; volume: Volume }[]
}

export interface RunSpec {
  nodeId: NodeId
  jobId: JobId
  executionId: ExecutionId
  task: TaskSpec
  engine: SpecConfig
  /** Everything the job sees: task Env, WEIR_* and proxy variables. They win over the image's and the engine's own. */
  env: Record<string, string>
  resources: Resources
  volumes: Volume[]
  /**
   * WASM only: the engine's `EntryModule` and `ImportModules`, fetched like inputs. Each volume's `hostPath` is the
   * module's file (or a directory with exactly one file); `target` is not used. Absent for other engines.
   */
  modules?: RunModules
  outputs: OutputMount[]
  network: NetworkSlot
  output: OutputSink
  /** A directory of the node that belongs to this run alone; the executor may create files in it. */
  scratchDir: string
  /** So much output the node keeps; an engine that stores output for taking up need not store more. Absent: no bound. */
  outputBytesMax?: number
  /**
   * An executor with `resume` calls this once, when everything is ready and right before the program can begin; if it
   * rejects, the program must not begin. Until it was called the run leaves nothing but what `reap` removes.
   */
  beforeStart?(): Promise<void>
}

/** What taking up a run needs: everything else the engine knows by itself. */
export interface ResumeSpec {
  executionId: ExecutionId
  /** With `held`: exactly what lies behind it is delivered. */
  output: OutputSink
  outputBytesMax?: number
}

export interface RunExit {
  /** The program's exit code; 137 when it was killed. */
  exitCode: number
  /**
   * Empty when the program ended by itself, whatever its exit code. Otherwise what ended it:
   * `execution.out_of_memory`, `execution.output_limit`, `wasm.trap`, `compute.disk`, `engine.failed`, …
   */
  code: ErrorCode | ''
  message: string
  hint: string
  /** True when another try of the same job can end otherwise. Absent: only for `engine.failed`. */
  retryable?: boolean
  /** For the record, for example the image's digest. */
  details: Record<string, string>
  /** When the program ended, if the engine knows it; absent: about now. */
  endTimeMs?: number
}

export interface RunningExecution {
  /** Resolves when the program is gone and all its output was delivered; never rejects. */
  readonly exit: Promise<RunExit>
  /**
   * Directories of the node, beyond outputs and scratch, that the program can write to: what is in them counts against
   * its disk. Absent or empty: there are none, or the node may not look.
   */
  writablePaths?(): Promise<readonly string[]>
  /** SIGTERM, then SIGKILL after `graceMs`; resolves when the program is gone. Idempotent. */
  stop(graceMs: number): Promise<void>
  /** When the program began, if the engine knows it; absent: about now. */
  readonly startTimeMs?: number
  /** Of a run that was taken up: the program had ended by then. Absent = false. */
  readonly hadEnded?: boolean
  /**
   * Removes what the engine still holds of the program after its end. Until then the run can be taken up again, with the
   * same exit. Never rejects. Idempotent. Absent: the engine holds nothing.
   */
  remove?(): Promise<void>
  /**
   * Lets go of a program that goes on, for the next process to take up: no more output is delivered, and `exit` never
   * resolves. Absent: the program cannot outlive this process.
   */
  leave?(): Promise<void>
}

/** Runs programs of one engine. Called by the compute node, from many executions at once. */
export interface Executor {
  readonly engine: string
  readonly network?: NetworkProvider
  /** True when its runs can be given GPUs, as many as `RunSpec.resources` says. Absent = false: jobs that ask are refused. */
  readonly allotsGpus?: boolean
  probe(signal: AbortSignal): Promise<EngineHealth>
  /** Checks that need no run, for admission: empty = fine. Must answer within seconds. */
  admit?(task: TaskSpec, signal: AbortSignal): Promise<{ code: ErrorCode; message: string; hint: string }[]>
  /**
   * Pulls or loads what the run needs (image, module) and starts the program. Rejects with a WeirError
   * (`image.unavailable`, `wasm.invalid`, …). `progress` gets lines for the job's history.
   */
  start(run: RunSpec, progress: (message: string) => void, signal: AbortSignal): Promise<RunningExecution>
  /**
   * Takes up a run that an earlier process of this node started: its output goes on behind `run.output.held`, and `exit` says
   * what it would have said. `not started`: the program provably never began, and nothing of the run is left any more.
   * Undefined: nothing is left of the run, and nobody knows what it did. Rejects when it cannot be taken up
   * (`execution.lost`; the program is gone then) or the engine does not answer (`engine.unavailable`). Absent:
   * programs of this engine do not outlive the process that started them.
   */
  resume?(run: ResumeSpec, signal: AbortSignal): Promise<RunningExecution | 'not started' | undefined>
  /** Removes what earlier processes left behind, except for `keep`. Returns what was removed, for the log. */
  reap(keep: ReadonlySet<ExecutionId>): Promise<string[]>
  close(): Promise<void>
}
