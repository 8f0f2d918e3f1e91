import type { EgressMode } from './egress-lists.js'
import type { JobSpec, SpecConfig } from './job-spec.js'
import type { LearningOffer } from './learning.js'
import type { EgressReceipt } from './egress-receipt.js'
import type { EgressLimits } from './network-limits.js'
import type { Resources } from './resources.js'
import type { KeyGrant } from './trusted-key.js'

/** `j-` + UUID v4. */
export type JobId = string
/** `e-` + UUID v4. */
export type ExecutionId = string
/** `n-` + UUID v4, or any name without blanks, `.`, `*` and `>`. */
export type NodeId = string
/** UUID. */
export type EvaluationId = string

/** Milliseconds since the epoch. */
export type TimeMs = number

export const JOB_STATES = ['Pending', 'Queued', 'Running', 'Completed', 'Failed', 'Stopped'] as const
export type JobState = (typeof JOB_STATES)[number]

export function isTerminalJobState(state: JobState): boolean {
  return state === 'Completed' || state === 'Failed' || state === 'Stopped'
}

export interface Job {
  id: JobId
  spec: JobSpec
  state: JobState
  /** Why the job is in this state; empty when there is nothing to say. */
  message: string
  /** Details of a failure for machines (code, reasons per node). */
  details: Record<string, string>
  /** From 1; +1 with each update and each rerun. */
  version: number
  /** +1 with each stored change of this job, from 1. */
  revision: number
  createTimeMs: TimeMs
  modifyTimeMs: TimeMs
  /** When this version was submitted: its timeouts count from here. Absent = with the job, see {@link versionTimeMs}. */
  versionTimeMs?: TimeMs
  /** When the user asked to stop, with the reason. */
  stopRequest?: { reason: string; atMs: TimeMs }
  /** The idempotency token it (this version) was submitted with, if any. */
  idempotencyToken?: string
}

/** When the job's present version was submitted. */
export function versionTimeMs(job: Job): TimeMs {
  return job.versionTimeMs ?? job.createTimeMs
}

/** What the orchestrator wants; only the orchestrator writes it. */
export type DesiredState = 'Running' | 'Stopped'

/**
 * What the node sees; only the node writes it (the orchestrator may end the execution of a lost node by marking it
 * stopped and replacing it, but never edits the observation).
 *
 *     New → Accepted → Preparing → Running → Publishing → Completed
 *       ↘ Rejected        ↘ Failed, Cancelled (from any state that is not terminal)
 */
export const OBSERVED_STATES = [
  'New',
  'Accepted',
  'Rejected',
  'Preparing',
  'Running',
  'Publishing',
  'Completed',
  'Failed',
  'Cancelled',
] as const
export type ObservedState = (typeof OBSERVED_STATES)[number]

export function isTerminalObservedState(state: ObservedState): boolean {
  return state === 'Completed' || state === 'Rejected' || state === 'Failed' || state === 'Cancelled'
}

/** The history's line for a program that ran to its end, whoever writes it: both roles must say the same. */
export function completionMessage(exitCode: number): string {
  return exitCode === 0 ? 'Completed successfully' : `Completed with exit code ${exitCode}`
}

/** Short form of the program's output; the whole output is read through the log stream. */
export interface RunOutput {
  /** First 2 KiB. */
  stdout: string
  stdoutTruncated: boolean
  stderr: string
  stderrTruncated: boolean
  exitCode: number
  errorMessage: string
}

/** One destination of an execution's egress, summed up. */
export interface EgressDestination {
  /** Canonical host, or the escaped spelling of a malformed one. */
  host: string
  port: number
  allowed: number
  refused: number
  bytesUp: number
  bytesDown: number
  /** Code and advice of the last refusal; absent when nothing was refused. */
  code?: string
  /** For example `--domain cdn.example.net`; absent when no flag of the user would help. */
  advice?: string
}

export interface EgressSummary {
  records: number
  allowed: number
  refused: number
  bytesUp: number
  bytesDown: number
  /** At most 100, most bytes first; refused ones are kept in preference. */
  destinations: EgressDestination[]
  destinationsTruncated: boolean
  /** SHA-256 (hex) of the last audit record; the head of the hash chain. Empty without records. */
  chainHead: string
  /** For the node's receipt, and known to the node alone: attempts by code, first and last generation of its rules. */
  codes?: Record<string, number>
  policyGenerations?: number[]
}

export interface ObservedExecution {
  state: ObservedState
  /** +1 with each report, from 1; the node is the only writer. 0 = nothing reported yet. */
  sequence: number
  message: string
  /** Code of a refusal or failure (catalogue), empty otherwise. */
  code: string
  hint: string
  /** True when another try can succeed without any change of the job. */
  retryable: boolean
  startTimeMs?: TimeMs
  endTimeMs?: TimeMs
  runOutput?: RunOutput
  publishedResult?: SpecConfig
  egress?: EgressSummary
  /** What the gateway holds it to, since it runs; absent without http network. */
  egressLimits?: EgressLimits
  /** Since its program ended; absent when the node does not sign or cannot say what left. */
  receipt?: EgressReceipt
}

