import { WeirError } from '../errors.js'
import type { Clock } from '../ports/index.js'
import { bounded } from './bounded-work.js'
import type { ComputeLogger } from './options.js'

/** How long one thing may take to close before the rest is closed without waiting for it. */
const CLOSE_MS = 30_000

/** Things that were opened, closed in reverse order whatever happens. */
export class ClosingStack {
  readonly #closers: { what: string; close: () => unknown }[] = []
  readonly #logger: ComputeLogger
  readonly #clock: Clock
  #closing: Promise<void> = Promise.resolve()

  constructor(logger: ComputeLogger, clock: Clock) {
    this.#logger = logger
    this.#clock = clock
  }

  add(what: string, close: () => unknown): void {
    this.#closers.push({ what, close })
  }

  /**
   * Never rejects: what cannot be closed, or not within 30 s, is logged, and the rest is closed nevertheless. Calls
   * that overlap wait for each other.
   */
  close(): Promise<void> {
    this.#closing = this.#closing.then(() => this.#closeAll())
    return this.#closing
  }

  async #closeAll(): Promise<void> {
    for (let closer = this.#closers.pop(); closer !== undefined; closer = this.#closers.pop()) {
      const { what, close } = closer
      try {
        await bounded(async () => close(), {
          clock: this.#clock,
          signal: new AbortController().signal,
          ms: CLOSE_MS,
          timeout: () => new WeirError('internal', `${what} does not close within ${CLOSE_MS / 1000} s`),
        })
      } catch (error) {
        this.#logger.error({ error, what }, 'could not be closed')
      }
    }
  }
}
