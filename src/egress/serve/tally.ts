import { type AuditRecord, type EgressDestination, type EgressSummary, isAttempt } from '../../model/index.js'
import { adviceFor } from '../policy/refusal.js'

/** Destinations counted one by one; more are only part of the totals. */
const COUNTED_MAX = 1_000
const SHOWN_MAX = 100

/** Adds up the audit records of one execution. Bounded memory. */
export class EgressTally {
  #records = 0
  #allowed = 0
  #refused = 0
  #bytesUp = 0
  #bytesDown = 0
  #overflowed = false
  #chainHead = ''
  readonly #codes: Record<string, number> = {}
  #generations: number[] = []
  readonly #destinations = new Map<string, EgressDestination>()

  add(record: AuditRecord): void {
    const times = record.count ?? 1
    this.#records++
    this.#bytesUp += record.bytesUp
    this.#bytesDown += record.bytesDown
    this.#chainHead = record.hash
    this.#generations = [this.#generations[0] ?? record.policyGeneration, record.policyGeneration]
    if (record.code !== '') this.#codes[record.code] = (this.#codes[record.code] ?? 0) + times
    if (!isAttempt(record)) return
    if (record.decision === 'allow') this.#allowed += times
    else this.#refused += times
    const destination = this.#destination(record.host === '' ? record.hostAsSent : record.host, record.port)
    if (destination === undefined) return
    destination.bytesUp += record.bytesUp
    destination.bytesDown += record.bytesDown
    if (record.decision === 'allow') destination.allowed += times
    else destination.refused += times
    if (record.code === '') return
    destination.code = record.code
    const { code, host, port, ruleOwner: owner, kind } = record
    const advice = adviceFor({ code, host, port, owner, kind })
    if (advice !== undefined) destination.advice = advice
  }

  summary(): EgressSummary {
    const all = [...this.#destinations.values()]
    const bytes = (one: EgressDestination) => one.bytesUp + one.bytesDown
    all.sort((a, b) => Number(b.refused > 0) - Number(a.refused > 0) || bytes(b) - bytes(a))
    const kept = all.slice(0, SHOWN_MAX)
    kept.sort((a, b) => bytes(b) - bytes(a) || a.host.localeCompare(b.host))
    return {
      records: this.#records,
      allowed: this.#allowed,
      refused: this.#refused,
      bytesUp: this.#bytesUp,
      bytesDown: this.#bytesDown,
      destinations: kept.map((one) => ({ ...one })),
      destinationsTruncated: this.#overflowed || all.length > SHOWN_MAX,
      chainHead: this.#chainHead,
      codes: { ...this.#codes },
      policyGenerations: [...this.#generations],
    }
  }

  #destination(host: string, port: number): EgressDestination | undefined {
    const key = `${host} ${port}`
    const known = this.#destinations.get(key)
    if (known !== undefined) return known
    if (this.#destinations.size >= COUNTED_MAX) {
      this.#overflowed = true
      return undefined
    }
    const fresh = { host, port, allowed: 0, refused: 0, bytesUp: 0, bytesDown: 0 }
    this.#destinations.set(key, fresh)
    return fresh
  }
}
