import type { JobSpec, SpecConfig } from '../model/job-spec.js'
import type { AuditRecord, RuleOwner } from '../model/audit.js'
import type { OutputStream } from '../model/log.js'
import type {
  EvaluationId,
  Execution,
  ExecutionId,
  HistoryEvent,
  Job,
  JobId,
  NodeConnection,
  NodeMembership,
  NodeRecord,
} from '../model/state.js'
import type { ErrorCode } from '../errors.js'
import type { NetworkEgressPolicy } from '../model/egress-lists.js'
import type { Preset } from '../model/presets.js'
import type { NodeId } from '../model/state.js'
import type { EgressExplanation, EgressQuestion } from './egress-gateway.js'
import type { HistoryQuery, JobQuery } from './job-store.js'

export interface SubmitRequest {
  /** Already parsed and normalised; the orchestrator adds defaults, id and meta. */
  spec: JobSpec
  idempotencyToken?: string
  /** True: a job of the same name in the same namespace becomes a new version instead of a second job. Absent = false. */
  updatesByName?: boolean
  /** Take an update that changes nothing as well. Absent = refuse it (`job.unchanged`). */
  force?: boolean
  /** Meta keys under `bacalhau.org/` learnt from the client's headers. */
  clientMeta: Record<string, string>
  /** Presets whose hosts are in the specification, for the record. Absent = none. */
  presets?: readonly Pick<Preset, 'name' | 'digest'>[]
}

export interface SubmitResponse {
  jobId: JobId
  /** 1 for a new job, more when one was updated or run again. */
  jobVersion: number
  evaluationId: EvaluationId
  warnings: string[]
}

export interface RerunRequest {
  /** Where a name is looked up; absent = `default`. */
  namespace?: string
  /** Whose specification runs again; absent and 0 = the latest version's. */
  jobVersion?: number
  /** For the history; may be empty. */
  reason: string
  idempotencyToken?: string
}

/** What submitting a specification by name would change. */
export interface JobDiff {
  /** One line per value, `- path: old` and `+ path: new`; empty when nothing changes. */
  diff: string
  warnings: string[]
}

/** Which job a name means and which of its versions a question is about. */
export interface JobView {
  /** Where a name is looked up; absent = `default`. Ids are the same in all namespaces. */
  namespace?: string
  /** Absent and 0 = the latest. */
  jobVersion?: number
  /** What belongs to any version. */
  allVersions?: boolean
}

export interface LogQuery extends JobView {
  /** Full id or prefix; absent = the newest execution that was not refused or replaced. */
  executionId?: string
  follow: boolean
  /** Skip what exists. */
  fromEnd: boolean
  /** Only so many lines of what exists, of each execution. Absent = all. */
  tailLines?: number
  /** Only what arrived then or later, by the clock of each node. Absent = all. */
  sinceMs?: number
  /**
   * Every execution that was not refused, also those that were tried again since; with `follow` also those that come
   * later, until the job ends. What cannot be had is said in notices. Absent = of each slot the last one, and no notices.
   */
  allExecutions?: boolean
}

export interface LogItem {
  executionId: ExecutionId
  stream: OutputStream
  data: Uint8Array
  timeMs: number
  /** Instead of output, which is empty then: something to know about the stream, for people. */
  notice?: string
}

/**
 * Everything the API asks of the orchestrator. `idOrPrefix`: a full id, a name, or any unique prefix of an id
 * (`job.not_found`, `job.ambiguous`).
 */
export interface JobService {
  /** Rejects with `job.unchanged` for an update that changes nothing. */
  submit(request: SubmitRequest): Promise<SubmitResponse>
  /** Compares with the job of the same name. Stores nothing. */
  diff(request: SubmitRequest): Promise<JobDiff>
  /** Runs a job again, as its next version; what still runs of it is stopped first. */
  rerun(idOrPrefix: string, request: RerunRequest): Promise<SubmitResponse>
  /** Every version that is kept, oldest first; the last one is the job as it is. */
  versions(idOrPrefix: string, view?: Pick<JobView, 'namespace'>): Promise<Job[]>
  /** Rejects with `job.terminal` for completed and failed jobs; a job that is stopped already gives an empty evaluation id. */
  stop(
    idOrPrefix: string,
    reason: string,
    view?: Pick<JobView, 'namespace'>,
  ): Promise<{ evaluationId: EvaluationId }>
  /** A replaced version is the job as it was when it was replaced. */
  job(idOrPrefix: string, view?: JobView): Promise<Job>
  jobs(query: JobQuery): Promise<{ jobs: Job[]; more: boolean }>
  /** Oldest first. */
  executions(idOrPrefix: string, view?: JobView): Promise<Execution[]>
  /**
   * `finished` is true when the job (or the execution asked for) has ended and `events` reaches the end: a client
   * that polls may stop. A version that was replaced has ended. An execution that is asked for is found in any version.
   */
  history(
    idOrPrefix: string,
    query: HistoryQuery,
    view?: JobView,
  ): Promise<{ events: HistoryEvent[]; finished: boolean }>
  /** Published results of completed executions. */
  results(idOrPrefix: string, view?: JobView): Promise<SpecConfig[]>
  logs(idOrPrefix: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogItem>
  /** Audit records of all executions of the job, in order per execution; with `follow` until the job ends. */
  egress(
    idOrPrefix: string,
    query: { executionId?: string; follow: boolean } & JobView,
    signal: AbortSignal,
  ): AsyncIterable<AuditRecord>
  nodes(query: { membership?: NodeMembership; connection?: NodeConnection }): Promise<NodeRecord[]>
  node(idOrPrefix: string): Promise<NodeRecord>
  updateNode(idOrPrefix: string, action: 'approve' | 'reject' | 'delete', message: string): Promise<void>
  /**
   * Which nodes would take a job, and what keeps the others from it, before anything runs. Load is not looked at. Rejects
   * with `pattern.invalid`.
   */
  checkEgress(request: EgressCheckRequest): Promise<EgressCheck>
  /** Asks the gateway of one node. Rejects with `node.not_found`, `egress.unavailable` or what a transport rejects with. */
  explainEgress(idOrPrefix: string, question: EgressQuestion): Promise<EgressExplanation & { nodeId: NodeId }>
  /** The egress list of the network. */
  networkEgress(): NetworkEgressPolicy
}

/** What a job would ask for. */
export interface EgressCheckRequest {
  /** Patterns as a job names them; ignored with `spec`. */
  domains: readonly string[]
  /** Only nodes that can give networks to this engine. Absent: to any. */
  engine?: string
  /** Keys as whose the job counts as signed; ignored with `spec`. Absent and empty: nobody's. */
  signedBy?: readonly string[]
  /** A whole job: everything it needs counts, not its hosts alone. */
  spec?: JobSpec
}

export interface EgressCheck {
  /** Canonical, with how many nodes take networked jobs and this host, and the most frequent reason of the others. */
  patterns: { pattern: string; accepting: number; refusing: number; reason: string }[]
  networkVersion: number
  /** By name. */
  nodes: EgressNodeCheck[]
  /** Nodes without any reason against. */
  fitting: number
}

export interface EgressNodeCheck {
  nodeId: NodeId
  fits: boolean
  /** What keeps the job from this node beside hosts, one sentence each: away, no networked jobs, no such engine, … */
  reasons: { code: string; message: string; hint: string }[]
  /** The patterns that the node does not let a job have; the first hundred. */
  missing: { pattern: string; owner: RuleOwner; code: ErrorCode; rule: string }[]
  missingCount: number
  /** What the node calls those of the job's keys that it trusts; empty when it trusts none, or nobody signed. */
  keys: string[]
}
