import type { InputSourceSpec, SpecConfig } from '../model/job-spec.js'
import type { ExecutionId, JobId, NodeId } from '../model/state.js'
import type { Volume } from './executor.js'

/** Fetches inputs of one kind. Registered under the lower-case `type`. */
export interface StorageSource {
  readonly type: string
  /** Refusals that need no network, for admission; empty = fine. */
  admit(input: InputSourceSpec): Promise<{ message: string; hint: string }[]>
  /** Size in bytes if it can be known cheaply, otherwise undefined. Bounded in time by the signal. */
  measure(input: InputSourceSpec, signal: AbortSignal): Promise<number | undefined>
  /**
   * Puts the data below `intoDir` (fresh, empty, the run's own) or points at data that is already on the node.
   * Rejects with `source.*`. `bytesMax` is what the run may still use of its disk; `progress` counts bytes.
   */
  fetch(
    input: InputSourceSpec,
    intoDir: string,
    limits: { bytesMax: number; progress?: (bytes: number, total: number | undefined) => void },
    signal: AbortSignal,
  ): Promise<Volume[]>
}

/** What an execution left behind, ready to be published: `stdout`, `stderr`, `exitCode`, one directory per result path. */
export interface ResultDir {
  nodeId: NodeId
  jobId: JobId
  executionId: ExecutionId
  /** Holds only regular files and directories: the collector saw to that. */
  dir: string
}

/** Uploads results of one kind. Registered under the lower-case `type`. */
export interface Publisher {
  readonly type: string
  /** Refusals that need no network, for admission; empty = fine. */
  admit(spec: SpecConfig): Promise<{ message: string; hint: string }[]>
  /** Returns what `job get` downloads. Rejects with `publisher.*`. */
  publish(result: ResultDir, spec: SpecConfig, signal: AbortSignal): Promise<SpecConfig>
  close?(): Promise<void>
}
