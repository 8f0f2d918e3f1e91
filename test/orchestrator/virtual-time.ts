import type { Chance, TimerClock } from '../../src/ports/index.js'

interface Timer {
  atMs: number
  order: number
  wake: () => void
  /** It was called off; it leaves the queue when its time comes. */
  isOff: boolean
}

/** A clock that stands still until it is told to go on. Shows whole milliseconds, as a real one does. */
export class VirtualClock implements TimerClock {
  #now: number
  #order = 0
  readonly #timers: Timer[] = []

  constructor(startMs = 1_800_000_000_000) {
    this.#now = startMs
  }

  now(): number {
    return Math.floor(this.#now)
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error)
      const onAbort = (): void => {
        callOff()
        reject(signal?.reason as Error)
      }
      const callOff = this.schedule(ms, () => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      })
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Calls `wake` after `ms`; the returned function calls it off. */
  schedule(ms: number, wake: () => void): () => void {
    const timer: Timer = { atMs: this.#now + Math.max(0, ms), order: this.#order++, wake, isOff: false }
    this.#push(timer)
    return () => {
      timer.isOff = true
    }
  }

  /** Lets time pass, one timer after the other, each with all that follows from it. Stops early when `until` holds. */
  async pass(ms: number, until: () => boolean = () => false): Promise<void> {
    const endMs = this.#now + ms
    await settle()
    while (!until()) {
      const next = this.#timers[0]
      if (next === undefined || next.atMs > endMs) break
      this.#pop()
      if (next.isOff) continue
      this.#now = Math.max(this.#now, next.atMs)
      next.wake()
      await settle()
    }
    if (!until()) this.#now = endMs
  }

  #push(timer: Timer): void {
    const timers = this.#timers
    let at = timers.push(timer) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!comesFirst(timer, timers[parent] as Timer)) break
      timers[at] = timers[parent] as Timer
      at = parent
    }
    timers[at] = timer
  }

  #pop(): void {
    const timers = this.#timers
    const last = timers.pop()
    if (last === undefined || timers.length === 0) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= timers.length) break
      if (child + 1 < timers.length && comesFirst(timers[child + 1] as Timer, timers[child] as Timer))
        child += 1
      if (!comesFirst(timers[child] as Timer, last)) break
      timers[at] = timers[child] as Timer
      at = child
    }
    timers[at] = last
  }
}

function comesFirst(a: Timer, b: Timer): boolean {
  return a.atMs !== b.atMs ? a.atMs < b.atMs : a.order < b.order
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
