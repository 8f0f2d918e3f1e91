import type { JobSpec, SpecConfig } from '../model/job-spec.js'
import type { AuditRecord } from '../model/audit.js'
import type { OutputStream } from '../model/log.js'
import type {
  EvaluationId,
  Execution,
  ExecutionId,
  HistoryEvent,
  Job,
  JobId,
  NodeConnection,
  NodeId,
  NodeMembership,
  NodeRecord,
} from '../model/state.js'
import type { HistoryQuery, JobQuery } from './job-store.js'

export interface SubmitRequest {
  /** Already parsed and normalised; the orchestrator adds defaults, id and meta. */
  spec: JobSpec
  idempotencyToken?: string
  /** Meta keys under `bacalhau.org/` learnt from the client's headers. */
  clientMeta: Record<string, string>
}

export interface SubmitResponse {
  jobId: JobId
  evaluationId: EvaluationId
  warnings: string[]
}

export interface LogQuery {
  /** Full id or prefix; absent = the newest execution that was not refused or replaced. */
  executionId?: string
  follow: boolean
  /** Skip what exists. */
  fromEnd: boolean
}

export interface LogItem {
  executionId: ExecutionId
  stream: OutputStream
  data: Uint8Array
  timeMs: number
}

/** Everything the API asks of the orchestrator. `idOrPrefix`: a full id or any unique prefix (`job.not_found`, `job.ambiguous`). */
export interface JobService {
  submit(request: SubmitRequest): Promise<SubmitResponse>
  /** Rejects with `job.terminal` for completed and failed jobs; a job that is stopped already gives an empty evaluation id. */
  stop(idOrPrefix: string, reason: string): Promise<{ evaluationId: EvaluationId }>
  job(idOrPrefix: string): Promise<Job>
  jobs(query: JobQuery): Promise<{ jobs: Job[]; more: boolean }>
  /** Oldest first. */
  executions(idOrPrefix: string): Promise<Execution[]>
  /**
   * `finished` is true when the job (or the execution asked for) has ended and `events` reaches the end: a client
   * that polls may stop.
   */
  history(idOrPrefix: string, query: HistoryQuery): Promise<{ events: HistoryEvent[]; finished: boolean }>
  /** Published results of completed executions. */
  results(idOrPrefix: string): Promise<SpecConfig[]>
  logs(idOrPrefix: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogItem>
  /** Audit records of all executions of the job, in order per execution; with `follow` until the job ends. */
  egress(
    idOrPrefix: string,
    query: { executionId?: string; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<AuditRecord>
  nodes(query: { membership?: NodeMembership; connection?: NodeConnection }): Promise<NodeRecord[]>
  node(idOrPrefix: string): Promise<NodeRecord>
  updateNode(id: NodeId, action: 'approve' | 'reject' | 'delete', message: string): Promise<void>
}
