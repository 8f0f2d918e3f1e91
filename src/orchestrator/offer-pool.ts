import type { Resources } from '../model/index.js'
import type { NodeOffer, NodeView } from './node-view.js'
import { compareLoad, compareTie, hasRoom, rateLoad, share, tieOf, type LoadRating } from './placement.js'
import { SortedList } from './sorted-list.js'

/** Nodes of one pool that hold exactly the same. */
export interface LoadGroup {
  readonly used: Resources
  /** Share of the capacity that is free; no job's rating here is higher. */
  readonly free: number
  /** Around the ring. */
  readonly members: SortedList<NodeView>
}

/** What is asked of a pool. */
export interface PoolQuestion {
  asked: Resources
  nodeQueueFactor: number
  /** Where the job begins on the ring. */
  start: number
  /** Nodes that are judged one by one elsewhere. */
  skip: (view: NodeView) => boolean
}

/** The best node of a pool. */
export interface PoolBest extends LoadRating {
  view: NodeView
  tie: number
}

/**
 * Nodes with the same offer, in groups of the same load, the emptiest group first. Nodes with the same load and offer
 * differ for a job only in their place on the ring, so the best one is found by looking at groups: usually at a few.
 */
export class OfferPool {
  readonly offer: NodeOffer
  readonly #groups = new SortedList<LoadGroup>(compareGroups)
  readonly #byLoad = new Map<string, LoadGroup>()
  #size = 0

  constructor(offer: NodeOffer) {
    this.offer = offer
  }

  get size(): number {
    return this.#size
  }

  get groups(): readonly LoadGroup[] {
    return this.#groups.items
  }

  /** Puts the node where its load belongs; to be taken out with the group that it was given. */
  add(view: NodeView): LoadGroup {
    const key = loadKey(view.used)
    let group = this.#byLoad.get(key)
    if (group === undefined) {
      group = {
        used: view.used,
        free: freeShare(view.used, this.offer),
        members: new SortedList(compareRing),
      }
      this.#byLoad.set(key, group)
      this.#groups.add(group)
    }
    if (group.members.add(view)) this.#size += 1
    return group
  }

  remove(view: NodeView, group: LoadGroup): void {
    if (group.members.remove(view)) this.#size -= 1
    if (group.members.size > 0) return
    this.#byLoad.delete(loadKey(group.used))
    this.#groups.remove(group)
  }

  /** The node that comes first by room, free capacity and the ring; `before`: only when it beats this one. */
  best(question: PoolQuestion, before?: PoolBest): PoolBest | undefined {
    const { asked, nodeQueueFactor, start, skip } = question
    const { maxCapacity } = this.offer
    const least = Math.min(
      share(asked.cpu, maxCapacity.cpu),
      share(asked.memoryBytes, maxCapacity.memoryBytes),
    )
    let found = before
    for (const group of this.#groups.items) {
      if (found?.roomNow === true && group.free - least + ROUNDING < found.free) break
      if (!hasRoom(asked, group.used, this.offer, nodeQueueFactor)) continue
      const rating = rateLoad(asked, group.used, this.offer)
      const order = found === undefined ? -1 : compareLoad(rating, found)
      if (order > 0) continue
      const view = nextOnRing(group.members, start, skip)
      if (view === undefined) continue
      const next = { view, tie: tieOf(view, start), ...rating }
      if (order < 0 || found === undefined || compareTie(named(next), named(found)) < 0) found = next
    }
    return found === before ? undefined : found
  }
}

/** Sums of shares are rounded a little differently than sums of amounts. */
const ROUNDING = 1e-9

/** From the start on, once around. */
function nextOnRing(
  members: SortedList<NodeView>,
  start: number,
  skip: (view: NodeView) => boolean,
): NodeView | undefined {
  const { items } = members
  const first = members.firstNot((view) => view.nameHash < start)
  for (let step = 0; step < items.length; step++) {
    const view = items[(first + step) % items.length]
    if (view !== undefined && !skip(view)) return view
  }
  return undefined
}

function named({ view, tie }: PoolBest): { nodeId: string; tie: number } {
  return { nodeId: view.record.info.nodeId, tie }
}

function freeShare(used: Resources, { maxCapacity }: NodeOffer): number {
  return 1 - Math.max(share(used.cpu, maxCapacity.cpu), share(used.memoryBytes, maxCapacity.memoryBytes))
}

function loadKey({ cpu, memoryBytes, diskBytes, gpu }: Resources): string {
  return `${cpu} ${memoryBytes} ${diskBytes} ${gpu}`
}

/** Emptiest first; the rest only makes the order total. */
function compareGroups(a: LoadGroup, b: LoadGroup): number {
  return (
    b.free - a.free ||
    a.used.cpu - b.used.cpu ||
    a.used.memoryBytes - b.used.memoryBytes ||
    a.used.diskBytes - b.used.diskBytes ||
    a.used.gpu - b.used.gpu
  )
}

function compareRing(a: NodeView, b: NodeView): number {
  return compareTie(
    { tie: a.nameHash, nodeId: a.record.info.nodeId },
    { tie: b.nameHash, nodeId: b.record.info.nodeId },
  )
}
