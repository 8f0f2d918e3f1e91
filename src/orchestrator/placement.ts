import { fitsResources, matchConstraints, resourceShortfalls, subtractResources } from '../model/index.js'
import type { NodeId, Resources } from '../model/index.js'
import type { JobDemand } from './job-demand.js'
import { hashText, type NodeView } from './node-view.js'
import type { Refusal, Shortage } from './refusals.js'
import { REASON_LENGTH_MAX, clip } from './wording.js'

/** What a job's earlier executions say about one node. */
export interface NodePast {
  /** Tries there that ended without success. */
  readonly failures: number
  /** Set when the node must not be tried (again). */
  readonly excluded?: Refusal
}

export interface PlacementOptions {
  /** How many nodes are looked for; Infinity = all that match. */
  wanted: number
  past: ReadonlyMap<NodeId, NodePast>
  /** How much may wait on a node, as a multiple of its capacity; Infinity = do not look at the load. */
  nodeQueueFactor: number
  /** Spreads ties: different jobs prefer different nodes, the same job always the same. */
  seed: string
}

export interface PlacementResult extends Shortage {
  /** Best first; at most `wanted`. */
  chosen: NodeId[]
}

/**
 * Chooses nodes for a job. Pure.
 *
 * Rank: 1. most `favour_` constraints that hold, 2. fewest failures of this job there, 3. room right now rather than in
 * the node's queue, 4. largest share of free capacity, 5. a hash of job and node.
 */
export function place(
  demand: JobDemand,
  nodes: Iterable<NodeView>,
  options: PlacementOptions,
): PlacementResult {
  const candidates: Candidate[] = []
  const refusals = new Map<NodeId, Refusal>()
  const seed = hashText(options.seed)
  let [known, available] = [0, 0]
  for (const node of nodes) {
    if (!node.offer.runsJobs) continue
    known += 1
    const { nodeId } = node.record.info
    const away = refuseAbsent(node)
    if (away === undefined) available += 1
    const refusal =
      away ??
      options.past.get(nodeId)?.excluded ??
      refuseKind(demand, node) ??
      refuseSize(demand, node, options)
    if (refusal === undefined) candidates.push(rate(demand, node, options.past, seed))
    else refusals.set(nodeId, refusal)
  }
  const chosen = best(candidates, options.wanted)
  return {
    chosen: chosen.map((candidate) => candidate.nodeId),
    requested: options.wanted === Infinity ? known : options.wanted,
    nodes: known,
    available,
    suitable: candidates.length,
    refusals,
  }
}

interface Candidate {
  nodeId: NodeId
  favoured: number
  failures: number
  roomNow: boolean
  free: number
  tie: number
}

function compare(a: Candidate, b: Candidate): number {
  return (
    b.favoured - a.favoured ||
    a.failures - b.failures ||
    Number(b.roomNow) - Number(a.roomNow) ||
    b.free - a.free ||
    a.tie - b.tie
  )
}

/** One pass where one node is looked for, which is nearly always. */
function best(candidates: Candidate[], wanted: number): Candidate[] {
  const [first, ...rest] = wanted === 1 ? candidates : []
  if (first !== undefined) return [rest.reduce((a, b) => (compare(b, a) < 0 ? b : a), first)]
  return candidates.toSorted(compare).slice(0, wanted)
}

function rate(demand: JobDemand, node: NodeView, past: PlacementOptions['past'], seed: number): Candidate {
  const { nodeId, labels, maxCapacity } = node.record.info
  const { used } = node
  const asked = demand.resources
  return {
    nodeId,
    favoured: demand.constraints.length === 0 ? 0 : matchConstraints(demand.constraints, labels).favoured,
    failures: past.get(nodeId)?.failures ?? 0,
    roomNow: fitsTogether(used, asked, maxCapacity, 1),
    free:
      1 -
      Math.max(
        share(used.cpu + asked.cpu, maxCapacity.cpu),
        share(used.memoryBytes + asked.memoryBytes, maxCapacity.memoryBytes),
      ),
    tie: mix(seed, node.offer.nameHash),
  }
}

function share(part: number, whole: number): number {
  return whole > 0 ? part / whole : Number(part > 0)
}

function refuseAbsent({ record, lost }: NodeView): Refusal | undefined {
  if (record.membership === 'PENDING') {
    return refusal('membership', 'waits for approval', 'wait for approval', {
      hint: 'Let the operator approve the node',
    })
  }
  if (record.membership === 'REJECTED') return refusal('membership', 'is rejected', 'are rejected')
  if (record.connection !== 'CONNECTED' || lost) {
    return refusal('connection', 'is disconnected', 'are disconnected', { transient: true })
  }
  return undefined
}

