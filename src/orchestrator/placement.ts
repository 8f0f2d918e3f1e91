import {
  LEARNING_HINT,
  fitsResources,
  learningObjection,
  matchConstraints,
  resourceShortfalls,
  subtractResources,
  trustedAmong,
} from '../model/index.js'
import type { NodeId, Resources, UncoveredPattern } from '../model/index.js'
import type { EgressOffer } from './egress-offers.js'
import type { JobDemand } from './job-demand.js'
import { charge, hashText, type NodeOffer, type NodeView, type NodeViews } from './node-view.js'
import { ReasonCount, type Refusal, type Shortage } from './refusals.js'
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
  /** Id of the job. Spreads ties: different jobs prefer different nodes, the same job always the same. */
  seed: string
  /** Of the job: reservations of jobs with a lower one do not count. Default 0. */
  priority?: number
}

export interface PlacementResult {
  /** Best first; at most `wanted`. */
  readonly chosen: NodeId[]
  /** Why not more. Counted when it is read, so to be read before anything is placed. */
  readonly shortage: Shortage
}

/** Views that know a quicker way to the very result of {@link place}. */
export interface PlacingViews extends NodeViews {
  place(demand: JobDemand, options: PlacementOptions): PlacementResult
  /** An execution is planned on the node. */
  charge(nodeId: NodeId, resources: Resources): void
}

/** {@link place}, or the quicker way. */
export function placeAmong(nodes: NodeViews, demand: JobDemand, options: PlacementOptions): PlacementResult {
  return isPlacing(nodes) ? nodes.place(demand, options) : place(demand, nodes.values(), options)
}

/** Adds what a planned execution will hold. */
export function chargeAmong(nodes: NodeViews, nodeId: NodeId, resources: Resources): void {
  if (isPlacing(nodes)) return nodes.charge(nodeId, resources)
  const view = nodes.get(nodeId)
  if (view !== undefined) charge(view, resources)
}

function isPlacing(nodes: NodeViews): nodes is PlacingViews {
  return 'place' in nodes
}

/**
 * Chooses nodes for a job by looking at each. Pure. This is the definition; the fleet comes to the same without looking.
 *
 * A node is refused for the first of these: it is not there, the job's past, what it offers, its labels, its size and
 * load, a reservation.
 * Rank: 1. most `favour_` constraints that hold, 2. fewest failures of this job there, 3. room right now rather than in
 * the node's queue, 4. largest share of free capacity, 5. a hash of job and node: the nodes lie on a ring by the hashes of
 * their names, and a job begins at the hash of its id.
 */
export function place(
  demand: JobDemand,
  nodes: Iterable<NodeView>,
  options: PlacementOptions,
): PlacementResult {
  const candidates: Candidate[] = []
  const refused = new ReasonCount()
  const start = hashText(options.seed)
  let [known, available] = [0, 0]
  for (const node of nodes) {
    if (!node.offer.runsJobs) continue
    known += 1
    const away = refuseAbsent(node)
    if (away === undefined) available += 1
    const refusal = away ?? refusePresent(demand, node, options)
    if (refusal === undefined) candidates.push(rate(demand, node, options, start))
    else refused.add(refusal, [node.record.info.nodeId])
  }
  return {
    chosen: best(candidates, options.wanted),
    shortage: {
      requested: options.wanted === Infinity ? known : options.wanted,
      nodes: known,
      available,
      suitable: candidates.length,
      reasons: refused.reasons(),
    },
  }
}

/** A node that may take the job, with what ranks it. */
export interface Candidate extends LoadRating {
  nodeId: NodeId
  favoured: number
  failures: number
  tie: number
}

/** The ranks that come from load and size. */
export interface LoadRating {
  roomNow: boolean
  /** Share of the capacity that is free with the job on it; below 0 when something will wait. */
  free: number
}

export function compare(a: Candidate, b: Candidate): number {
  return b.favoured - a.favoured || a.failures - b.failures || compareLoad(a, b) || compareTie(a, b)
}

export function compareLoad(a: LoadRating, b: LoadRating): number {
  return Number(b.roomNow) - Number(a.roomNow) || b.free - a.free
}

export function compareTie(
  a: Pick<Candidate, 'tie' | 'nodeId'>,
  b: Pick<Candidate, 'tie' | 'nodeId'>,
): number {
  return a.tie - b.tie || (a.nodeId < b.nodeId ? -1 : Number(a.nodeId > b.nodeId))
}

/** One pass where one node is looked for, which is nearly always. */
export function best(candidates: readonly Candidate[], wanted: number): NodeId[] {
  const [first, ...rest] = wanted === 1 ? candidates : []
  const chosen =
    first === undefined
      ? candidates.toSorted(compare).slice(0, wanted)
      : [rest.reduce((a, b) => (compare(b, a) < 0 ? b : a), first)]
  return chosen.map(({ nodeId }) => nodeId)
}

