import { Buffer } from 'node:buffer'
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { WeirError } from '../errors.js'
import type { Clock } from '../ports/clock.js'

export interface ResultShelfOptions {
  /** Belongs to the shelf alone; made when missing. */
  dir: string
  retentionMs: number
  /** For all archives together, also those being written. */
  quotaBytes: number
  clock: Clock
}

/** What is known of one archive; kept beside it as JSON. */
export interface ShelfEntry {
  executionId: string
  /** Hex. The token itself is nowhere on the disk. */
  tokenSha256: string
  /** Hex, of the archive. */
  sha256: string
  bytes: number
  createdMs: number
  expiresMs: number
}

export type Found =
  | { state: 'here'; entry: ShelfEntry; path: string }
  | { state: 'gone' }
  | { state: 'unknown' }

/** So long a link is answered with "it was here" after its result was deleted. */
const REMEMBER_MS = 7 * 24 * 3600 * 1000
/** Quick, and close to the best: results are mostly small or compressed already. */
const GZIP_LEVEL = 4
const EXECUTION_ID = /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/

/**
 * Archives on the disk with their tokens, expiry and quota. Survives a restart; what a crash left half-written is
 * removed when the shelf is opened.
 */
export class ResultShelf {
  private readonly options: ResultShelfOptions
  private readonly entries = new Map<string, ShelfEntry>()
  private stored = 0
  private writing = 0

  private constructor(options: ResultShelfOptions) {
    this.options = options
  }

  /** Rejects with `store.unavailable` when the directory cannot be used. */
  static async open(options: ResultShelfOptions): Promise<ResultShelf> {
    const shelf = new ResultShelf(options)
    try {
      await mkdir(options.dir, { recursive: true, mode: 0o700 })
      await shelf.load()
    } catch (error) {
      throw new WeirError('store.unavailable', `Cannot use the directory of results "${options.dir}"`, {
        hint: 'Make it writable for the user that runs the node',
        cause: error,
      })
    }
    return shelf
  }

  get usedBytes(): number {
    return this.stored + this.writing
  }

  /** True when there is room for something after what has expired was removed. */
  async hasRoom(): Promise<boolean> {
    if (this.usedBytes >= this.options.quotaBytes) await this.sweep()
    return this.usedBytes < this.options.quotaBytes
  }

  /**
   * Compresses and keeps a tar; returns the token of its link. A second result of the same execution replaces the first.
   * Rejects with `publisher.quota`, or with what the tar stream failed with; nothing is left then.
   */
  async put(
    executionId: string,
    tar: Readable,
    signal: AbortSignal,
  ): Promise<{ entry: ShelfEntry; token: string }> {
    if (!EXECUTION_ID.test(executionId))
      throw new WeirError(
        'publisher.failed',
        `Cannot publish the results of "${executionId.slice(0, 80)}": not an execution id`,
      )
    await this.sweep()
    const token = randomBytes(24).toString('base64url')
    const temporary = join(this.options.dir, `${executionId}.${token.slice(0, 8)}.tmp`)
    try {
      const { sha256, bytes } = await this.write(executionId, tar, temporary, signal)
      const createdMs = this.options.clock.now()
      const entry: ShelfEntry = {
        executionId,
        tokenSha256: sha256Hex(token),
        sha256,
        bytes,
        createdMs,
        expiresMs: createdMs + this.options.retentionMs,
      }
      await this.keep(entry, temporary)
      return { entry, token }
    } catch (error) {
      await rm(temporary, { force: true })
      throw error
    }
  }

  /** Compares tokens in constant time; without the right token every answer is `unknown`. */
  find(executionId: string, token: string): Found {
    const entry = this.entries.get(executionId)
    const given = Buffer.from(sha256Hex(token), 'hex')
    const right = timingSafeEqual(given, Buffer.from(entry?.tokenSha256 ?? '0'.repeat(64), 'hex'))
    if (entry === undefined || !right) return { state: 'unknown' }
    if (this.options.clock.now() >= entry.expiresMs) return { state: 'gone' }
    return { state: 'here', entry, path: this.archivePath(entry) }
  }

  /** Deletes archives that have expired, and forgets links that expired long ago. */
  async sweep(): Promise<void> {
    const now = this.options.clock.now()
    for (const entry of this.entries.values()) {
      if (now < entry.expiresMs) continue
      if (entry.bytes > 0) await this.deleteArchive(entry)
      if (now < entry.expiresMs + REMEMBER_MS) continue
      this.entries.delete(entry.executionId)
      await rm(this.entryPath(entry.executionId), { force: true })
    }
  }

