import type { Clock } from '../ports/index.js'
import type { Change } from '../ports/index.js'
import type { Evaluation, EvaluationId, JobId, NodeId } from '../model/index.js'
import { BinaryHeap } from './binary-heap.js'
import type { JobDemand } from './job-demand.js'

/** What a job that waits for a node looks for. */
export interface Want {
  readonly demand: JobDemand
  readonly ignoresLoad: boolean
  /** True when nodes are closed to it for what happened there: then it is like no other job. */
  readonly hasPast: boolean
}

/** How many executions of such a job the node could take now, at most `max`. */
export type RoomOn = (nodeId: NodeId, want: Want, evaluation: Evaluation, max: number) => number

/** Jobs that look for the same. When there is no room for the first, there is none for the others. */
interface Queue {
  readonly want: Want
  /** By priority and age; entries may be out of date. */
  readonly waiting: BinaryHeap<Evaluation>
}

/** Queues that are looked through when there is room on a node; the next time the others have their turn. */
const QUEUES_PER_LOOK = 256
/** How long nobody looks at the clock while something waits for its time. */
const NAP_MS_MAX = 10_000
/** Jobs that one node with room wakes at a time. */
const WOKEN_MAX = 1_024

/**
 * Knows which jobs are to be looked at, and when: an index over the evaluations in the store. It holds nothing that a
 * restart could lose. Due jobs come by priority, then by the age of their evaluation; each job at most once.
 *
 * Jobs that wait for a node stand in queues, one for each demand. When there is room on a node, the queues are asked
 * whether their first fits there, and as many are woken as there is room for: a large job at the head of its queue holds
 * up nobody in the others, and nobody is looked at in vain.
 */
export class Broker {
  readonly #clock: Clock
  readonly #evaluations = new Map<EvaluationId, Evaluation>()
  readonly #byJob = new Map<JobId, Set<EvaluationId>>()
  readonly #woken = new Set<EvaluationId>()
  /** Entries may be out of date: an evaluation was replaced, deleted or taken. */
  readonly #due = new BinaryHeap<Evaluation>(comesFirst)
  /** Those that wait for a node, until they are due anyway. The queue asked last comes last. */
  readonly #queues = new Map<string, Queue>()
  readonly #wants = new Map<JobId, Want>()
  /** Nodes on which there may be more room than before. */
  readonly #roomy = new Set<NodeId>()
  readonly #roomOn: RoomOn
  readonly #waiting = new BinaryHeap<Evaluation>((a, b) => a.waitUntilMs < b.waitUntilMs)
  #notify: (() => void) | undefined

  constructor(clock: Clock, roomOn: RoomOn) {
    this.#clock = clock
    this.#roomOn = roomOn
  }

  /** Evaluations that are in the store. */
  get size(): number {
    return this.#evaluations.size
  }

  /** `wantOf` tells what a job looks for that waits for a node; undefined when the job is gone. */
  load(evaluations: Iterable<Evaluation>, wantOf: (jobId: JobId) => Want | undefined): void {
    for (const evaluation of evaluations) {
      const want = evaluation.trigger === 'job-queue' ? wantOf(evaluation.jobId) : undefined
      if (want !== undefined) this.#wants.set(evaluation.jobId, want)
      this.#put(evaluation)
    }
  }

  /** To be told before the commit that makes a job wait for a node. */
  waits(jobId: JobId, want: Want): void {
    this.#wants.set(jobId, want)
  }

