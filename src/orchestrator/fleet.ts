import {
  FAVOUR_PREFIX,
  addResources,
  isTerminalObservedState,
  matchConstraints,
  NO_RESOURCES,
  subtractResources,
} from '../model/index.js'
import type {
  Execution,
  ExecutionId,
  NetworkEgressPolicy,
  NodeId,
  NodeRecord,
  Resources,
} from '../model/index.js'
import type { Change, Revision, Snapshot } from '../ports/index.js'
import { EgressOffers } from './egress-offers.js'
import { demandOf } from './job-demand.js'
import type { JobDemand } from './job-demand.js'
import { LabelClass } from './label-class.js'
import { hashText, offerText, readOffer, viewNode, type NodeOffer, type NodeView } from './node-view.js'
import type { OfferPool, PoolBest, PoolQuestion } from './offer-pool.js'
import {
  best,
  compareLoad,
  compareTie,
  hasRoom,
  hasSize,
  place,
  rate,
  rateLoad,
  refuseAbsent,
  refuseOffer,
  refusePresent,
  refuseSize,
  tieOf,
  type Candidate,
  type LoadRating,
  type PlacementOptions,
  type PlacementResult,
  type PlacingViews,
} from './placement.js'
import { NODES_NAMED_MAX, ReasonCount, type Refusal, type Shortage } from './refusals.js'

/** Places that label classes may remember, all together: about 100 bytes each. */
const SEATS_MAX = 400_000
/** Kinds of offers asked for, and constraints seen once, that are remembered. */
const KINDS_MAX = 512
/** Offers that nodes share. */
const OFFERS_MAX = 10_000

/** A node with what is kept beside its view. */
interface Member {
  view: NodeView
  /** The labels as they were when they last changed: the same object until then. */
  labels: object
}

type Verdicts = Map<NodeOffer, Refusal | undefined>

/**
 * All nodes with what they hold, kept up to date change by change, and in an order in which the best node for a job is
 * found without looking at each. It holds nothing that a restart could lose.
 *
 * Nodes are seen through classes: one for each set of constraints that several jobs have. In a class nodes stand by how
 * many wishes they fulfil, by what they offer, and by their load. A change of a node is written into a log; a class that
 * is asked first reads what it has not read. So the cost of a job is that of the changes since the last one like it.
 */
export class Fleet implements PlacingViews {
  readonly #members = new Map<NodeId, Member>()
  /** Compute nodes that are not there. */
  readonly #absent = new Map<NodeId, NodeView>()
  #present = 0
  readonly #offers = new Map<string, NodeOffer>()
  readonly #egress = new EgressOffers()
  readonly #classes = new Map<string, LabelClass>()
  readonly #seenOnce = new Set<string>()
  readonly #verdicts = new Map<string, Verdicts>()
  /** Nodes that changed, oldest first, from number `#logStart` on. */
  #log: NodeId[] = []
  #logStart = 0
  /** Executions that may still be on a node. */
  readonly #held = new Map<ExecutionId, Execution>()
  readonly #usedOn = new Map<NodeId, Resources>()
  /** Planned and not stored yet. */
  #planned: { nodeId: NodeId; resources: Resources }[] = []
  readonly #reserved = new Map<NodeId, NodeView>()
  /** Of the store; undefined when the loads have to be read anew. */
  #revision: Revision | undefined
  #onRoom: (nodeId: NodeId) => void = () => undefined

  /** Called when there may be more room on a node than before. */
  onRoom(listener: (nodeId: NodeId) => void): void {
    this.#onRoom = listener
  }

  get(id: NodeId): NodeView | undefined {
    return this.#members.get(id)?.view
  }

