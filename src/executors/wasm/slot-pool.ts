import { WeirError } from '../../errors.js'
import type { WasmLogger } from './options.js'
import { Slot, type SlotOptions, slotName } from './slot.js'

/** How many sandboxes wait for a job. */
export interface PoolSize {
  /** When nothing has run for a while: they hold memory. */
  atRest: number
  /** Once jobs come. */
  busy: number
}

/**
 * Keeps a few sandboxes ready, so that a job finds Node already up inside.
 *
 * A slot is used once. Taking one starts its successor, a moment later, so that the job goes first. They start one after
 * the other: more at once would take the processor from the jobs that run.
 */
export class SlotPool {
  readonly #options: SlotOptions
  readonly #size: PoolSize
  readonly #logger: WasmLogger
  /** In the order in which they were started; the last may not be up yet. */
  readonly #waiting: Slot[] = []
  readonly #live = new Set<Slot>()
  readonly #names = new Set<string>()
  readonly #opening = new Set<Promise<unknown>>()
  #snapshot: string | undefined
  #refill: NodeJS.Timeout | undefined
  #rest: NodeJS.Timeout | undefined
  #isBusy = false
  #isStarting = false
  #failures = 0
  isClosed = false

  constructor(options: SlotOptions, size: PoolSize, logger: WasmLogger) {
    this.#options = options
    this.#size = size
    this.#logger = logger
  }

  /** True for the name of a slot of this process, until the last of it is removed. */
  owns(name: string): boolean {
    return this.#names.has(name)
  }

  get startsFromSnapshot(): boolean {
    return this.#snapshot !== undefined
  }

  /** Proves that the sandbox works here: a slot is up. Rejects with `sandbox.unavailable`. */
  async probe(): Promise<void> {
    if (this.#waiting.some((one) => one.isWaiting)) return
    const slot = await this.#open()
    await slot.ready
    await this.#keepOrEnd(slot)
    this.#refillSoon(0)
  }

  /** From now on slots start from the snapshot, if one does so here. Rejects when it does not. */
  async use(snapshot: string): Promise<void> {
    if (this.isClosed) return
    const slot = await this.#open({ snapshot })
    try {
      await slot.ready
      this.#snapshot = snapshot
    } catch (error) {
      await slot.dispose()
      throw error
    }
    // One without is only good for a moment: it is slower and holds more memory.
    for (const old of this.#waiting.filter((one) => one.isWaiting)) {
      this.#forget(old)
      this.#dispose(old)
    }
    await this.#keepOrEnd(slot)
  }

  /** The slot that is up, or will be first; undefined when there is none. Await its `ready`. */
  take(): Slot | undefined {
    const index = this.#waiting.findIndex((one) => one.isWaiting)
    const [slot] = this.#waiting.splice(Math.max(0, index), 1)
    this.#becomeBusy()
    this.#refillSoon(REFILL_DELAY_MS)
    return slot
  }

  /** A slot for one task, with options of its own. Rejects with `engine.unavailable` once the pool is closed. */
  openWith(options: Partial<SlotOptions>): Promise<Slot> {
    return this.#open(options)
  }

  /** Resolves when all slots are gone. */
  async close(): Promise<void> {
    this.isClosed = true
    clearTimeout(this.#refill)
    clearTimeout(this.#rest)
    await Promise.allSettled(this.#opening)
    await Promise.all([...this.#live].map((one) => one.dispose()))
  }

  get #wanted(): number {
    return this.#isBusy ? this.#size.busy : this.#size.atRest
  }

  #open(options: Partial<SlotOptions> = {}): Promise<Slot> {
    if (this.isClosed) {
      const message = 'The wasm engine is closed'
      return Promise.reject(new WeirError('engine.unavailable', message, { retryable: true }))
    }
    const name = slotName()
    // Known before it is there: what has no owner is removed.
    this.#names.add(name)
    const opening = Slot.open({ ...this.#options, snapshot: this.#snapshot, ...options }, name).then(
      (slot) => {
        this.#live.add(slot)
        void slot.gone.then(() => {
          this.#live.delete(slot)
          this.#names.delete(name)
        })
        return slot
      },
      (error: unknown) => {
        this.#names.delete(name)
        throw error
      },
    )
    this.#opening.add(opening)
    const forget = (): void => void this.#opening.delete(opening)
    opening.then(forget, forget)
    return opening
  }

  async #keepOrEnd(slot: Slot): Promise<void> {
    if (this.#waiting.length < this.#wanted && !this.isClosed) this.#keep(slot)
    else await slot.dispose()
  }

  #keep(slot: Slot): void {
    this.#waiting.push(slot)
    void slot.end.then(() => {
      if (!this.#forget(slot)) return
      // It died while it waited; another takes its place.
      this.#dispose(slot)
      this.#refillSoon(RETRY_DELAY_MS * 2 ** Math.min(6, this.#failures))
    })
  }

  /** False when somebody has taken it. */
  #forget(slot: Slot): boolean {
    const index = this.#waiting.indexOf(slot)
    if (index >= 0) this.#waiting.splice(index, 1)
    return index >= 0
  }

  #dispose(slot: Slot): void {
    slot.dispose().catch((error: unknown) => this.#logger.warn({ error }, 'a sandbox could not be removed'))
  }

  #becomeBusy(): void {
    this.#isBusy = true
    clearTimeout(this.#rest)
    if (this.isClosed) return
    this.#rest = setTimeout(() => {
      this.#isBusy = false
      for (const slot of this.#waiting.splice(this.#size.atRest)) this.#dispose(slot)
    }, REST_AFTER_MS)
    this.#rest.unref()
  }

  #refillSoon(delayMs: number): void {
    if (this.isClosed || this.#refill !== undefined || this.#isStarting) return
    if (this.#waiting.length >= this.#wanted) return
    this.#refill = setTimeout(() => {
      this.#refill = undefined
      void this.#refillNow()
    }, delayMs)
    this.#refill.unref()
  }

  async #refillNow(): Promise<void> {
    if (this.isClosed || this.#waiting.length >= this.#wanted) return
    this.#isStarting = true
    let slot: Slot | undefined
    try {
      slot = await this.#open()
      this.#keep(slot)
      await slot.ready
      this.#failures = 0
    } catch (error) {
      this.#failures++
      if (!this.isClosed) this.#logger.warn({ error }, 'a sandbox could not be made ready')
      if (slot !== undefined && this.#forget(slot)) this.#dispose(slot)
    }
    this.#isStarting = false
    this.#refillSoon(this.#failures === 0 ? 0 : RETRY_DELAY_MS * 2 ** Math.min(6, this.#failures))
  }
}

const REFILL_DELAY_MS = 5
const RETRY_DELAY_MS = 1_000
/** So long after the last job only a few wait on. */
const REST_AFTER_MS = 60_000
