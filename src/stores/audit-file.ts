import { mkdirSync } from 'node:fs'
import { type FileHandle, open, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { toWeirError, WeirError } from '../errors.js'
import {
  AuditChain,
  CHAIN_START,
  sealAuditRecord,
  type AuditEntry,
  type AuditRecord,
  type ExecutionId,
} from '../model/index.js'
import { QuickAppender } from './append-quickly.js'
import { linesOf, openIfThere, parseRecord, ReadPlaces, readRecords } from './audit-lines.js'
import type { AuditLedger, AuditLog, AuditSink, AuditTicket } from '../ports/index.js'

export interface AuditFileOptions {
  /** Holds `<execution>.jsonl` (records) and `<execution>.begun` (notes of attempts that run). Created when missing. */
  dir: string
  /** Records of one execution take at most this much; then nothing may leave any more. Default 64 MiB. */
  bytesMax?: number
  /**
   * Ids whose records are kept only so long: a file that has grown to so many bytes becomes `<id>.before.jsonl`, in the place
   * of the one before it, and a new chain begins. Absent: none.
   */
  turnOver?: Readonly<Record<ExecutionId, number>>
}

/** Result of checking a chain: `brokenAt` is the sequence of the first record that does not fit. */
export type AuditVerdict =
  | { intact: true; records: number; head: string }
  | { intact: false; brokenAt: number; reason: string }

/** A file of JSON lines per execution, chained by hashes. Writing belongs to one process, reading to any. */
export function createAuditFile(options: AuditFileOptions): AuditSink & AuditLog {
  mkdirSync(options.dir, { recursive: true, mode: 0o700 })
  const places = new ReadPlaces()
  const appender = new QuickAppender()
  return {
    open: (executionId) => AuditFileLedger.open(options, executionId, appender),
    read: (executionId, after, limit) =>
      readRecords(recordsPath(options.dir, executionId), places, after, limit),
    remove: async (executionId) => {
      await rm(recordsPath(options.dir, executionId), { force: true })
      await rm(beforePath(options.dir, executionId), { force: true })
      await rm(begunPath(options.dir, executionId), { force: true })
    },
  }
}

/** Recomputes the whole chain of one execution. A missing file is an intact chain of no records. */
export async function verifyAuditFile(dir: string, executionId: ExecutionId): Promise<AuditVerdict> {
  const chain = new AuditChain()
  for await (const { line } of linesOf(recordsPath(dir, executionId))) {
    const record = parseRecord(line)
    const reason = record === undefined ? 'the line is not a record' : chain.add(record)
    if (reason !== undefined) return { intact: false, brokenAt: chain.records + 1, reason }
  }
  return { intact: true, records: chain.records, head: chain.head }
}

/** Notes of running attempts are tidied up beyond this; 256 connections need a quarter of it. */
const NOTES_BYTES_MAX = 1024 * 1024

/** Notes of ended attempts may stay until then, so that a quiet ledger is not truncated at each attempt. */
const NOTES_BYTES_KEPT = 64 * 1024

class AuditFileLedger implements AuditLedger {
  #records: FileHandle
  readonly #appender: QuickAppender
  readonly #turnOver: TurnOver | undefined
  #begun: FileHandle
  readonly #begunPath: string
  readonly #bytesMax: number
  #bytes: number
  #sequence: number
  #head: string
  #attempt = 0
  /** Attempt → its note, as written. */
  readonly #open = new Map<number, string>()
  #openBytes = 0
  #begunBytes = 0
  #waiting: Compose[] = []
  #flushing: Promise<void> | undefined
  #closed = false
  /** Half a record stands at the end of the file, and could not be taken away. */
  #isTorn = false

  private constructor(
    files: {
      records: FileHandle
      begun: FileHandle
      begunPath: string
      appender: QuickAppender
      turnOver: TurnOver | undefined
    },
    state: ChainState,
    bytesMax: number,
  ) {
    this.#appender = files.appender
    this.#records = files.records
    this.#begun = files.begun
    this.#begunPath = files.begunPath
    this.#turnOver = files.turnOver
    this.#bytes = state.bytes
    this.#sequence = state.sequence
    this.#head = state.head
    this.#bytesMax = bytesMax
  }

  static async open(
    options: AuditFileOptions,
    executionId: ExecutionId,
    appender: QuickAppender,
  ): Promise<AuditFileLedger> {
    const opened: FileHandle[] = []
    try {
      const recordsFile = recordsPath(options.dir, executionId)
      const begunFile = begunPath(options.dir, executionId)
      const state = await recoverChain(recordsFile)
      const orphans = await readOrphans(begunFile)
      const records = await open(recordsFile, 'a', 0o600)
      opened.push(records)
      const begun = await open(begunFile, 'a', 0o600)
      opened.push(begun)
      const turnOverBytes = options.turnOver?.[executionId]
      const turnOver =
        turnOverBytes === undefined
          ? undefined
          : { bytes: turnOverBytes, path: recordsFile, before: beforePath(options.dir, executionId) }
      const ledger = new AuditFileLedger(
        { records, begun, begunPath: begunFile, appender, turnOver },
        state,
        options.bytesMax ?? 64 * 1024 * 1024,
      )
      for (const orphan of orphans) await ledger.append({ ...orphan, end: 'error' })
      await begun.truncate(0)
      return ledger
    } catch (error) {
      await Promise.allSettled(opened.map((file) => file.close()))
      throw toWeirError(error, 'egress.audit_failed', `Cannot open the audit file of "${executionId}"`)
    }
  }

  get head(): string {
    return this.#sequence === 0 ? '' : this.#head
  }

  begin(entry: AuditEntry): Promise<AuditTicket> {
    const attempt = ++this.#attempt
    return this.#inLine((batch) => {
      const line = `${JSON.stringify({ attempt, entry })}\n`
      // The record will be as long as the note; both have to fit.
      this.#checkRoom(line.length * (this.#open.size + 1))
      this.#open.set(attempt, line)
      this.#openBytes += line.length
      batch.begun.push(attempt)
      batch.notes += line
      return { attempt }
    })
  }

  append(entry: AuditEntry, ticket?: AuditTicket): Promise<AuditRecord> {
    return this.#inLine((batch) => {
      const sealed = sealAuditRecord({ ...entry, sequence: this.#sequence + 1, previousHash: this.#head })
      const { record } = sealed
      const line = `${sealed.line}\n`
      // A record of an attempt that was begun has its room already: refusing it would lose it.
      if (ticket === undefined) this.#checkRoom(line.length)
      else if (this.#forget(ticket.attempt)) batch.notes += `{"ended":${ticket.attempt}}\n`
      batch.records += line
      this.#bytes += Buffer.byteLength(line)
      this.#sequence = record.sequence
      this.#head = record.hash
      return record
    })
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#flushing
    await this.#records.close()
    await this.#begun.close()
  }

  #forget(attempt: number): boolean {
    this.#openBytes -= this.#open.get(attempt)?.length ?? 0
    return this.#open.delete(attempt)
  }

  /** Calls of one turn, and those that come while the disk works, are written together: one order, whole lines, few writes. */
  #inLine<T>(compose: (batch: Batch) => T): Promise<T> {
    if (this.#closed) return Promise.reject(new WeirError('egress.audit_failed', 'The audit file is closed'))
    if (this.#isTorn)
      return Promise.reject(new WeirError('egress.audit_failed', 'The audit file ends in a torn line'))
    return new Promise((resolve, reject) => {
      this.#waiting.push((batch) => {
        try {
          const value = compose(batch)
          return { written: () => resolve(value), failed: reject }
        } catch (error) {
          reject(error as Error)
          return undefined
        }
      })
      this.#flushing ??= new Promise((flushed) => {
        setImmediate(() => flushed(this.#flush()))
      })
    })
  }

  async #flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      if (this.#turnOver !== undefined && this.#bytes >= this.#turnOver.bytes)
        await this.#beginAnew(this.#turnOver)
      const before = { bytes: this.#bytes, sequence: this.#sequence, head: this.#head }
      const batch: Batch = { records: '', notes: '', begun: [] }
      const calls = this.#waiting.splice(0).flatMap((compose) => compose(batch) ?? [])
      try {
        const writing = this.#write(batch)
        if (writing !== undefined) await writing
        for (const call of calls) call.written()
      } catch (error) {
        this.#bytes = before.bytes
        this.#sequence = before.sequence
        this.#head = before.head
        for (const attempt of batch.begun) this.#forget(attempt)
        await this.#records.truncate(before.bytes).catch(() => {
          // A torn line stays. Nothing may be appended to it: whoever opens the file next cuts it off.
          this.#isTorn = true
          calls.push(...this.#waiting.splice(0).flatMap((compose) => compose(batch) ?? []))
        })
        for (const call of calls)
          call.failed(toWeirError(error, 'egress.audit_failed', 'Cannot write the audit record'))
      }
    }
    // In the same turn as the last look at the line, so that no call is left waiting.
    this.#flushing = undefined
  }

  /** What cannot be moved aside is written on: the next call tries again. */
  async #beginAnew({ path, before }: TurnOver): Promise<void> {
    try {
      await rm(`${path}.new`, { force: true })
      const fresh = await open(`${path}.new`, 'a', 0o600)
      await rename(path, before)
      await rename(`${path}.new`, path)
      const old = this.#records
      this.#records = fresh
      this.#bytes = 0
      this.#sequence = 0
      this.#head = CHAIN_START
      await old.close()
    } catch {
      // The bound of the file still holds.
    }
  }

  /** Undefined when it is written already. */
  #write({ records, notes }: Batch): Promise<void> | undefined {
    const writing = records === '' ? undefined : this.#appender.append(this.#records, records)
    if (notes === '') return writing
    return writing === undefined ? this.#note(notes) : writing.then(() => this.#note(notes))
  }

  #note(notes: string): Promise<void> | undefined {
    const writing = this.#appender.append(this.#begun, notes)
    this.#begunBytes += notes.length
    const isIdle = this.#open.size === 0 && this.#begunBytes > NOTES_BYTES_KEPT
    // What cannot be tidied away counts twice: else with many open attempts each new one would write all of them again.
    const isLong = this.#begunBytes > NOTES_BYTES_MAX + 2 * this.#openBytes
    if (!isIdle && !isLong) return writing
    return Promise.resolve(writing).then(() => (isIdle ? this.#clearNotes() : this.#tidyNotes()))
  }

  async #clearNotes(): Promise<void> {
    await this.#begun.truncate(0)
    this.#begunBytes = 0
  }

  /** Leaves only the notes of attempts that still run; a long tunnel would otherwise let the file grow for ever. */
  async #tidyNotes(): Promise<void> {
    const text = [...this.#open.values()].join('')
    const fresh = `${this.#begunPath}.new`
    await writeFile(fresh, text, { mode: 0o600 })
    await rename(fresh, this.#begunPath)
    const old = this.#begun
    this.#begun = await open(this.#begunPath, 'a', 0o600)
    await old.close()
    this.#begunBytes = text.length
  }

  #checkRoom(bytes: number): void {
    if (this.#bytes + bytes <= this.#bytesMax) return
    throw new WeirError('egress.audit_failed', 'The audit file of the execution is full', {
      details: { bytesMax: this.#bytesMax },
    })
  }
}

/** When a file of records is moved aside, and where. */
interface TurnOver {
  bytes: number
  path: string
  before: string
}

/** Lines that are written together. */
interface Batch {
  records: string
  notes: string
  /** Attempts whose notes are in it. */
  begun: number[]
}

/** Adds a call's lines to a batch; undefined when it was refused and told so. */
type Compose = (batch: Batch) => { written: () => void; failed: (error: Error) => void } | undefined

interface ChainState {
  bytes: number
  sequence: number
  head: string
}

/** Finds the end of the chain, and cuts off a last line that a crash left unfinished. */
async function recoverChain(path: string): Promise<ChainState> {
  const { tail, from, size } = await readTail(path)
  const end = tail.lastIndexOf(10) + 1
  if (from + end < size) await truncate(path, from + end)
  if (end === 0) return { bytes: 0, sequence: 0, head: CHAIN_START }
  const last = parseRecord(tail.toString('utf8', startOfLine(tail, end), end))
  if (last === undefined) throw new WeirError('egress.audit_failed', 'The last audit record is damaged')
  return { bytes: from + end, sequence: last.sequence, head: last.hash }
}

/** The end of a file with at least its last whole line, however long the file is. */
async function readTail(path: string): Promise<{ tail: Buffer; from: number; size: number }> {
  const file = await openIfThere(path)
  if (file === undefined) return { tail: Buffer.alloc(0), from: 0, size: 0 }
  try {
    const { size } = await file.stat()
    for (let bytes = TAIL_BYTES; ; bytes *= 4) {
      const from = Math.max(0, size - bytes)
      const tail = Buffer.alloc(size - from)
      await file.read(tail, 0, tail.length, from)
      if (from === 0 || startOfLine(tail, tail.lastIndexOf(10) + 1) > 0) return { tail, from, size }
    }
  } finally {
    await file.close()
  }
}

const TAIL_BYTES = 64 * 1024

/** Where the line begins that ends before `end`; 0 also when its beginning is not there. */
function startOfLine(bytes: Buffer, end: number): number {
  return end < 2 ? 0 : bytes.lastIndexOf(10, end - 2) + 1
}

/** Attempts that were begun and never ended. */
async function readOrphans(path: string): Promise<AuditEntry[]> {
  const orphans = new Map<number, AuditEntry>()
  for await (const { line } of linesOf(path)) {
    try {
      const note = JSON.parse(line) as { attempt?: number; entry?: AuditEntry; ended?: number }
      if (note.attempt !== undefined && note.entry !== undefined) orphans.set(note.attempt, note.entry)
      if (note.ended !== undefined) orphans.delete(note.ended)
    } catch {
      // A torn last line: its attempt was not let through, since `begin` had not resolved.
    }
  }
  return [...orphans.values()]
}

function recordsPath(dir: string, executionId: ExecutionId): string {
  return join(dir, `${fileName(executionId)}.jsonl`)
}

function beforePath(dir: string, executionId: ExecutionId): string {
  return join(dir, `${fileName(executionId)}.before.jsonl`)
}

function begunPath(dir: string, executionId: ExecutionId): string {
  return join(dir, `${fileName(executionId)}.begun`)
}

/** Ids are ours, but a path is never built from anything that could climb. */
function fileName(executionId: ExecutionId): string {
  if (/^[A-Za-z0-9_-]{1,128}$/.test(executionId)) return executionId
  throw new WeirError(
    'egress.audit_failed',
    `Cannot keep audit records for the id ${JSON.stringify(executionId)}`,
  )
}
