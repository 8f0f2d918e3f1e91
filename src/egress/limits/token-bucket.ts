import { FairQueue } from './fair-queue.js'
import { Level } from './level.js'

/** Monotonic time in milliseconds; never the wall clock, which can jump. */
export type MonotonicClock = () => number

/** One slice of payload, the unit of the fair turn, where a rate is not so high that it would pass many in a moment. */
export const SLICE_BYTES = 8 * 1024

/** What a socket is read in. */
const SLICE_BYTES_MAX = 64 * 1024

/** What may be stored: enough to bridge the delays of the timer and the event loop, far less than 3 % of a second. */
const BURST_MS = 26

/** Where payload pays for its way. */
export interface Meter {
  /** At most so many bytes are asked for at once. */
  readonly sliceBytes: number
  /**
   * Resolves when `bytes` (at most {@link sliceBytes}) may pass; undefined: at once. Rejects with the signal's reason; nothing is taken
   * then. A stream must not ask again before its last question was answered.
   */
  take(bytes: number, signal: AbortSignal): Promise<void> | undefined
}

/**
 * Lets `bitsPerSecond` of payload pass, shared fairly by any number of streams.
 *
 * Each stream asks for one slice (8 KiB; what passes in a millisecond where that is more) at a time and waits in line, so
 * streams take turns whatever their number or speed; where streams belong to flows ({@link TokenBucket.flow}), the flows take turns.
 * What is not used is stored only up to `burstBytes` (default 32 KiB, about 26 ms at 10 Mbit/s) or 26 ms: small enough that no
 * second exceeds the rate by 3 %, large enough to bridge the timer's and the event loop's delays.
 */
export class TokenBucket implements Meter {
  readonly sliceBytes: number
  readonly #level: Level
  readonly #now: MonotonicClock
  readonly #line: FairQueue<object, Turn>
  readonly #waited: (ms: number) => void
  #timer: NodeJS.Timeout | undefined

  constructor(
    bitsPerSecond: number,
    options: { burstBytes?: number; now?: MonotonicClock; onWait?: (ms: number) => void } = {},
  ) {
    this.#now = options.now ?? (() => performance.now())
    const perMs = bitsPerSecond / 8 / 1000
    const burst = Math.max(options.burstBytes ?? 32 * 1024, Math.ceil(perMs * BURST_MS))
    this.#level = new Level(perMs, burst, this.#now())
    this.sliceBytes = Math.min(SLICE_BYTES_MAX, Math.max(SLICE_BYTES, Math.floor(perMs)))
    this.#line = new FairQueue(this.sliceBytes)
    this.#waited = options.onWait ?? (() => {})
  }

  take(bytes: number, signal: AbortSignal): Promise<void> | undefined {
    return this.#take(this, bytes, signal)
  }

  /** The same bucket for streams that share one turn of the round. */
  flow(): Meter {
    const flow = {}
    return {
      sliceBytes: this.sliceBytes,
      take: (bytes, signal) => this.#take(flow, bytes, signal),
    }
  }

  #take(flow: object, bytes: number, signal: AbortSignal): Promise<void> | undefined {
    signal.throwIfAborted()
    const askedMs = this.#now()
    if (this.#line.isEmpty && this.#level.take(bytes, askedMs)) return undefined
    return new Promise((resolve, reject) => {
      const turn: Turn = { units: bytes, grant: () => finish(resolve) }
      const finish = (settle: () => void) => {
        signal.removeEventListener('abort', onAbort)
        this.#waited(this.#now() - askedMs)
        settle()
      }
      const onAbort = () => {
        this.#line.remove(flow, turn)
        finish(() => reject(signal.reason as Error))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#line.add(flow, turn)
      this.#schedule()
    })
  }

  #serve(): void {
    this.#timer = undefined
    const now = this.#now()
    for (let turn = this.#line.peek(); turn !== undefined; turn = this.#line.peek()) {
      if (!this.#level.take(turn.units, now)) break
      this.#line.shift()
      turn.grant()
    }
    this.#schedule()
  }

  #schedule(): void {
    if (this.#timer !== undefined) return
    const next = this.#line.peek()
    if (next === undefined) return
    const waitMs = Math.max(1, Math.ceil(this.#level.msUntil(next.units, this.#now())))
    this.#timer = setTimeout(() => this.#serve(), waitMs)
  }
}

/** Pays at one meter after the other: the execution's own, then the node's. */
export function inSeries(own: Meter, shared: Meter | undefined): Meter {
  if (shared === undefined) return own
  return {
    sliceBytes: Math.min(own.sliceBytes, shared.sliceBytes),
    take: (bytes, signal) => {
      const turn = own.take(bytes, signal)
      return turn === undefined ? shared.take(bytes, signal) : turn.then(() => shared.take(bytes, signal))
    },
  }
}

interface Turn {
  readonly units: number
  readonly grant: () => void
}
