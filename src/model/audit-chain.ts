import { hash as digest } from 'node:crypto'
import type { AuditRecord } from './audit.js'

/** What the first record of a chain names as the one before. */
export const CHAIN_START = '0'.repeat(64)

/** SHA-256 over the JSON of the record without `hash`, keys in the order they were written. */
export function auditHash(record: AuditRecord): string {
  const { hash: _, ...rest } = record
  return digest('sha256', JSON.stringify(rest))
}

/** The same, with the line that is written: the JSON of the whole record. The record's last key is its hash. */
export function sealAuditRecord(unhashed: Omit<AuditRecord, 'hash'>): { record: AuditRecord; line: string } {
  const text = JSON.stringify(unhashed)
  const hash = digest('sha256', text)
  return { record: { ...unhashed, hash }, line: `${text.slice(0, -1)},"hash":"${hash}"}` }
}

/** Follows the records of one execution from the first on. */
export class AuditChain {
  records = 0
  #last = CHAIN_START

  /** Hash of the last record; empty without records. */
  get head(): string {
    return this.records === 0 ? '' : this.#last
  }

  /** Undefined when the record continues the chain; otherwise why it does not, and the chain stays as it was. */
  add(record: AuditRecord): string | undefined {
    if (record.sequence !== this.records + 1) return 'the sequence has a gap'
    if (record.previousHash !== this.#last) return 'it does not follow the record before'
    if (auditHash(record) !== record.hash) return 'its content does not match its hash'
    this.#last = record.hash
    this.records++
    return undefined
  }
}
