import type { JobDefaults, NetworkEgressPolicy, NodeId, NodeInfo } from '../model/index.js'
import type { BlobStore, Chance, Clock, JobStore, ReadContent, Transport } from '../ports/index.js'

/** Where the orchestrator writes what an operator reads; pino's loggers fit. */
export interface OrchestratorLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export const SILENT_LOGGER: OrchestratorLogger = Object.freeze({
  debug() {},
  info() {},
  warn() {},
  error() {},
})

/** Times and bounds of the decisions; see {@link DEFAULT_LIMITS}. */
export interface SchedulingLimits {
  /** Executions that one slot of a batch job may use up; refusals by a node do not count. 3. */
  triesMax: number
  /** Wait before the second try; doubles with each further one. 1 s. */
  retryBackoffMs: number
  /** 60 s. */
  retryBackoffMsMax: number
  /** A service that ran so long starts again without the waits of earlier failures. 10 min. */
  stableAfterMs: number
  /** A queued job is looked at again at least so often. 60 s. */
  queueRecheckMs: number
  /** How much may wait on a node beyond its capacity, as a multiple of it. 1.5. */
  nodeQueueFactor: number
  /** How long what runs of a replaced version may take to stop before the new version starts regardless. 30 s. */
  replaceGraceMs: number
  /** The orchestrator ends an execution itself when its node let it run so much longer than its limit. 2 min. */
  overdueGraceMs: number
}

/** Times and bounds of everything else. */
export interface OrchestratorLimits extends SchedulingLimits {
  /** A node that was silent for so long is disconnected. 60 s. */
  disconnectAfterMs: number
  /**
   * Executions of a disconnected node are given up after so long, and replaced where the job's type replaces. 60 s.
   *
   * The node itself goes on: an orchestrator that is away for a while must not cost the work of a whole network. So two
   * executions of one slot run side by side for as long as the older one's node hears nothing: from the end of this
   * time until the node has had an answer again, and the 900 ms between SIGTERM and SIGKILL. Never are two wanted.
   */
  lostGraceMs: number
  /** How often silence is looked for. 1 s. */
  sweepMs: number
  /** Jobs decided on in one commit. 64. */
  jobsPerPass: number
  /** Jobs that are not ended; more are refused at submission. 100,000. */
  activeJobsMax: number
  /** A job that has waited for room so long gets a node that is kept free for it. 60 s. */
  reserveAfterMs: number
  /** How long a node is kept free at a time; then others may use it as long again as the wait before. 10 min. */
  reservationMs: number
  /** Specifications of jobs that are not ended, all together; more are refused. 1 GiB. */
  activeJobBytesMax: number
  /** Ended jobs are forgotten when nothing happened to them for so long. 90 days. */
  endedJobsKeptMs: number
  /** Ended jobs beyond the newest so many are forgotten. 100,000. */
  endedJobsMax: number
  /** Ended executions of one service or daemon job; the oldest are forgotten beyond that. 1,000. */
  endedExecutionsMax: number
  /** How often is looked for what may be forgotten. 60 s. */
  forgetEveryMs: number
  /** One long poll for output or egress records. 5 s. */
  pollMs: number
  /** How long an answer of a node is waited for, beyond a poll. 5 s. */
  nodeAnswerMs: number
}

export const DEFAULT_LIMITS: OrchestratorLimits = Object.freeze({
  triesMax: 3,
  retryBackoffMs: 1_000,
  retryBackoffMsMax: 60_000,
  stableAfterMs: 600_000,
  queueRecheckMs: 60_000,
  nodeQueueFactor: 1.5,
  replaceGraceMs: 30_000,
  overdueGraceMs: 120_000,
  disconnectAfterMs: 60_000,
  lostGraceMs: 60_000,
  sweepMs: 1_000,
  jobsPerPass: 64,
  activeJobsMax: 100_000,
  reserveAfterMs: 60_000,
  reservationMs: 600_000,
  activeJobBytesMax: 1024 ** 3,
  endedJobsKeptMs: 90 * 24 * 3_600_000,
  endedJobsMax: 100_000,
  endedExecutionsMax: 1_000,
  forgetEveryMs: 60_000,
  pollMs: 5_000,
  nodeAnswerMs: 5_000,
})

export interface OrchestratorOptions {
  /** Closed by whoever opened it, after the orchestrator. */
  store: JobStore
  /** Closed by whoever opened it, after the orchestrator. */
  transport: Transport
  clock: Clock
  chance: Chance
  /** Id of the node that the orchestrator runs in. */
  nodeId: NodeId
  /** For specifications that did not get them at the border; applying them twice changes nothing. Absent = none. */
  defaults?: JobDefaults
  limits?: Partial<OrchestratorLimits>
  /** The egress list of the network to begin with. Absent: the network restricts nothing. */
  networkEgress?: NetworkEgressPolicy
  /** False: a new node waits until an operator approves it. Default true. */
  approveNodes?: boolean | ((info: NodeInfo) => boolean)
  /**
   * Called with each decision of an operator on a node; `decide` carries it out and rejects when it cannot be. What else
   * depends on it (who may connect) is done before or after. Absent: nothing does.
   */
  onNodeDecision?: (
    id: NodeId,
    action: 'approve' | 'reject' | 'delete',
    decide: () => Promise<void>,
  ) => Promise<void>
  /** Content that jobs name by CID, handed to nodes. Absent: jobs that name any are refused. */
  blobs?: BlobStore
  /** Reads modules that are at hand, so that wrong programs are refused at submission. Absent: the node finds out. */
  readContent?: ReadContent
  /** Put into the meta data of jobs as `bacalhau.org/server.installation.id`; absent = left out. */
  installationId?: string
  /** As `bacalhau.org/server.instance.id`. */
  instanceId?: string
  logger?: OrchestratorLogger
}
