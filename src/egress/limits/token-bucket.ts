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

/** A piece of payload that asks to pass. */
export interface Turn {
  /** Bytes, at most {@link Meter.sliceBytes}. They stay the same until it passes. */
  readonly units: number
  /** It may pass now. Only said to one that had to wait. */
  grant(): void
}

/** Where payload pays for its way. */
export interface Meter {
  /** At most so many bytes are asked for at once. */
  readonly sliceBytes: number
  /** True: it may pass, and has paid. False: it waits in line, until it is granted or leaves. It does not ask again meanwhile. */
  ask(turn: Turn): boolean
  /** One that waits leaves the line, and whatever it paid is given back. */
  leave(turn: Turn): void
}

/** Nothing is granted before it was asked for. */
const notYet = (): void => {}

/** Resolves when `bytes` may pass; undefined: at once. Rejects with the signal's reason; nothing is paid then. */
export function passage(meter: Meter, bytes: number, signal: AbortSignal): Promise<void> | undefined {
  signal.throwIfAborted()
  const turn = { units: bytes, grant: notYet }
  if (meter.ask(turn)) return undefined
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      meter.leave(turn)
      reject(signal.reason as Error)
    }
    turn.grant = () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }
    signal.addEventListener('abort', onAbort, { once: true })
  })
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
  readonly #line: FairQueue<object, Place>
  readonly #places = new Map<Turn, Place>()
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

  ask(turn: Turn): boolean {
    return this.#ask(this, turn)
  }

  leave(turn: Turn): void {
    const place = this.#places.get(turn)
    if (place === undefined) return
    this.#line.remove(place.flow, place)
    this.#left(place)
  }

  /** Takes back what was paid for a piece that did not pass. */
  giveBack(bytes: number): void {
    this.#level.giveBack(bytes)
  }

  /** The same bucket for streams that share one turn of the round. */
  flow(): Meter {
    const flow = {}
    return {
      sliceBytes: this.sliceBytes,
      ask: (turn) => this.#ask(flow, turn),
      leave: (turn) => this.leave(turn),
    }
  }

  #ask(flow: object, turn: Turn): boolean {
    const askedMs = this.#now()
    if (this.#line.isEmpty && this.#level.take(turn.units, askedMs)) return true
    const place: Place = { flow, turn, units: turn.units, askedMs }
    this.#places.set(turn, place)
    this.#line.add(flow, place)
    this.#schedule()
    return false
  }

  #left({ turn, askedMs }: Place): void {
    this.#places.delete(turn)
    this.#waited(this.#now() - askedMs)
  }

  #serve(): void {
    this.#timer = undefined
    const now = this.#now()
    for (let place = this.#line.peek(); place !== undefined; place = this.#line.peek()) {
      if (!this.#level.take(place.units, now)) break
      this.#line.shift()
      this.#left(place)
      place.turn.grant()
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

/** Who waits in a line, and since when. */
interface Place {
  readonly flow: object
  readonly turn: Turn
  readonly units: number
  readonly askedMs: number
}

/** Pays at one meter after the other: the execution's own, then the node's. */
export function inSeries(own: TokenBucket, shared: Meter | undefined): Meter {
  return shared === undefined ? own : new Series(own, shared)
}

class Series implements Meter {
  readonly sliceBytes: number
  readonly #own: TokenBucket
  readonly #shared: Meter
  readonly #waiting = new Map<Turn, Stage>()

  constructor(own: TokenBucket, shared: Meter) {
    this.sliceBytes = Math.min(own.sliceBytes, shared.sliceBytes)
    this.#own = own
    this.#shared = shared
  }

  ask(turn: Turn): boolean {
    const stage: Stage = { units: turn.units, hasPaid: false, grant: () => this.#goOn(turn, stage) }
    stage.hasPaid = this.#own.ask(stage)
    if (stage.hasPaid && this.#shared.ask(stage)) return true
    this.#waiting.set(turn, stage)
    return false
  }

  leave(turn: Turn): void {
    const stage = this.#waiting.get(turn)
    if (stage === undefined) return
    this.#waiting.delete(turn)
    if (!stage.hasPaid) return this.#own.leave(stage)
    this.#shared.leave(stage)
    this.#own.giveBack(stage.units)
  }

  #goOn(turn: Turn, stage: Stage): void {
    if (!stage.hasPaid) {
      stage.hasPaid = true
      if (!this.#shared.ask(stage)) return
    }
    this.#waiting.delete(turn)
    turn.grant()
  }
}

/** Where a turn is: in the line of the first meter, or in that of the second. */
interface Stage extends Turn {
  hasPaid: boolean
}
