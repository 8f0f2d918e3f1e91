import type {
  AuditLog,
  Chance,
  Clock,
  EgressGateway,
  Executor,
  Publisher,
  StorageSource,
  Transport,
} from '../ports/index.js'
import type { LearningOffer } from '../model/learning.js'
import type { EgressMode, NetworkEgressPolicy } from '../model/egress-lists.js'
import type { KeyGrant } from '../model/trusted-key.js'
import type { ReceiptSigner } from '../model/egress-receipt.js'
import type { NodeId, NodeInfo } from '../model/state.js'
import type { Machine } from './detect-machine.js'

/** Where the node writes what an operator reads; pino's loggers fit. */
export interface ComputeLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/**
 * What the operator lets jobs do here. Everything absent is the strictest answer. Replaced as a whole by
 * `ComputeNode.setPolicy`; what the gateway enforces is set on the gateway, not here.
 */
export interface ComputePolicy {
  /** False (default): only jobs without network. */
  acceptNetworkedJobs?: boolean
  /** Jobs that ask for the whole internet; needs `acceptNetworkedJobs` as well. Default false. */
  acceptFullNetwork?: boolean
  /** Which public hosts are open to jobs that name them. Absent: `list`. */
  mode?: EgressMode
  /** Whose jobs may learn here; counts only where networked jobs are accepted and `mode` is not `none`. Absent: nobody's. */
  learning?: LearningOffer
  /** Canonical host patterns. Every pattern of an http job must be covered. Absent and empty: nothing is covered. */
  allow?: readonly string[]
  /** A job pattern that lies wholly inside this list is refused. Absent and empty: nothing is denied. */
  deny?: readonly string[]
  /** Hosts or addresses with port that are not public but may be named by a job; they count as allowed. */
  privateExceptions?: readonly string[]
  /** What is open beyond `allow` to jobs that were signed. Absent and empty: nothing. */
  keys?: readonly KeyGrant[]
  /** The list of the whole network. Absent: it restricts nothing; empty: nothing is covered. */
  network?: readonly string[]
  /** What the whole network denies. Absent and empty: nothing. */
  networkDeny?: readonly string[]
  /** Version of the network's list. Absent: none is known. */
  networkVersion?: number
  /** Refuse jobs without inputs. Default false. */
  rejectStateless?: boolean
  /** A program and its arguments that decides about each job; absent or empty = none. See `admission-probes.ts`. */
  probeExec?: readonly string[]
  /** A URL that decides about each job; absent or empty = none. */
  probeHttp?: string
}

/** How much of the machine is offered: a share of what there is (`70%`) or an amount (`2`, `4gb`). Absent = 70%; GPUs 100%. */
export interface CapacityConfig {
  cpu?: string
  memory?: string
  disk?: string
  gpu?: string
  /** Largest single job; absent = all that is offered. Amounts are cut to what is offered. */
  jobMax?: { cpu?: string; memory?: string; disk?: string; gpu?: string }
}

/** Bounds of everything that could grow or take long. */
export interface ComputeLimits {
  /** Output kept per execution, both streams together, on disk; more is dropped. 1 GiB. */
  outputBytesMax: number
  /** Files in the results of one execution. 100,000. */
  resultFilesMax: number
  /** Inputs and results of an execution that asks for no disk. 10 GiB, at most the largest job's disk. */
  diskBytesDefault: number
  /** Executions are ended when the disk of the data directory has less than this. 64 MiB. */
  diskReserveBytes: number
  /** How long logs of ended executions are kept. 24 h. */
  keepFinishedMs: number
  /** Room for those logs; the oldest go first. 10 GiB. */
  finishedBytesMax: number
  /** Ended executions remembered. 5,000. */
  finishedMax: number
  /** Executions waiting for capacity. 1,000. */
  queueLengthMax: number
  /** How many later executions may overtake one that does not fit yet. 16. */
  overtakesMax: number
  /** Admission checks at the same time. 8. */
  admissionsMax: number
  /** One admission probe, or one check of a source, publisher or engine. 10 s. */
  checkTimeoutMs: number
  /** Fetching all inputs of an execution. 1 h. */
  inputsTimeoutMs: number
  /** Inputs fetched at the same time. 4. */
  inputsParallelMax: number
  /** From the inputs to the running program, the pull of the image included. 30 min. */
  startTimeoutMs: number
  /** Publishing the results. 1 h. */
  publishTimeoutMs: number
  /** Between SIGTERM and SIGKILL when an execution is stopped, by its user or by the job's total time limit. 900 ms. */
  stopGraceMs: number
  /** The same when a limit was reached, so that the program is gone within a second. 500 ms. */
  limitGraceMs: number
  /** Between two looks at the disk that an execution uses. 500 ms. */
  diskCheckMs: number
  /** The node reports at least so often. 15 s. */
  syncIntervalMs: number
  /** How long one answer of the orchestrator is waited for. 10 s. */
  syncTimeoutMs: number
  /** Longest pause between two tries while the orchestrator is away. 15 s. */
  syncBackoffMaxMs: number
  /** How often engines are asked whether they are available. 60 s. */
  healthIntervalMs: number
}

