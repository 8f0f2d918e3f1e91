import { createHash } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { copyWithChecksum, looksOf, readChecksum } from './code-file.js'
import type { WasmLogger } from './options.js'

export interface CodeCacheOptions {
  /** Private to the node; made when missing. No sandbox may write in it. */
  dir: string
  /** Room for all code. */
  bytesMax: number
  /** What code depends on beside the module: V8, flags, processor. Other code is never even looked at. */
  fingerprint: string
  /**
   * Compiles a module where nothing else runs, and calls `keep` with the file of its code, which begins with room for a
   * head. Resolves with why there is no code, undefined when there is. Rejects when another try can end otherwise.
   */
  compile(module: Buffer, keep: Keep): Promise<string | undefined>
  /** Milliseconds since 1970. */
  now(): number
  logger: WasmLogger
}

/** Takes over code. Resolves with why it does not, undefined when it did. */
export type Keep = (file: string) => Promise<string | undefined>

/** Modules waiting to be compiled, all together; more are compiled when they come again. */
const WAITING_BYTES_MAX = 256 * 1024 * 1024
const WAITING_MAX = 64
/** Modules whose code cannot be had. */
const REFUSED_MAX = 1_000
/** After so long one more try: another load, another limit of the operator. */
const REFUSED_FOR_MS = 24 * 3_600_000
/** How old the note of the last use may be. */
const USE_NOTED_MS = 60_000

interface Entry {
  bytes: number
  usedMs: number
  /** What the file was like when its checksum was right; undefined = not yet checked by this process. */
  seen: string | undefined
}

/**
 * Compiled code of modules, kept over restarts.
 *
 * A file is a checksum over its name and content, written by the node, and the code. The checksum is checked when this
 * process first uses the file, and again when the file has changed: what is cut short, damaged or meant for something
 * else is removed and made anew. When the room is used up, the code that was not used for longest goes.
 */
export class CodeCache {
  readonly #options: CodeCacheOptions
  readonly #entries = new Map<string, Entry>()
  /** Since when, by key. */
  readonly #refused = new Map<string, number>()
  readonly #waiting = new Map<string, Buffer>()
  #waitingBytes = 0
  #worker: Promise<void> | undefined
  #isClosed = false

  private constructor(options: CodeCacheOptions) {
    this.#options = options
  }

  /** Takes over what earlier processes left, and removes what they did not finish. */
  static async open(options: CodeCacheOptions): Promise<CodeCache> {
    const cache = new CodeCache(options)
    await mkdir(options.dir, { recursive: true, mode: 0o700 })
    const found: [string, Entry][] = []
    for (const name of await readdir(options.dir)) {
      const path = join(options.dir, name)
      const [, key, kind] = /^([0-9a-f]{64})\.(code|none)$/.exec(name) ?? []
      const file = key === undefined ? undefined : await stat(path).catch(() => undefined)
      if (key === undefined || file?.isFile() !== true) await rm(path, { recursive: true, force: true })
      else if (kind === 'none') cache.#refused.set(key, file.mtimeMs)
      else found.push([key, { bytes: file.size, usedMs: file.atimeMs, seen: undefined }])
    }
    for (const [key, entry] of found.toSorted(([, a], [, b]) => a.usedMs - b.usedMs))
      cache.#entries.set(key, entry)
    await cache.#makeRoom(0)
    return cache
  }

