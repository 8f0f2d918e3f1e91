import { type AuditRecord, countDuration, type GatewayCounters, noDurations } from '../../model/index.js'
import type { Direction } from '../limits/byte-budget.js'

/** Counts what the gateway does, for whoever watches it. */
export class GatewayMeter {
  readonly #counters: GatewayCounters = {
    attempts: {},
    refusedByOwner: {},
    bytesUp: 0,
    bytesDown: 0,
    auditFailures: 0,
    learningLeases: 0,
    decision: noDurations(),
    dial: noDurations(),
    firstByte: noDurations(),
    rateWait: noDurations(),
  }

  get counters(): GatewayCounters {
    return this.#counters
  }

  ended({ decision, code, ruleOwner, msToFirstByte, count = 1 }: AuditRecord): void {
    const { attempts, refusedByOwner, firstByte } = this.#counters
    const key = `${decision} ${code}`
    attempts[key] = (attempts[key] ?? 0) + count
    if (msToFirstByte >= 0) countDuration(firstByte, msToFirstByte)
    if (decision !== 'deny') return
    const owner = ruleOwner === '' ? 'gateway' : ruleOwner
    refusedByOwner[owner] = (refusedByOwner[owner] ?? 0) + count
  }

  passed(direction: Direction, bytes: number): void {
    if (direction === 'up') this.#counters.bytesUp += bytes
    else this.#counters.bytesDown += bytes
  }

  learns(): void {
    this.#counters.learningLeases++
  }

  auditFailed(): void {
    this.#counters.auditFailures++
  }

  took(what: 'decision' | 'dial' | 'rateWait', ms: number): void {
    countDuration(this.#counters[what], ms)
  }
}
