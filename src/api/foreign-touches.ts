import { WeirError } from '../errors.js'
import type { Principal } from '../model/access.js'

const WINDOW_MS = 60_000
const LINES_PER_WINDOW = 120
const PRINCIPALS_MAX = 10_000

/**
 * Which touches of foreign jobs become lines of the record: the same one once a minute, and few of each principal, because
 * the record keeps a bounded number of lines and nobody may push out what others did. Who manages the server is not
 * held up: it could remove the record itself.
 */
export class ForeignTouches {
  readonly #now: () => number
  readonly #windows = new Map<string, { startMs: number; seen: Set<string> }>()

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** True: write a line. False: there is one already. Throws `api.overload` when the principal has to wait. */
  take(principal: Pick<Principal, 'id' | 'permissions'>, action: string, jobId: string): boolean {
    const window = this.#windowOf(principal.id)
    const touch = `${action} ${jobId}`
    if (window.seen.has(touch)) return false
    const isBound = !principal.permissions.has('manage:access')
    if (isBound && window.seen.size >= LINES_PER_WINDOW)
      throw tooFast(window.startMs + WINDOW_MS - this.#now())
    if (window.seen.size < LINES_PER_WINDOW) window.seen.add(touch)
    return true
  }

  #windowOf(id: string): { startMs: number; seen: Set<string> } {
    const known = this.#windows.get(id)
    if (known !== undefined && this.#now() - known.startMs < WINDOW_MS) return known
    const window = { startMs: this.#now(), seen: new Set<string>() }
    this.#windows.delete(id)
    this.#windows.set(id, window)
    const oldest = this.#windows.keys().next().value
    if (this.#windows.size > PRINCIPALS_MAX && oldest !== undefined) this.#windows.delete(oldest)
    return window
  }
}

function tooFast(waitMs: number): WeirError {
  const seconds = Math.max(1, Math.ceil(waitMs / 1_000))
  return new WeirError('api.overload', 'Too many changes of jobs of others within a minute', {
    hint: `Wait ${seconds} seconds, or use the credential that submitted the jobs.`,
    retryable: true,
    details: { retryAfterSeconds: seconds },
  })
}
