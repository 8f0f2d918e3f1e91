import { createHash } from 'node:crypto'
import { type FileHandle, open, readdir, readFile, rename, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { toWeirError, WeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'
import type { AdminAction, AdminLog, AdminRecord, AdminVerdict } from '../ports/index.js'

export interface AdminLogOptions {
  /** Holds `admin.jsonl` and the older files `admin-<sequence>.jsonl`. Created when missing. */
  dir: string
  /** Default 8 MiB. */
  fileBytesMax?: number
  /** Older files that stay. Default 7. */
  filesKept?: number
  /** Milliseconds since the epoch. Default the real time. */
  now?: () => number
}

const GENESIS = '0'.repeat(64)
const TEXT_MAX = 1_024
const FILE_BYTES_MAX = 8 * 1024 * 1024
const FILES_KEPT = 7

/**
 * Opens the record of administrative actions: JSON lines chained by hashes. A full file is set aside and the chain goes on
 * in the next; the oldest go first. A last line that a crash left unfinished is cut off. Rejects with
 * `audit.unavailable`. Writing belongs to one process.
 */
export async function openAdminLog(options: AdminLogOptions): Promise<AdminLog> {
  try {
    await makeDirectory(options.dir, 0o700)
    const file = await open(currentPath(options.dir), 'a', 0o600)
    try {
      return new AdminLogFile(options, file, await recover(options.dir))
    } catch (error) {
      await file.close()
      throw error
    }
  } catch (error) {
    throw unavailable(error, 'Cannot open the record of administrative actions')
  }
}

interface Chain {
  bytes: number
  sequence: number
  head: string
}

class AdminLogFile implements AdminLog {
  readonly #options: AdminLogOptions
  #file: FileHandle
  #chain: Chain
  #turn: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(options: AdminLogOptions, file: FileHandle, chain: Chain) {
    this.#options = options
    this.#file = file
    this.#chain = chain
  }

  append(action: AdminAction): Promise<AdminRecord> {
    return this.#inTurn(() => this.#append(action))
  }

  read({
    before = Number.POSITIVE_INFINITY,
    limit,
  }: {
    before?: number
    limit: number
  }): Promise<AdminRecord[]> {
    return this.#inTurn(async () => {
      const found: AdminRecord[] = []
      for (const path of (await files(this.#options.dir)).toReversed()) {
        const records = (await linesOf(path)).flatMap((line) => parse(line) ?? [])
        found.unshift(...records.filter(({ sequence }) => sequence < before))
        if (found.length >= limit) break
      }
      return found.slice(Math.max(0, found.length - limit))
    })
  }

  verify(): Promise<AdminVerdict> {
    return this.#inTurn(async () => {
      const verdict = await verifyAdminLog(this.#options.dir)
      // Cutting off the end leaves a whole chain; only whoever wrote it knows how far it went.
      if (!verdict.intact || verdict.head === (this.#chain.sequence === 0 ? '' : this.#chain.head))
        return verdict
      const brokenAt = verdict.firstSequence + verdict.records
      return {
        intact: false,
        brokenAt,
        reason: 'its newest records are missing, or others are in their place',
      }
    })
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.#turn.catch(() => {
      // Whoever asked for it was told.
    })
    await this.#file.close()
  }

  async #append(action: AdminAction): Promise<AdminRecord> {
    if (this.#isClosed)
      throw new WeirError('audit.unavailable', 'The record of administrative actions is closed')
    const { now = Date.now, fileBytesMax = FILE_BYTES_MAX } = this.#options
    const unhashed = {
      timeMs: now(),
      sequence: this.#chain.sequence + 1,
      ...bounded(action),
      previousHash: this.#chain.head,
    }
    const record: AdminRecord = { ...unhashed, hash: hashOf(unhashed) }
    const line = `${JSON.stringify(record)}\n`
    try {
      if (this.#chain.bytes > 0 && this.#chain.bytes + line.length > fileBytesMax) await this.#rotate()
      await this.#file.appendFile(line)
      await this.#file.datasync()
    } catch (error) {
      // Half a line would break the chain for ever.
      await truncate(currentPath(this.#options.dir), this.#chain.bytes).catch(() => {
        // The disk is gone altogether; the next attempt fails as well.
      })
      throw unavailable(error, 'Cannot write the record of administrative actions')
    }
    this.#chain = {
      bytes: this.#chain.bytes + Buffer.byteLength(line),
      sequence: record.sequence,
      head: record.hash,
    }
    return record
  }

  async #rotate(): Promise<void> {
    const { dir, filesKept = FILES_KEPT } = this.#options
    await rename(currentPath(dir), join(dir, `admin-${String(this.#chain.sequence).padStart(12, '0')}.jsonl`))
    await this.#file.close()
    this.#file = await open(currentPath(dir), 'a', 0o600)
    this.#chain = { ...this.#chain, bytes: 0 }
    const older = (await files(dir)).slice(0, -1)
    for (const path of older.slice(0, Math.max(0, older.length - filesKept))) await rm(path, { force: true })
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#turn.then(work, work)
    this.#turn = next.catch(() => {
      // Told to whoever asked; the next call has its own fate.
    })
    return next
  }
}

