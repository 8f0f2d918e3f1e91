import { Slot, type SlotOptions } from './slot.js'
import type { WasmLogger } from './options.js'

/**
 * Keeps a few sandboxes ready, so that a job finds Node already up inside.
 *
 * A slot is used once. Taking one starts its successor, a moment later, so that the job goes first.
 */
export class SlotPool {
  readonly #options: SlotOptions
  readonly #size: number
  readonly #logger: WasmLogger
  readonly #waiting: Slot[] = []
  readonly #live = new Set<Slot>()
  #refill: NodeJS.Timeout | undefined
  #failures = 0
  #isClosed = false

  constructor(options: SlotOptions, size: number, logger: WasmLogger) {
    this.#options = options
    this.#size = size
    this.#logger = logger
  }

  /** Names of all slots of this process. */
  get names(): ReadonlySet<string> {
    return new Set([...this.#live].map((one) => one.name))
  }

  /** Proves that the sandbox works here: a slot is up. Rejects with `sandbox.unavailable`. */
  async probe(): Promise<void> {
    if (this.#waiting.some((one) => one.isWaiting)) return
    const slot = this.#open()
    await slot.ready
    if (this.#waiting.length < this.#size && !this.#isClosed) this.#keep(slot)
    else await slot.dispose()
    this.#refillSoon(0)
  }

  /** A ready slot, or undefined when none waits. */
  take(): Slot | undefined {
    let slot = this.#waiting.shift()
    while (slot !== undefined && !slot.isWaiting) slot = this.#waiting.shift()
    this.#refillSoon(REFILL_DELAY_MS)
    return slot
  }

  /** A slot for one job, with directories of its own. */
  openWith(options: Partial<SlotOptions>): Slot {
    return this.#open(options)
  }

  /** Resolves when all slots are gone. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#refill)
    await Promise.all([...this.#live].map((one) => one.dispose()))
  }

  #open(options: Partial<SlotOptions> = {}): Slot {
    const slot = new Slot({ ...this.#options, ...options })
    this.#live.add(slot)
    void slot.end.then(() => this.#live.delete(slot))
    return slot
  }

  #keep(slot: Slot): void {
    this.#waiting.push(slot)
    void slot.end.then(() => {
      const index = this.#waiting.indexOf(slot)
      if (index < 0) return
      // It died while it waited; another takes its place.
      this.#waiting.splice(index, 1)
      slot.dispose().catch((error: unknown) => this.#logger.warn({ error }, 'a sandbox could not be removed'))
      this.#refillSoon(RETRY_DELAY_MS)
    })
  }

  #refillSoon(delayMs: number): void {
    if (this.#isClosed || this.#refill !== undefined || this.#waiting.length >= this.#size) return
    this.#refill = setTimeout(() => {
      this.#refill = undefined
      this.#refillNow().catch((error: unknown) =>
        this.#logger.warn({ error }, 'a sandbox could not be made ready'),
      )
    }, delayMs)
    this.#refill.unref()
  }

  async #refillNow(): Promise<void> {
    if (this.#isClosed || this.#waiting.length >= this.#size) return
    const slot = this.#open()
    try {
      await slot.ready
      this.#failures = 0
      this.#keep(slot)
      this.#refillSoon(0)
    } catch (error) {
      this.#failures++
      await slot.dispose()
      this.#refillSoon(Math.min(60_000, RETRY_DELAY_MS * 2 ** this.#failures))
      throw error
    }
  }
}

const REFILL_DELAY_MS = 5
const RETRY_DELAY_MS = 1_000
