import { WeirError } from '../../errors.js'

/** Requests per second and principal, whatever address they come from. As many entries as there are principals. */
export class PrincipalRate {
  readonly #max: number
  readonly #now: () => number
  readonly #windows = new Map<string, { startMs: number; count: number }>()

  constructor(max: number, now: () => number = () => performance.now()) {
    this.#max = max
    this.#now = now
  }

  /** Throws `api.overload` when this second's requests are used up. */
  take(principal: string): void {
    const now = this.#now()
    const window = this.#windows.get(principal)
    if (window === undefined || now - window.startMs >= 1_000) {
      this.#windows.set(principal, { startMs: now, count: 1 })
      return
    }
    window.count += 1
    if (window.count <= this.#max) return
    throw new WeirError('api.overload', 'rate limit exceeded', {
      hint: 'Send fewer requests per second.',
      retryable: true,
      details: { retryAfterSeconds: 1 },
    })
  }
}
