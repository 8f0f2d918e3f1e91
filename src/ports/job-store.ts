import type { Constraint } from '../model/job-spec.js'
import type {
  Evaluation,
  EvaluationId,
  Execution,
  ExecutionId,
  HistoryEvent,
  Job,
  JobId,
  JobState,
  NewHistoryEvent,
  NodeId,
  NodeRecord,
} from '../model/state.js'

/** Grows by 1 with each commit. */
export type Revision = number

/**
 * A frozen view of everything that is active, at one revision. Reads are synchronous and cheap: active jobs, their
 * executions, evaluations and nodes are held in memory by every store.
 */
export interface Snapshot {
  readonly revision: Revision
  /** Jobs that have not ended, or that still have executions which have not. */
  activeJobs(): Iterable<Job>
  /** Active or ended; ended ones may be read from disk. */
  job(id: JobId): Job | undefined
  /** All executions of the job, oldest first. */
  executionsOfJob(id: JobId): readonly Execution[]
  execution(id: ExecutionId): Execution | undefined
  /** Executions on the node whose observed state is not terminal, or whose desired state is Running. */
  activeExecutionsOnNode(id: NodeId): readonly Execution[]
  evaluations(): Iterable<Evaluation>
  nodes(): Iterable<NodeRecord>
  node(id: NodeId): NodeRecord | undefined
}

/** One atomic change. Records replace those with the same id. */
export interface Change {
  jobs?: Job[]
  executions?: Execution[]
  evaluations?: Evaluation[]
  /** Evaluations that are done. */
  deleteEvaluations?: EvaluationId[]
  nodes?: NodeRecord[]
  deleteNodes?: NodeId[]
  /** Appended and numbered per job, which must exist. */
  history?: NewHistoryEvent[]
  /**
   * Jobs as they were when a newer version replaced them: kept under their version, the newest {@link VERSIONS_MAX} of a
   * job. The job itself is in `jobs` of the same change.
   */
  replacedJobs?: Job[]
  /** Forgotten with their executions and history. They may vanish from earlier snapshots as well. */
  deleteJobs?: JobId[]
  /** Forgotten; their history stays. They may vanish from earlier snapshots as well. */
  deleteExecutions?: ExecutionId[]
}

export interface JobQuery {
  /** Undefined or `*` = all. */
  namespace?: string
  states?: JobState[]
  orderBy: 'created_at' | 'modified_at'
  reverse: boolean
  /** 0 = no limit (the store still bounds it at 10,000). */
  limit: number
  offset: number
  /**
   * Only what comes after this job in the order asked for (its time by `orderBy`, and its id): where a page ended. Jobs
   * that are added meanwhile move nothing, as they would with `offset`.
   */
  after?: { timeMs: number; id: JobId }
  /** Constraints that the labels of the job fulfil. Absent and empty: all jobs. */
  labels?: readonly Constraint[]
  /** Called for each candidate, which may be all jobs there are: slow. */
  accept?: (job: Job) => boolean
}

export interface EndedJobsQuery {
  /** Ended jobs whose last change is older than this are named. */
  beforeMs: number
  /** Ended jobs that none of their nodes holds any more are named beyond the newest so many. */
  keepMax: number
  limit: number
}

export interface HistoryQuery {
  level: 'all' | 'job' | 'execution'
  /** Prefix. */
  executionId?: string
  sinceMs?: number
  /** Only events of this version of the job. Absent = all. */
  jobVersion?: number
  afterSequence: number
  limit: number
}

/** Replaced versions that are kept of one job; the oldest go first. */
export const VERSIONS_MAX = 100

/** Keeps jobs. Called from one process; commits are serialised. */
export interface JobStore {
  snapshot(): Promise<Snapshot>
  /**
   * All or nothing, durable when it resolves. Rejects with `store.stale` when `ifRevision` is not the current
   * revision (undefined = unconditional), `store.unavailable` when it cannot be written.
   */
  commit(change: Change, ifRevision?: Revision): Promise<Revision>
  /** Every commit after `since`, in order. Ends when the signal aborts. */
  watch(since: Revision, signal: AbortSignal): AsyncIterable<{ revision: Revision; change: Change }>
  /** Ids with the prefix, at most `limit`. */
  jobIdsWithPrefix(prefix: string, limit: number): Promise<JobId[]>
  executionIdsWithPrefix(prefix: string, limit: number): Promise<ExecutionId[]>
  /** The job of which any version was submitted with the token. */
  jobByIdempotencyToken(token: string): Promise<JobId | undefined>
  /**
   * Jobs of this name, at most `limit`: first those that have not ended, then the others; in each group the newest
   * first. A job without a name of its own (its name is its id) is not among them.
   */
  jobIdsByName(namespace: string, name: string, limit: number): Promise<JobId[]>
  /** The versions of the job that were replaced and are still kept, oldest first. */
  replacedVersions(id: JobId): Promise<Job[]>
  listJobs(query: JobQuery): Promise<{ jobs: Job[]; more: boolean }>
  /** Ended jobs that may be forgotten, those that changed longest ago first. */
  endedJobs(query: EndedJobsQuery): Promise<JobId[]>
  /** A store may keep only the newest lines of a job; their numbers stay. */
  history(jobId: JobId, query: HistoryQuery): Promise<{ events: HistoryEvent[]; more: boolean }>
  close(): Promise<void>
}
