import { matchConstraints } from '../model/index.js'
import type { NodeId, Resources } from '../model/index.js'
import type { JobDemand } from './job-demand.js'
import type { NodeOffer, NodeView } from './node-view.js'
import { OfferPool, type LoadGroup } from './offer-pool.js'
import { refuseLabels } from './placement.js'
import type { Refusal } from './refusals.js'

/** Nodes that hold equally many of the `favour_` constraints, by what they offer. */
export interface FavourLevel {
  readonly favoured: number
  readonly pools: Map<NodeOffer, OfferPool>
}

/** Nodes whose labels do not match, all for the same reason. */
export interface Mismatch {
  readonly refusal: Refusal
  readonly nodes: Map<NodeId, NodeView>
}

type Seat = { labels: object; offer: NodeOffer } & (
  | { level: FavourLevel; pool: OfferPool; group: LoadGroup; view: NodeView }
  | { mismatch: Mismatch; view: NodeView }
)

/** All nodes that are there, as jobs with the same constraints see them. Follows changes node by node. */
export class LabelClass {
  /** How far it has followed the changes of the fleet. */
  followed = 0
  /** Most favoured first. */
  readonly levels: FavourLevel[] = []
  readonly mismatches = new Map<string, Mismatch>()
  readonly #demand: JobDemand
  readonly #seats = new Map<NodeId, Seat>()

  constructor(demand: JobDemand) {
    this.#demand = demand
  }

  get size(): number {
    return this.#seats.size
  }

  /** Takes in how a node is now; undefined = it is not there. `labels` is the same object until they change. */
  update(nodeId: NodeId, view: NodeView | undefined, labels: object): void {
    const seat = this.#seats.get(nodeId)
    if (seat !== undefined) {
      if (view !== undefined && isSame(seat, view, labels)) return this.#reload(seat)
      this.#leave(nodeId, seat)
    }
    if (view !== undefined) this.#seats.set(nodeId, { labels, offer: view.offer, ...this.#seatFor(view) })
  }

  /** Only the load may have changed. */
  #reload(seat: Seat): void {
    if (!('pool' in seat) || isEqual(seat.group.used, seat.view.used)) return
    seat.pool.remove(seat.view, seat.group)
    seat.group = seat.pool.add(seat.view)
  }

  #leave(nodeId: NodeId, seat: Seat): void {
    this.#seats.delete(nodeId)
    if ('mismatch' in seat) {
      seat.mismatch.nodes.delete(nodeId)
      if (seat.mismatch.nodes.size === 0) this.mismatches.delete(seat.mismatch.refusal.many)
      return
    }
    const { level, pool } = seat
    pool.remove(seat.view, seat.group)
    if (pool.size === 0) level.pools.delete(pool.offer)
    if (level.pools.size === 0) this.levels.splice(this.levels.indexOf(level), 1)
  }

  #seatFor(
    view: NodeView,
  ):
    | { level: FavourLevel; pool: OfferPool; group: LoadGroup; view: NodeView }
    | { mismatch: Mismatch; view: NodeView } {
    const { constraints } = this.#demand
    const refusal = refuseLabels(this.#demand, view)
    if (refusal !== undefined) {
      const mismatch = this.mismatches.get(refusal.many) ?? { refusal, nodes: new Map<NodeId, NodeView>() }
      this.mismatches.set(refusal.many, mismatch)
      mismatch.nodes.set(view.record.info.nodeId, view)
      return { mismatch, view }
    }
    const { labels } = view.record.info
    const favoured = constraints.length === 0 ? 0 : matchConstraints(constraints, labels).favoured
    const level = this.#level(favoured)
    const pool = level.pools.get(view.offer) ?? new OfferPool(view.offer)
    level.pools.set(view.offer, pool)
    return { level, pool, group: pool.add(view), view }
  }

  #level(favoured: number): FavourLevel {
    const at = this.levels.findIndex((level) => level.favoured <= favoured)
    const there = this.levels[at]
    if (there?.favoured === favoured) return there
    const level = { favoured, pools: new Map<NodeOffer, OfferPool>() }
    this.levels.splice(at < 0 ? this.levels.length : at, 0, level)
    return level
  }
}

function isSame(seat: Seat, view: NodeView, labels: object): boolean {
  return seat.view === view && seat.offer === view.offer && seat.labels === labels
}

function isEqual(a: Resources, b: Resources): boolean {
  return a.cpu === b.cpu && a.memoryBytes === b.memoryBytes && a.diskBytes === b.diskBytes && a.gpu === b.gpu
}
