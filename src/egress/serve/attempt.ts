import type { IpAddress } from '../../model/index.js'
import {
  type AuditEntry,
  type EgressEnd,
  escapeForRecord,
  type Host,
  isAttempt,
  type RuleOwner,
} from '../../model/index.js'
import type { AuditTicket } from '../../ports/index.js'
import type { ErrorCode } from '../../errors.js'
import type { EgressRequest } from '../policy/decide.js'
import type { ByteAccount, Direction } from '../limits/byte-budget.js'
import type { Meter } from '../limits/token-bucket.js'
import type { Lease } from './lease.js'
import type { Toll } from './socket-stream.js'

/** How an attempt came out. */
export interface Outcome {
  code: ErrorCode | ''
  rule?: string
  owner?: RuleOwner | ''
  status: number
  end: EgressEnd
}

/** What is known of an attempt beside what is decided on. */
export interface AttemptAbout {
  method: string
  hostAsSent: string
  /** It comes out of the sandbox of a WebAssembly program. Absent: not. */
  isGuest?: boolean
  /** Transparent mode: the address the program connected to, empty for a question for a name. Absent: it used the proxy. */
  arrivedAt?: string
  /** For how many attempts alike its record stands. Absent: one. */
  count?: number
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
  /** What the payload of the attempt pays, by direction. */
  readonly up: Toll
  readonly down: Toll
  /** Ends the attempt's connection with this reason. */
  readonly cut: (reason: Error) => void
  readonly #lease: Lease
  readonly #about: AttemptAbout
  readonly #generation: number
  readonly #timeMs: number
  readonly #startedAt = performance.now()
  #firstByteAt: number | undefined
  #ticket: AuditTicket | undefined
  #ended = false
  readonly #account: ByteAccount
  readonly #endings: (() => void)[] = []

  constructor(
    lease: Lease,
    request: EgressRequest | undefined,
    about: AttemptAbout,
    cut: (reason: Error) => void,
  ) {
    this.request = request
    this.cut = cut
    this.#lease = lease
    this.#about = about
    this.#generation = lease.rules.node.generation
    this.#timeMs = lease.now()
    this.#account = lease.budgets.account(request?.host.text ?? '', request?.port ?? 0)
    this.up = new AttemptToll(this, lease, this.#account, 'up')
    this.down = new AttemptToll(this, lease, this.#account, 'down')
    lease.live.add(this)
  }

  get ended(): boolean {
    return this.#ended
  }

  /** Throws `egress.quota_*` when the budgets let nothing pass any more, in either direction. */
  checkBudgets(): void {
    this.#account.check('up')
    this.#account.check('down')
  }

  /** Called when the attempt ends, at once when it has ended. */
  onEnd(ending: () => void): void {
    if (this.#ended) ending()
    else this.#endings.push(ending)
  }

  originAnswered(): void {
    this.#firstByteAt ??= performance.now()
  }

  /** The note on disk without which nothing may leave. Rejects with `egress.audit_failed`. */
  async begin(): Promise<void> {
    const entry = this.#entry({ code: '', status: 0, end: 'error' }, 'allow')
    this.#ticket = await this.#written(this.#lease.ledger.begin(entry))
  }

  /** Writes the record; only the first call counts. Rejects with `egress.audit_failed`. */
  async end(outcome: Outcome): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    this.#lease.live.delete(this)
    for (const ending of this.#endings) ending()
    const record = await this.#written(this.#lease.ledger.append(this.#entry(outcome), this.#ticket))
    this.#lease.tally.add(record)
    if (isAttempt(record)) this.#lease.meter.ended(record)
  }

  async #written<T>(writing: Promise<T>): Promise<T> {
    try {
      return await writing
    } catch (error) {
      this.#lease.meter.auditFailed()
      throw error
    }
  }

  /** A request that was let out and then stopped halfway was allowed all the same. */
  #decision(code: ErrorCode | ''): AuditEntry['decision'] {
    if (this.#ticket !== undefined && HALFWAY.test(code)) return 'allow'
    return DENIALS.test(code) ? 'deny' : 'allow'
  }

  #kind(): AuditEntry['kind'] {
    const { arrivedAt, method, isGuest } = this.#about
    if (isGuest === true) return 'wasm'
    if (arrivedAt !== undefined) return 'transparent'
    const kind = this.request?.kind ?? (method === 'CONNECT' ? 'connect' : 'http')
    return kind === 'https' ? 'http' : kind
  }

  #entry(outcome: Outcome, decision?: AuditEntry['decision']): AuditEntry {
    const host: Host | undefined = this.request?.host
    const revoked = this.revokedByGeneration
    const { arrivedAt, count = 1 } = this.#about
    return {
      timeMs: this.#timeMs,
      nodeId: this.#lease.nodeId,
      jobId: this.#lease.who.jobId,
      executionId: this.#lease.who.executionId,
      policyGeneration: this.#generation,
      ...(revoked === undefined ? {} : { revokedByGeneration: revoked }),
      kind: this.#kind(),
      ...(this.#lease.isLearning && { learning: true as const }),
      method: escapeForRecord(this.#about.method).slice(0, 32),
      host: host?.text ?? '',
      hostAsSent: escapeForRecord(this.#about.hostAsSent),
      port: this.request?.port ?? 0,
      answers: this.answers.map((address) => address.text).slice(0, 64),
      aliases: [...this.aliases],
      dialled: this.dialled?.text ?? '',
      ...(arrivedAt === undefined || arrivedAt === '' ? {} : { arrivedAt }),
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
      ...(count === 1 ? {} : { count }),
    }
  }
}

class AttemptToll implements Toll {
  readonly #attempt: Attempt
  readonly #lease: Lease
  readonly #account: ByteAccount
  readonly #direction: Direction

  constructor(attempt: Attempt, lease: Lease, account: ByteAccount, direction: Direction) {
    this.#attempt = attempt
    this.#lease = lease
    this.#account = account
    this.#direction = direction
  }

  get meter(): Meter {
    return this.#lease[this.#direction]
  }

  draw(bytes: number): number {
    return this.#account.draw(this.#direction, bytes)
  }

  giveBack(bytes: number): void {
    this.#account.spend(this.#direction, -bytes)
  }

  count(bytes: number): void {
    if (this.#direction === 'up') this.#attempt.bytesUp += bytes
    else this.#attempt.bytesDown += bytes
    this.#lease.meter.passed(this.#direction, bytes)
  }
}

/** Why something that was let out may be stopped halfway. */
const HALFWAY = /^(?:request\.|egress\.quota_)/

/** Everything but failures beyond our power: those were allowed and did not work. */
const DENIALS = /^(?!$|egress\.(?:upstream_failed|dns_failed|timeout|revoked)$)/