  private async write(
    executionId: string,
    tar: Readable,
    path: string,
    signal: AbortSignal,
  ): Promise<{ sha256: string; bytes: number }> {
    const hash = createHash('sha256')
    let bytes = 0
    const meter = async function* (this: ResultShelf, chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        bytes += chunk.byteLength
        this.writing += chunk.byteLength
        if (this.usedBytes > this.options.quotaBytes) throw this.quotaError(executionId)
        hash.update(chunk)
        yield chunk
      }
    }.bind(this)
    const file = await open(path, 'wx', 0o600)
    try {
      const sink = async (chunks: AsyncIterable<Uint8Array>): Promise<void> => {
        for await (const chunk of chunks) await file.writeFile(chunk)
      }
      await pipeline(tar, createGzip({ level: GZIP_LEVEL }), meter, sink, { signal })
      await file.sync()
    } catch (error) {
      if (signal.aborted) throw signal.reason
      throw error
    } finally {
      this.writing -= bytes
      await file.close()
    }
    return { sha256: hash.digest('hex'), bytes }
  }

  /** The archive first: an entry without archive would be a promise that cannot be kept. */
  private async keep(entry: ShelfEntry, temporary: string): Promise<void> {
    await rename(temporary, this.archivePath(entry))
    const before = this.entries.get(entry.executionId)
    this.stored += entry.bytes - (before?.bytes ?? 0)
    this.entries.set(entry.executionId, entry)
    await this.writeEntry(entry)
    if (before !== undefined) await rm(this.archivePath(before), { force: true })
  }

  private async deleteArchive(entry: ShelfEntry): Promise<void> {
    const tombstone = { ...entry, bytes: 0 }
    this.stored -= entry.bytes
    this.entries.set(entry.executionId, tombstone)
    await rm(this.archivePath(entry), { force: true })
    await this.writeEntry(tombstone)
  }

  private async writeEntry(entry: ShelfEntry): Promise<void> {
    const path = this.entryPath(entry.executionId)
    const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
    await writeFile(temporary, JSON.stringify(entry), { mode: 0o600, flush: true })
    await rename(temporary, path)
  }

  private async load(): Promise<void> {
    const { dir } = this.options
    const names = await readdir(dir)
    for (const name of names) if (name.endsWith('.json')) await this.loadEntry(name)
    const expected = new Set([...this.entries.values()].map((entry) => basename(this.archivePath(entry))))
    for (const name of names) {
      const stray = name.endsWith('.tmp') || (name.endsWith('.tar.gz') && !expected.has(name))
      if (stray) await rm(join(dir, name), { force: true })
    }
  }

  private async loadEntry(name: string): Promise<void> {
    const entry = readEntry(await readFile(join(this.options.dir, name), 'utf8'))
    const archive = entry && (await stat(this.archivePath(entry)).catch(() => undefined))
    const complete = entry !== undefined && (entry.bytes === 0 || archive?.size === entry.bytes)
    if (entry === undefined || `${entry.executionId}.json` !== name || !complete) {
      await rm(join(this.options.dir, name), { force: true })
      return
    }
    this.entries.set(entry.executionId, entry)
    this.stored += entry.bytes
  }

  /** A name of its own for each publication: a download under way never sees another's bytes. */
  private archivePath({ executionId, tokenSha256 }: ShelfEntry): string {
    return join(this.options.dir, `${executionId}.${tokenSha256.slice(0, 16)}.tar.gz`)
  }

  private entryPath(executionId: string): string {
    return join(this.options.dir, `${executionId}.json`)
  }

  private quotaError(executionId: string): WeirError {
    const { quotaBytes } = this.options
    return new WeirError(
      'publisher.quota',
      `Cannot publish the results of ${executionId}: they do not fit into the ${quotaBytes} bytes for results on this node`,
      {
        hint: 'Write less, wait until older results expire, or ask the operator for a higher Publishers.Types.Local.Quota',
        retryable: true,
        details: { quotaBytes, storedBytes: this.stored },
      },
    )
  }
}

function sha256Hex(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function readEntry(text: string): ShelfEntry | undefined {
  try {
    const { executionId, tokenSha256, sha256, bytes, createdMs, expiresMs } = JSON.parse(
      text,
    ) as Partial<ShelfEntry>
    if (typeof executionId !== 'string' || !EXECUTION_ID.test(executionId)) return undefined
    if (!isSha256(tokenSha256) || !isSha256(sha256)) return undefined
    if (!isCount(bytes) || !isCount(createdMs) || !isCount(expiresMs)) return undefined
    return { executionId, tokenSha256, sha256, bytes, createdMs, expiresMs }
  } catch {
    return undefined // a torn file after a crash: the result is published again or lost, never half there
  }
}

function isSha256(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
