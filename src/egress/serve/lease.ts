import { WeirError } from '../../errors.js'
import type { HostPatternSet, NodeId } from '../../model/index.js'
import type { AuditLedger, Identity, LeasePolicy } from '../../ports/index.js'
import type { GatewayLimits } from '../limits/gateway-limits.js'
import { type MonotonicClock, TokenBucket } from '../limits/token-bucket.js'
import { decideAddresses, decideHost } from '../policy/decide.js'
import type { EgressRules, NodeRules } from '../policy/egress-policy.js'
import type { Attempt } from './attempt.js'
import { EgressTally } from './tally.js'

/** What a lease is made of. */
export interface LeaseParts {
  nodeId: NodeId
  who: Identity
  policy: LeasePolicy
  job: HostPatternSet
  node: NodeRules
  ledger: AuditLedger
  limits: GatewayLimits
  /** Wall clock, for records only. */
  now: () => number
  monotonic: MonotonicClock
  ownAddresses: () => ReadonlySet<string>
}

/** One execution's open right to leave: its rules, its budgets, and everything that is under way. */
export class Lease {
  readonly nodeId: NodeId
  readonly who: Identity
  readonly policy: LeasePolicy
  readonly ledger: AuditLedger
  readonly limits: GatewayLimits
  readonly up: TokenBucket
  readonly down: TokenBucket
  readonly tally = new EgressTally()
  readonly live = new Set<Attempt>()
  /** Cut functions of all open client connections. */
  readonly connections = new Set<(reason: Error) => void>()
  readonly now: () => number
  readonly #job: HostPatternSet
  readonly #ownAddresses: () => ReadonlySet<string>
  #node: NodeRules
  #closed = false

  constructor(parts: LeaseParts) {
    this.nodeId = parts.nodeId
    this.who = parts.who
    this.policy = parts.policy
    this.ledger = parts.ledger
    this.now = parts.now
    this.#job = parts.job
    this.#node = parts.node
    this.#ownAddresses = parts.ownAddresses
    this.limits = narrowed(parts.limits, parts.policy)
    this.up = new TokenBucket(this.limits.bitsPerSecondUp, { now: parts.monotonic })
    this.down = new TokenBucket(this.limits.bitsPerSecondDown, { now: parts.monotonic })
  }

  get closed(): boolean {
    return this.#closed
  }

  /** The rules in force at this moment. */
  get rules(): EgressRules {
    return { mode: this.policy.mode, job: this.#job, node: this.#node, ownAddresses: this.#ownAddresses() }
  }

  /** Puts new node rules in force and cuts every attempt that they do not allow any more. */
  replaceNodeRules(node: NodeRules): void {
    this.#node = node
    const { rules } = this
    for (const attempt of this.live) {
      const { request, dialled, aliases } = attempt
      if (request === undefined) continue
      const byHost = decideHost(request, rules)
      const found = { addresses: dialled === undefined ? [] : [dialled], aliases }
      const decision = byHost.allowed ? decideAddresses(request, found, rules) : byHost
      if (decision.allowed) continue
      attempt.revokedByGeneration = node.generation
      attempt.cut(new WeirError('egress.revoked', 'The permission was withdrawn'))
    }
  }

  /** Cuts everything. */
  shut(): void {
    this.#closed = true
    const reason = new WeirError('egress.unavailable', 'The lease was closed')
    for (const cut of this.connections) cut(reason)
  }
}

/** The gateway's own maxima win; a lease can only ask for less. */
function narrowed(limits: GatewayLimits, policy: LeasePolicy): GatewayLimits {
  const less = (own: number, asked: number | undefined) =>
    asked === undefined || !(asked > 0) ? own : Math.min(own, asked)
  return {
    ...limits,
    bitsPerSecondUp: less(limits.bitsPerSecondUp, policy.bitsPerSecondUp),
    bitsPerSecondDown: less(limits.bitsPerSecondDown, policy.bitsPerSecondDown),
    connectionsMax: less(limits.connectionsMax, policy.connectionsMax),
  }
}
