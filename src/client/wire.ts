import type { EgressReceipt } from '../model/egress-receipt.js'
import type { AuditRecord, JobState, NodeConnection, NodeMembership } from '../model/index.js'

/**
 * Answers of the API as they come over the wire. Times in nanoseconds exceed what a number holds exactly: they are off
 * by less than a microsecond.
 */
export interface Page<Item> {
  /** Empty on the last page. */
  NextToken: string
  Items: Item[]
}

export interface WireSpecConfig {
  Type: string
  Params?: Record<string, unknown>
}

export interface WireState<StateType> {
  StateType: StateType
  Message?: string
  Details?: Record<string, string>
}

export interface WireTask {
  Name: string
  Engine: WireSpecConfig
  Publisher: WireSpecConfig
  Env?: Record<string, string>
  Meta?: Record<string, string>
  InputSources?: { Source: WireSpecConfig; Alias: string; Target: string }[]
  ResultPaths?: { Name: string; Path: string }[]
  Resources: { CPU?: string; Memory?: string; Disk?: string; GPU?: string }
  Network: {
    Type: 'None' | 'HTTP' | 'Full'
    Domains?: string[]
    Learn?: boolean
    Limits?: Record<string, unknown>
    Signatures?: {
      Type: string
      Key: string
      NotBefore: string
      Expires: string
      Namespace?: string
      Parts: Record<string, string>
      Signature: string
    }[]
  }
  Timeouts: { ExecutionTimeout?: number; QueueTimeout?: number; TotalTimeout?: number }
}

export interface WireJob {
  ID: string
  Name: string
  Namespace: string
  Type: 'batch' | 'ops' | 'service' | 'daemon'
  Priority: number
  Count: number
  Constraints: { Key: string; Operator: string; Values?: string[] }[]
  Meta: Record<string, string>
  Labels: Record<string, string>
  Tasks: WireTask[]
  State: WireState<JobState | 'Undefined'>
  Version: number
  Revision: number
  CreateTime: number
  ModifyTime: number
}

/** Content that a namespace holds. */
export interface WireBlob {
  CID: string
  Bytes: number
  /** RFC 3339. */
  LastUsed: string
}

export interface SubmittedJob {
  JobID: string
  /** Absent when the server knows no versions (Bacalhau before 1.8, and its answers to submissions). */
  JobVersion?: number
  EvaluationID: string
  Warnings: string[] | null
}

/** A job with what was included on request. */
export interface DescribedJob {
  Job: WireJob
  History?: Page<WireHistoryItem>
  Executions?: Page<WireExecution>
}

export interface WireHistoryItem {
  SeqNum: number
  Type: 'JobLevel' | 'ExecutionLevel'
  JobID: string
  ExecutionID?: string
  JobVersion: number
  Event: { Message: string; Topic: string; Timestamp: string; Details?: Record<string, string> }
  Time: string
}

export interface WireResources {
  CPU?: number
  Memory?: number
  Disk?: number
  GPU?: number
}

/** First 2 KiB of each stream. */
export interface WireRunOutput {
  Stdout: string
  StdoutTruncated: boolean
  stderr: string
  StderrTruncated: boolean
  ExitCode: number
  ErrorMsg: string
}

export interface WireEgressDestination {
  Host: string
  Port: number
  Allowed: number
  Refused: number
  BytesUp: number
  BytesDown: number
  /** Why the last refusal happened. */
  Code?: string
  /** The flag that would allow it. */
  Advice?: string
}

export interface WireEgressSummary {
  Records: number
  Allowed: number
  Refused: number
  BytesUp: number
  BytesDown: number
  Destinations: WireEgressDestination[]
  DestinationsTruncated: boolean
  ChainHead: string
}

/** Absent amounts are not bounded. */
export interface WireEgressLimits {
  BitsPerSecondUp: number
  BitsPerSecondDown: number
  BytesUpMax?: number
  BytesDownMax?: number
  RequestsPerSecond: number
  ConnectionsMax: number
  HostConnectionsMax?: number
  HostNamesMax: number
  Budgets?: { Domain: string; BytesUpMax?: number; BytesDownMax?: number }[]
}