export const DEFAULT_LIMITS: ComputeLimits = Object.freeze({
  outputBytesMax: 1024 ** 3,
  resultFilesMax: 100_000,
  diskBytesDefault: 10 * 1024 ** 3,
  diskReserveBytes: 64 * 1024 ** 2,
  keepFinishedMs: 24 * 3_600_000,
  finishedBytesMax: 10 * 1024 ** 3,
  finishedMax: 5_000,
  queueLengthMax: 1_000,
  overtakesMax: 16,
  admissionsMax: 8,
  checkTimeoutMs: 10_000,
  inputsTimeoutMs: 3_600_000,
  inputsParallelMax: 4,
  startTimeoutMs: 1_800_000,
  publishTimeoutMs: 3_600_000,
  stopGraceMs: 900,
  limitGraceMs: 500,
  diskCheckMs: 500,
  syncIntervalMs: 15_000,
  syncTimeoutMs: 10_000,
  syncBackoffMaxMs: 15_000,
  healthIntervalMs: 60_000,
})

/** Takes the network's egress list from the orchestrator, keeps it and puts it in force. */
export interface NetworkEgressFollower {
  /** Digest of the list in force; undefined when none is known. */
  known(): string | undefined
  /**
   * Called with each list that is another than the known one, as it came. Never throws; returns at once, with the list that
   * will be in force for it.
   */
  heard(policy: unknown): NetworkEgressPolicy
}

export interface ComputeNodeOptions {
  /** Checked by `checkNodeId`: it is part of subjects. */
  nodeId: NodeId
  /** Changes with each start of the process; absent = a fresh UUID. */
  incarnation?: string
  /** The node's own; the node writes below `<dataDir>/compute` and nobody else may. */
  dataDir: string
  transport: Transport
  clock: Clock
  chance: Chance
  /** Closed by whoever made them, after the node. */
  executors: readonly Executor[]
  sources: readonly StorageSource[]
  publishers: readonly Publisher[]
  /** Absent: no http jobs. */
  gateway?: EgressGateway
  /** Absent: the network's egress list is not followed. */
  networkEgress?: NetworkEgressFollower
  /** Absent: egress records are not served. */
  auditLog?: AuditLog
  policy?: ComputePolicy
  capacity?: CapacityConfig
  /** What there is to offer a part of; absent = looked for on this machine at the start. */
  machine?: Machine
  limits?: Partial<ComputeLimits>
  /** The operator's; they win over the labels the node finds out by itself. */
  labels?: Readonly<Record<string, string>>
  /** Signs receipts of what left each execution. Absent: there are none. */
  signer?: ReceiptSigner
  /** What the node does; default `['compute']`. */
  roles?: NodeInfo['roles']
  version: string
  /** Addresses of this machine that others can see. Absent = they are not told. */
  addresses?: () => string[]
  logger?: ComputeLogger
}

export const SILENT_LOGGER: ComputeLogger = Object.freeze({
  debug() {},
  info() {},
  warn() {},
  error() {},
})
