import { WeirError } from '../../errors.js'
import {
  type EgressLimits,
  type HostPatternSet,
  narrowedEgressLimits,
  type OfferedKey,
  type NodeId,
  type AuditRecord,
} from '../../model/index.js'
import type { AuditLedger, Identity, LeasePolicy } from '../../ports/index.js'
import { transparentPorts } from '../attach/transparent-ports.js'
import type { GatewayLimits } from '../limits/gateway-limits.js'
import { ByteBudgets } from '../limits/byte-budget.js'
import type { HostConnections } from '../limits/host-connections.js'
import { Level } from '../limits/level.js'
import { inSeries, type Meter, type MonotonicClock, TokenBucket } from '../limits/token-bucket.js'
import { decideAddresses, decideHost } from '../policy/decide.js'
import type { EgressRules, NodeRules } from '../policy/egress-policy.js'
import type { Attempt } from './attempt.js'
import type { GatewayMeter } from './gateway-meter.js'
import { type KeptCount, OriginPool } from './origin-pool.js'
import { EgressTally } from './tally.js'
import { TurnedAway } from './turned-away.js'

/** What a lease is made of. */
export interface LeaseParts {
  nodeId: NodeId
  who: Identity
  policy: LeasePolicy
  job: HostPatternSet
  node: NodeRules
  ledger: AuditLedger
  limits: GatewayLimits
  /** What the executions of the node share. */
  shared: SharedLimits
  meter: GatewayMeter
  /** Wall clock, for records and for the expiry of signatures. */
  now: () => number
  monotonic: MonotonicClock
  ownAddresses: () => ReadonlySet<string>
}

/** Limits that hold for several executions together. */
export interface SharedLimits {
  /** Of the node; absent = no bound. Each execution is one flow of it. */
  up?: TokenBucket
  down?: TokenBucket
  hostConnections: HostConnections
  kept: KeptCount
}

/** One execution's open right to leave: its rules, its budgets, and everything that is under way. */
export class Lease {
  readonly nodeId: NodeId
  readonly who: Identity
  readonly policy: LeasePolicy
  readonly ledger: AuditLedger
  readonly limits: GatewayLimits & EgressLimits
  readonly up: Meter
  readonly down: Meter
  readonly budgets: ByteBudgets
  readonly origins: OriginPool
  readonly meter: GatewayMeter
  /** Names that were looked up. */
  readonly names = new Set<string>()
  readonly tally = new EgressTally()
  readonly live = new Set<Attempt>()
  readonly turnedAway = new TurnedAway({ lease: this })
  /** Cut functions of all open client connections. */
  readonly connections = new Set<(reason: Error) => void>()
  readonly now: () => number
  /** Where programs that know nothing of proxies are served. */
  readonly transparentPorts: ReadonlySet<number>
  #job: HostPatternSet
  readonly #ownAddresses: () => ReadonlySet<string>
  readonly #shared: SharedLimits
  readonly #requests: Level
  readonly #monotonic: MonotonicClock
  #leaveJob: () => void
  #node: NodeRules
  /** Trusted keys that vouch for the job, while they do. */
  #keys: readonly { grant: OfferedKey; untilMs: number }[] = []
  #expiry: NodeJS.Timeout | undefined
  #closed = false

  constructor(parts: LeaseParts) {
    this.nodeId = parts.nodeId
    this.who = parts.who
    this.policy = parts.policy
    this.ledger = parts.ledger
    this.now = parts.now
    this.#job = parts.job
    this.transparentPorts = transparentPorts(parts.job.patterns, parts.policy.learning)
    this.#node = parts.node
    this.#ownAddresses = parts.ownAddresses
    this.limits = { ...parts.limits, ...effectiveLimits(parts.limits, parts.policy) }
    const { bitsPerSecondUp, bitsPerSecondDown, requestsPerSecond, hostConnectionsMax } = this.limits
    this.meter = parts.meter
    const clock = { now: parts.monotonic, onWait: (ms: number) => parts.meter.took('rateWait', ms) }
    this.#shared = parts.shared
    this.#monotonic = parts.monotonic
    this.up = inSeries(new TokenBucket(bitsPerSecondUp, clock), parts.shared.up?.flow())
    this.down = inSeries(new TokenBucket(bitsPerSecondDown, clock), parts.shared.down?.flow())
    this.budgets = new ByteBudgets(this.limits)
    this.origins = new OriginPool(parts.shared.kept, parts)
    this.#requests = new Level(requestsPerSecond / 1000, requestsPerSecond, parts.monotonic())
    this.#leaveJob = parts.shared.hostConnections.join(parts.who.jobId, hostConnectionsMax)
    this.#takeKeys()
    if (parts.policy.signedBy !== undefined) this.#awaitExpiry()
  }

