import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { toWeirError, WeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'
import { blobCid, formatBytes, isBlobCid } from '../model/index.js'
import type { Blob, BlobStore, Clock } from '../ports/index.js'
import { writeHashed } from '../write-hashed.js'

export interface BlobStoreOptions {
  /** Belongs to the store alone; made when missing. */
  dir: string
  clock: Clock
  /** CIDs that must stay, for example because jobs that have not ended name them. Asked when room is needed. */
  needed: () => Promise<ReadonlySet<string>>
  limits: {
    /** Of one blob. */
    blobBytesMax: number
    /** Of all together; what is being uploaded comes on top until it is complete. */
    totalBytesMax: number
    /** Contents that namespaces hold, all together. Default 100,000. */
    holdingsMax?: number
  }
  /** Told about content that was damaged on the disk and is forgotten. */
  onDamage?: (cid: string) => void
}

const HOLDINGS_MAX = 100_000
const UPLOADS_MAX = 16
/** Half of them, so that one namespace cannot keep all others out. */
const UPLOADS_PER_NAMESPACE_MAX = UPLOADS_MAX / 2
/** Between the question whether content is there and the job that names it, it stays. */
const GRACE_MS = 5 * 60_000
/** How exactly the last use is on the disk. */
const USE_SAVED_MS = 60_000

/**
 * The {@link BlobStore} in a directory: `content/<cid>`, and for each namespace that holds it an empty file
 * `held/<namespace>/<cid>` whose time is that of the last use. A file is complete before it gets its name, so a crash
 * leaves nothing but what {@link openBlobStore} removes. When room is needed, what was not used for longest goes first:
 * of namespaces that hold more than half of the bytes or of the contents, then of all.
 *
 * Rejects with `store.unavailable` when the directory cannot be used.
 */
export async function openBlobStore(options: BlobStoreOptions): Promise<BlobStore> {
  const store = new FileBlobStore(options)
  try {
    await store.load()
  } catch (error) {
    throw new WeirError('store.unavailable', `Cannot use the directory of blobs "${options.dir}"`, {
      hint: 'Make it writable for the user that runs the server',
      cause: error,
    })
  }
  return store
}

interface Holding {
  namespace: string
  cid: string
  usedMs: number
  /** The time of last use that is on the disk. */
  savedMs: number
}

class FileBlobStore implements BlobStore {
  readonly #options: BlobStoreOptions
  readonly #content: string
  readonly #held: string
  readonly #incoming: string
  /** Bytes by CID. */
  readonly #sizes = new Map<string, number>()
  /** By namespace and CID. */
  readonly #holdings = new Map<string, Map<string, Holding>>()
  /** What was written by this process, or found whole on the disk by it. */
  readonly #checked = new Map<string, Promise<boolean>>()
  readonly #uploads = new Map<string, number>()
  #totalBytes = 0
  #holdingCount = 0
  /** Room is made and names are given by one upload at a time. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: BlobStoreOptions) {
    this.#options = options
    this.#content = join(options.dir, 'content')
    this.#held = join(options.dir, 'held')
    this.#incoming = join(options.dir, 'incoming')
  }

  async load(): Promise<void> {
    await rm(this.#incoming, { recursive: true, force: true })
    for (const dir of [this.#content, this.#held, this.#incoming]) await makeDirectory(dir, 0o700)
    for (const cid of (await readdir(this.#content)).filter(isBlobCid))
      this.#setSize(cid, (await stat(join(this.#content, cid))).size)
    for (const name of await readdir(this.#held)) await this.#loadNamespace(join(this.#held, name))
    const held = new Set([...this.#allHoldings()].map(({ cid }) => cid))
    // A crash came between the content and its first holding.
    for (const cid of this.#sizes.keys()) if (!held.has(cid)) await this.#removeContent(cid)
  }

  async find(namespace: string, cid: string): Promise<Blob | undefined> {
    const holding = this.#holdings.get(namespace)?.get(cid)
    if (holding === undefined || !(await this.#isWhole(cid))) return undefined
    await this.#use(holding)
    return { cid, bytes: this.#sizes.get(cid) ?? 0, usedMs: holding.usedMs }
  }

  async put(
    namespace: string,
    cid: string,
    content: AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<Blob> {
    const done = this.#begin(namespace)
    const path = join(this.#incoming, randomUUID())
    try {
      const { sha256, bytes } = await this.#write(path, content, signal)
      const actual = blobCid(sha256)
      if (actual !== cid) throw mismatch(cid, actual)
      await this.#inTurn(() => this.#keep(namespace, cid, path, bytes))
      return { cid, bytes, usedMs: this.#options.clock.now() }
    } finally {
      await rm(path, { force: true })
      done()
    }
  }

  async open(
    namespace: string,
    cid: string,
  ): Promise<{ bytes: number; stream: ReturnType<typeof createReadStream> } | undefined> {
    const found = await this.find(namespace, cid)
    if (found === undefined) return undefined
    const file = await this.#openContent(cid)
    if (file === undefined) return undefined
    return { bytes: found.bytes, stream: file.createReadStream() }
  }

  list(namespace: string): readonly Blob[] {
    const held = [...(this.#holdings.get(namespace)?.values() ?? [])]
    return held
      .toSorted((a, b) => b.usedMs - a.usedMs)
      .map(({ cid, usedMs }) => ({ cid, usedMs, bytes: this.#sizes.get(cid) ?? 0 }))
  }

  async readPiece(
    cid: string,
    offset: number,
    bytesMax: number,
  ): Promise<{ data: Buffer; bytes: number } | undefined> {
    if (!this.#sizes.has(cid) || !(await this.#isWhole(cid))) return undefined
    const file = await this.#openContent(cid)
    if (file === undefined) return undefined
    try {
      const { size } = await file.stat()
      const data = Buffer.alloc(Math.max(0, Math.min(bytesMax, size - offset)))
      const { bytesRead } = await file.read(data, 0, data.length, offset)
      return { data: data.subarray(0, bytesRead), bytes: size }
    } finally {
      await file.close()
    }
  }

  async #loadNamespace(dir: string): Promise<void> {
    const namespace = await readFile(join(dir, NAME_FILE), 'utf8').catch(() => undefined)
    if (namespace === undefined) return rm(dir, { recursive: true, force: true })
    for (const cid of (await readdir(dir)).filter(isBlobCid)) {
      const { mtimeMs } = await stat(join(dir, cid))
      if (this.#sizes.has(cid)) this.#remember({ namespace, cid, usedMs: mtimeMs, savedMs: mtimeMs })
      else await rm(join(dir, cid), { force: true })
    }
  }

  #begin(namespace: string): () => void {
    const own = this.#uploads.get(namespace) ?? 0
    const all = [...this.#uploads.values()].reduce((sum, one) => sum + one, 0)
    if (all >= UPLOADS_MAX || own >= UPLOADS_PER_NAMESPACE_MAX) {
      throw new WeirError('api.overload', 'Cannot take another upload: too many are under way', {
        hint: 'Try again in a moment.',
        retryable: true,
      })
    }
    this.#uploads.set(namespace, own + 1)
    return () => {
      const left = (this.#uploads.get(namespace) ?? 1) - 1
      if (left > 0) this.#uploads.set(namespace, left)
      else this.#uploads.delete(namespace)
    }
  }

  async #write(
    path: string,
    content: AsyncIterable<Uint8Array>,
    signal: AbortSignal | undefined,
  ): Promise<{ sha256: Buffer; bytes: number }> {
    const { blobBytesMax } = this.#options.limits
    try {
      return await writeHashed(path, content, {
        durable: true,
        onChunk: (bytes) => {
          signal?.throwIfAborted()
          if (bytes > blobBytesMax) throw tooLarge(blobBytesMax)
        },
      })
    } catch (error) {
      signal?.throwIfAborted()
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOSPC' || code === 'EDQUOT') throw full('the disk of the server is full', error)
      throw toWeirError(error, 'store.unavailable', 'Cannot store the upload')
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work)
    this.#last = mine.catch(() => undefined) // Told to whoever waits for it.
    return mine
  }

  /** Gives complete content its name, and the namespace its share in it. */
  async #keep(namespace: string, cid: string, path: string, bytes: number): Promise<void> {
    await this.#makeRoom(this.#sizes.has(cid) ? 0 : bytes)
    // Also over what is there: that may be damaged, which this is not.
    await rename(path, join(this.#content, cid))
    this.#setSize(cid, bytes)
    this.#checked.set(cid, Promise.resolve(true))
    await this.#hold(namespace, cid)
  }

  async #hold(namespace: string, cid: string): Promise<void> {
    const dir = this.#namespaceDir(namespace)
    await makeDirectory(dir, 0o700)
    if (!this.#holdings.has(namespace)) await writeFile(join(dir, NAME_FILE), namespace, { mode: 0o600 })
    const usedMs = this.#options.clock.now()
    await writeFile(join(dir, cid), '', { mode: 0o600 })
    await utimes(join(dir, cid), new Date(usedMs), new Date(usedMs))
    this.#remember({ namespace, cid, usedMs, savedMs: usedMs })
  }

  #remember(holding: Holding): void {
    const held = this.#holdings.get(holding.namespace) ?? new Map<string, Holding>()
    if (!held.has(holding.cid)) this.#holdingCount += 1
    this.#holdings.set(holding.namespace, held.set(holding.cid, holding))
  }

  async #use(holding: Holding): Promise<void> {
    holding.usedMs = Math.max(holding.usedMs, this.#options.clock.now())
    if (holding.usedMs - holding.savedMs < USE_SAVED_MS) return
    holding.savedMs = holding.usedMs
    const at = new Date(holding.usedMs)
    // Gone meanwhile, or the disk is read-only: the order of removal is all that suffers.
    await utimes(join(this.#namespaceDir(holding.namespace), holding.cid), at, at).catch(() => undefined)
  }

  /** Rejects with `blob.full`. */
  async #makeRoom(bytes: number): Promise<void> {
    const { totalBytesMax, holdingsMax = HOLDINGS_MAX } = this.#options.limits
    const hasRoom = (): boolean =>
      this.#totalBytes + bytes <= totalBytesMax && this.#holdingCount < holdingsMax
    if (hasRoom()) return
    const needed = await this.#options.needed()
    const oldest = this.#options.clock.now() - GRACE_MS
    const removable = [...this.#allHoldings()].filter(
      ({ cid, usedMs }) => usedMs < oldest && !needed.has(cid),
    )
    const isLarge = ([namespace, held]: [string, Map<string, Holding>]): boolean =>
      held.size > holdingsMax / 2 || this.#bytesOf(namespace) > totalBytesMax / 2
    const large = new Set([...this.#holdings].filter(isLarge).map(([namespace]) => namespace))
    const rank = ({ namespace }: Holding): number => (large.has(namespace) ? 0 : 1)
    for (const holding of removable.toSorted((a, b) => rank(a) - rank(b) || a.usedMs - b.usedMs)) {
      await this.#drop(holding)
      if (hasRoom()) return
    }
    if (!hasRoom()) throw full(`jobs need what fills its ${formatBytes(totalBytesMax)}`)
  }

  #setSize(cid: string, bytes: number): void {
    this.#totalBytes += bytes - (this.#sizes.get(cid) ?? 0)
    this.#sizes.set(cid, bytes)
  }

  #bytesOf(namespace: string): number {
    const held = [...(this.#holdings.get(namespace)?.keys() ?? [])]
    return held.reduce((sum, cid) => sum + (this.#sizes.get(cid) ?? 0), 0)
  }

  *#allHoldings(): Iterable<Holding> {
    for (const held of this.#holdings.values()) yield* held.values()
  }

  async #drop({ namespace, cid }: Holding): Promise<void> {
    if (this.#holdings.get(namespace)?.delete(cid) === true) this.#holdingCount -= 1
    await rm(join(this.#namespaceDir(namespace), cid), { force: true })
    if (![...this.#holdings.values()].some((held) => held.has(cid))) await this.#removeContent(cid)
  }

  async #removeContent(cid: string): Promise<void> {
    this.#totalBytes -= this.#sizes.get(cid) ?? 0
    this.#sizes.delete(cid)
    this.#checked.delete(cid)
    await rm(join(this.#content, cid), { force: true })
  }

  /** Reads the content once in the life of the process: what a power cut or a disk spoilt is forgotten, not handed on. */
  async #isWhole(cid: string): Promise<boolean> {
    let checking = this.#checked.get(cid)
    if (checking === undefined) {
      checking = hashOf(join(this.#content, cid)).then((actual) => actual === cid)
      this.#checked.set(cid, checking)
    }
    if (await checking.catch(() => false)) return true
    if (this.#checked.get(cid) === checking) {
      this.#options.onDamage?.(cid)
      const held = [...this.#allHoldings()].filter((holding) => holding.cid === cid)
      for (const holding of held) await this.#drop(holding)
      await this.#removeContent(cid)
    }
    return false
  }

  /** Undefined when it was removed a moment ago. */
  async #openContent(cid: string): Promise<Awaited<ReturnType<typeof open>> | undefined> {
    return open(join(this.#content, cid), 'r').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
  }

  /** Names of namespaces may hold anything, names of directories may not. */
  #namespaceDir(namespace: string): string {
    return join(this.#held, createHash('sha256').update(namespace).digest('hex').slice(0, 32))
  }
}

const NAME_FILE = 'namespace'

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) hash.update(chunk)
  return blobCid(hash.digest())
}

function mismatch(cid: string, actual: string): WeirError {
  return new WeirError('blob.mismatch', `Cannot store the upload as ${cid}: its content is ${actual}`, {
    hint: 'The file changed while it was sent, or was damaged on the way; upload it again.',
  })
}

function tooLarge(bytesMax: number): WeirError {
  return new WeirError(
    'blob.too_large',
    `Cannot store the upload: it has more than ${formatBytes(bytesMax)}`,
    {
      hint: 'Strip the program (wasm-strip, wasm-opt -Oz), or ask the operator for a higher Orchestrator.Blobs.BytesMax.',
      details: { bytesMax },
    },
  )
}

function full(why: string, cause?: unknown): WeirError {
  return new WeirError('blob.full', `Cannot store the upload: there is no room, ${why}`, {
    hint: 'Stop jobs that are no longer needed, or ask the operator for a higher Orchestrator.Blobs.TotalBytesMax.',
    retryable: true,
    cause,
  })
}
