/** Monotonic time in milliseconds; never the wall clock, which can jump. */
export type MonotonicClock = () => number

/** One slice of payload: the unit of the fair turn. */
export const SLICE_BYTES = 8 * 1024

/**
 * Lets `bitsPerSecond` of payload pass, shared fairly by any number of streams.
 *
 * Each stream asks for one slice at a time and waits in line, so streams take turns whatever their number or speed.
 * What is not used is stored only up to `burstBytes` (default 32 KiB, about 26 ms at 10 Mbit/s): small enough that no
 * second exceeds the rate by 3 %, large enough to bridge the timer's and the event loop's delays.
 */
export class TokenBucket {
  readonly #bytesPerMs: number
  readonly #burstBytes: number
  readonly #now: MonotonicClock
  readonly #line: Turn[] = []
  #tokens: number
  #filledAt: number
  #timer: NodeJS.Timeout | undefined

  constructor(bitsPerSecond: number, options: { burstBytes?: number; now?: MonotonicClock } = {}) {
    this.#bytesPerMs = bitsPerSecond / 8 / 1000
    this.#burstBytes = options.burstBytes ?? 32 * 1024
    this.#now = options.now ?? (() => performance.now())
    this.#tokens = this.#burstBytes
    this.#filledAt = this.#now()
  }

  /**
   * Resolves when `bytes` (at most one slice) may pass. Rejects with the signal's reason; nothing is taken then.
   * A stream must not ask again before its last question was answered.
   */
  take(bytes: number, signal: AbortSignal): Promise<void> | undefined {
    signal.throwIfAborted()
    this.#fill()
    if (this.#line.length === 0 && this.#tokens >= bytes) {
      this.#tokens -= bytes
      return undefined
    }
    return new Promise((resolve, reject) => {
      const turn: Turn = { bytes, grant: () => finish(resolve) }
      const finish = (settle: () => void) => {
        signal.removeEventListener('abort', onAbort)
        settle()
      }
      const onAbort = () => {
        const index = this.#line.indexOf(turn)
        if (index >= 0) this.#line.splice(index, 1)
        finish(() => reject(signal.reason as Error))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#line.push(turn)
      this.#schedule()
    })
  }

  #fill(): void {
    const now = this.#now()
    const elapsed = Math.max(0, now - this.#filledAt)
    this.#filledAt = now
    this.#tokens = Math.min(this.#burstBytes, this.#tokens + elapsed * this.#bytesPerMs)
  }

  #serve(): void {
    this.#timer = undefined
    this.#fill()
    for (let turn = this.#line[0]; turn !== undefined && this.#tokens >= turn.bytes; turn = this.#line[0]) {
      this.#tokens -= turn.bytes
      this.#line.shift()
      turn.grant()
    }
    this.#schedule()
  }

  #schedule(): void {
    const [next] = this.#line
    if (next === undefined || this.#timer !== undefined) return
    const waitMs = Math.max(1, Math.ceil((next.bytes - this.#tokens) / this.#bytesPerMs))
    this.#timer = setTimeout(() => this.#serve(), waitMs)
  }
}

interface Turn {
  bytes: number
  grant: () => void
}