  get closed(): boolean {
    return this.#closed
  }

  get isLearning(): boolean {
    return this.policy.learning === true
  }

  /** The rules in force at this moment. */
  get rules(): EgressRules {
    return {
      mode: this.policy.mode,
      ...(this.isLearning && { learning: true }),
      job: this.#job,
      node: this.#node,
      ...this.#keysNow(),
      ownAddresses: this.#ownAddresses(),
    }
  }

  /** Puts new node rules in force and cuts every attempt that they do not allow any more. */
  replaceNodeRules(node: NodeRules): void {
    this.#node = node
    this.#takeKeys()
    this.#cutForbidden()
  }

  /** The same for what was asked for. */
  replaceJobRules(job: HostPatternSet): void {
    this.#job = job
    this.#cutForbidden()
  }

  #takeKeys(): void {
    const { signedBy = [] } = this.policy
    this.#keys = signedBy.flatMap(({ key, untilMs }) => {
      const grant = this.#node.keys.find((one) => one.key === key)
      return grant === undefined ? [] : [{ grant, untilMs }]
    })
  }

  #keysNow(): Pick<EgressRules, 'keys' | 'expiredKeys'> {
    if (this.#keys.length === 0) return NO_KEYS
    const nowMs = this.now()
    const keys = this.#keys.filter(({ untilMs }) => nowMs < untilMs).map(({ grant }) => grant)
    if (keys.length === this.#keys.length) return { keys }
    return {
      keys,
      expiredKeys: this.#keys.filter(({ untilMs }) => nowMs >= untilMs).map(({ grant }) => grant),
    }
  }

  /** Every second at least: clocks on walls are set. Connections that only an expired key allowed are cut. */
  #awaitExpiry(): void {
    const { signedBy = [] } = this.policy
    const nowMs = this.now()
    const left = signedBy.map(({ untilMs }) => untilMs - nowMs).filter((ms) => ms > 0)
    if (left.length < signedBy.length) this.#cutForbidden()
    if (left.length === 0) return
    this.#expiry = setTimeout(() => this.#awaitExpiry(), Math.min(EXPIRY_CHECK_MS, ...left))
    this.#expiry.unref()
  }

  #cutForbidden(): void {
    this.origins.clear()
    const { rules } = this
    for (const attempt of this.live) this.cutIfForbidden(attempt, rules)
  }

  /** Ends an attempt that the rules do not allow any more. */
  cutIfForbidden(attempt: Attempt, rules: EgressRules = this.rules): void {
    const { request, dialled, answers, aliases } = attempt
    if (request === undefined) return
    const byHost = decideHost(request, rules)
    // Until one of them has accepted, any of the answers may be the one that is used.
    const found = { addresses: dialled === undefined ? answers : [dialled], aliases }
    const decision = byHost.allowed ? decideAddresses(request, found, rules) : byHost
    if (decision.allowed) return
    attempt.revokedByGeneration = this.#node.generation
    attempt.cut(new WeirError('egress.revoked', 'The permission was withdrawn'))
  }

  /** Milliseconds until one more request may begin; undefined when that is too long. */
  nextRequestMs(): number | undefined {
    return this.#requests.reserve(1, this.#monotonic(), this.limits.requestWaitMs)
  }

  /** False when the execution has had as many names looked up as it may, and this is another one. */
  admitName(name: string): boolean {
    if (this.names.has(name)) return true
    if (this.names.size >= this.limits.hostNamesMax) return false
    this.names.add(name)
    return true
  }

  /** See {@link HostConnections.open}. */
  openHostConnection(host: string, port: number): (() => void) | undefined {
    return this.#shared.hostConnections.open(this.who.jobId, host, port)
  }

  /** Takes what was used before a restart into account. */
  recall(record: AuditRecord): void {
    this.tally.add(record)
    const account = this.budgets.account(record.host, record.port)
    account.spend('up', record.bytesUp)
    account.spend('down', record.bytesDown)
    if (record.answers.length > 0) this.admitName(record.host)
  }

  /** Cuts everything. */
  shut(): void {
    this.#closed = true
    clearTimeout(this.#expiry)
    this.#leaveJob()
    this.origins.clear()
    const reason = new WeirError('egress.unavailable', 'The lease was closed')
    for (const cut of this.connections) cut(reason)
  }
}

const NO_KEYS: Pick<EgressRules, 'keys'> = {}
const EXPIRY_CHECK_MS = 1_000

/** What holds for an execution that asks for this. */
export function effectiveLimits(limits: GatewayLimits, policy: LeasePolicy): EgressLimits {
  return narrowedEgressLimits({ ...limits, budgets: [] }, policy.limits ?? {})
}