/** Reasons that do not depend on the load: engine, data, network, labels. */
function refuseKind(demand: JobDemand, node: NodeView): Refusal | undefined {
  const { info } = node.record
  const { engine, publisher } = demand
  if (!node.offer.engines.has(engine)) {
    const problem = info.engineProblems[engine]
    const what = `offer engine ${engine}${problem === undefined ? '' : ` (${clip(problem, REASON_LENGTH_MAX)})`}`
    return lacks('compute.engine', what)
  }
  const source = demand.sources.find((type) => !node.offer.sources.has(type))
  if (source !== undefined) return lacks('compute.source', `offer input source ${source}`)
  if (publisher !== '' && !node.offer.publishers.has(publisher)) {
    return lacks('compute.publisher', `offer publisher ${publisher}`)
  }
  const network = demand.network === 'None' ? undefined : refuseNetwork(demand, node)
  if (network !== undefined) return network
  if (demand.constraints.length === 0) return undefined
  const match = matchConstraints(demand.constraints, info.labels)
  if (match.matches) return undefined
  return lacks(
    'compute.labels',
    `match the constraints (${clip(match.reasons.join('; '), REASON_LENGTH_MAX)})`,
  )
}

function refuseNetwork(demand: JobDemand, { record, offer }: NodeView): Refusal | undefined {
  const { egress } = record.info
  if (!egress.acceptsNetworkedJobs) {
    return lacks('compute.network', 'accept networked jobs', {
      hint: 'The operator of a node can set JobAdmissionControl.AcceptNetworkedJobs=true',
    })
  }
  const engines = demand.network === 'HTTP' ? offer.httpEngines : offer.fullEngines
  if (!engines.has(demand.engine)) {
    const problem =
      egress.problems[0] === undefined ? '' : ` (${clip(egress.problems[0], REASON_LENGTH_MAX)})`
    return lacks('compute.network', `offer network ${demand.network} to ${demand.engine} jobs${problem}`)
  }
  const denied = demand.domains.filter((domain) => offer.deny.covers(domain))
  if (denied.length > 0) return about('denies', 'deny', denied)
  const missing = demand.domains.filter((domain) => !offer.allow.covers(domain))
  return missing.length > 0 ? about('lacks', 'lack', missing) : undefined
}

function refuseSize(demand: JobDemand, node: NodeView, options: PlacementOptions): Refusal | undefined {
  const { maxCapacity, maxJobRequirements } = node.record.info
  const asked = demand.resources
  if (!fitsResources(asked, maxCapacity)) {
    const free = subtractResources(maxCapacity, node.used)
    return tooFew(resourceShortfalls(asked, free), false)
  }
  if (!fitsResources(asked, maxJobRequirements)) {
    const lines = resourceShortfalls(asked, maxJobRequirements)
    return tooFew(
      lines.map((line) => line.replace(' free,', ' at most for one job,')),
      false,
    )
  }
  if (fitsTogether(node.used, asked, maxCapacity, 1 + options.nodeQueueFactor)) return undefined
  return tooFew(resourceShortfalls(asked, subtractResources(maxCapacity, node.used)), true)
}

/** A millionth of a core: sums of fractions drift by less. */
const CPU_GRAIN = 1e-6

/** True when both together are at most `factor` times the capacity. Nothing is allocated: this runs for every node. */
function fitsTogether(used: Resources, asked: Resources, capacity: Resources, factor: number): boolean {
  if (factor === Infinity) return true
  return (
    used.cpu + asked.cpu <= capacity.cpu * factor + CPU_GRAIN &&
    used.memoryBytes + asked.memoryBytes <= capacity.memoryBytes * factor &&
    used.diskBytes + asked.diskBytes <= capacity.diskBytes * factor &&
    used.gpu + asked.gpu <= capacity.gpu * factor
  )
}

function tooFew(lines: string[], transient: boolean): Refusal {
  const text = lines.join(' and ')
  return refusal('compute.resources', `has ${text}`, `have ${text}`, {
    transient,
    hint: transient ? '--queue-timeout SECONDS lets it wait for room' : 'Ask for less, or add a larger node',
  })
}

function about(one: string, many: string, domains: readonly { text: string }[]): Refusal {
  const named = domains.slice(0, 3).map((domain) => domain.text)
  const more = domains.length > named.length ? ` and ${domains.length - named.length} more` : ''
  const what = `${domains.length === 1 ? 'domain' : 'domains'} ${named.join(', ')}${more}`
  return refusal('compute.network', `${one} ${what}`, `${many} ${what}`, {
    hint: 'Name only domains that the operators of the nodes allow, or ask them to allow more',
  })
}

function lacks(code: string, what: string, more: { hint?: string } = {}): Refusal {
  return refusal(code, `does not ${what}`, `do not ${what}`, more)
}

function refusal(
  code: string,
  one: string,
  many: string,
  more: { transient?: boolean; hint?: string } = {},
): Refusal {
  return { code, one, many, transient: more.transient ?? false, hint: more.hint ?? '' }
}

/** Two numbers into one that looks like neither. */
function mix(a: number, b: number): number {
  const value = Math.imul(a ^ (b >>> 15), 0x2c1b3c6d) ^ Math.imul(b ^ (a >>> 12), 0x297a2d39)
  return (value ^ (value >>> 16)) >>> 0
}
