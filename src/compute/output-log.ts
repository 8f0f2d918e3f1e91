import { mkdir, open, truncate, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isWeirError, WeirError } from '../errors.js'
import type { OutputStream } from '../model/log.js'
import type { Clock, HeldOutput, OutputSink } from '../ports/index.js'

/** One entry of an output log. */
export interface OutputEntry {
  stream: OutputStream
  data: Buffer
  /** When it arrived. */
  timeMs: number
  /** What it takes in the file: the next entry begins so much further. */
  bytes: number
}

/** A piece of a log and where to go on. */
export interface OutputPage {
  entries: OutputEntry[]
  cursor: number
}

/**
 * The output of one program, both streams in order of arrival, in an append-only file.
 *
 * File: entries of 12 bytes head (stream 1 or 2, length in 3 bytes, time in 8) and at most 64 KiB data. A cursor is
 * an offset in the file at the border of two entries. The file never grows beyond `bytesMax`: what does not fit is
 * dropped, and the program goes on. One writer; any number of readers, also after the end and after a restart.
 */
export class OutputLog implements OutputSink {
  readonly file: string
  /** True when output was dropped. */
  truncated = false
  /** True when output is missing that could not be recovered after a restart. */
  hasGap = false
  readonly #clock: Clock
  readonly #bytesMax: number
  readonly #heads = { stdout: new Head(), stderr: new Head() }
  readonly #waiters = new Set<() => void>()
  #pending: Buffer[] = []
  #pendingBytes = 0
  /** Bytes accepted so far, written or pending. */
  #accepted = 0
  #written = 0
  #flushing: Promise<void> | undefined
  #handle: FileHandle | undefined
  #ended = false
  #held: HeldOutput | undefined

  constructor(file: string, bytesMax: number, clock: Clock) {
    this.file = file
    this.#bytesMax = bytesMax
    this.#clock = clock
  }

  /**
   * Goes on with the log of an earlier process: an entry that a crash cut off is removed, `held` says what is there. A missing
   * file is an empty log. One that cannot be read or cut is kept as it is, gets no more, and says that output is missing.
   */
  static async reopen(file: string, bytesMax: number, clock: Clock): Promise<OutputLog> {
    const log = new OutputLog(file, bytesMax, clock)
    try {
      await log.#recover()
    } catch {
      log.#held = { stdout: 0, stderr: 0, untilMs: 0 }
      log.#accepted = bytesMax
      log.truncated = true
      log.hasGap = true
    }
    return log
  }

  /** What an earlier process has written. Absent in a log that was begun by this one. */
  get held(): HeldOutput | undefined {
    return this.#held
  }

  /** Output that belongs here cannot be had any more. */
  missing(): void {
    this.hasGap = true
  }

  /** Bytes in the file: the cursor of "now". */
  get size(): number {
    return this.#written
  }

  /** True when nothing more will come. */
  get ended(): boolean {
    return this.#ended
  }

