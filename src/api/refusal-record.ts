import type { AdminLog } from '../ports/index.js'
import type { ApiLogger } from './context.js'

const WINDOW_MS = 60_000
const LINES_PER_WINDOW = 30
const SOURCES_MAX = 1_000

/**
 * Refused credentials, as lines of the administrative record: one per address and minute, which also counts those that
 * got no line, and few in all, so that nobody can fill the record by failing.
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

  note({ address, reason }: { address: string; reason: string }): void {
    const now = this.#now()
    if (now - this.#windowStart >= WINDOW_MS) {
      this.#windowStart = now
      this.#lines = 0
    }
    const source = this.#sourceOf(address)
    if (now - source.lineMs < WINDOW_MS || this.#lines >= LINES_PER_WINDOW) {
      source.unwritten += 1
      return
    }
    const details = { reason, ...(source.unwritten === 0 ? {} : { unwritten: String(source.unwritten) }) }
    this.#lines += 1
    source.lineMs = now
    source.unwritten = 0
    this.#write(address, details)
  }

  #write(address: string, details: Record<string, string>): void {
    this.#logger.warn({ address, ...details }, 'a credential was refused')
    this.#log
      ?.append({
        principal: '',
        principalName: '',
        address,
        action: 'login',
        object: '',
        outcome: 'denied',
        details,
      })
      .catch((error: unknown) => {
        this.#logger.error({ err: error }, 'a refused credential could not be recorded')
      })
  }

  #sourceOf(address: string): { lineMs: number; unwritten: number } {
    const source = this.#sources.get(address) ?? { lineMs: Number.NEGATIVE_INFINITY, unwritten: 0 }
    this.#sources.delete(address)
    this.#sources.set(address, source)
    const oldest = this.#sources.keys().next().value
    if (this.#sources.size > SOURCES_MAX && oldest !== undefined) this.#sources.delete(oldest)
    return source
  }
}
