import type { IpAddress } from '../../model/index.js'
import {
  type AuditEntry,
  type EgressEnd,
  escapeForRecord,
  type Host,
  type RuleOwner,
} from '../../model/index.js'
import type { AuditTicket } from '../../ports/index.js'
import type { ErrorCode } from '../../errors.js'
import type { EgressRequest } from '../policy/decide.js'
import type { Lease } from './lease.js'

/** How an attempt came out. */
export interface Outcome {
  code: ErrorCode | ''
  rule?: string
  owner?: RuleOwner | ''
  status: number
  end: EgressEnd
}

/**
 * One attempt to leave, from the moment it is understood until its one record is written. While it is live, a change
 * of the rules can cut it through `cut`.
 */
export class Attempt {
  readonly request: EgressRequest | undefined
  bytesUp = 0
  bytesDown = 0
  answers: readonly IpAddress[] = []
  aliases: readonly string[] = []
  dialled: IpAddress | undefined
  sni = ''
  alpn: readonly string[] = []
  rule = ''
  owner: RuleOwner | '' = ''
  revokedByGeneration: number | undefined
  /** Ends the attempt's connection with this reason. */
  readonly cut: (reason: Error) => void
  readonly #lease: Lease
  readonly #about: { method: string; hostAsSent: string }
  readonly #generation: number
  readonly #timeMs: number
  readonly #startedAt = performance.now()
  #firstByteAt: number | undefined
  #ticket: AuditTicket | undefined
  #ended = false

  constructor(
    lease: Lease,
    request: EgressRequest | undefined,
    about: { method: string; hostAsSent: string },
    cut: (reason: Error) => void,
  ) {
    this.request = request
    this.cut = cut
    this.#lease = lease
    this.#about = about
    this.#generation = lease.rules.node.generation
    this.#timeMs = lease.now()
    lease.live.add(this)
  }

  get ended(): boolean {
    return this.#ended
  }

  readonly countUp = (bytes: number): void => {
    this.bytesUp += bytes
  }

  readonly countDown = (bytes: number): void => {
    this.bytesDown += bytes
  }

  originAnswered(): void {
    this.#firstByteAt ??= performance.now()
  }

  /** The note on disk without which nothing may leave. Rejects with `egress.audit_failed`. */
  async begin(): Promise<void> {
    this.#ticket = await this.#lease.ledger.begin(this.#entry({ code: '', status: 0, end: 'error' }, 'allow'))
  }

  /** Writes the record; only the first call counts. Rejects with `egress.audit_failed`. */
  async end(outcome: Outcome): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    this.#lease.live.delete(this)
    const record = await this.#lease.ledger.append(this.#entry(outcome), this.#ticket)
    this.#lease.tally.add(record)
  }

  /** A request that was let out and then stopped halfway was allowed all the same. */
  #decision(code: ErrorCode | ''): AuditEntry['decision'] {
    if (this.#ticket !== undefined && code.startsWith('request.')) return 'allow'
    return DENIALS.test(code) ? 'deny' : 'allow'
  }

  #entry(outcome: Outcome, decision?: AuditEntry['decision']): AuditEntry {
    const host: Host | undefined = this.request?.host
    const revoked = this.revokedByGeneration
    return {
      timeMs: this.#timeMs,
      nodeId: this.#lease.nodeId,
      jobId: this.#lease.who.jobId,
      executionId: this.#lease.who.executionId,
      policyGeneration: this.#generation,
      ...(revoked === undefined ? {} : { revokedByGeneration: revoked }),
      kind: this.request?.kind ?? (this.#about.method === 'CONNECT' ? 'connect' : 'http'),
      method: escapeForRecord(this.#about.method).slice(0, 32),
      host: host?.text ?? '',
      hostAsSent: escapeForRecord(this.#about.hostAsSent),
      port: this.request?.port ?? 0,
      answers: this.answers.map((address) => address.text).slice(0, 64),
      aliases: [...this.aliases],
      dialled: this.dialled?.text ?? '',
      sni: escapeForRecord(this.sni),
      alpn: this.alpn.slice(0, 16).map((name) => escapeForRecord(name)),
      decision: decision ?? this.#decision(outcome.code),
      code: outcome.code,
      rule: outcome.rule ?? this.rule,
      ruleOwner: outcome.owner ?? this.owner,
      status: outcome.status,
      bytesUp: this.bytesUp,
      bytesDown: this.bytesDown,
      msToFirstByte: this.#firstByteAt === undefined ? -1 : Math.round(this.#firstByteAt - this.#startedAt),
      msTotal: Math.round(performance.now() - this.#startedAt),
      end: outcome.end,
    }
  }
}

/** Everything but failures beyond our power: those were allowed and did not work. */
const DENIALS = /^(?!$|egress\.(?:upstream_failed|dns_failed|timeout|revoked)$)/