export interface WireExecution {
  ID: string
  Namespace: string
  EvalID: string
  Name: string
  NodeID: string
  JobID: string
  AllocatedResources: { Tasks: Record<string, WireResources> }
  /** 1 running, 2 stopped. */
  DesiredState: WireState<number>
  /** See {@link executionStateName}. */
  ComputeState: WireState<number>
  PublishedResult: WireSpecConfig
  RunOutput: WireRunOutput | null
  PreviousExecution: string
  NextExecution: string
  FollowupEvalID: string
  Revision: number
  CreateTime: number
  ModifyTime: number
  JobVersion: number
  PartitionIndex: number
  Attempt: number
  StartTime?: string
  EndTime?: string
  /** Absent while nothing tried to leave. */
  Egress?: WireEgressSummary
  /** What the gateway holds it to, since it runs. */
  EgressLimits?: WireEgressLimits
  /** What the node signed about everything that left it, in the form over which the signature was made. */
  EgressReceipt?: EgressReceipt
}

export interface WireBuildVersion {
  Major?: string
  Minor?: string
  GitVersion: string
  GitCommit: string
  BuildDate: string
  GOOS: string
  GOARCH: string
  /** Absent when the server is not weir. */
  WeirVersion?: string
}

/** A join token, without its secret. */
export interface WireNodeToken {
  ID: string
  Description: string
  CreatedAt: string
  /** Absent: never. */
  ExpiresAt?: string
  /** 0 = any number. */
  UsesMax: number
  Uses: number
}

export interface WireNodeInfo {
  NodeID: string
  NodeType: 'Compute' | 'Requester'
  Labels: Record<string, string>
  SupportedProtocols: string[]
  /** Absent on nodes that run no jobs. */
  ComputeNodeInfo?: {
    ExecutionEngines: string[]
    Publishers: string[]
    StorageSources: string[]
    MaxCapacity: WireResources
    QueueCapacity: WireResources
    AvailableCapacity: WireResources
    MaxJobRequirements: WireResources
    RunningExecutions: number
    EnqueuedExecutions: number
    address: string
  }
  BacalhauVersion: WireBuildVersion
  WeirVersion: string
  Roles: string[]
  Egress: {
    AcceptsNetworkedJobs: boolean
    /** Whose jobs may learn which hosts they need; absent: nobody's. */
    Learning?: { Users: string[]; TimeoutMaxSeconds: number }
    /** Absent: an older server, where it is always `list`. */
    Mode?: 'none' | 'list' | 'all'
    /** +1 with each change of the rules since the node's start. */
    Generation?: number
    /** Of the network's list that the node enforces. */
    NetworkVersion?: number
    /** The lists may be too long to be known here; so many patterns they have. */
    AllowCount?: number
    DenyCount?: number
    HTTPEngines: string[]
    FullEngines: string[]
    Allow: string[]
    Deny: string[]
    /** What is open beyond that to jobs that are signed. Absent: nothing. */
    Keys?: { Name: string; Key: string; Allow: string[] }[]
    Problems: string[]
    /** The gateway when the node last looked; absent without one. */
    Gateway?: { Running: boolean; PolicyGeneration: number; Leases: number; Connections: number }
  }
  EngineProblems: Record<string, string>
  /** What each engine works with; absent from nodes that do not say. */
  EngineDetails?: Record<string, string>
  /** Of the key with which the node signs receipts. */
  PublicKey?: string
}

export interface WireNode {
  Info: WireNodeInfo
  Membership: NodeMembership
  Connection: NodeConnection
  ConnectionState: {
    Status: NodeConnection
    LastHeartbeat: string
    ConnectedSince: string
    DisconnectedSince: string
  }
}

/** A piece of output. */
export interface LogChunk {
  stream: 'stdout' | 'stderr'
  /** As the program wrote it. */
  data: Uint8Array
  /** Empty when the server does not say (Bacalhau). */
  executionId: string
  /** RFC 3339; empty when the server does not say. */
  time: string
  /** Instead of output, which is empty then: something to know about the stream, for people. */
  notice?: string
}

export interface WireWhoAmI {
  /** False where nobody has to authenticate. */
  Authenticated: boolean
  ID: string
  Name: string
  Kind: 'token' | 'user' | 'everyone'
  /** Empty for configured users. */
  Role: string
  Permissions: string[]
  /** `*` = all. */
  Namespaces: string[]
  ExpiresAt?: string
}

