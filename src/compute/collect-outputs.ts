import { Buffer, isUtf8 } from 'node:buffer'
import {
  chmodSync,
  constants,
  lchownSync,
  lstatSync,
  mkdirSync,
  renameSync,
  unlinkSync,
  type Stats,
} from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { WeirError } from '../errors.js'
import { printable } from '../model/printable.js'
import { OpenDirectory } from './open-directory.js'

/** A directory whose regular files become the result's directory `name`. */
export interface OutputToCollect {
  name: string
  /** Absolute path on the node. */
  hostDir: string
  /** The directory as it was opened before the run; then `hostDir` is not looked up again. The caller closes it. */
  opened?: OpenDirectory
}

export interface CollectLimits {
  /** All files together, by their apparent size: holes of sparse files count. */
  bytesMax: number
  /** Files and directories together. */
  filesMax: number
}

export interface CollectedOutputs {
  bytes: number
  files: number
  /** What was left out and why, for people; at most {@link SKIPPED_MAX}. */
  skipped: { path: string; reason: string }[]
  /** How many were left out, also those that `skipped` has no room for. */
  skippedCount: number
}

/** One more level than a result may have is left out, as are longer paths and names; unpackers accept what is below. */
const DEPTH_MAX = 128
const PATH_BYTES_MAX = 3072
const SKIPPED_MAX = 1000
/** Pipes and links are no files, but looking at them takes time too. */
const LOOKED_AT_PER_FILE = 10
const COPY_BYTES = 1024 * 1024

/**
 * Moves what a finished program left into the result: one directory per output, below `intoDir`.
 *
 * Call it when the program is dead. It takes regular files and directories only and follows no link: links, pipes,
 * sockets, devices, names that are not UTF-8, other mounted file systems, and whatever goes beyond the limits are left
 * out with a reason. Files are renamed where possible, so the outputs are empty afterwards; hard-linked ones are copied.
 * Modes are reduced to "executable or not". `again`: an earlier collection into the same directory was cut off; what it has
 * brought there stays and counts. `intoDir` must belong to the node alone. Rejects with the signal's reason, or
 * `publisher.failed` when `intoDir` cannot be written.
 */