/** Recomputes the chain over all files that are kept. No files are an intact chain of no records. */
export async function verifyAdminLog(dir: string): Promise<AdminVerdict> {
  let head: string | undefined
  let firstSequence = 0
  let last = 0
  let records = 0
  for (const path of await files(dir)) {
    for (const line of await linesOf(path)) {
      const record = parse(line)
      if (record === undefined) return { intact: false, brokenAt: last + 1, reason: 'a line is not a record' }
      const { sequence, previousHash, hash, ...rest } = record
      if (records === 0) firstSequence = sequence
      else if (sequence !== last + 1)
        return { intact: false, brokenAt: sequence, reason: 'the sequence has a gap' }
      // What rotation forgot cannot be checked; a chain that begins at 1 must begin properly.
      const expected = head ?? (sequence === 1 ? GENESIS : previousHash)
      if (previousHash !== expected)
        return { intact: false, brokenAt: sequence, reason: 'it does not follow the record before' }
      const { timeMs, ...action } = rest
      if (hashOf({ timeMs, sequence, ...action, previousHash }) !== hash)
        return { intact: false, brokenAt: sequence, reason: 'its content does not match its hash' }
      head = hash
      last = sequence
      records++
    }
  }
  return { intact: true, records, firstSequence, head: head ?? '' }
}

async function recover(dir: string): Promise<Chain> {
  const path = currentPath(dir)
  const content = await readFile(path)
  const end = content.lastIndexOf(10) + 1
  if (end < content.length) await truncate(path, end)
  for (const file of (await files(dir)).toReversed()) {
    const line = (await linesOf(file)).at(-1)
    if (line === undefined) continue
    const record = parse(line)
    if (record === undefined)
      throw new WeirError('audit.unavailable', `The last record in "${file}" is damaged`)
    return { bytes: end, sequence: record.sequence, head: record.hash }
  }
  return { bytes: end, sequence: 0, head: GENESIS }
}

/** Oldest first; the file that is written to is the last. */
async function files(dir: string): Promise<string[]> {
  const names = (await readdir(dir)).filter((name) => /^admin-\d{12}\.jsonl$/.test(name)).toSorted()
  return [...names.map((name) => join(dir, name)), currentPath(dir)]
}

async function linesOf(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    throw unavailable(error, 'Cannot read the record of administrative actions')
  })
  return text.split('\n').slice(0, -1)
}

function parse(line: string): AdminRecord | undefined {
  try {
    const value = JSON.parse(line) as AdminRecord
    return typeof value.sequence === 'number' && typeof value.hash === 'string' ? value : undefined
  } catch {
    return undefined
  }
}

/** Callers choose some of these texts; none of them may fill the file. */
function bounded(action: AdminAction): AdminAction {
  const cut = (text: string): string => (text.length <= TEXT_MAX ? text : `${text.slice(0, TEXT_MAX - 1)}…`)
  const { principal, principalName, address, action: word, object, outcome, details } = action
  return {
    principal: cut(principal),
    principalName: cut(principalName),
    address: cut(address),
    action: cut(word),
    object: cut(object),
    outcome,
    ...(details === undefined
      ? {}
      : {
          details: Object.fromEntries(
            Object.entries(details)
              .slice(0, 20)
              .map(([key, value]) => [cut(key), cut(value)]),
          ),
        }),
  }
}

function hashOf(record: Omit<AdminRecord, 'hash'>): string {
  return createHash('sha256').update(JSON.stringify(record)).digest('hex')
}

function currentPath(dir: string): string {
  return join(dir, 'admin.jsonl')
}

function unavailable(error: unknown, what: string): WeirError {
  if (error instanceof WeirError) return error
  const wrapped = toWeirError(error, 'audit.unavailable', what)
  return new WeirError('audit.unavailable', wrapped.message, {
    hint: 'Look at the disk and the data directory; administrative changes are refused until it can be written.',
    retryable: true,
    cause: error,
  })
}