  *values(): Iterable<NodeView> {
    for (const { view } of this.#members.values()) yield view
  }

  /** Takes a node in. `isMaterial`: more than its load and its last message changed. */
  put(record: NodeRecord, isMaterial: boolean): void {
    const { nodeId, labels } = record.info
    const member = this.#members.get(nodeId)
    if (member === undefined) {
      const used = this.#usedOn.get(nodeId) ?? NO_RESOURCES
      const view = viewNode(record, { offer: this.#offerOf(record), used })
      this.#members.set(nodeId, { view, labels })
      this.#count(view, 1)
    } else {
      const { view } = member
      if (!isMaterial) {
        view.record = record
        return
      }
      this.#count(view, -1)
      view.record = record
      view.offer = this.#offerOf(record)
      member.labels = labels
      this.#count(view, 1)
    }
    this.#note(nodeId)
    this.#onRoom(nodeId)
  }

  /**
   * Puts another list of the network in force: what each node offers is read anew, and jobs that wait are looked at. Throws
   * `pattern.invalid`; then the old list stays.
   */
  setNetworkEgress(policy: NetworkEgressPolicy): void {
    this.#egress.setNetwork(policy)
    this.#offers.clear()
    this.#verdicts.clear()
    for (const [nodeId, { view }] of this.#members) {
      view.offer = this.#offerOf(view.record)
      this.#note(nodeId)
    }
    for (const nodeId of this.#members.keys()) this.#onRoom(nodeId)
  }

  delete(id: NodeId): void {
    const member = this.#members.get(id)
    if (member === undefined) return
    this.#count(member.view, -1)
    this.#reserved.delete(id)
    this.#members.delete(id)
    this.#note(id)
  }

  /** To be called before each pass: brings the loads to the snapshot, and forgets what was planned and not stored. */
  follow(snapshot: Snapshot): void {
    this.#forgetPlanned()
    if (this.#revision === snapshot.revision) return
    this.#held.clear()
    this.#usedOn.clear()
    for (const job of snapshot.activeJobs()) {
      for (const execution of snapshot.executionsOfJob(job.id)) this.#hold(execution)
    }
    for (const [nodeId, { view }] of this.#members) {
      view.used = this.#usedOn.get(nodeId) ?? NO_RESOURCES
      this.#note(nodeId)
    }
    this.#revision = snapshot.revision
    for (const nodeId of this.#members.keys()) this.#onRoom(nodeId)
  }

  /** A change is about to be committed on the snapshot. Should that fail, the next pass reads the loads anew. */
  committing(change: Change, base: Snapshot): void {
    this.#forgetPlanned()
    if (this.#revision !== base.revision) {
      this.#revision = undefined
      return
    }
    for (const execution of change.executions ?? []) this.#hold(execution)
    for (const id of change.deleteExecutions ?? []) this.#release(id)
    for (const id of change.deleteJobs ?? []) {
      for (const execution of base.executionsOfJob(id)) this.#release(execution.id)
    }
    this.#revision = base.revision + 1
  }

  charge(nodeId: NodeId, resources: Resources): void {
    this.#planned.push({ nodeId, resources })
    this.#addTo(nodeId, resources)
  }

  /** Keeps a node free for a job, or no longer. */
  reserve(nodeId: NodeId, reservation: NodeView['reservation']): void {
    const view = this.get(nodeId)
    if (view === undefined) return
    if (reservation === undefined) {
      delete view.reservation
      if (this.#reserved.delete(nodeId)) this.#onRoom(nodeId)
    } else {
      view.reservation = reservation
      this.#reserved.set(nodeId, view)
    }
  }

  get reserved(): ReadonlyMap<NodeId, NodeView> {
    return this.#reserved
  }

  /** Compute nodes that are there. */
  get available(): number {
    return this.#present
  }

  /** How many executions of a job could be put on the node now, at most `max`: 0 when it does not suit. */
  roomOn(nodeId: NodeId, demand: JobDemand, options: PlacementOptions, max: number): number {
    const view = this.get(nodeId)
    if (view === undefined || !isPresent(view)) return 0
    if (this.#verdict(demand, this.#verdictsOf(demand), view.offer) !== undefined) return 0
    if (refusePresent(demand, view, options) !== undefined) return 0
    if (options.nodeQueueFactor === Infinity) return max
    let { used } = view
    for (let count = 1; count < max; count++) {
      used = addResources(used, demand.resources)
      if (!hasRoom(demand.resources, used, view.offer, options.nodeQueueFactor)) return count
    }
    return max
  }

  /** Nodes that would do for the job if they were empty. */
  *capable(demand: JobDemand): Iterable<NodeView> {
    for (const { pools } of this.#classOf(demand).levels) {
      for (const pool of this.#able(demand, pools)) {
        for (const group of pool.groups) yield* group.members.items
      }
    }
  }

  /** As the plain scan, without looking at each node where many jobs have the same constraints. */
  place(demand: JobDemand, options: PlacementOptions): PlacementResult {
    const isOrdered = this.#isOrdered(demand)
    const isPlain = !isOrdered && demand.constraints.some(({ Key }) => Key.startsWith(FAVOUR_PREFIX))
    const chosen = isPlain
      ? place(demand, this.values(), options).chosen
      : this.#choose(demand, options, isOrdered)
    const explain = (): Shortage => this.#explain(demand, options)
    return {
      chosen,
      get shortage() {
        return explain()
      },
    }
  }

  #choose(demand: JobDemand, options: PlacementOptions, isOrdered: boolean): NodeId[] {
    const start = hashText(options.seed)
    const special = this.#special(options)
    const isSpecial = (view: NodeView): boolean => special.has(view.record.info.nodeId)
    const { constraints } = demand
    // Constraints seen for the first time: all nodes in their order, those left out that do not match.
    const matches = (view: NodeView): boolean =>
      matchConstraints(constraints, view.record.info.labels).matches
    const skip = isOrdered ? isSpecial : (view: NodeView): boolean => isSpecial(view) || !matches(view)
    const { levels } = this.#classOf(isOrdered ? demand : UNCONSTRAINED)
    const question = { asked: demand.resources, nodeQueueFactor: options.nodeQueueFactor, start, skip }
    const candidates = this.#rateSpecial(demand, options, special, start)
    const most = candidates.length + options.wanted
    for (const { favoured, pools } of levels) {
      const able = this.#able(demand, pools)
      const found = options.wanted === 1 ? bestOf(able, question) : firstOf(able, question, options.wanted)
      for (const { view, roomNow, free, tie } of found) {
        candidates.push({ nodeId: view.record.info.nodeId, favoured, failures: 0, roomNow, free, tie })
      }
      // Who fulfils fewer wishes comes after all of these.
      if (candidates.length >= most) break
    }
    return best(candidates, options.wanted)
  }

  /** Pools of nodes that offer what is asked and are large enough. */
  #able(demand: JobDemand, pools: ReadonlyMap<NodeOffer, OfferPool>): OfferPool[] {
    const verdicts = this.#verdictsOf(demand)
    const able: OfferPool[] = []
    for (const pool of pools.values()) {
      if (!hasSize(demand.resources, pool.offer)) continue
      if (this.#verdict(demand, verdicts, pool.offer) === undefined) able.push(pool)
    }
    return able
  }

  /** Nodes that are not judged by their group: those of the job's past, and reserved ones. */
  #special(options: PlacementOptions): Map<NodeId, NodeView> {
    const special = new Map<NodeId, NodeView>(this.#reserved)
    for (const nodeId of options.past.keys()) {
      const view = this.get(nodeId)
      if (view !== undefined) special.set(nodeId, view)
    }
    return special
  }

  #rateSpecial(
    demand: JobDemand,
    options: PlacementOptions,
    special: ReadonlyMap<NodeId, NodeView>,
    start: number,
  ): Candidate[] {
    const candidates: Candidate[] = []
    for (const view of special.values()) {
      if (!isPresent(view) || refusePresent(demand, view, options) !== undefined) continue
      candidates.push(rate(demand, view, options, start))
    }
    return candidates
  }

  /** The same counts as those of the plain scan, by groups. */
  #explain(demand: JobDemand, options: PlacementOptions): Shortage {
    const special = this.#special(options)
    const refused = new ReasonCount()
    for (const [nodeId, view] of this.#absent) refused.add(refuseAbsent(view) as Refusal, [nodeId])
    let suitable = 0
    for (const [nodeId, view] of special) {
      if (!isPresent(view)) continue
      const refusal = refusePresent(demand, view, options)
      if (refusal === undefined) suitable += 1
      else refused.add(refusal, [nodeId])
    }
    const names = (views: Iterable<NodeView>): NodeId[] =>
      [...views].map((view) => view.record.info.nodeId).filter((nodeId) => !special.has(nodeId))
    const verdicts = this.#verdictsOf(demand)
    const { levels, mismatches } = this.#classOf(demand)
    for (const { refusal, nodes } of mismatches.values()) {
      this.#countUnoffered(demand, verdicts, nodes.values(), refusal, refused, special)
    }
    for (const { pools } of levels) {
      for (const pool of pools.values()) {
        const verdict = this.#verdict(demand, verdicts, pool.offer)
        for (const { used, members } of pool.groups) {
          const refusal = verdict ?? refuseSize(demand.resources, used, pool.offer, options.nodeQueueFactor)
          const nodes = names(members.items)
          if (refusal === undefined) suitable += nodes.length
          else refused.add(refusal, firstByName(nodes), nodes.length)
        }
      }
    }
    const known = this.#present + this.#absent.size
    return {
      requested: options.wanted === Infinity ? known : options.wanted,
      nodes: known,
      available: this.#present,
      suitable,
      reasons: refused.reasons(),
    }
  }

  /** What a node does not offer is said before what its labels are not. */
  #countUnoffered(
    demand: JobDemand,
    verdicts: Verdicts,
    views: Iterable<NodeView>,
    labels: Refusal,
    refused: ReasonCount,
    special: ReadonlyMap<NodeId, NodeView>,
  ): void {
    for (const view of views) {
      const { nodeId } = view.record.info
      if (!special.has(nodeId)) refused.add(this.#verdict(demand, verdicts, view.offer) ?? labels, [nodeId])
    }
  }

  /** True for constraints that were asked for before, not long ago: then the order of their nodes is kept. */
  #isOrdered({ labelKey }: JobDemand): boolean {
    if (labelKey === '' || this.#classes.has(labelKey) || this.#seenOnce.delete(labelKey)) return true
    this.#seenOnce.add(labelKey)
    if (this.#seenOnce.size > KINDS_MAX) this.#seenOnce.delete(first(this.#seenOnce))
    return false
  }

  /** The class of a demand, up to date. */
  #classOf(demand: JobDemand): LabelClass {
    const { labelKey } = demand
    let found = this.#classes.get(labelKey)
    const behind = this.#logStart + this.#log.length - (found?.followed ?? 0)
    // Reading a long log costs more than beginning anew.
    if (found === undefined || found.followed < this.#logStart || behind > 2 * this.#members.size + 64) {
      found = new LabelClass(demand)
      for (const nodeId of this.#members.keys()) this.#update(found, nodeId)
    } else {
      for (let at = found.followed - this.#logStart; at < this.#log.length; at++) {
        this.#update(found, this.#log[at] as NodeId)
      }
    }
    found.followed = this.#logStart + this.#log.length
    // Asked for last, forgotten last.
    this.#classes.delete(labelKey)
    this.#classes.set(labelKey, found)
    const most = Math.max(4, Math.floor(SEATS_MAX / Math.max(1, this.#members.size)))
    if (this.#classes.size > Math.min(most, KINDS_MAX)) this.#classes.delete(first(this.#classes.keys()))
    return found
  }

  #update(found: LabelClass, nodeId: NodeId): void {
    const member = this.#members.get(nodeId)
    const view = member !== undefined && isPresent(member.view) ? member.view : undefined
    found.update(nodeId, view, member?.labels ?? NO_LABELS)
  }

  /** What is remembered of offers for jobs that ask the same of them. */
  #verdictsOf({ offerKey }: JobDemand): Verdicts {
    const known = this.#verdicts.get(offerKey)
    if (known !== undefined) return known
    const verdicts: Verdicts = new Map()
    this.#verdicts.set(offerKey, verdicts)
    if (this.#verdicts.size > KINDS_MAX) this.#verdicts.delete(first(this.#verdicts.keys()))
    return verdicts
  }

  #verdict(demand: JobDemand, verdicts: Verdicts, offer: NodeOffer): Refusal | undefined {
    const known = verdicts.get(offer)
    if (known !== undefined || verdicts.has(offer)) return known
    const refusal = refuseOffer(demand, offer)
    if (verdicts.size < OFFERS_MAX) verdicts.set(offer, refusal)
    return refusal
  }

  /** Nodes that offer the same share the object. */
  #offerOf({ info }: NodeRecord): NodeOffer {
    const text = offerText(info, this.#egress.keyOf(info.egress))
    const known = this.#offers.get(text)
    if (known !== undefined) return known
    const offer = readOffer(info, this.#egress.read(info.egress))
    // Nothing refers to an old one but its nodes: forgetting all only means that equal ones are no longer shared.
    if (this.#offers.size >= OFFERS_MAX) this.#offers.clear()
    this.#offers.set(text, offer)
    return offer
  }

  #count(view: NodeView, by: 1 | -1): void {
    const { nodeId } = view.record.info
    this.#absent.delete(nodeId)
    if (!view.offer.runsJobs) return
    if (refuseAbsent(view) === undefined) this.#present += by
    else if (by > 0) this.#absent.set(nodeId, view)
  }

  #hold(execution: Execution): void {
    if (isTerminalObservedState(execution.observed.state)) return this.#release(execution.id)
    const before = this.#held.get(execution.id)
    this.#held.set(execution.id, execution)
    if (before?.nodeId === execution.nodeId && before.resources === execution.resources) return
    if (before !== undefined) this.#addTo(before.nodeId, before.resources, -1)
    this.#addTo(execution.nodeId, execution.resources)
  }

  #release(id: ExecutionId): void {
    const execution = this.#held.get(id)
    if (execution === undefined) return
    this.#held.delete(id)
    this.#addTo(execution.nodeId, execution.resources, -1)
    this.#onRoom(execution.nodeId)
  }

  #addTo(nodeId: NodeId, resources: Resources, by: 1 | -1 = 1): void {
    const before = this.#usedOn.get(nodeId) ?? NO_RESOURCES
    const after = by > 0 ? addResources(before, resources) : subtractResources(before, resources)
    this.#usedOn.set(nodeId, after)
    const view = this.get(nodeId)
    if (view === undefined) {
      if (isNothing(after)) this.#usedOn.delete(nodeId)
      return
    }
    view.used = after
    this.#note(nodeId)
  }

  #forgetPlanned(): void {
    for (const { nodeId, resources } of this.#planned.splice(0)) this.#addTo(nodeId, resources, -1)
  }

  #note(nodeId: NodeId): void {
    this.#log.push(nodeId)
    const most = 4 * this.#members.size + 1_024
    if (this.#log.length <= most) return
    const forgotten = this.#log.length >> 1
    this.#log = this.#log.slice(forgotten)
    this.#logStart += forgotten
  }
}

const NO_LABELS = Object.freeze({})

/** Of a class only the constraints count. */
const UNCONSTRAINED = demandOf({
  engine: '',
  sources: [],
  publisher: '',
  network: 'None',
  domains: [],
  signedBy: [],
  constraints: [],
  resources: NO_RESOURCES,
})

function isPresent(view: NodeView): boolean {
  return view.offer.runsJobs && refuseAbsent(view) === undefined
}

/** The best of several pools. */
function bestOf(pools: readonly OfferPool[], question: PoolQuestion): PoolBest[] {
  let found: PoolBest | undefined
  for (const pool of pools) found = pool.best(question, found) ?? found
  return found === undefined ? [] : [found]
}

/** At least the first `wanted` of several pools, where there are so many. */
function firstOf(pools: readonly OfferPool[], question: PoolQuestion, wanted: number): PoolBest[] {
  const { asked, nodeQueueFactor, start, skip } = question
  const groups = pools.flatMap((pool) =>
    pool.groups
      .filter(({ used }) => hasRoom(asked, used, pool.offer, nodeQueueFactor))
      .map(({ used, members }) => ({ members, rating: rateLoad(asked, used, pool.offer) })),
  )
  groups.sort((a, b) => compareLoad(a.rating, b.rating))
  const found: PoolBest[] = []
  let last: LoadRating | undefined
  for (const { members, rating } of groups) {
    // Groups that are equal for this job share their places on the ring.
    if (found.length >= wanted && last !== undefined && compareLoad(last, rating) !== 0) break
    last = rating
    for (const view of members.items) {
      if (!skip(view)) found.push({ view, tie: tieOf(view, start), ...rating })
    }
  }
  return found.toSorted(
    (a, b) =>
      compareLoad(a, b) ||
      compareTie(
        { tie: a.tie, nodeId: a.view.record.info.nodeId },
        { tie: b.tie, nodeId: b.view.record.info.nodeId },
      ),
  )
}

function firstByName(nodes: NodeId[]): NodeId[] {
  return nodes.length <= NODES_NAMED_MAX ? nodes : nodes.toSorted().slice(0, NODES_NAMED_MAX)
}

function isNothing({ cpu, memoryBytes, diskBytes, gpu }: Resources): boolean {
  return cpu === 0 && memoryBytes === 0 && diskBytes === 0 && gpu === 0
}

function first<T>(items: Iterable<T>): T {
  for (const item of items) return item
  throw new Error('nothing to take from')
}