export function rate(demand: JobDemand, node: NodeView, options: PlacementOptions, start: number): Candidate {
  const { nodeId, labels } = node.record.info
  return {
    nodeId,
    favoured: demand.constraints.length === 0 ? 0 : matchConstraints(demand.constraints, labels).favoured,
    failures: options.past.get(nodeId)?.failures ?? 0,
    ...rateLoad(demand.resources, node.used, node.offer),
    tie: tieOf(node, start),
  }
}

export function rateLoad(asked: Resources, used: Resources, { maxCapacity }: NodeOffer): LoadRating {
  return {
    roomNow: fitsTogether(used, asked, maxCapacity, 1),
    free:
      1 -
      Math.max(
        share(used.cpu + asked.cpu, maxCapacity.cpu),
        share(used.memoryBytes + asked.memoryBytes, maxCapacity.memoryBytes),
      ),
  }
}

/** How far the node lies behind the start of the job on the ring. */
export function tieOf({ nameHash }: NodeView, start: number): number {
  return (nameHash - start) >>> 0
}

export function share(part: number, whole: number): number {
  return whole > 0 ? part / whole : Number(part > 0)
}

/** Why a node that is there cannot take the job; undefined when it can. */
export function refusePresent(
  demand: JobDemand,
  node: NodeView,
  options: PlacementOptions,
): Refusal | undefined {
  return (
    options.past.get(node.record.info.nodeId)?.excluded ??
    refuseOffer(demand, node.offer) ??
    refuseLabels(demand, node) ??
    refuseSize(demand.resources, node.used, node.offer, options.nodeQueueFactor) ??
    refuseReserved(node, options)
  )
}

export function refuseAbsent({ record, lost }: NodeView): Refusal | undefined {
  if (record.membership === 'PENDING') {
    return refusal('membership', 'waits for approval', 'wait for approval', {
      hint: 'The operator approves nodes with "weir node approve"',
    })
  }
  if (record.membership === 'REJECTED') return refusal('membership', 'is rejected', 'are rejected')
  if (record.connection !== 'CONNECTED' || lost) {
    return refusal('connection', 'is disconnected', 'are disconnected', { transient: true })
  }
  return undefined
}

/** Reasons that depend neither on labels nor on load: engine, data, network. */
export function refuseOffer(demand: JobDemand, offer: NodeOffer): Refusal | undefined {
  const { engine, publisher } = demand
  if (!offer.engines.has(engine)) {
    const problem = offer.engineProblems[engine]
    const what = `offer engine ${engine}${problem === undefined ? '' : ` (${clip(problem, REASON_LENGTH_MAX)})`}`
    return lacks('compute.engine', what)
  }
  const source = demand.sources.find((type) => !offer.sources.has(type))
  if (source !== undefined)
    return lacks('compute.source', `offer input source ${source}`, { hint: sourceHint(source) })
  if (publisher !== '' && !offer.publishers.has(publisher)) {
    return lacks('compute.publisher', `offer publisher ${publisher}`)
  }
  return demand.network === 'None' ? undefined : refuseNetwork(demand, offer)
}

function sourceHint(source: string): string {
  if (source === 'ipfs')
    return 'No node here speaks IPFS. A program of yours: weir wasm run FILE; what is uploaded here: weir wasm list'
  if (source !== 'localdirectory') return ''
  return 'The operator of a node can list the path in Compute.AllowListedLocalPaths; a small file of yours is sent along with --input ./FILE'
}

export function refuseLabels({ constraints }: JobDemand, { record }: NodeView): Refusal | undefined {
  if (constraints.length === 0) return undefined
  const match = matchConstraints(constraints, record.info.labels)
  if (match.matches) return undefined
  return lacks(
    'compute.labels',
    `match the constraints (${clip(match.reasons.join('; '), REASON_LENGTH_MAX)})`,
  )
}

function refuseNetwork(demand: JobDemand, offer: NodeOffer): Refusal | undefined {
  const mode = refuseNetworkMode(demand, offer)
  if (mode !== undefined || demand.network === 'Full') return mode
  const { egress } = offer
  const uncovered = demand.uncovered(egress)
  const [first] = uncovered
  if (first === undefined) return undefined
  // The network's list is everybody's: who changes a node would gain nothing.
  const gravest = uncovered.find(({ owner }) => owner === 'network') ?? first
  const { code, owner } = gravest
  return about(
    gravest,
    uncovered.filter((one) => one.code === code && one.owner === owner).map(({ pattern }) => pattern),
    egress,
  )
}

