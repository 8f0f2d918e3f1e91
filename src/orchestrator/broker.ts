import type { Clock } from '../ports/index.js'
import type { Change } from '../ports/index.js'
import type { Evaluation, EvaluationId, JobId } from '../model/index.js'
import { BinaryHeap } from './binary-heap.js'

/**
 * Knows which jobs are to be looked at, and when: an index over the evaluations in the store. It holds nothing that a
 * restart could lose. Due jobs come by priority, then by the age of their evaluation; each job at most once.
 */
export class Broker {
  readonly #clock: Clock
  readonly #evaluations = new Map<EvaluationId, Evaluation>()
  readonly #byJob = new Map<JobId, Set<EvaluationId>>()
  readonly #woken = new Set<EvaluationId>()
  /** Entries may be out of date: an evaluation was replaced, deleted or taken. */
  readonly #due = new BinaryHeap<Evaluation>(comesFirst)
  /** Those that wait for a node, until they are due anyway. */
  readonly #queued = new BinaryHeap<Evaluation>(comesFirst)
  readonly #waiting = new BinaryHeap<Evaluation>((a, b) => a.waitUntilMs < b.waitUntilMs)
  #notify: (() => void) | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Evaluations that are in the store. */
  get size(): number {
    return this.#evaluations.size
  }

  load(evaluations: Iterable<Evaluation>): void {
    for (const evaluation of evaluations) this.#put(evaluation)
  }

  /** To be told of every commit. */
  committed(change: Change): void {
    for (const evaluation of change.evaluations ?? []) this.#put(evaluation)
    for (const id of change.deleteEvaluations ?? []) this.#delete(id)
  }

  get(id: EvaluationId): Evaluation | undefined {
    return this.#evaluations.get(id)
  }

  /** All evaluations of a job that are due, the oldest first. */
  dueOf(jobId: JobId): Evaluation[] {
    const now = this.#clock.now()
    return [...(this.#byJob.get(jobId) ?? [])]
      .flatMap((id) => this.#evaluations.get(id) ?? [])
      .filter((evaluation) => this.#isDue(evaluation, now))
      .toSorted((a, b) => a.createTimeMs - b.createTimeMs)
  }

  /** Takes at most `limit` due jobs. One that is not decided on has to be given back. */
  take(limit: number): JobId[] {
    this.#promote()
    const jobs = new Set<JobId>()
    while (jobs.size < limit) {
      const evaluation = this.#due.pop()
      if (evaluation === undefined) break
      if (this.#evaluations.get(evaluation.id) === evaluation) jobs.add(evaluation.jobId)
    }
    return [...jobs]
  }

  giveBack(jobs: readonly JobId[]): void {
    for (const jobId of jobs) for (const evaluation of this.dueOf(jobId)) this.#due.push(evaluation)
  }

  /** Makes jobs that wait for a node due now, at most `limit` of them, by priority and age. */
  wakeQueued(limit = Infinity): void {
    const now = this.#clock.now()
    for (let woken = 0; woken < limit; ) {
      const evaluation = this.#queued.pop()
      if (evaluation === undefined) break
      if (this.#evaluations.get(evaluation.id) !== evaluation || this.#isDue(evaluation, now)) continue
      this.#woken.add(evaluation.id)
      this.#due.push(evaluation)
      woken += 1
    }
    this.#notify?.()
  }

  /** Resolves when something is due; rejects when the signal aborts. */
  async ready(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      this.#promote()
      if (this.#due.size > 0) return
      await this.#nextChange(signal)
    }
  }

  /** Until a commit or a wake-up, or until the first waiting evaluation is due. */
  async #nextChange(signal: AbortSignal): Promise<void> {
    const asleep = new AbortController()
    const changed = new Promise<void>((resolve) => {
      this.#notify = resolve
      signal.addEventListener('abort', () => resolve(), { once: true, signal: asleep.signal })
    })
    const first = this.#waiting.peek()
    const waitMs = first === undefined ? undefined : Math.max(0, first.waitUntilMs - this.#clock.now())
    const timer =
      waitMs === undefined ? pending() : this.#clock.sleep(waitMs, asleep.signal).catch(() => undefined)
    await Promise.race([changed, timer])
    this.#notify = undefined
    asleep.abort()
  }

  #put(evaluation: Evaluation): void {
    this.#delete(evaluation.id)
    this.#evaluations.set(evaluation.id, evaluation)
    const ofJob = this.#byJob.get(evaluation.jobId)
    if (ofJob === undefined) this.#byJob.set(evaluation.jobId, new Set([evaluation.id]))
    else ofJob.add(evaluation.id)
    if (this.#isDue(evaluation, this.#clock.now())) this.#due.push(evaluation)
    else {
      this.#waiting.push(evaluation)
      if (evaluation.trigger === 'job-queue') this.#queued.push(evaluation)
    }
    this.#notify?.()
  }

  #delete(id: EvaluationId): void {
    const evaluation = this.#evaluations.get(id)
    if (evaluation === undefined) return
    this.#evaluations.delete(id)
    this.#woken.delete(id)
    const ofJob = this.#byJob.get(evaluation.jobId)
    if (ofJob?.delete(id) === true && ofJob.size === 0) this.#byJob.delete(evaluation.jobId)
  }

  #isDue(evaluation: Evaluation, now: number): boolean {
    return evaluation.waitUntilMs <= now || this.#woken.has(evaluation.id)
  }

  /** Moves what became due. */
  #promote(): void {
    const now = this.#clock.now()
    for (let first = this.#waiting.peek(); first !== undefined; first = this.#waiting.peek()) {
      const isCurrent = this.#evaluations.get(first.id) === first
      if (isCurrent && first.waitUntilMs > now) return
      this.#waiting.pop()
      if (!isCurrent || this.#woken.has(first.id)) continue
      this.#due.push(first)
    }
  }
}

function comesFirst(a: Evaluation, b: Evaluation): boolean {
  if (a.priority !== b.priority) return a.priority > b.priority
  return a.createTimeMs < b.createTimeMs
}

function pending(): Promise<never> {
  return new Promise(() => undefined)
}