export async function collectOutputs(
  outputs: OutputToCollect[],
  intoDir: string,
  limits: CollectLimits,
  signal: AbortSignal,
  { again = false }: { again?: boolean } = {},
): Promise<CollectedOutputs> {
  const collection = new Collection(limits, signal, again)
  const opened: { name: string; directory: OpenDirectory; mine: boolean }[] = []
  try {
    for (const { name, hostDir, opened: held } of outputs) {
      const directory = held ?? collection.openOutput(name, hostDir)
      if (directory !== undefined) opened.push({ name, directory, mine: held === undefined })
    }
    const into = new OpenDirectory(intoDir)
    try {
      for (const { name } of outputs) {
        if (!makeDirectory(into, Buffer.from(name), again)) await collection.recount(into, Buffer.from(name))
      }
      for (const { name, directory } of opened) await collection.takeOutput(name, directory, into)
    } finally {
      into.close()
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason
    throw error instanceof WeirError
      ? error
      : new WeirError('publisher.failed', `Cannot collect outputs into "${intoDir}": ${reasonOf(error)}`, {
          cause: error,
        })
  } finally {
    for (const { directory, mine } of opened) if (mine) directory.close()
  }
  return collection.result()
}

/** One place in both trees. */
interface Place {
  from: OpenDirectory
  into: OpenDirectory
  /** Path in the result, in bytes. */
  path: Buffer
  depth: number
  /** Device of the output directory: others are mounts. */
  device: number
}

class Collection {
  private readonly limits: CollectLimits
  private readonly signal: AbortSignal
  private readonly again: boolean
  private readonly skipped: { path: string; reason: string }[] = []
  private skippedCount = 0
  private bytes = 0
  private files = 0
  private directories = 0
  private lookedAt = 0
  private full = false

  constructor(limits: CollectLimits, signal: AbortSignal, again: boolean) {
    this.limits = limits
    this.signal = signal
    this.again = again
  }

  result(): CollectedOutputs {
    const { bytes, files, skipped, skippedCount } = this
    return { bytes, files, skipped, skippedCount }
  }

  /** Counts what an earlier collection has brought, and gives it the rights that it may not have got any more. */
  async recount(parent: OpenDirectory, name: Buffer): Promise<void> {
    const directory = new OpenDirectory(parent.path(name))
    try {
      for await (const entry of directory.entries(this.signal)) {
        const path = directory.path(entry.name)
        const stats = lstatSync(path)
        if (stats.isDirectory()) {
          this.directories += 1
          await this.recount(directory, entry.name)
        } else {
          makePlain(path, stats)
          this.bytes += stats.size
          this.files += 1
        }
      }
    } finally {
      directory.close()
    }
  }

  openOutput(name: string, hostDir: string): OpenDirectory | undefined {
    try {
      return new OpenDirectory(hostDir)
    } catch (error) {
      this.skip(Buffer.from(name), `the output directory cannot be opened: ${reasonOf(error)}`)
      return undefined
    }
  }

  async takeOutput(name: string, from: OpenDirectory, parent: OpenDirectory): Promise<void> {
    const path = Buffer.from(name)
    const into = new OpenDirectory(parent.path(path))
    try {
      await this.takeDirectory({ from, into, path, depth: 1, device: from.stat().dev })
    } finally {
      into.close()
    }
  }

  private async takeDirectory(place: Place): Promise<void> {
    for await (const { name } of place.from.entries(this.signal)) {
      this.signal.throwIfAborted()
      const path = Buffer.concat([place.path, SLASH, name])
      if (this.full || this.isFull(path)) return
      try {
        await this.takeEntry(place, name, path)
      } catch (error) {
        if (this.signal.aborted || error instanceof WeirError) throw error
        this.skip(path, reasonOf(error))
      }
    }
  }

  private async takeEntry(place: Place, name: Buffer, path: Buffer): Promise<void> {
    const source = place.from.path(name)
    const stats = lstatSync(source)
    const problem = problemOf(stats, name, path, place) ?? this.sizeProblem(stats)
    if (problem !== undefined) return this.skip(path, problem)
    if (stats.isDirectory()) return this.enter(place, name, path)
    const target = place.into.path(name)
    if (this.again) this.replace(target)
    const moved = stats.nlink === 1 && move(source, target, stats)
    if (!moved) await this.copy(source, target, stats)
    this.bytes += stats.size
    this.files += 1
  }

  private async enter({ from, into, depth, device }: Place, name: Buffer, path: Buffer): Promise<void> {
    const inner = openReadable(from.path(name))
    try {
      if (makeDirectory(into, name, this.again)) this.directories += 1
      const target = new OpenDirectory(into.path(name))
      try {
        await this.takeDirectory({ from: inner, into: target, path, depth: depth + 1, device })
      } finally {
        target.close()
      }
    } finally {
      inner.close()
    }
  }

  /** What was only copied, or half of it, is taken once more. */
  private replace(target: Buffer): void {
    const stats = lstatSync(target, { throwIfNoEntry: false })
    if (stats === undefined) return
    unlinkSync(target)
    this.bytes -= stats.size
    this.files -= 1
  }

  /** Never more than the size that was judged. */
  private async copy(source: Buffer, target: Buffer, { size, mode, ino, dev }: Stats): Promise<void> {
    // Without O_NONBLOCK, opening what turned into a pipe would wait for ever.
    const from = await open(source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const now = await from.stat()
      if (!now.isFile() || now.ino !== ino || now.dev !== dev) throw new Error('it changed meanwhile')
      const into = await open(target, 'wx', plainMode(mode))
      try {
        await copyBytes(from, into, size, this.signal)
      } catch (error) {
        unlinkSync(target)
        throw error
      } finally {
        await into.close()
      }
    } finally {
      await from.close()
    }
  }

  private sizeProblem(stats: Stats): string | undefined {
    if (!stats.isFile() || this.bytes + stats.size <= this.limits.bytesMax) return undefined
    return `its ${stats.size} bytes do not fit into the limit of ${this.limits.bytesMax} bytes`
  }

  private isFull(path: Buffer): boolean {
    this.lookedAt += 1
    const { filesMax } = this.limits
    this.full =
      this.files + this.directories >= filesMax || this.lookedAt > filesMax * LOOKED_AT_PER_FILE + SKIPPED_MAX
    if (this.full)
      this.skip(path, `the limit of ${filesMax} files and directories was reached; the rest was left out`)
    return this.full
  }

  private skip(path: Buffer, reason: string): void {
    this.skippedCount += 1
    if (this.skipped.length < SKIPPED_MAX) this.skipped.push({ path: readable(path), reason })
  }
}

const SLASH = Buffer.from('/')

function problemOf(stats: Stats, name: Buffer, path: Buffer, { depth, device }: Place): string | undefined {
  if (stats.isSymbolicLink()) return 'it is a symbolic link, and links are not followed'
  if (stats.isFIFO()) return 'it is a named pipe'
  if (stats.isSocket()) return 'it is a socket'
  if (!stats.isFile() && !stats.isDirectory()) return 'it is a device'
  if (stats.dev !== device) return 'another file system is mounted there'
  if (!isUtf8(name)) return 'its name is not UTF-8'
  if (path.length > PATH_BYTES_MAX) return `its path is longer than ${PATH_BYTES_MAX} bytes`
  if (depth >= DEPTH_MAX) return `it is deeper than ${DEPTH_MAX} directories`
  return undefined
}

/** True when `target` is now exactly the file that was judged; false when it has to be copied. */
function move(source: Buffer, target: Buffer, stats: Stats): boolean {
  try {
    renameSync(source, target)
  } catch {
    return false // another file system, or a directory of another user: copying tells more
  }
  const now = lstatSync(target)
  if (!now.isFile() || now.ino !== stats.ino || now.dev !== stats.dev || now.nlink !== 1) {
    unlinkSync(target)
    throw new Error('it changed meanwhile')
  }
  makePlain(target, now)
  return true
}

function makePlain(path: Buffer, stats: Stats): void {
  const mode = plainMode(stats.mode)
  if (process.geteuid?.() === 0 && stats.uid !== 0) lchownSync(path, 0, 0)
  if ((stats.mode & 0o7777) !== mode) chmodSync(path, mode)
}

async function copyBytes(
  from: FileHandle,
  into: FileHandle,
  size: number,
  signal: AbortSignal,
): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(COPY_BYTES, Math.max(size, 1)))
  for (let position = 0; position < size; ) {
    signal.throwIfAborted()
    const { bytesRead } = await from.read(buffer, 0, Math.min(buffer.length, size - position), position)
    if (bytesRead === 0) throw new Error('it became shorter meanwhile')
    await into.writeFile(buffer.subarray(0, bytesRead))
    position += bytesRead
  }
}

/** A program may take away its own right to read a directory; the node gives it back to itself. */
function openReadable(path: Buffer): OpenDirectory {
  try {
    return new OpenDirectory(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
    chmodSync(path, 0o700)
    return new OpenDirectory(path)
  }
}

/** False when it is there already, which only `mayExist` permits. */
function makeDirectory(into: OpenDirectory, name: Buffer, mayExist: boolean): boolean {
  try {
    mkdirSync(into.path(name), 0o755)
    return true
  } catch (error) {
    if (!mayExist || (error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return false
  }
}

function plainMode(mode: number): number {
  return (mode & 0o111) === 0 ? 0o644 : 0o755
}

function readable(path: Buffer): string {
  return printable(isUtf8(path) ? path.toString('utf8') : path.toString('latin1'), 400)
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied'
  if (code === 'ENOENT') return 'it is not there'
  if (code === 'ELOOP' || code === 'ENOTDIR') return 'it is not a directory'
  return code ?? message
}
