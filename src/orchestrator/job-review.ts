import { totalTimeoutMs, versionTimeMs } from '../model/index.js'
import type { Evaluation, Job, JobState, NodeId, TimeMs } from '../model/index.js'
import { readPast, retryAtMs, STOP_JOB_FAILED, stopAttempt } from './attempts.js'
import type { Attempt, Attempts } from './attempts.js'
import { readDemand, type JobDemand } from './job-demand.js'
import type { NodeViews } from './node-view.js'
import type { SchedulingLimits } from './options.js'
import { chargeAmong, placeAmong, type PlacementResult } from './placement.js'
import type { JobEvent, Placement, Plan, Waiting } from './plan.js'
import { goDuration } from './wording.js'

/** One look at one job that has not ended: what the rules of its type read, and the plan they write. */
export class JobReview {
  readonly job: Job
  readonly attempts: Attempts
  readonly nodes: NodeViews
  readonly now: TimeMs
  readonly limits: SchedulingLimits
  readonly #placements: Placement[] = []
  readonly #events: JobEvent[] = []
  #demand: JobDemand | undefined
  #to: Plan['job']
  #lookAgain: Plan['lookAgain']
  /** What was looked for last. */
  #wanted: Waiting | undefined
  #waits = false

  constructor(parts: {
    job: Job
    attempts: Attempts
    nodes: NodeViews
    now: TimeMs
    limits: SchedulingLimits
  }) {
    this.job = parts.job
    this.attempts = parts.attempts
    this.nodes = parts.nodes
    this.now = parts.now
    this.limits = parts.limits
    if (this.attempts.overdueAtMs < Infinity) this.lookAgain(this.attempts.overdueAtMs, 'job-timeout')
  }

  get live(): Attempt[] {
    return this.attempts.all.filter((attempt) => attempt.fate === 'live')
  }

  /** Tries of a slot that count: a refusal by a node does not. Oldest first. */
  tries(slot: number): Attempt[] {
    return (this.attempts.bySlot.get(slot) ?? []).filter((attempt) => attempt.fate !== 'rejected')
  }

  /** Fails the job when its total time is over. True when it did. */
  timeOut(): boolean {
    const limitMs = totalTimeoutMs(this.job.spec)
    if (limitMs === undefined) return false
    const endMs = versionTimeMs(this.job) + limitMs
    if (this.now < endMs) {
      this.lookAgain(endMs, 'job-timeout')
      return false
    }
    this.fail(`Job timed out. Job took longer than ${goDuration(limitMs)}`, {
      topic: 'Job Timeout',
      details: {
        ErrorCode: 'execution.timeout',
        Hint: 'Increase the total timeout of the job (--timeout), or wait for less: it counts from submission',
      },
    })
    return true
  }

  stop(attempt: Attempt, message: string): void {
    stopAttempt(this.attempts, attempt, message, this.now)
  }

  /** True when the slot may try now; otherwise the job is looked at again when it may. */
  mayTry(tries: readonly Attempt[]): boolean {
    const atMs = retryAtMs(tries, this.limits)
    if (this.now >= atMs) return true
    this.lookAgain(atMs, 'exec-retry')
    return false
  }

  /** Looks for nodes; nothing is planned by it. */
  findNodes(wanted: number, options: { ignoreLoad?: boolean } = {}): PlacementResult {
    const demand = this.#demandOfJob()
    const past = readPast(this.attempts.all, this.nodes, this.now, this.limits)
    const ignoresLoad = options.ignoreLoad === true
    this.#wanted = { demand, past, ignoresLoad }
    return placeAmong(this.nodes, demand, {
      wanted,
      past,
      nodeQueueFactor: ignoresLoad ? Infinity : this.limits.nodeQueueFactor,
      seed: this.job.id,
      priority: this.job.spec.Priority,
    })
  }

  /** Plans one execution. */
  start(slot: number, nodeId: NodeId): void {
    const { resources } = this.#demandOfJob()
    // Not their number: old ones may be forgotten.
    const last = this.attempts.bySlot.get(slot)?.at(-1)
    const attempt = last === undefined ? 0 : last.execution.attempt + 1
    this.#placements.push({ slot, attempt, nodeId, resources })
    chargeAmong(this.nodes, nodeId, resources)
  }

  get started(): number {
    return this.#placements.length
  }

  /** Fails the job and stops what still runs. */
  fail(message: string, options: { topic?: string; details?: Record<string, string> } = {}): void {
    for (const attempt of this.attempts.all) this.stop(attempt, STOP_JOB_FAILED)
    this.#become('Failed', message, options.details ?? {})
    this.#events.push({
      topic: options.topic ?? 'Scheduling',
      message,
      details: { ...options.details, IsError: 'true', NewState: 'Failed' },
    })
  }

  complete(): void {
    this.#become('Completed', '', {})
    this.#events.push({ topic: 'State Update', message: 'Completed', details: { NewState: 'Completed' } })
  }

  /** Pending or Queued becomes Running, once. */
  run(): void {
    if (this.job.state === 'Running') return
    this.#become('Running', '', {})
    this.#events.push({ topic: 'State Update', message: 'Running', details: { NewState: 'Running' } })
  }

  /** Waits for a node; said in the history once, kept up to date in the job. */
  queue(reason: string, details: Record<string, string>): void {
    if (this.job.state === 'Queued' && this.job.message === reason) return
    this.#become('Queued', reason, details)
    if (this.job.state === 'Queued') return
    this.#events.push({
      topic: 'Queueing',
      message: `Job queued. ${reason}`,
      details: { ...details, NewState: 'Queued' },
    })
  }

  /** Looks again when there is room on a node, at the latest at that time. */
  waitForRoom(atMs: TimeMs): void {
    this.#waits = true
    this.lookAgain(atMs, 'job-queue')
  }

  lookAgain(atMs: TimeMs, trigger: Evaluation['trigger']): void {
    if (this.#lookAgain === undefined || atMs < this.#lookAgain.atMs) this.#lookAgain = { atMs, trigger }
  }

  plan(): Plan {
    const ends = this.#to?.state === 'Failed' || this.#to?.state === 'Completed'
    return {
      placements: this.#placements,
      stops: this.attempts.stops,
      ...(this.#to === undefined ? {} : { job: this.#to }),
      events: this.#events,
      ...(this.#lookAgain === undefined || ends ? {} : this.#nextLook(this.#lookAgain)),
    }
  }

  /** A job that waits for a node does so whatever else it is looked at for at that time. */
  #nextLook({ atMs, trigger }: NonNullable<Plan['lookAgain']>): Pick<Plan, 'lookAgain' | 'waiting'> {
    if (!this.#waits || this.#wanted === undefined) return { lookAgain: { atMs, trigger } }
    return { lookAgain: { atMs, trigger: 'job-queue' }, waiting: this.#wanted }
  }

  #demandOfJob(): JobDemand {
    return (this.#demand ??= readDemand(this.job.spec))
  }

  #become(state: JobState, message: string, details: Record<string, string>): void {
    this.#to = { state, message, details }
  }
}
