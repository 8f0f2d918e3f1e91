import { WeirError, isWeirError } from '../errors.js'
import type { Change, JobStore, Snapshot } from '../ports/index.js'

/** What a decision comes to: nothing to store when `change` is absent. */
export interface Decision<T> {
  change?: Change
  result: T
}

const STALE_RETRIES_MAX = 20

/**
 * The only place of the orchestrator that writes to the store. Decisions are made one after the other, each on the
 * newest snapshot, so none is ever stale because of another one here; that they become durable is waited for
 * side by side, so a slow disk delays answers but not decisions.
 */
export class Writer {
  readonly #store: JobStore
  readonly #listeners: ((change: Change) => void)[] = []
  readonly #early: ((change: Change, base: Snapshot) => void)[] = []
  readonly #underWay = new Set<Promise<unknown>>()
  #turn: Promise<unknown> = Promise.resolve()
  /** The newest commit. When it is durable, so are those before it. */
  #newest: Promise<void> = Promise.resolve()
  #isClosed = false

  constructor(store: JobStore) {
    this.#store = store
  }

  /** Called with each durable change, in order. Must not throw. */
  onCommit(listener: (change: Change) => void): void {
    this.#listeners.push(listener)
  }

  /** Called with each change before it is committed on the snapshot, which may still fail. Must not throw. */
  onCommitting(listener: (change: Change, base: Snapshot) => void): void {
    this.#early.push(listener)
  }

  /**
   * Runs `decide` on a snapshot and commits what it says; resolves when that is durable, and with it all that the
   * snapshot showed, also when there is nothing to commit. `decide` is synchronous and runs again when another process
   * committed in between. Rejects with what `decide` throws, or `store.*`.
   */
  async transact<T>(decide: (snapshot: Snapshot) => Decision<T>): Promise<T> {
    if (this.#isClosed) {
      throw new WeirError('store.unavailable', 'Cannot store anything: the orchestrator is closed', {
        retryable: true,
      })
    }
    const work = this.#transact(decide)
    this.#underWay.add(work)
    try {
      return await work
    } finally {
      this.#underWay.delete(work)
    }
  }

  /** Takes nothing more; resolves when what is under way is stored or refused. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.allSettled(this.#underWay)
  }

  async #transact<T>(decide: (snapshot: Snapshot) => Decision<T>): Promise<T> {
    for (let retry = 0; ; retry++) {
      const { result, durable } = await this.#inTurn(() => this.#attempt(decide))
      try {
        await durable
        return result
      } catch (error) {
        if (retry === STALE_RETRIES_MAX || !isWeirError(error, 'store.stale')) throw error
      }
    }
  }

  async #attempt<T>(
    decide: (snapshot: Snapshot) => Decision<T>,
  ): Promise<{ result: T; durable: Promise<void> }> {
    const snapshot = await this.#store.snapshot()
    const { change, result } = decide(snapshot)
    // What was decided rests on what the snapshot shows, and that may not be durable yet.
    if (change === undefined || isEmpty(change)) return { result, durable: this.#newest }
    for (const listener of this.#early) listener(change, snapshot)
    const durable = this.#store.commit(change, snapshot.revision).then(() => {
      for (const listener of this.#listeners) listener(change)
    })
    this.#newest = durable
    // Whoever waits for it hears of the failure; what is decided after it rests on nothing that was lost.
    durable.catch(() => {
      if (this.#newest === durable) this.#newest = Promise.resolve()
    })
    return { result, durable }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => undefined)
    return turn
  }
}

function isEmpty(change: Change): boolean {
  return Object.values(change).every((records: unknown[] | undefined) => (records?.length ?? 0) === 0)
}
