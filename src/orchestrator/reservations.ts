import type { Job, JobId, NodeId, TimeMs } from '../model/index.js'
import type { Fleet } from './fleet.js'
import type { NodeView } from './node-view.js'
import type { OrchestratorLimits } from './options.js'
import { rateLoad } from './placement.js'
import type { Waiting } from './plan.js'

/** Of the nodes that are there, the share that may be kept free at a time; at least one node. */
const SHARE_MAX = 1 / 8

/**
 * Keeps a large job from waiting for ever while smaller ones take every bit of room.
 *
 * A job that has waited for room longer than `reserveAfterMs` gets the node on which it will fit soonest: from then on
 * nothing of the same or a lower priority is put there, so that it empties. Other jobs go to other nodes meanwhile; at most
 * an eighth of the nodes is kept free, for those that asked first. When the job still does not fit after
 * `reservationMs`, the node is given back, and the job may have one again after another `reserveAfterMs`: what never ends
 * there cannot hold up the others.
 *
 * Nothing of this is stored: after a restart the job waits on and gets a node at its next look.
 */
export class Reservations {
  readonly #fleet: Fleet
  readonly #limits: Pick<OrchestratorLimits, 'reserveAfterMs' | 'reservationMs'>
  readonly #nodeOf = new Map<JobId, NodeId>()
  /** Jobs that had a node in vain, and when they may have one again. */
  readonly #notBefore = new Map<JobId, TimeMs>()

  constructor(fleet: Fleet, limits: Pick<OrchestratorLimits, 'reserveAfterMs' | 'reservationMs'>) {
    this.#fleet = fleet
    this.#limits = limits
  }

  /** Gives back nodes that were kept long enough. To be called before each pass. */
  expire(now: TimeMs): void {
    for (const [jobId, nodeId] of this.#nodeOf) {
      const reservation = this.#fleet.get(nodeId)?.reservation
      if (reservation?.jobId === jobId && now < reservation.untilMs) continue
      this.#give(jobId, nodeId)
      this.#notBefore.set(jobId, now + this.#limits.reserveAfterMs)
    }
  }

  /** A job waits, since then. */
  waits(job: Job, waiting: Waiting, sinceMs: TimeMs, now: TimeMs): void {
    const { reserveAfterMs, reservationMs } = this.#limits
    if (waiting.ignoresLoad || this.#nodeOf.has(job.id) || now - sinceMs < reserveAfterMs) return
    if (now < (this.#notBefore.get(job.id) ?? 0)) return
    if (this.#nodeOf.size >= Math.max(1, Math.floor(this.#fleet.available * SHARE_MAX))) return
    const nodeId = this.#soonest(waiting)
    if (nodeId === undefined) return
    this.#nodeOf.set(job.id, nodeId)
    this.#notBefore.delete(job.id)
    const { Priority: priority } = job.spec
    this.#fleet.reserve(nodeId, { jobId: job.id, priority, untilMs: now + reservationMs })
  }

  /** A job waits no longer, or was given something. */
  settle(jobId: JobId): void {
    this.#notBefore.delete(jobId)
    const nodeId = this.#nodeOf.get(jobId)
    if (nodeId !== undefined) this.#give(jobId, nodeId)
  }

  #give(jobId: JobId, nodeId: NodeId): void {
    this.#nodeOf.delete(jobId)
    if (this.#fleet.get(nodeId)?.reservation?.jobId === jobId) this.#fleet.reserve(nodeId, undefined)
  }

  /** The node with the most room among those that would do if they were empty. */
  #soonest({ demand, past }: Waiting): NodeId | undefined {
    let found: { view: NodeView; free: number } | undefined
    for (const view of this.#fleet.capable(demand)) {
      if (view.reservation !== undefined || past.get(view.record.info.nodeId)?.excluded !== undefined)
        continue
      const { free } = rateLoad(demand.resources, view.used, view.offer)
      if (found === undefined || free > found.free) found = { view, free }
    }
    return found?.view.record.info.nodeId
  }
}
