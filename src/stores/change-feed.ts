import { WeirError } from '../errors.js'
import type { Change, Revision } from '../ports/index.js'

/** One commit, as watchers see it. */
export interface CommittedChange {
  revision: Revision
  change: Change
}

/** Records in the commits that are held, all together: large commits are forgotten sooner. */
const RECORDS_MAX = 4_096
/** The newest commits are held, however large they are: a watcher that keeps up misses none. */
const NEWEST = 16

/**
 * Hands commits to watchers in order. The last `kept` commits are held, or fewer where they are large; a watcher that asks for older ones, or falls
 * behind by more, is told so by `store.stale` and starts again from a snapshot.
 */
export class ChangeFeed {
  readonly #kept: number
  #recent: (CommittedChange & { records: number })[] = []
  #records = 0
  /** Commits up to this one are no longer held. */
  #forgotten: Revision
  #wakeUps = new Set<() => void>()
  #closed = false

  constructor(since: Revision, kept = 1024) {
    this.#forgotten = since
    this.#kept = kept
  }

  publish(revision: Revision, change: Change): void {
    const records = countRecords(change)
    this.#recent.push({ revision, change, records })
    this.#records += records
    if (this.#recent.length > 2 * this.#kept || this.#records > 2 * RECORDS_MAX) this.#forgetOldest()
    this.#wake()
  }

  async *watch(since: Revision, signal: AbortSignal): AsyncIterable<CommittedChange> {
    let seen = since
    while (!signal.aborted && !this.#closed) {
      if (seen < this.#forgotten) {
        throw new WeirError('store.stale', `Cannot watch from revision ${seen}: it is no longer held`, {
          hint: 'Take a snapshot and watch from its revision.',
        })
      }
      const next = this.#firstAfter(seen)
      if (next === undefined) {
        await this.#somethingNew(signal)
        continue
      }
      seen = next.revision
      yield { revision: next.revision, change: next.change }
    }
  }

  /** Ends all watchers. */
  close(): void {
    this.#closed = true
    this.#wake()
  }

  /** Half of them at a time: one by one the whole list would move each time. */
  #forgetOldest(): void {
    let count = Math.max(0, this.#recent.length - this.#kept)
    let left = this.#records
    const most = this.#recent.length - NEWEST
    for (const [index, { records }] of this.#recent.entries()) {
      if (index >= count && (left <= RECORDS_MAX || index >= most)) break
      left -= records
      count = Math.max(count, index + 1)
    }
    const forgotten = this.#recent.splice(0, count)
    this.#records = left
    this.#forgotten = forgotten.at(-1)?.revision ?? this.#forgotten
  }

  #firstAfter(seen: Revision): CommittedChange | undefined {
    let [low, high] = [0, this.#recent.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#recent[middle]?.revision ?? 0) > seen) high = middle
      else low = middle + 1
    }
    return this.#recent[low]
  }

  #somethingNew(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wakeUp = (): void => {
        this.#wakeUps.delete(wakeUp)
        signal.removeEventListener('abort', wakeUp)
        resolve()
      }
      this.#wakeUps.add(wakeUp)
      signal.addEventListener('abort', wakeUp)
    })
  }

  #wake(): void {
    for (const wakeUp of this.#wakeUps) wakeUp()
  }
}

function countRecords(change: Change): number {
  return Object.values(change).reduce(
    (sum: number, records: unknown[] | undefined) => sum + (records?.length ?? 0),
    1,
  )
}