/** Reasons against networks that have nothing to do with hosts. An empty engine stands for any. */
export function refuseNetworkMode(demand: JobDemand, offer: NodeOffer): Refusal | undefined {
  if (!offer.acceptsNetworkedJobs) {
    return lacks('compute.network', 'accept networked jobs', {
      hint: 'The operator of a node can set JobAdmissionControl.AcceptNetworkedJobs=true',
    })
  }
  const engines = demand.network === 'HTTP' ? offer.httpEngines : offer.fullEngines
  if (demand.engine === '' ? engines.size === 0 : !engines.has(demand.engine)) {
    const [first] = offer.networkProblems
    const problem = first === undefined ? '' : ` (${clip(first, REASON_LENGTH_MAX)})`
    const jobs = demand.engine === '' ? 'any' : demand.engine
    return lacks('compute.network', `offer network ${demand.network} to ${jobs} jobs${problem}`)
  }
  if (demand.learning !== undefined) {
    const objection = learningObjection(demand.learning, offer.learning)
    return objection === undefined ? undefined : lacks('compute.network', objection, { hint: LEARNING_HINT })
  }
  if (demand.network === 'HTTP' && offer.egress.isPending) {
    const [one, many] = ['has not told its egress lists yet', 'have not told their egress lists yet']
    return refusal('compute.network', one, many, { transient: true })
  }
  if (demand.signedBy.length > 0 && trustedAmong(demand.signedBy, offer.egress).length === 0) {
    return lacks('signature.untrusted', 'trust a key that signed the job', {
      hint: 'The operator of a node can trust it: weir key trust KEY --domain PATTERN',
    })
  }
  return undefined
}

/** Reasons of size and load. Undefined exactly when {@link hasSize} and {@link hasRoom}. */
export function refuseSize(
  asked: Resources,
  used: Resources,
  offer: NodeOffer,
  nodeQueueFactor: number,
): Refusal | undefined {
  const { maxCapacity, maxJobRequirements } = offer
  if (!fitsResources(asked, maxCapacity)) {
    return tooFew(resourceShortfalls(asked, subtractResources(maxCapacity, used)), false)
  }
  if (!fitsResources(asked, maxJobRequirements)) {
    const lines = resourceShortfalls(asked, maxJobRequirements)
    return tooFew(
      lines.map((line) => line.replace(' free,', ' at most for one job,')),
      false,
    )
  }
  if (hasRoom(asked, used, offer, nodeQueueFactor)) return undefined
  return tooFew(resourceShortfalls(asked, subtractResources(maxCapacity, used)), true)
}

/** True when the node, if it were empty, could take the job. */
export function hasSize(asked: Resources, { maxCapacity, maxJobRequirements }: NodeOffer): boolean {
  return fitsResources(asked, maxCapacity) && fitsResources(asked, maxJobRequirements)
}

/** True when the job may be put on the node or into its queue. */
export function hasRoom(
  asked: Resources,
  used: Resources,
  { maxCapacity }: NodeOffer,
  nodeQueueFactor: number,
): boolean {
  return fitsTogether(used, asked, maxCapacity, 1 + nodeQueueFactor)
}

/** A node that is kept for a job that waits longer takes nothing else of the same or a lower priority. */
function refuseReserved({ reservation }: NodeView, options: PlacementOptions): Refusal | undefined {
  if (reservation === undefined || options.nodeQueueFactor === Infinity) return undefined
  if (reservation.jobId === options.seed || reservation.priority < (options.priority ?? 0)) return undefined
  return refusal(
    'compute.resources',
    'is kept for a job that waits longer',
    'are kept for jobs that wait longer',
    {
      transient: true,
      hint: '--queue-timeout SECONDS lets it wait for room',
    },
  )
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

function about(
  { code, owner }: UncoveredPattern,
  domains: readonly { text: string }[],
  { mode }: EgressOffer,
): Refusal {
  const named = domains.slice(0, 3).map((domain) => domain.text)
  const more = domains.length > named.length ? ` and ${domains.length - named.length} more` : ''
  const what = `${domains.length === 1 ? 'domain' : 'domains'} ${named.join(', ')}${more}`
  const isDenied = code === 'egress.denied_by_operator'
  if (owner === 'network') {
    const text = `of a network whose list ${isDenied ? 'denies' : 'lacks'} ${what}`
    return refusal('compute.network', `is ${text}`, `are ${text}`, {
      hint: 'Name only domains of the list of the network, or ask whoever runs it to list more with "weir network request": "weir network check" shows which are missing',
    })
  }
  const hint =
    'Name only domains that the operators of the nodes allow, or ask them to allow more with "weir network request": "weir network check" shows who lacks which'
  if (mode === 'none' && !isDenied)
    return refusal('compute.network', 'opens no host at all', 'open no host at all', { hint })
  const [one, many] = isDenied ? ['denies', 'deny'] : ['lacks', 'lack']
  return refusal('compute.network', `${one} ${what}`, `${many} ${what}`, { hint })
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
