import type { Chance, Clock } from '../../src/ports/index.js'

interface Timer {
  atMs: number
  order: number
  wake: () => void
}

/** A clock that stands still until it is told to go on. */
export class VirtualClock implements Clock {
  #now: number
  #order = 0
  #timers: Timer[] = []

  constructor(startMs = 1_800_000_000_000) {
    this.#now = startMs
  }

  now(): number {
    return this.#now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error)
      const onAbort = (): void => {
        this.#timers = this.#timers.filter((other) => other !== timer)
        reject(signal?.reason as Error)
      }
      const timer: Timer = {
        atMs: this.#now + Math.max(0, ms),
        order: this.#order++,
        wake: () => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        },
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#timers.push(timer)
    })
  }

  /** Lets time pass, one timer after the other, each with all that follows from it. Stops early when `until` holds. */
  async pass(ms: number, until: () => boolean = () => false): Promise<void> {
    const endMs = this.#now + ms
    await settle()
    while (!until()) {
      const next = this.#first()
      if (next === undefined || next.atMs > endMs) break
      this.#timers = this.#timers.filter((other) => other !== next)
      this.#now = Math.max(this.#now, next.atMs)
      next.wake()
      await settle()
    }
    if (!until()) this.#now = endMs
  }

  #first(): Timer | undefined {
    let first: Timer | undefined
    for (const timer of this.#timers) {
      if (
        first === undefined ||
        timer.atMs < first.atMs ||
        (timer.atMs === first.atMs && timer.order < first.order)
      ) {
        first = timer
      }
    }
    return first
  }
}

/** Lets everything that waits for promises only run until nothing is left. */
export async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

/** Chance that repeats itself: mulberry32. */
export function seededChance(seed: number): Chance {
  let state = seed >>> 0
  const random = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let value = Math.imul(state ^ (state >>> 15), state | 1)
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61)
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32
  }
  const hex = (digits: number): string =>
    Array.from({ length: digits }, () => Math.floor(random() * 16).toString(16)).join('')
  return { random, uuid: () => `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}` }
}
