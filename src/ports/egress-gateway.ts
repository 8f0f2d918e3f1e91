import type { Socket } from 'node:net'
import type { ErrorCode, WeirError } from '../errors.js'
import type { EgressLimits } from '../model/network-limits.js'
import type { AuditEntry, AuditRecord, RuleOwner } from '../model/audit.js'
import type { DestinationService } from '../model/destination.js'
import type { EgressMode } from '../model/egress-lists.js'
import type { GatewayCounters } from '../model/gateway-counters.js'
import type { KeyGrant } from '../model/trusted-key.js'
import type { EgressSummary, ExecutionId, GatewayStanding, JobId } from '../model/state.js'

/** Who is calling: the lease's listener is the identity, nothing a job sends can change it. */
export interface Identity {
  jobId: JobId
  executionId: ExecutionId
}

/** Listeners inside one network namespace, held by the gateway. Until a lease is opened they refuse everything. */
export interface GatewayAttachment {
  readonly id: string
  /** As seen inside the namespace: `http://127.0.0.1:3128`. */
  readonly proxyUrl: string
  /**
   * Present when programs that ignore proxy variables are served as well (transparent mode): the name server they have to
   * ask, for the job's `/etc/resolv.conf`.
   */
  readonly nameServer?: string
  /** Why such programs reach nothing in this namespace; absent when they are served, and when that is switched off. */
  readonly onlyProxy?: string
}

/** What the job asked for. */
export interface LeasePolicy {
  mode: 'http'
  /** Canonical host patterns; empty means nothing is allowed. */
  allow: string[]
  /**
   * Ask for every public host on the ports of the web besides, to learn which are needed; counts only where the node's
   * rules have `learning`. Every record says so. Absent: false.
   */
  learning?: boolean
  /** Less than the gateway gives; its own maxima win. Absent = the gateway's own. */
  limits?: Partial<EgressLimits>
  /**
   * Keys whose signatures were judged to be genuine: until then, by the clock on the wall, their lists count as the
   * node's. Absent and empty: nobody's.
   */
  signedBy?: { key: string; untilMs: number }[]
}

/** An open right to use the gateway for one execution. */
export interface EgressLease {
  readonly proxyUrl: string
  /** Names and values for the job's environment: all six proxy variables, `no_proxy`, `NODE_USE_ENV_PROXY`. */
  readonly env: Record<string, string>
  /** What holds for the execution: what it asked for, cut to what the node gives. Absent: the gateway does not say. */
  readonly limits?: EgressLimits
  summary(): Promise<EgressSummary>
  /** Closes every connection within a second and the listeners; resolves with the final summary. Idempotent. */
  close(): Promise<EgressSummary>
  /**
   * Resolves with the reason when the lease ended although nobody closed it, because it could not be opened again after a
   * crash of the gateway: nothing leaves any more. Absent: that cannot happen.
   */
  readonly lost?: Promise<WeirError>
}

/** The node's egress rules; replaced as a whole. Absent lists mean nothing is allowed. */
export interface NodeEgressPolicy {
  /**
   * Which public hosts are open: none, those of `allow`, or all of them, where `deny`, the network itself, private
   * addresses and the ports a job did not name stay closed. Absent: `list`.
   */
  mode?: EgressMode
  /**
   * Leases that ask for it may reach every public host, and the private exceptions; whatever is denied, the network's
   * list, the network itself and private addresses stay closed. Absent: false.
   */
  learning?: boolean
  allow: string[]
  /** Wins over everything but `self`. */
  deny: string[]
  /** Exact name or address with port that may be reached although its address is not public, for example `10.9.9.9:8080`. */
  privateExceptions: string[]
  /** What is open beyond `allow` to jobs that were signed; with mode `none` nothing is. Absent: nothing. */
  keys?: KeyGrant[]
  /** Names and addresses that are the network itself, beyond the node's own interfaces: `orchestrator.test:1234`. */
  self: string[]
  /** The list of the whole network. Absent: the network restricts nothing; empty: nothing is allowed. */
  network?: string[]
  /** What the whole network denies; wins like `deny`. Absent: nothing. */
  networkDeny?: string[]
}

/** "What would become of this?" */
export interface EgressQuestion {
  /** Canonical name or address, IPv6 without brackets. */
  readonly host: string
  /** At most a few. */
  readonly services: readonly DestinationService[]
  /** The patterns of the job, canonical; empty: a job that asks for nothing. */
  readonly domains: readonly string[]
  /** As if these keys had signed it. Absent and empty: nobody has. */
  readonly signedBy?: readonly string[]
}

/** The gateway's decision by name; what a name resolves to is judged only when it is asked for. */
export interface EgressVerdict extends DestinationService {
  readonly allowed: boolean
  /** Whose rule decided, and which; empty when none did. */
  readonly owner: RuleOwner
  readonly rule: string
  /** Empty when it is allowed. */
  readonly code: ErrorCode | ''
  /** Everything that stands against it, the decision first; empty when it is allowed. */
  readonly objections: readonly EgressObjection[]
}

