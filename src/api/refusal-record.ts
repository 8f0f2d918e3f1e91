import type { Principal } from '../model/access.js'
import type { AdminLog } from '../ports/index.js'
import type { ApiLogger } from './context.js'

const WINDOW_MS = 60_000
const LINES_PER_WINDOW = 30
const SOURCES_MAX = 1_000

/** What was refused, and to whom as far as that is known. */
export interface Refusal {
  address: string
  reason: string
  /** Absent: nobody was recognised. */
  principal?: Pick<Principal, 'id' | 'name'>
  /** The route that was asked for; absent when it was the credential that was refused. */
  route?: string
}

/**
 * Refused credentials and refused administrative actions, as lines of the record: one per caller and minute, which also
 * counts those that got no line, and few in all, so that nobody can fill the record by failing.
 */
export class RefusalRecord {
  readonly #log: AdminLog | undefined
  readonly #logger: ApiLogger
  readonly #now: () => number
  #windowStart = Number.NEGATIVE_INFINITY
  #lines = 0
  /** In the order of their last failure. */
  readonly #sources = new Map<string, { lineMs: number; unwritten: number }>()

  constructor(log: AdminLog | undefined, logger: ApiLogger, now: () => number = () => performance.now()) {
    this.#log = log
    this.#logger = logger
    this.#now = now
  }

  note(refusal: Refusal): void {
    const { address, reason, principal } = refusal
    const now = this.#now()
    if (now - this.#windowStart >= WINDOW_MS) {
      this.#windowStart = now
      this.#lines = 0
    }
    const source = this.#sourceOf(principal?.id ?? address)
    if (now - source.lineMs < WINDOW_MS || this.#lines >= LINES_PER_WINDOW) {
      source.unwritten += 1
      return
    }
    const details = { reason, ...(source.unwritten === 0 ? {} : { unwritten: String(source.unwritten) }) }
    this.#lines += 1
    source.lineMs = now
    source.unwritten = 0
    this.#write(refusal, details)
  }

  #write({ address, principal, route = '' }: Refusal, details: Record<string, string>): void {
    const who = { principal: principal?.id ?? '', principalName: principal?.name ?? '' }
    this.#logger.warn({ address, ...who, ...details }, 'a caller was refused')
    this.#log
      ?.append({
        ...who,
        address,
        action: principal === undefined ? 'login' : 'access',
        object: route,
        outcome: 'denied',
        details,
      })
      .catch((error: unknown) => {
        this.#logger.error({ err: error }, 'a refusal could not be recorded')
      })
  }

  #sourceOf(caller: string): { lineMs: number; unwritten: number } {
    const source = this.#sources.get(caller) ?? { lineMs: Number.NEGATIVE_INFINITY, unwritten: 0 }
    this.#sources.delete(caller)
    this.#sources.set(caller, source)
    const oldest = this.#sources.keys().next().value
    if (this.#sources.size > SOURCES_MAX && oldest !== undefined) this.#sources.delete(oldest)
    return source
  }
}
