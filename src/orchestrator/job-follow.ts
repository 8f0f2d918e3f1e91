import { setMaxListeners } from 'node:events'
import { isTerminalJobState, isTerminalObservedState } from '../model/index.js'
import type { Execution, ExecutionId, Job, JobId } from '../model/index.js'
import type { JobStore } from '../ports/index.js'
import type { JobWatch } from './job-watch.js'
import { MergedStream } from './merged-stream.js'

export interface FollowParts<T> {
  store: JobStore
  watch: JobWatch
  jobId: JobId
  follow: boolean
  /** Which executions to read, given the job and all there are now; called again when the job changes. */
  choose: (executions: readonly Execution[], job: Job | undefined) => Execution[]
  /** Reads one. The signal aborts when nobody listens any more; `open` says how many are read side by side now. */
  read: (executionId: ExecutionId, signal: AbortSignal, open: () => number) => AsyncIterable<T>
  /** True: what has ended when the reading begins comes first, one after the other. Absent = side by side. */
  inOrder?: boolean
  /** An item that says how many executions wait because too many are read already. Absent = they wait silently. */
  sayWaiting?: (count: number) => T
}

/** Executions that are read side by side; others wait until one of them ends. */
const OPEN_MAX = 1_024

/** Reads executions of a job; with `follow` also those that come later, until the job ends. */
export async function* followExecutions<T>(parts: FollowParts<T>, signal: AbortSignal): AsyncIterable<T> {
  const merged = new MergedStream<T>()
  const reading = new Reading(parts, merged)
  const onAbort = (): void => {
    reading.stop(signal.reason)
    merged.fail(signal.reason)
  }
  const look = (): void => {
    parts.store
      .snapshot()
      .then((snapshot) => {
        const job = snapshot.job(parts.jobId)
        reading.add(parts.choose(snapshot.executionsOfJob(parts.jobId), job))
        if (!parts.follow || job === undefined || isTerminalJobState(job.state)) reading.finish()
      })
      .catch((error: unknown) => merged.fail(error))
  }
  signal.throwIfAborted()
  signal.addEventListener('abort', onAbort, { once: true })
  const stopListening = parts.watch.listen(parts.jobId, look)
  try {
    look()
    yield* merged.items()
  } finally {
    stopListening()
    signal.removeEventListener('abort', onAbort)
    reading.stop(undefined)
  }
}

/** What is read now and what waits for its turn. */
class Reading<T> {
  readonly #parts: FollowParts<T>
  readonly #merged: MergedStream<T>
  readonly #seen = new Set<ExecutionId>()
  readonly #gone = new AbortController()
  /** `alone`: only while nothing else is read. */
  readonly #waiting: { id: ExecutionId; alone: boolean }[] = []
  #open = 0
  #isAlone = false
  #isFirst = true
  #isFinal = false

  constructor(parts: FollowParts<T>, merged: MergedStream<T>) {
    this.#parts = parts
    this.#merged = merged
    // Each execution that is read listens.
    setMaxListeners(0, this.#gone.signal)
  }

  /** Those that are not known yet. */
  add(executions: readonly Execution[]): void {
    if (this.#gone.signal.aborted) return
    const fresh = executions.filter(({ id }) => !this.#seen.has(id))
    for (const { id } of fresh) this.#seen.add(id)
    const isOrdered = this.#parts.inOrder === true && this.#isFirst
    this.#isFirst = false
    const isAlone = ({ observed }: Execution): boolean => isOrdered && isTerminalObservedState(observed.state)
    this.#waiting.push(...fresh.filter(isAlone).map(({ id }) => ({ id, alone: true })))
    this.#waiting.push(...fresh.filter((one) => !isAlone(one)).map(({ id }) => ({ id, alone: false })))
    this.#start()
    const { sayWaiting } = this.#parts
    if (fresh.length > 0 && this.#open >= OPEN_MAX && this.#waiting.length > 0 && sayWaiting !== undefined)
      this.#merged.add(once(sayWaiting(this.#waiting.length)))
  }

  /** Nothing will be added. */
  finish(): void {
    this.#isFinal = true
    this.#start()
  }

  stop(reason: unknown): void {
    this.#waiting.length = 0
    this.#gone.abort(reason)
  }

  #start(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#isAlone || this.#open >= OPEN_MAX || (next.alone && this.#open > 0)) return
      this.#waiting.shift()
      this.#isAlone = next.alone
      this.#open += 1
      this.#merged.add(this.#readOne(next.id))
    }
    if (this.#isFinal) this.#merged.finish()
  }

  async *#readOne(id: ExecutionId): AsyncIterable<T> {
    try {
      yield* this.#parts.read(id, this.#gone.signal, () => this.#open)
    } finally {
      this.#open -= 1
      this.#isAlone = false
      this.#start()
    }
  }
}

async function* once<T>(item: T): AsyncIterable<T> {
  yield item
}