export interface EgressObjection {
  readonly code: ErrorCode
  readonly owner: RuleOwner
  readonly rule: string
  /** What would have to change, and by whom; empty when nothing can. */
  readonly change: string
}

export interface EgressExplanation {
  readonly policyGeneration: number
  /** In the order of the question's services. */
  readonly verdicts: readonly EgressVerdict[]
}

/** `running` is false after a crash, until it was started again. */
export type GatewayStatus = GatewayStanding

/** The only way out of an execution. One per node. */
export interface EgressGateway {
  /**
   * Creates listeners inside the network namespace `netnsPath` (for example `/proc/123/ns/net`) and holds them. With
   * `usernsPath`, the user namespace that owns it, no root is needed where this user made that one.
   * Rejects with `egress.unavailable` when the machine does not allow it.
   */
  attach(netnsPath: string, usernsPath?: string): Promise<GatewayAttachment>
  /**
   * Binds an identity and a policy to the listeners. A second lease for the same execution is refused. `again`: the
   * execution had a lease of an earlier gateway; its chain of records goes on, with a record that says so.
   */
  open(
    who: Identity,
    policy: LeasePolicy,
    attachment: GatewayAttachment,
    options?: { again?: boolean },
  ): Promise<EgressLease>
  /**
   * Closes the books of an execution whose lease died with an earlier gateway and is not opened again: attempts that were
   * under way become records. Resolves with the final summary; rejects with `egress.audit_failed`.
   */
  settle?(who: Identity): Promise<EgressSummary>
  /**
   * For an execution without a namespace, in a sandbox that opens no connection: no listeners, and `carry` brings the one
   * descriptor it has. Absent: the gateway serves no sandboxes.
   */
  attachSandbox?(): Promise<GatewayAttachment>
  /**
   * Gives the gateway the other end of a sandbox's descriptor, before anything was read or written there: what the sandbox asks
   * for then belongs to the attachment's lease. Once it resolves this process has no part in it. It ends with the sandbox, with the
   * lease, and with the gateway. Rejects with `egress.unavailable`; the descriptor is closed then.
   */
  carry?(attachment: GatewayAttachment, socket: Socket): Promise<void>
  /** Closes listeners that never got a lease. Idempotent. */
  detach(attachment: GatewayAttachment): Promise<void>
  /** Replaces the node's rules: effective within 100 ms, forbidden tunnels closed within 1 s. */
  setNodePolicy(policy: NodeEgressPolicy): Promise<void>
  status(): Promise<GatewayStatus>
  /** Times it ended unasked, and what it has counted since its last start (absent while it is down). */
  counters?(): Promise<{ restarts: number; counters?: GatewayCounters }>
  /** What would become of requests under the rules in force. Rejects with `host.invalid` or `pattern.invalid`. */
  explain?(question: EgressQuestion): Promise<EgressExplanation>
  close(): Promise<void>
}

/** Reads what the gateway recorded. */
export interface AuditLog {
  /** Records of one execution with `sequence > after`, at most `limit`. Empty when there are none. */
  read(executionId: ExecutionId, after: number, limit: number): Promise<AuditRecord[]>
  /** Removes the records of an execution whose retention is over. Absent: the log looks after its own retention. */
  remove?(executionId: ExecutionId): Promise<void>
}

/** Where the gateway writes its records. One writer per execution. */
export interface AuditSink {
  /**
   * Opens the ledger of one execution; continues where an earlier one stopped. Attempts that were begun and never
   * ended, because the gateway died, become records with `end: 'error'` now. Rejects with `egress.audit_failed`.
   */
  open(executionId: ExecutionId): Promise<AuditLedger>
}

/** The hash chain of one execution. Calls may overlap; records get their sequence in the order of the calls. */
export interface AuditLedger {
  /**
   * Notes, before any byte leaves, that an attempt was allowed; the note is on disk when this resolves.
   * Rejects with `egress.audit_failed`: then the attempt must not go on.
   */
  begin(entry: AuditEntry): Promise<AuditTicket>
  /** Writes the one record of an attempt. `ticket` is the note of an attempt that was begun. */
  append(entry: AuditEntry, ticket?: AuditTicket): Promise<AuditRecord>
  /** Hash of the last record; empty without records. */
  readonly head: string
  /** Resolves when everything is written. Idempotent. */
  close(): Promise<void>
}

/** Connects the note of an attempt with its record. */
export interface AuditTicket {
  readonly attempt: number
}

/** The verdict on an address or name, for code outside the gateway that fetches on a job's behalf (inputs). */
export interface GuardVerdict {
  allowed: boolean
  code: ErrorCode | ''
  message: string
}

/** The address guard: resolves once, judges every address, dials the very address that was judged. */
export interface GuardedDialer {
  /**
   * Opens a TCP connection to `host:port`. Rejects with `egress.self`, `egress.private_address`, `egress.dns_failed`
   * or `egress.upstream_failed`. Private exceptions of the operator apply; no allowlist does.
   */
  dial(host: string, port: number, signal: AbortSignal): Promise<Socket>
}