export interface WireToken {
  ID: string
  Name: string
  Role: string
  /** `*` = all. */
  Namespaces: string[]
  CreatedAt: string
  CreatedBy: string
  ExpiresAt?: string
  LastUsedAt?: string
  RevokedAt?: string
}

export interface NewTokenRequest {
  Name: string
  Role: string
  Namespaces?: string[]
  /** Absent = it does not expire. */
  ExpiresInSeconds?: number
}

export interface WireAdminRecord {
  timeMs: number
  sequence: number
  principal: string
  principalName: string
  address: string
  action: string
  object: string
  outcome: 'allowed' | 'denied' | 'failed'
  details?: Record<string, string>
  previousHash: string
  hash: string
}

export interface WireAdminLog {
  /** Asks for older ones; empty when there are none. */
  NextToken: string
  Items: WireAdminRecord[]
  Verdict?: {
    intact: boolean
    records?: number
    firstSequence?: number
    head?: string
    brokenAt?: number
    reason?: string
  }
}

export type { AuditRecord }

/** The name of a `ComputeState.StateType`; `Unknown (n)` for others. */
export function executionStateName(stateType: number): string {
  return EXECUTION_STATES[stateType] ?? `Unknown (${stateType})`
}

const EXECUTION_STATES: Readonly<Record<number, string>> = {
  0: 'Undefined',
  1: 'New',
  2: 'AskForBid',
  3: 'Accepted',
  4: 'Rejected',
  5: 'Preparing',
  6: 'Running',
  7: 'Publishing',
  8: 'BidRejected',
  9: 'Completed',
  10: 'Failed',
  11: 'Cancelled',
}

/** The egress list of the network. */
export interface WireNetworkEgress {
  Version: number
  /** False: the network restricts nothing; true: only what `Allow` holds. */
  Limited: boolean
  Allow: string[]
  Deny: string[]
}

/** A named list of hosts, written `@name` among the domains of a job. */
export interface WirePreset {
  Name: string
  /** Equal for equal lists. */
  Digest: string
  Domains: string[]
}

/** The allowlist of the network, for operators. */
export interface WireNetworkList {
  Version: number
  Limited: boolean
  File: string
  Patterns: { Pattern: string; Where: string; Comment: string }[]
}

interface WirePatternPlace {
  Pattern: string
  By: string
  Where: string
}

/** What an edit of the network's allowlist did. */
export interface WireListChange {
  Version: number
  DryRun: boolean
  Added: string[]
  Removed: string[]
  Present: WirePatternPlace[]
  Covered: WirePatternPlace[]
  Redundant: WirePatternPlace[]
  Absent: string[]
  StillAllowed: WirePatternPlace[]
}

export interface WireAccessRequest {
  ID: string
  State: 'open' | 'approved' | 'denied' | 'expired'
  Domains: string[]
  CreatedAt: string
  ExpiresAt: string
  Askers: { ID: string; Name: string; Reason: string; At: string }[]
  Decision?: { By: string; Reason: string; At: string; Added: string[]; NetworkVersion: number }
}

export interface WireApproval {
  Request: WireAccessRequest
  Accepting: number
  Refusing: {
    NodeID: string
    Reasons: string[]
    Missing: { Pattern: string; Owner: string; Code: string }[]
  }[]
}

/** Which nodes would take a job, and what keeps the others from it. */
export interface WireEgressCheck {
  NetworkVersion: number
  Fitting: number
  Domains: { Pattern: string; Accepting: number; Refusing: number; Reason: string }[]
  Nodes: WireEgressNodeCheck[]
}

export interface WireEgressNodeCheck {
  NodeID: string
  Fits: boolean
  Reasons: { Code: string; Message: string; Hint: string }[]
  /** At most 100 of them. */
  Missing: { Pattern: string; Owner: 'node' | 'network'; Code: string; Rule: string }[]
  MissingCount: number
  /** Names of the keys that it trusts and the job is signed with. Absent: an older server. */
  Keys?: string[]
}

/** What the gateway of a node says of requests to a host. */
export interface WireEgressExplanation {
  NodeID: string
  Host: string
  Oddities: string[]
  PolicyGeneration: number
  Verdicts: WireEgressVerdict[]
}

export interface WireEgressVerdict {
  Scheme: 'http' | 'https'
  Port: number
  Allowed: boolean
  Code: string
  Owner: string
  Rule: string
  Objections: { Code: string; Owner: string; Rule: string; Change: string }[]
}
