import type { NetworkEgressPolicy, PackedEgressLists } from './egress-lists.js'
import type { JobSpec } from './job-spec.js'
import type {
  DesiredState,
  ExecutionId,
  JobId,
  NodeId,
  NodeInfo,
  NodeMembership,
  ObservedExecution,
  TimeMs,
} from './state.js'

/**
 * The conversation between a node and the orchestrator: level-triggered and idempotent.
 *
 * The node sends every observation that was not acknowledged yet and the revision of the desired state it knows; the
 * answer acknowledges the observations and brings what changed since. Losing, repeating or reordering messages is
 * harmless: an observation counts only if its sequence is higher than the stored one, a desired change only if its
 * revision is higher than the known one. `knownRevision: 0` asks for everything.
 */
export interface SyncRequest {
  nodeId: NodeId
  /** Changes with each start of the node's process. */
  incarnation: string
  info: NodeInfo
  /** The last desired revision applied; 0 = send all that is not terminal. */
  knownRevision: number
  observed: ObservedReport[]
  /** True in the last sync before a planned stop of the node. */
  leaving: boolean
  /** {@link digestNetworkPolicy} of the network's egress list that the node has in force. Absent: it knows none. */
  networkEgress?: string
  /** The node's lists of `info.egress.listsDigest`, packed, after the orchestrator asked for them. */
  egressLists?: PackedEgressLists
}

export interface ObservedReport {
  executionId: ExecutionId
  jobId: JobId
  observed: ObservedExecution
  /** Events since the last acknowledged report, in order. Their `index` makes them idempotent. */
  events: ExecutionEvent[]
}

/** A history line that a node contributes. */
export interface ExecutionEvent {
  /** Per execution, ascending from 1. */
  index: number
  /** For example `Downloading Inputs`, `Preparing Environment`, `Running Execution`, `Publishing Results`. */
  topic: string
  message: string
  details: Record<string, string>
  timeMs: TimeMs
}

export interface SyncResponse {
  membership: NodeMembership
  /** Sequence acknowledged per execution: reports up to it need not be sent again. */
  acknowledged: Record<ExecutionId, number>
  desired: DesiredExecution[]
  /** What the node knows after applying `desired`. When there is more, the node is nudged to ask for it from here. */
  revision: number
  /**
   * True when `desired` is the complete list of executions that the orchestrator wants on this node: anything else
   * the node still holds is to be stopped and forgotten.
   */
  complete: boolean
  /** The network's egress list, when the node's is another. Absent: what the node has stays in force. */
  networkEgress?: NetworkEgressPolicy
  /** True when the orchestrator does not know the lists of `info.egress.listsDigest`: to be sent at once. */
  wantsEgressLists?: boolean
}

/** What the orchestrator wants of one execution. */
export interface DesiredExecution {
  executionId: ExecutionId
  jobId: JobId
  /**
   * In the last part of a complete list that was too large for one message, executions on which the node has reported
   * come with a bare specification: no engine parameters, inputs or environment.
   */
  jobSpec: JobSpec
  slot: number
  attempt: number
  state: DesiredState
  message: string
  createTimeMs: TimeMs
  /** When the job (this version of it) was submitted, from which its total timeout counts. */
  jobCreateTimeMs: TimeMs
  /**
   * Sequence of the stored observation. A node that knows nothing of the execution any more goes on from here, so that
   * what it then reports counts; above 0 it reports the execution as lost rather than run it twice. Absent = 0.
   */
  observedSequence?: number
}