  /** The name under which a module's code is kept. */
  keyOf(module: Buffer): string {
    const digest = createHash('sha256').update(module).digest()
    return createHash('sha256').update(this.#options.fingerprint).update('\0').update(digest).digest('hex')
  }

  /** The file with a module's code, or undefined. It may be linked elsewhere, and must not be changed. */
  async find(key: string): Promise<string | undefined> {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    const path = this.#path(key)
    if (!(await this.#isIntact(key, entry))) {
      this.#options.logger.warn({ file: path }, 'compiled code is damaged and is made anew')
      await this.#remove(key)
      return undefined
    }
    // The last of the map is the one that was used last.
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    const now = this.#options.now()
    if (now - entry.usedMs > USE_NOTED_MS) {
      entry.usedMs = now
      const { mtime } = await stat(path)
      await utimes(path, new Date(now), mtime).catch(() => undefined)
    }
    return path
  }

  /** Has a module compiled in the background, unless that is under way, done or in vain. */
  want(key: string, module: Buffer): void {
    const refusedMs = this.#refused.get(key)
    const isRefused = refusedMs !== undefined && this.#options.now() - refusedMs < REFUSED_FOR_MS
    if (this.#isClosed || isRefused || this.#entries.has(key) || this.#waiting.has(key)) return
    if (this.#waiting.size >= WAITING_MAX || this.#waitingBytes + module.length > WAITING_BYTES_MAX) return
    this.#waiting.set(key, module)
    this.#waitingBytes += module.length
    this.#worker ??= this.#work().finally(() => {
      this.#worker = undefined
    })
  }

  /** V8 did not take the code although it is intact. It is not tried again for some time. */
  async reject(key: string): Promise<void> {
    if (!this.#entries.has(key)) return
    await this.#remove(key)
    await this.#refuse(key, 'V8 does not take it')
  }

  /** True while modules are being compiled or wait for it. */
  get isWorking(): boolean {
    return this.#worker !== undefined
  }

  /** Resolves when nothing is compiled any more; what waits is given up. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#worker
  }

  #path(key: string): string {
    return join(this.#options.dir, `${key}.code`)
  }

  async #isIntact(key: string, entry: Entry): Promise<boolean> {
    const path = this.#path(key)
    try {
      const looks = looksOf(await stat(path))
      if (entry.seen === looks) return true
      const { head, checksum } = await readChecksum(path, key)
      if (!head.equals(checksum)) return false
      entry.seen = looks
      return true
    } catch {
      return false // Removed, or not readable: as good as damaged.
    }
  }

  /** One module after the other. */
  async #work(): Promise<void> {
    for (;;) {
      const [next] = this.#waiting
      if (next === undefined || this.#isClosed) break
      const [key, module] = next
      try {
        const problem = await this.#options.compile(module, async (file) => {
          const refusal = await this.#keep(key, file)
          // From now on it may be asked for again, for example because somebody damages the file.
          this.#settle(key, module)
          return refusal
        })
        if (problem !== undefined && !this.#isClosed) await this.#refuse(key, problem)
      } catch (error) {
        if (!this.#isClosed) this.#options.logger.warn({ error }, 'a module could not be compiled ahead')
      }
      this.#settle(key, module)
    }
    this.#waiting.clear()
    this.#waitingBytes = 0
  }

  #settle(key: string, module: Buffer): void {
    if (this.#waiting.get(key) !== module) return
    this.#waiting.delete(key)
    this.#waitingBytes -= module.length
  }

  /** Copies the code that a sandbox made: nothing of the sandbox keeps a hold on the file of the cache. */
  async #keep(key: string, from: string): Promise<string | undefined> {
    const path = this.#path(key)
    const partial = `${path}.part`
    try {
      const bytes = await copyWithChecksum(from, partial, key, this.#options.bytesMax)
      if (bytes === undefined) return 'its code is no file, or larger than the room for all code'
      await this.#makeRoom(bytes)
      await rename(partial, path)
      const file = await stat(path)
      this.#entries.set(key, { bytes, usedMs: this.#options.now(), seen: looksOf(file) })
      this.#options.logger.debug({ key, bytes }, 'a module was compiled ahead')
      await this.#forgetRefusal(key)
      return undefined
    } finally {
      await rm(partial, { force: true })
    }
  }

  async #makeRoom(bytes: number): Promise<void> {
    let used = [...this.#entries.values()].reduce((sum, one) => sum + one.bytes, bytes)
    for (const [key, entry] of this.#entries) {
      if (used <= this.#options.bytesMax) return
      await this.#remove(key)
      used -= entry.bytes
    }
  }

  async #remove(key: string): Promise<void> {
    this.#entries.delete(key)
    await rm(this.#path(key), { force: true })
  }

  async #refuse(key: string, why: string): Promise<void> {
    this.#options.logger.info({ why }, 'a module is not compiled ahead')
    this.#refused.delete(key)
    this.#refused.set(key, this.#options.now())
    await writeFile(join(this.#options.dir, `${key}.none`), '', { mode: 0o600 })
    for (const oldest of this.#refused.keys()) {
      if (this.#refused.size <= REFUSED_MAX) return
      await this.#forgetRefusal(oldest)
    }
  }

  async #forgetRefusal(key: string): Promise<void> {
    if (this.#refused.delete(key)) await rm(join(this.#options.dir, `${key}.none`), { force: true })
  }
}