  /** There may be more room on a node: jobs that wait for it are due with the next look. */
  room(nodeId: NodeId): void {
    this.#roomy.add(nodeId)
    if (this.#queues.size > 0) this.#notify?.()
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
    this.#wake()
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

  /** Resolves when something is due; rejects when the signal aborts. */
  async ready(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      this.#promote()
      if (this.#due.size > 0 || (this.#roomy.size > 0 && this.#queues.size > 0)) return
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
    // Not for longer at a time: a clock that is set forward, or a machine that slept, would make the look late.
    const untilMs = first === undefined ? undefined : Math.max(0, first.waitUntilMs - this.#clock.now())
    const waitMs = untilMs === undefined ? undefined : Math.min(untilMs, NAP_MS_MAX)
    const timer =
      waitMs === undefined ? pending() : this.#clock.sleep(waitMs, asleep.signal).catch(() => undefined)
    await Promise.race([changed, timer])
    this.#notify = undefined
    asleep.abort('something changed')
  }

  /** Makes as many of those that wait due as there is room for. */
  #wake(): void {
    for (const nodeId of this.#roomy) {
      this.#roomy.delete(nodeId)
      if (this.#queues.size > 0 && this.#wakeFor(nodeId) >= WOKEN_MAX) {
        this.#roomy.add(nodeId)
        return
      }
    }
  }

  #wakeFor(nodeId: NodeId): number {
    let [asked, woken] = [0, 0]
    // Each once: those that are asked come back at the end.
    for (const key of Array.from(this.#queues.keys())) {
      if (asked++ === QUEUES_PER_LOOK || woken >= WOKEN_MAX) break
      const queue = this.#queues.get(key) as Queue
      const head = this.#head(queue)
      this.#queues.delete(key)
      if (head === undefined) continue
      const room = this.#roomOn(nodeId, queue.want, head, WOKEN_MAX - woken)
      for (let taken = 0; taken < room && this.#head(queue) !== undefined; taken++) {
        const evaluation = queue.waiting.pop() as Evaluation
        this.#woken.add(evaluation.id)
        this.#due.push(evaluation)
        woken += 1
      }
      if (queue.waiting.size > 0) this.#queues.set(key, queue)
    }
    return woken
  }

  /** The first that really waits. */
  #head({ waiting }: Queue): Evaluation | undefined {
    const now = this.#clock.now()
    for (let first = waiting.peek(); first !== undefined; first = waiting.peek()) {
      if (this.#evaluations.get(first.id) === first && !this.#isDue(first, now)) return first
      waiting.pop()
    }
    return undefined
  }

  #queue(evaluation: Evaluation): void {
    const want = this.#wants.get(evaluation.jobId)
    if (want === undefined) return
    const key = queueKey(evaluation.jobId, want)
    const queue = this.#queues.get(key) ?? { want, waiting: new BinaryHeap<Evaluation>(comesFirst) }
    queue.waiting.push(evaluation)
    this.#queues.set(key, queue)
  }

  #put(evaluation: Evaluation): void {
    const want = this.#wants.get(evaluation.jobId)
    this.#delete(evaluation.id)
    if (want !== undefined) this.#wants.set(evaluation.jobId, want)
    this.#evaluations.set(evaluation.id, evaluation)
    const ofJob = this.#byJob.get(evaluation.jobId)
    if (ofJob === undefined) this.#byJob.set(evaluation.jobId, new Set([evaluation.id]))
    else ofJob.add(evaluation.id)
    if (this.#isDue(evaluation, this.#clock.now())) this.#due.push(evaluation)
    else {
      this.#waiting.push(evaluation)
      if (evaluation.trigger === 'job-queue') this.#queue(evaluation)
    }
    this.#notify?.()
  }

  #delete(id: EvaluationId): void {
    const evaluation = this.#evaluations.get(id)
    if (evaluation === undefined) return
    this.#evaluations.delete(id)
    this.#woken.delete(id)
    const ofJob = this.#byJob.get(evaluation.jobId)
    if (ofJob?.delete(id) !== true || ofJob.size > 0) return
    this.#byJob.delete(evaluation.jobId)
    this.#wants.delete(evaluation.jobId)
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

function queueKey(jobId: JobId, { demand, ignoresLoad, hasPast }: Want): string {
  const { cpu, memoryBytes, diskBytes, gpu } = demand.resources
  const asked = `${cpu} ${memoryBytes} ${diskBytes} ${gpu} ${ignoresLoad}`
  return `${asked}\n${demand.offerKey}\n${demand.labelKey}\n${hasPast ? jobId : ''}`
}

function pending(): Promise<never> {
  return new Promise(() => undefined)
}
