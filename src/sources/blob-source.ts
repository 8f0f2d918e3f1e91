import { createReadStream } from 'node:fs'
import { copyFile, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { isWeirError, WeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'
import { blobCid, isBlobCid } from '../model/index.js'
import type { InputSourceSpec } from '../model/job-spec.js'
import type { Clock } from '../ports/clock.js'
import type { StorageSource } from '../ports/data.js'
import { writeHashed } from '../write-hashed.js'
import { parameter } from './parameter.js'

export interface BlobSourceOptions {
  /** What was fetched is kept here for the next run; made when missing. */
  cacheDir: string
  /** The least recently used go beyond that. 0 keeps nothing. */
  cacheBytesMax: number
  /** Asks the network for a piece, and for the size of the whole. */
  readPiece: (cid: string, offset: number, bytesMax: number) => Promise<{ data: Uint8Array; bytes: number }>
  clock: Clock
  /** Told when the cache cannot be used; the run goes on without it. */
  onTrouble?: (error: unknown) => void
}

/** As base64 it fits into one message. */
const PIECE_BYTES = 512 * 1024
const RETRIES = 5
const BACKOFF_MS = 200

/**
 * Content that was uploaded to the network (`blob`, parameter `CID`); becomes a file at the target. It is hashed each
 * time, whether it comes from the network or from the node's own cache: what does not match its CID is never used. Rejects
 * with `blob.not_found`, `source.checksum`, `source.too_large`, or what asking failed with.
 */
export function blobSource(options: BlobSourceOptions): StorageSource {
  const cache = new BlobCache(options)
  return {
    type: 'blob',
    async admit(input) {
      return isBlobCid(cidOf(input)) ? [] : [{ message: `Cannot use a blob input: ${NO_CID}`, hint: HINT }]
    },
    async measure(input) {
      const cid = readCid(input)
      return (await cache.size(cid)) ?? (await options.readPiece(cid, 0, 0)).bytes
    },
    async fetch(input, intoDir, { bytesMax, progress = () => {} }, signal) {
      const cid = readCid(input)
      // Programs see the name of their module.
      const hostPath = join(intoDir, posix.basename(input.Target) || 'content')
      const write = (content: AsyncIterable<Uint8Array>): Promise<boolean> =>
        writeVerified(hostPath, cid, content, (bytes) => {
          signal.throwIfAborted()
          if (bytes > bytesMax) throw tooLarge(bytesMax)
          progress(bytes, undefined)
        })
      if (!(await cache.take(cid, write))) {
        if (!(await write(pieces(cid, options, signal)))) throw damaged(cid)
        await cache.add(cid, hostPath)
      }
      return [{ hostPath, target: input.Target, writable: false }]
    },
  }
}

/** False, and no file, when the content is not what the CID names. */
async function writeVerified(
  path: string,
  cid: string,
  content: AsyncIterable<Uint8Array>,
  onChunk: (bytes: number) => void,
): Promise<boolean> {
  const { sha256 } = await writeHashed(path, content, { onChunk, mode: 0o644, durable: false })
  if (blobCid(sha256) === cid) return true
  await rm(path, { force: true })
  return false
}

async function* pieces(
  cid: string,
  options: BlobSourceOptions,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let offset = 0; ; ) {
    const { data, bytes } = await askPatiently(cid, offset, options, signal)
    if (data.byteLength > 0) yield data
    offset += data.byteLength
    if (offset >= bytes || data.byteLength === 0) return
  }
}

async function askPatiently(
  cid: string,
  offset: number,
  { readPiece, clock }: BlobSourceOptions,
  signal: AbortSignal,
): Promise<{ data: Uint8Array; bytes: number }> {
  for (let failures = 0; ; failures++) {
    signal.throwIfAborted()
    try {
      return await readPiece(cid, offset, PIECE_BYTES)
    } catch (error) {
      if (!isWeirError(error) || !error.retryable || failures >= RETRIES) throw error
      await clock.sleep(BACKOFF_MS * 2 ** failures, signal)
    }
  }
}

/** Files named by their CID; the time of a file is that of its last use. */
class BlobCache {
  readonly #options: BlobSourceOptions

  constructor(options: BlobSourceOptions) {
    this.#options = options
  }

  async size(cid: string): Promise<number | undefined> {
    return stat(this.#path(cid)).then(
      ({ size }) => size,
      () => undefined,
    )
  }

  /** True when `use` took the content; what is damaged is removed. */
  async take(cid: string, use: (content: AsyncIterable<Uint8Array>) => Promise<boolean>): Promise<boolean> {
    if ((await this.size(cid)) === undefined) return false
    const path = this.#path(cid)
    try {
      if (!(await use(createReadStream(path)))) {
        await rm(path, { force: true })
        return false
      }
    } catch (error) {
      // Another run made room meanwhile.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
      throw error
    }
    const now = new Date(this.#options.clock.now())
    await utimes(path, now, now).catch(() => undefined) // Only the order of removal.
    return true
  }

  /** Never rejects: the run has its content. */
  async add(cid: string, from: string): Promise<void> {
    const { cacheDir, cacheBytesMax, onTrouble } = this.#options
    try {
      const { size } = await stat(from)
      if (size > cacheBytesMax) return
      await makeDirectory(cacheDir, 0o700)
      const part = join(cacheDir, `${cid}.${process.pid}.${Math.round(performance.now() * 1000)}.part`)
      try {
        await copyFile(from, part)
        await rename(part, this.#path(cid))
      } finally {
        await rm(part, { force: true })
      }
      await this.#trim(cacheBytesMax, cid)
    } catch (error) {
      onTrouble?.(error)
    }
  }

  async #trim(bytesMax: number, keep: string): Promise<void> {
    const { cacheDir } = this.#options
    const found = await Promise.all(
      (await readdir(cacheDir)).map(async (name) => ({ name, stats: await stat(join(cacheDir, name)) })),
    )
    let bytes = found.reduce((sum, { stats }) => sum + stats.size, 0)
    for (const { name, stats } of found.toSorted((a, b) => a.stats.mtimeMs - b.stats.mtimeMs)) {
      const isLeftover = name.endsWith('.part') && this.#options.clock.now() - stats.mtimeMs > LEFTOVER_MS
      if (!isLeftover && (bytes <= bytesMax || name === keep || name.endsWith('.part'))) continue
      await rm(join(cacheDir, name), { force: true })
      bytes -= stats.size
    }
  }

  #path(cid: string): string {
    return join(this.#options.cacheDir, cid)
  }
}

/** What a crash left half-written. */
const LEFTOVER_MS = 3600_000
const NO_CID = 'its CID is missing or of another kind'
const HINT = 'Use what `weir wasm upload FILE` prints'

function cidOf({ Source }: InputSourceSpec): string {
  const cid = parameter(Source, 'CID')
  return typeof cid === 'string' ? cid : ''
}

function readCid(input: InputSourceSpec): string {
  const cid = cidOf(input)
  if (isBlobCid(cid)) return cid
  throw new WeirError('source.refused', `Cannot use a blob input: ${NO_CID}`, { hint: HINT })
}

function tooLarge(bytesMax: number): WeirError {
  return new WeirError('source.too_large', `Cannot use a blob input: it has more than ${bytesMax} bytes`, {
    hint: 'Ask for more disk (Resources.Disk)',
  })
}

function damaged(cid: string): WeirError {
  return new WeirError('source.checksum', `Cannot use the blob ${cid}: what arrived is other content`, {
    hint: 'Upload it again; when that does not help, the server of the network hands out wrong content',
    retryable: true,
  })
}