export interface Execution {
  id: ExecutionId
  jobId: JobId
  namespace: string
  nodeId: NodeId
  evaluationId: EvaluationId
  /** Which version of the job it runs; absent = 1, see {@link jobVersionOf}. */
  jobVersion?: number
  /** Which of the job's Count slots this execution fills, from 0; a retry keeps the slot. Each version counts anew. */
  slot: number
  /** How many executions of this slot came before. */
  attempt: number
  desired: { state: DesiredState; message: string; sinceMs: TimeMs }
  observed: ObservedExecution
  /** What the job is charged on the node. */
  resources: Resources
  /** Highest index of the node's events that is in the history; absent = none. */
  eventIndex?: number
  /** When the orchestrator first heard that it runs, by its own clock; absent = not heard yet. */
  runningSinceMs?: TimeMs
  /** +1 with each stored change of this execution, from 1. */
  revision: number
  createTimeMs: TimeMs
  modifyTimeMs: TimeMs
}

/** The version of its job that an execution runs. */
export function jobVersionOf({ jobVersion = 1 }: Execution): number {
  return jobVersion
}

export type EvaluationTrigger =
  | 'job-register'
  | 'job-update'
  | 'job-rerun'
  | 'job-cancel'
  | 'job-queue'
  | 'job-timeout'
  | 'exec-update'
  | 'exec-failure'
  | 'exec-retry'
  | 'node-join'
  | 'node-leave'

/** A note "look at this job again". */
export interface Evaluation {
  id: EvaluationId
  jobId: JobId
  namespace: string
  trigger: EvaluationTrigger
  priority: number
  /** Not before this time; 0 = at once. */
  waitUntilMs: TimeMs
  createTimeMs: TimeMs
}

export type NodeMembership = 'PENDING' | 'APPROVED' | 'REJECTED'
export type NodeConnection = 'CONNECTED' | 'DISCONNECTED'

/** What a node says about its egress; absent lists and empty lists both mean "nothing". */
export interface NodeEgressInfo {
  /** Which public hosts its operator opens. Absent: `list`. */
  mode?: EgressMode
  /** +1 with each change of the rules since the node's start. Absent: not told. */
  generation?: number
  /** Version of the network's list that the node knows. Absent: none. */
  networkVersion?: number
  /**
   * Set when the lists are too long to be told with each message: `allow` and `deny` are empty there, and whoever wants
   * them asks (`model/sync.ts`). Made by `digestEgressLists`.
   */
  listsDigest?: string
  /** How many patterns the lists hold; absent: as many as are told. */
  allowCount?: number
  denyCount?: number
  /** False: only jobs with network type None. */
  acceptsNetworkedJobs: boolean
  /** Whose jobs may learn here. Absent: nobody's. */
  learning?: LearningOffer
  /** Engines that can be given HTTP egress here. */
  httpEngines: string[]
  /** Engines that can be given full egress here. */
  fullEngines: string[]
  /** Canonical patterns; with mode `all` only the private exceptions, because every public host is allowed. */
  allow: string[]
  /** Canonical patterns; a host without port is denied on every port. */
  deny: string[]
  /** What is open beyond `allow` to jobs that were signed with a trusted key. Absent: nothing. */
  keys?: KeyGrant[]
  /** How many keys there are; absent: as many as are told. */
  keyCount?: number
  /** Why a mode is not offered although the operator wants it (no root, failed canary, …). */
  problems: string[]
  /** The gateway when the node last looked; absent without one. */
  gateway?: GatewayStanding
}

export interface GatewayStanding {
  running: boolean
  policyGeneration: number
  leases: number
  connections: number
}

export interface NodeInfo {
  nodeId: NodeId
  /** What the node does; a node may do both. */
  roles: ('orchestrator' | 'compute')[]
  labels: Record<string, string>
  /** weir's version, for example `0.1.0`. */
  version: string
  engines: string[]
  sources: string[]
  publishers: string[]
  /** Total offered to jobs. */
  maxCapacity: Resources
  /** Largest single job accepted. */
  maxJobRequirements: Resources
  availableCapacity: Resources
  /** Asked for by executions that wait in the node's queue. */
  queuedCapacity: Resources
  runningExecutions: number
  queuedExecutions: number
  egress: NodeEgressInfo
  /** Why an engine is missing, by engine: message and hint for people. */
  engineProblems: Record<string, string>
  /** What an engine that is there works with, such as the layers of its sandbox. Absent = the node does not say. */
  engineDetails?: Record<string, string>
  /** Addresses of the machine, from which its jobs could call. Absent = the node does not say. */
  addresses?: string[]
  /** Of the node's key, with which it signs receipts; absent = the node does not say. */
  publicKey?: string
}

export interface NodeRecord {
  info: NodeInfo
  membership: NodeMembership
  connection: NodeConnection
  /** Changes with each start of the node's process. */
  incarnation: string
  lastSyncMs: TimeMs
  connectedSinceMs: TimeMs
  /** When its process, its labels or what it offers became others than before; absent = not known. */
  changedMs?: TimeMs
  revision: number
}

/** One line of a job's history. */
export interface HistoryEvent {
  jobId: JobId
  /** Per job, ascending from 1. The store assigns it. */
  sequence: number
  /** Absent for job-level events. */
  executionId?: ExecutionId
  topic: string
  message: string
  /** String values only (Bacalhau's clients decode nothing else). */
  details: Record<string, string>
  /** When it happened. */
  timeMs: TimeMs
  jobVersion: number
}

/** A history event before the store numbers it. */
export type NewHistoryEvent = Omit<HistoryEvent, 'sequence'>
