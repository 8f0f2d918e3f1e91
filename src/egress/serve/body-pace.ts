import type { GatewayLimits } from '../limits/gateway-limits.js'

/** Bytes of a body that buy its client a whole span of waiting again. */
const BYTES_PER_SPAN = 6_000

/**
 * How long the gateway waits for more of a body. Only waiting counts, not what the host or a rate limit takes: 6 kB buy another
 * minute, so that whoever sends less than 100 bytes a second is not waited for.
 */
export class BodyPace {
  readonly #spanMs: number
  readonly #firstMs: number
  #waitedMs = 0
  #bytes = 0
  #began = false

  constructor({ headTimeoutMs, slowBodyMs }: Pick<GatewayLimits, 'headTimeoutMs' | 'slowBodyMs'>) {
    this.#firstMs = headTimeoutMs
    this.#spanMs = slowBodyMs
  }

  /** Milliseconds that the next bytes may take. */
  get patienceMs(): number {
    return this.#began ? this.#spanMs - this.#waitedMs : this.#firstMs
  }

  /** So many bytes came after so long. */
  waited(ms: number, bytes: number): void {
    this.#began = true
    this.#waitedMs += ms
    this.#bytes += bytes
    if (this.#bytes < BYTES_PER_SPAN) return
    this.#waitedMs = 0
    this.#bytes = 0
  }
}
