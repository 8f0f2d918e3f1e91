import { HostPatternSet, NO_RESOURCES, trustedAmong } from '../model/index.js'
import type { HostPattern, UncoveredPattern } from '../model/index.js'
import type { EgressCheck, EgressCheckRequest, EgressNodeCheck } from '../ports/index.js'
import { demandOf, type JobDemand, readDemand } from './job-demand.js'
import type { NodeView } from './node-view.js'
import { refuseAbsent, refuseLabels, refuseNetworkMode, refuseOffer, refuseSize } from './placement.js'
import type { Refusal } from './refusals.js'

/** Patterns named for one node. */
const MISSING_MAX = 100

/**
 * Which nodes would take a job and what keeps the others from it, by the rules by which jobs are placed; load and the past
 * of jobs are left out. Throws `pattern.invalid`.
 */
export function checkEgress(
  request: EgressCheckRequest,
  nodes: Iterable<NodeView>,
  networkVersion: number,
): EgressCheck {
  const demand = request.spec === undefined ? hostsOnly(request) : readDemand(request.spec)
  const isWholeJob = request.spec !== undefined
  const tally = new PatternTally(demand)
  const checks: EgressNodeCheck[] = []
  for (const node of nodes) if (node.offer.runsJobs) checks.push(checkNode(demand, node, isWholeJob, tally))
  checks.sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1))
  return {
    patterns: tally.result(checks.length),
    networkVersion,
    nodes: checks,
    fitting: checks.filter(({ fits }) => fits).length,
  }
}

/** For each pattern: how many nodes would let a job have it, and why the others would not. */
class PatternTally {
  readonly #refusing: Map<HostPattern, Map<string, number>>
  readonly #everywhere = new Map<string, number>()
  #allRefusing = 0

  constructor({ domains }: JobDemand) {
    this.#refusing = new Map(domains.map((domain) => [domain, new Map<string, number>()]))
  }

  /** The node takes nothing at all, for a reason that has nothing to do with hosts. */
  noteRefusal({ one }: Refusal): void {
    this.#allRefusing += 1
    this.#everywhere.set(one, (this.#everywhere.get(one) ?? 0) + 1)
  }

  noteMissing(uncovered: readonly UncoveredPattern[]): void {
    for (const { pattern, owner, code } of uncovered) {
      const reasons = this.#refusing.get(pattern)
      const reason = code === 'egress.denied_by_operator' ? DENIED[owner] : UNLISTED[owner]
      reasons?.set(reason, (reasons.get(reason) ?? 0) + 1)
    }
  }

  result(nodes: number): EgressCheck['patterns'] {
    return [...this.#refusing].map(([{ text }, reasons]) => {
      const refusing = this.#allRefusing + sum(reasons.values())
      const all = [...this.#everywhere, ...reasons].toSorted((a, b) => b[1] - a[1])
      return { pattern: text, accepting: nodes - refusing, refusing, reason: all[0]?.[0] ?? '' }
    })
  }
}

const DENIED = { node: 'denied by the node', network: 'denied by the network' } as const
const UNLISTED = { node: "not in the node's list", network: "not in the network's list" } as const

function sum(numbers: Iterable<number>): number {
  return [...numbers].reduce((total, number) => total + number, 0)
}

/** A job of which nothing is known but its hosts, and perhaps its engine. */
function hostsOnly({ domains, engine = '', signedBy = [] }: EgressCheckRequest): JobDemand {
  const { patterns } = HostPatternSet.parse(domains, { allowPrivate: true, allowPublicSuffix: true })
  return demandOf({
    engine: engine.toLowerCase(),
    sources: [],
    publisher: '',
    network: 'HTTP',
    domains: patterns,
    signedBy,
    constraints: [],
    resources: NO_RESOURCES,
  })
}

function checkNode(
  demand: JobDemand,
  node: NodeView,
  isWholeJob: boolean,
  tally: PatternTally,
): EgressNodeCheck {
  const { offer } = node
  const away = refuseAbsent(node)
  const mode = demand.network === 'None' ? undefined : refuseNetworkMode(demand, offer)
  const refusals = [
    away,
    ...(isWholeJob
      ? [
          refuseOffer(demandOf({ ...demand, network: 'None' }), offer),
          refuseLabels(demand, node),
          refuseSize(demand.resources, NO_RESOURCES, offer, Infinity),
        ]
      : []),
    mode,
  ].filter((refusal): refusal is Refusal => refusal !== undefined)
  const isHttp = demand.network === 'HTTP' && mode === undefined
  const uncovered = isHttp ? demand.uncovered(offer.egress) : []
  const general = away ?? mode
  if (general === undefined) tally.noteMissing(uncovered)
  else tally.noteRefusal(general)
  return {
    nodeId: node.record.info.nodeId,
    fits: refusals.length === 0 && uncovered.length === 0,
    reasons: refusals.map(({ code, one, hint }) => ({ code, message: one, hint })),
    missing: uncovered
      .slice(0, MISSING_MAX)
      .map(({ pattern, owner, code, rule }) => ({ pattern: pattern.text, owner, code, rule })),
    missingCount: uncovered.length,
    keys: trustedAmong(demand.signedBy, offer.egress).map(({ name }) => name),
  }
}
