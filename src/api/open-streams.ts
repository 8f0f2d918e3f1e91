import { WeirError } from '../errors.js'

/** A stream that counts until it is released. */
export interface OpenStream {
  /** Aborts when the stream is released and when the server closes. */
  readonly signal: AbortSignal
  /** Idempotent. */
  readonly release: () => void
}

/** Log and egress streams that are open now: bounded in number, and all ended when the server closes. */
export class OpenStreams {
  readonly #max: number
  readonly #open = new Set<AbortController>()
  #isClosed = false

  constructor(max: number) {
    this.#max = max
  }

  get size(): number {
    return this.#open.size
  }

  /** Throws `api.overload` when too many streams are open. */
  open(): OpenStream {
    if (this.#isClosed || this.#open.size >= this.#max) {
      throw new WeirError('api.overload', `Cannot open another stream: ${this.#open.size} are open`, {
        hint: 'Close streams that are no longer read, or try again later.',
        retryable: true,
      })
    }
    const controller = new AbortController()
    this.#open.add(controller)
    return {
      signal: controller.signal,
      release: () => {
        this.#open.delete(controller)
        controller.abort()
      },
    }
  }

  /** True when the server closes. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  close(): void {
    this.#isClosed = true
    for (const controller of this.#open) controller.abort()
  }
}
