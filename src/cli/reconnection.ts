import { setTimeout as sleep } from 'node:timers/promises'
import { WeirError, isWeirError } from '../errors.js'
import { printable } from '../model/printable.js'
import type { WeirClient } from '../client/index.js'

/** A server that is away for longer is given up: long enough for one that is started again. */
const AWAY_MS_MAX = 60_000
const PAUSES_MS = [100, 300, 1000, 2000] as const
/** A connection that lasted for so long was a good one. */
const GOOD_MS = 5000
/** Connections in a row that broke at once: the server is there, and something else is wrong. */
const BAD_MAX = 10

/**
 * What commands that follow a job do when the connection breaks: they wait until the server answers again. Everything of one
 * command that follows shares it, so that a loss is waited for, and told, once.
 */
export class Reconnection {
  readonly #client: Pick<WeirClient, 'alive'>
  readonly #say: (line: string) => void
  #waiting: Promise<void> | undefined
  #restoredMs = -Infinity
  #bad = 0

  constructor(client: Pick<WeirClient, 'alive'>, say: (line: string) => void) {
    this.#client = client
    this.#say = say
  }

  /**
   * Resolves when the server answers again. Rejects with `error` when waiting does not mend it, with `api.unreachable` when
   * the server stays away, or with the signal's reason.
   */
  wait(error: unknown, signal: AbortSignal): Promise<void> {
    if (signal.aborted || !isLost(error)) return Promise.reject(error)
    this.#waiting ??= this.#untilAlive(error, signal).finally(() => {
      this.#waiting = undefined
    })
    return this.#waiting
  }

  async #untilAlive(error: WeirError, signal: AbortSignal): Promise<void> {
    const lostMs = performance.now()
    this.#bad = lostMs - this.#restoredMs < GOOD_MS ? this.#bad + 1 : 0
    if (this.#bad > BAD_MAX) throw error
    this.#say(`Connection lost, trying again (${printable(error.message, 120)})`)
    for (let tries = this.#bad; ; tries++) {
      await sleep(PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)], undefined, { signal })
      try {
        await this.#client.alive({ signal })
        break
      } catch (latest) {
        if (signal.aborted || !isLost(latest)) throw latest
        if (performance.now() - lostMs > AWAY_MS_MAX) throw latest
      }
    }
    this.#restoredMs = performance.now()
    this.#say('Connected again')
  }
}

/** The server went away, or asks to come back later. */
export function isLost(error: unknown): error is WeirError {
  return isWeirError(error, 'api.unreachable') || (isWeirError(error) && error.retryable)
}
