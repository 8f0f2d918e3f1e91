import type { ReceiptSigner } from '../model/egress-receipt.js'
import type { Resources } from '../model/resources.js'
import type { NodeId, ObservedExecution } from '../model/state.js'
import type { DesiredExecution } from '../model/sync.js'
import type { Clock, EgressGateway, Executor, Publisher, StorageSource } from '../ports/index.js'
import type { ClosingStack } from './closing-stack.js'
import type { EventDraft } from './execution-book.js'
import type { ExecutionDirs } from './execution-dirs.js'
import type { ComputeLimits, ComputeLogger } from './options.js'
import type { OutputLog } from './output-log.js'
import type { RunMemory } from './run-memory.js'

/** The parts of the node that running needs; the same for all executions. */
export interface RunParts {
  nodeId: NodeId
  executors: ReadonlyMap<string, Executor>
  sources: ReadonlyMap<string, StorageSource>
  publishers: ReadonlyMap<string, Publisher>
  gateway?: EgressGateway
  /** See `FullAccess.signal`. */
  fullAccess: () => AbortSignal
  signer?: ReceiptSigner
  clock: Clock
  limits: ComputeLimits
  logger: ComputeLogger
}

/** One execution on its way from the queue to its end. */
export interface Run {
  parts: RunParts
  desired: DesiredExecution
  /** Charged amounts. */
  resources: Resources
  /** Inputs, outputs and scratch files together. */
  diskBytesMax: number
  dirs: ExecutionDirs
  log: OutputLog
  /** Everything opened for the run. */
  closing: ClosingStack
  /** True once the program was left to the next process: nothing of it may be taken away. */
  isLeft: boolean
  /** Aborts with an `ExecutionEnd`. */
  signal: AbortSignal
  /** Resolves when the node will know of the execution even after a power cut. */
  untilDurable(): Promise<void>
  /** Writes down how far it has come; see `ExecutionBook.remember`. */
  remember(change: Partial<RunMemory>): Promise<void>
  observe(change: Partial<ObservedExecution>, event?: EventDraft): void
  note(event: EventDraft): void
}
