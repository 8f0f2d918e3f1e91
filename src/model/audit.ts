import type { ErrorCode } from '../errors.js'
import type { ExecutionId, JobId, NodeId, TimeMs } from './state.js'

/**
 * `transparent`: of a program that used no proxy; its connection arrived by whatever address it dialled, or its question
 * for a name was refused (method `DNS`, port 0). Of a learning execution names that were answered are recorded as well.
 *
 * `wasm`: of a program in a sandbox, whatever it asked for; its method says what that was.
 *
 * `restart` is no attempt: from there on another gateway process serves the execution; what was open before was cut.
 */
export type EgressKind = 'http' | 'connect' | 'transparent' | 'wasm' | 'input' | 'restart'
export type EgressDecisionWord = 'allow' | 'deny'
/** How an attempt ended. */
export type EgressEnd =
  | 'client'
  | 'origin'
  | 'refused'
  | 'limit'
  | 'timeout'
  | 'revoked'
  | 'shutdown'
  | 'error'
/** Whose rule decided. `key NAME`: allowed by the list of a key that signed the job, and not by the node's own. */
export type RuleOwner = 'job' | 'node' | 'network' | 'gateway' | KeyOwner
export type KeyOwner = `key ${string}`

/**
 * One immutable line per attempt to leave: also when it was refused, failed or cut; and one for each restart of the gateway
 * meanwhile. Connections beyond the bound of an execution share lines, which say how many they stand for.
 *
 * Lines of one execution form a hash chain: `hash` = SHA-256 over the JSON of the record without `hash`, and
 * `previousHash` is the hash of the line before (64 zeros for the first).
 */
export interface AuditRecord {
  timeMs: TimeMs
  nodeId: NodeId
  jobId: JobId
  executionId: ExecutionId
  /** Per execution, from 1, without gaps. */
  sequence: number
  previousHash: string
  policyGeneration: number
  /** The generation that withdrew the permission; absent unless `end` is `revoked`. */
  revokedByGeneration?: number
  kind: EgressKind
  /** True when the execution was a learning one, to which every public host was open. Absent: it was not. */
  learning?: true
  /** Upper case for HTTP, `CONNECT` for tunnels, `TLS` and `DNS` for kind `transparent`, `RESTART` for kind `restart`, `CHANNEL` for a sandbox that broke the rules of its channel (the reason stands in `hostAsSent`), empty when the request was unreadable. */
  method: string
  /** Canonical host; empty when the host could not be read. */
  host: string
  /** As sent, escaped to printable ASCII, at most 256 characters; never credentials, a path or a query. */
  hostAsSent: string
  port: number
  /** Every address the name resolved to; empty when nothing was looked up. */
  answers: string[]
  /** CNAME chain, when there was one. */
  aliases: string[]
  /** The address that was dialled; empty when nothing was dialled. */
  dialled: string
  /** Kind `transparent`: the address the program connected to, which counts for nothing. Absent for every other kind. */
  arrivedAt?: string
  sni: string
  alpn: string[]
  decision: EgressDecisionWord
  /** Empty when allowed. */
  code: ErrorCode | ''
  /** The pattern that decided; empty when none did. */
  rule: string
  ruleOwner: RuleOwner | ''
  /** HTTP status given to the job; 0 when none was sent. */
  status: number
  bytesUp: number
  bytesDown: number
  /** −1 when no byte came back. */
  msToFirstByte: number
  msTotal: number
  end: EgressEnd
  /** For how many attempts alike this record stands, refused faster than records are worth writing. Absent: one. */
  count?: number
  hash: string
}

/** False for what is noted beside attempts to leave: restarts of the gateway, and names that were only answered. */
export function isAttempt({ kind, method, decision }: AuditRecord): boolean {
  return kind !== 'restart' && (method !== 'DNS' || decision === 'deny')
}

/** What the gateway fills in; the sink adds sequence and chain. */
export type AuditEntry = Omit<AuditRecord, 'sequence' | 'previousHash' | 'hash'>
