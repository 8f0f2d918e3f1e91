import type { ErrorCode } from '../../errors.js'
import type { Arrival } from '../http/request.js'
import { Attempt } from './attempt.js'
import type { Lease } from './lease.js'

/** Connections that one execution is refused for want of room. */
export interface TurnedAwayParts {
  lease: Lease
  /** Milliseconds after which what was counted becomes a record. Default 1 s. */
  intervalMs?: number
}

/** How a connection came. Both absent: to the proxy. */
interface Way {
  arrival?: Arrival | undefined
  /** Out of the sandbox of a WebAssembly program. */
  isGuest?: boolean
}

/** What was turned away for one reason since the last record about it. */
interface Crowd {
  count: number
  readonly write: (count: number) => Promise<void>
  timer: NodeJS.Timeout
}

/**
 * Records connections for which there is no room. They come as fast as a program can open them, and cost it nothing: the first
 * is a record of its own, those of the following second are one record with their `count`.
 */
export class TurnedAway {
  readonly #lease: Lease
  readonly #intervalMs: number
  readonly #crowds = new Map<string, Crowd>()

  constructor({ lease, intervalMs = 1_000 }: TurnedAwayParts) {
    this.#lease = lease
    this.#intervalMs = intervalMs
  }

  /** Resolves when it is written, or counted for the next record. Rejects with `egress.audit_failed`. */
  async add(code: ErrorCode, status: number, { arrival, isGuest = false }: Way): Promise<void> {
    const key = `${code} ${isGuest ? 'guest' : arrival === undefined ? 'proxy' : 'transparent'}`
    const crowd = this.#crowds.get(key)
    if (crowd !== undefined) {
      crowd.count++
      return
    }
    const write = (count: number): Promise<void> => this.#write({ code, status, arrival, isGuest, count })
    this.#crowds.set(key, { count: 0, write, timer: this.#alarm(key) })
    await write(1)
  }

  /** Writes what was counted. For the end of the lease: nothing may be added any more. */
  async seal(): Promise<void> {
    const crowds = [...this.#crowds.values()]
    this.#crowds.clear()
    for (const { timer } of crowds) clearTimeout(timer)
    await Promise.all(
      crowds.filter(({ count }) => count > 0).map(({ write, count }) => write(count).catch(lost)),
    )
  }

  #alarm(key: string): NodeJS.Timeout {
    return setTimeout(() => {
      const crowd = this.#crowds.get(key)
      if (crowd === undefined) return
      const { count } = crowd
      if (count === 0) {
        this.#crowds.delete(key)
        return
      }
      crowd.count = 0
      crowd.timer = this.#alarm(key)
      crowd.write(count).catch(lost)
    }, this.#intervalMs).unref()
  }

  async #write({ code, status, arrival, isGuest, count }: Refused): Promise<void> {
    const isOne = count === 1
    const attempt = new Attempt(
      this.#lease,
      undefined,
      {
        method: '',
        hostAsSent: isOne ? (arrival?.name ?? '') : '',
        ...(arrival === undefined ? {} : { arrivedAt: isOne ? arrival.address.text : '' }),
        isGuest,
        count,
      },
      () => {},
    )
    await attempt.end({ code, owner: 'gateway', status, end: 'limit' })
  }
}

interface Refused {
  code: ErrorCode
  status: number
  arrival: Arrival | undefined
  isGuest: boolean
  count: number
}

/** Nothing was let out, and the meter has counted that the record could not be written. */
function lost(): void {}