  /** Asks the writer to wait when more than 1 MiB is not on disk yet. */
  write(stream: OutputStream, data: Uint8Array): Promise<void> | void {
    if (this.#ended || data.length === 0) return
    this.#heads[stream].add(data)
    for (let at = 0; at < data.length; at += ENTRY_DATA_MAX) {
      if (!this.#accept(stream, data.subarray(at, at + ENTRY_DATA_MAX))) break
    }
    this.#flushing ??= this.#flush()
    if (this.#pendingBytes > PENDING_MAX) return this.#flushing
  }

  /** The first 2 KiB of each stream, cut at a character's border. */
  head(stream: OutputStream): { text: string; truncated: boolean } {
    return this.#heads[stream].read()
  }

  /** Nothing more comes: writes what is pending and wakes the readers. Never rejects. Idempotent. */
  async end(): Promise<void> {
    while (this.#flushing !== undefined) await this.#flushing
    this.#ended = true
    const handle = this.#handle
    this.#handle = undefined
    try {
      await handle?.close()
    } catch {
      // Some file systems tell of a failed write only now.
      this.truncated = true
    }
    this.#wake()
  }

  /** Resolves when there is something behind `cursor`, the log has ended, or the signal aborts. */
  async changed(cursor: number, signal: AbortSignal): Promise<void> {
    if (this.#written > cursor || this.#ended || signal.aborted) return
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#waiters.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#waiters.add(done)
      signal.addEventListener('abort', done, { once: true })
    })
  }

  #accept(stream: OutputStream, data: Uint8Array): boolean {
    const room = this.#bytesMax - this.#accepted - HEAD_BYTES
    if (room <= 0 || this.truncated) {
      this.truncated = true
      return false
    }
    const kept = data.subarray(0, room)
    if (kept.length < data.length) this.truncated = true
    const entry = encodeEntry(stream, kept, this.#clock.now())
    this.#pending.push(entry)
    this.#pendingBytes += entry.length
    this.#accepted += entry.length
    return true
  }

  async #flush(): Promise<void> {
    try {
      // Let writes of the same turn share one call.
      await Promise.resolve()
      while (this.#pending.length > 0) await this.#flushOnce()
    } catch {
      // The disk is full or gone: the program goes on, and the log says that it is not complete.
      this.truncated = true
      this.#accepted = this.#bytesMax
      this.#pending = []
      this.#pendingBytes = 0
    } finally {
      this.#flushing = undefined
    }
  }

  async #flushOnce(): Promise<void> {
    if (this.#handle === undefined) {
      await mkdir(dirname(this.file), { recursive: true, mode: 0o700 })
      this.#handle = await open(this.file, this.#held === undefined ? 'w' : 'a', 0o600)
    }
    const batch = Buffer.concat(this.#pending)
    this.#pending = []
    this.#pendingBytes = 0
    // `writeFile` on a handle goes on where the last one ended.
    await this.#handle.writeFile(batch)
    this.#written += batch.length
    this.#wake()
  }

  async #recover(): Promise<void> {
    const held = { stdout: 0, stderr: 0, untilMs: 0 }
    for (;;) {
      const page = await recoverPage(this.file, this.#written)
      for (const { stream, data, timeMs } of page.entries) {
        held[stream] += data.length
        held.untilMs = Math.max(held.untilMs, timeMs)
        this.#heads[stream].add(data)
      }
      this.#written = page.cursor
      if (page.entries.length === 0) break
    }
    await truncateTo(this.file, this.#written)
    this.#accepted = this.#written
    // Beyond a full log output was dropped; what is not there cannot be told from it.
    this.truncated = this.#written + HEAD_BYTES >= this.#bytesMax
    this.#held = held
  }

  #wake(): void {
    for (const waiter of this.#waiters) waiter()
  }
}

/**
 * Reads whole entries from `cursor` on. Ends before the answer's cost (data and a fixed share per entry) exceeds
 * `bytesMax`, but gives at least one entry. A missing file is an empty log; an entry that was cut by a crash is not
 * read. Rejects with `api.bad_request` when the cursor is not at the border of two entries.
 */
export async function readOutput(file: string, cursor: number, bytesMax: number): Promise<OutputPage> {
  let handle: FileHandle
  try {
    handle = await open(file, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { entries: [], cursor }
    throw error
  }
  try {
    const buffer = Buffer.alloc(Math.max(bytesMax, HEAD_BYTES + ENTRY_DATA_MAX))
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, cursor)
    return decodeEntries(buffer.subarray(0, bytesRead), cursor, bytesMax)
  } finally {
    await handle.close()
  }
}

/** Like `readOutput`, but the log ends where something is no entry: a power cut can leave anything behind the last whole one. */
async function recoverPage(file: string, cursor: number): Promise<OutputPage> {
  try {
    return await readOutput(file, cursor, SPLIT_BYTES)
  } catch (error) {
    if (!isWeirError(error, 'api.bad_request')) throw error
    return { entries: [], cursor }
  }
}

async function truncateTo(file: string, bytes: number): Promise<void> {
  try {
    await truncate(file, bytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** Writes the streams of a log into two files, as a result keeps them. */
export async function splitOutput(
  file: string,
  into: { stdout: string; stderr: string },
  signal: AbortSignal,
): Promise<void> {
  const stdout = await open(into.stdout, 'w', 0o600)
  try {
    const stderr = await open(into.stderr, 'w', 0o600)
    try {
      for (let cursor = 0; ; ) {
        signal.throwIfAborted()
        const page = await readOutput(file, cursor, SPLIT_BYTES)
        if (page.entries.length === 0) return
        cursor = page.cursor
        await stdout.writeFile(joined(page, 'stdout'))
        await stderr.writeFile(joined(page, 'stderr'))
      }
    } finally {
      await stderr.close()
    }
  } finally {
    await stdout.close()
  }
}

function joined({ entries }: OutputPage, stream: OutputStream): Buffer {
  return Buffer.concat(entries.filter((entry) => entry.stream === stream).map(({ data }) => data))
}

const HEAD_BYTES = 12
const ENTRY_DATA_MAX = 64 * 1024
const PENDING_MAX = 1024 ** 2
const SPLIT_BYTES = 1024 ** 2
/** What an entry costs in an answer besides its data. */
const ENTRY_COST = 80
const PREVIEW_BYTES = 2048

function encodeEntry(stream: OutputStream, data: Uint8Array, timeMs: number): Buffer {
  const entry = Buffer.allocUnsafe(HEAD_BYTES + data.length)
  entry.writeUInt8(stream === 'stdout' ? 1 : 2, 0)
  entry.writeUIntBE(data.length, 1, 3)
  entry.writeDoubleBE(timeMs, 4)
  entry.set(data, HEAD_BYTES)
  return entry
}

function decodeEntries(bytes: Buffer, from: number, bytesMax: number): OutputPage {
  const entries: OutputEntry[] = []
  let at = 0
  let cost = 0
  while (at + HEAD_BYTES <= bytes.length) {
    const kind = bytes.readUInt8(at)
    const length = bytes.readUIntBE(at + 1, 3)
    const timeMs = bytes.readDoubleBE(at + 4)
    if ((kind !== 1 && kind !== 2) || length > ENTRY_DATA_MAX || !Number.isFinite(timeMs)) {
      if (entries.length > 0) break
      throw new WeirError('api.bad_request', `Cannot read output at ${from + at}: no entry begins there`, {
        hint: 'Use a cursor from the answer before, or 0',
      })
    }
    const end = at + HEAD_BYTES + length
    cost += length + ENTRY_COST
    if (end > bytes.length || (cost > bytesMax && entries.length > 0)) break
    entries.push({
      stream: kind === 1 ? 'stdout' : 'stderr',
      data: Buffer.from(bytes.subarray(at + HEAD_BYTES, end)),
      timeMs,
      bytes: HEAD_BYTES + length,
    })
    at = end
  }
  return { entries, cursor: from + at }
}

/** The beginning of a stream. */
class Head {
  #kept = Buffer.alloc(0)
  #more = false

  add(data: Uint8Array): void {
    // A few bytes more than shown, so that a cut inside a character can be told from a complete one.
    const room = PREVIEW_BYTES + 4 - this.#kept.length
    if (room > 0) this.#kept = Buffer.concat([this.#kept, data.subarray(0, room)])
    if (data.length > room) this.#more = true
  }

  read(): { text: string; truncated: boolean } {
    const truncated = this.#more || this.#kept.length > PREVIEW_BYTES
    if (!truncated) return { text: this.#kept.toString('utf8'), truncated }
    let end = PREVIEW_BYTES
    while (end > PREVIEW_BYTES - 3 && ((this.#kept[end] ?? 0) & 0xc0) === 0x80) end--
    return { text: this.#kept.toString('utf8', 0, end), truncated }
  }
}
