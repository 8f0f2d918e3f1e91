import { constants } from 'node:fs'
import { lstat, mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { createGunzip } from 'node:zlib'
import { Readable } from 'node:stream'
import type { Extract } from 'tar-stream'
import { WeirError, type ErrorCode } from '../errors.js'
import { readEntryPath } from './entry-path.js'
import { printableName } from './printable-name.js'
import { drained } from './stream-drain.js'

type Entry = Extract extends AsyncIterable<infer E> ? E : never

export interface UnpackOptions {
  /** An existing, empty directory that only this process writes to. */
  into: string
  /** Content of all files together; entries that are not selected count too. */
  bytesMax: number
  /** Files and directories together, with the directories that are only implied by paths. */
  entriesMax: number
  /** What the archive is called in messages. */
  what: string
  /** The codes of the caller's room. */
  codes: { unsafe: ErrorCode; corrupt: ErrorCode; tooLarge: ErrorCode }
  /** Absent = everything. Called with the path of each file and directory, `/` between segments. */
  select?: (path: string) => boolean
  signal: AbortSignal
}

export interface Unpacked {
  /** Files that were written, relative to `into`, in the archive's order. */
  files: string[]
  bytes: number
  /** First segments of all paths, selected or not: what the archive holds at its root. */
  roots: string[]
}

/** What a tar may hold beyond the content of its files: headers, long names, padding. */
const STREAM_OVERHEAD_BYTES = 16 * 1024 * 1024
const ENTRY_OVERHEAD_BYTES = 8 * 1024

/**
 * Unpacks a gzipped tar and trusts nothing in it. Regular files and directories only: links, devices and anything
 * else, absolute paths, `..`, a second entry with the same name, and a file in place of a directory all reject with
 * `codes.unsafe`; more content than the limits (also when it is highly compressed) with `codes.tooLarge`; bytes that are not a
 * gzipped tar with `codes.corrupt`. Modes are reduced to "executable or not"; owners and times are ignored.
 * After a rejection `into` holds an unusable part: the caller removes it.
 */
export async function unpackTarGz(source: Readable, options: UnpackOptions): Promise<Unpacked> {
  const { extract: newExtract } = await import('tar-stream')
  const extract = newExtract()
  const target = new UnpackTarget(options)
  const gunzip = createGunzip()
  source.once('error', (error) => gunzip.destroy(error))
  source.pipe(gunzip)
  const feeding = feed(gunzip, extract, target, options.signal)
  feeding.catch(() => undefined) // its error arrives through the loop below as well
  try {
    for await (const entry of extract) await target.take(entry)
    await feeding
  } catch (error) {
    throw readError(error, options)
  } finally {
    extract.destroy(null)
    gunzip.destroy()
    source.destroy()
    await feeding.catch(() => undefined)
  }
  return { files: target.files, bytes: target.bytes, roots: [...target.roots] }
}

/** Checks and writes entries; counts. */
class UnpackTarget {
  readonly files: string[] = []
  readonly roots = new Set<string>()
  bytes = 0
  private readonly options: UnpackOptions
  private readonly directories = new Set<string>([''])
  private entries = 0

  constructor(options: UnpackOptions) {
    this.options = options
  }

  /** How much of the tar stream may have been read by now. */
  get streamBytesMax(): number {
    return this.options.bytesMax + STREAM_OVERHEAD_BYTES + this.entries * ENTRY_OVERHEAD_BYTES
  }

  async take(entry: Entry): Promise<void> {
    this.options.signal.throwIfAborted()
    this.countEntry()
    const { name, type, size } = entry.header
    const path = readEntryPath(name)
    if (path.problem !== undefined) throw this.unsafe(name, path.problem)
    const isFile = type === 'file' || type === 'contiguous-file' // null, at run time, for kinds the library does not know
    if (!isFile && type !== 'directory') throw this.unsafe(name, `it is ${describeType(type)}`)
    if (path.segments.length === 0) {
      if (isFile) throw this.unsafe(name, 'it has no name')
      return drain(entry)
    }
    this.roots.add(path.segments[0] ?? '')
    if (isFile && this.bytes + (size ?? 0) > this.options.bytesMax) throw this.tooLarge()
    const selected = this.options.select?.(path.segments.join('/')) ?? true
    if (!selected) {
      this.bytes += isFile ? (size ?? 0) : 0
      return drain(entry)
    }
    if (isFile) await this.writeFile(entry, path.segments)
    else await this.makeDirectories(name, path.segments)
    return drain(entry)
  }

  private async writeFile(entry: Entry, segments: string[]): Promise<void> {
    const name = entry.header.name
    await this.makeDirectories(name, segments.slice(0, -1))
    const mode = ((entry.header.mode ?? 0) & 0o111) === 0 ? 0o644 : 0o755
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0)
    const file = await open(join(this.options.into, ...segments), flags, mode).catch((error: unknown) => {
      throw this.placeTaken(name, error)
    })
    try {
      for await (const chunk of entry as AsyncIterable<Uint8Array>) {
        this.options.signal.throwIfAborted()
        this.bytes += chunk.byteLength
        if (this.bytes > this.options.bytesMax) throw this.tooLarge()
        await file.writeFile(chunk)
      }
    } finally {
      await file.close()
    }
    this.files.push(segments.join('/'))
  }

  private async makeDirectories(name: string, segments: string[]): Promise<void> {
    let path = ''
    for (const segment of segments) {
      path = path === '' ? segment : `${path}/${segment}`
      if (this.directories.has(path)) continue
      this.countEntry()
      const onDisk = join(this.options.into, path)
      try {
        await mkdir(onDisk, 0o755)
      } catch (error) {
        if (!(await isDirectory(onDisk))) throw this.placeTaken(name, error)
      }
      this.directories.add(path)
    }
  }

  private countEntry(): void {
    this.entries += 1
    if (this.entries <= this.options.entriesMax) return
    throw new WeirError(
      this.options.codes.tooLarge,
      `Cannot unpack ${this.options.what}: it holds more than ${this.options.entriesMax} files and directories`,
    )
  }

  private tooLarge(): WeirError {
    return tooLargeError(this.options)
  }

  private unsafe(name: string, problem: string): WeirError {
    return new WeirError(
      this.options.codes.unsafe,
      `Cannot unpack ${this.options.what}: entry "${printableName(name)}" is refused because ${problem}`,
      { hint: 'Pack regular files and directories only, with relative paths' },
    )
  }

  private placeTaken(name: string, error: unknown): WeirError {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (['EEXIST', 'ENOTDIR', 'EISDIR'].includes(code))
      return this.unsafe(name, 'another entry has the same name')
    return new WeirError(
      this.options.codes.corrupt,
      `Cannot write entry "${printableName(name)}" of ${this.options.what}: ${code}`,
      {
        cause: error,
      },
    )
  }
}

async function feed(
  gunzip: AsyncIterable<Uint8Array>,
  extract: Extract,
  target: UnpackTarget,
  signal: AbortSignal,
): Promise<void> {
  let read = 0
  try {
    for await (const chunk of gunzip) {
      signal.throwIfAborted()
      if (extract.destroying) return
      read += chunk.byteLength
      if (read > target.streamBytesMax) throw new StreamTooLong()
      if (!extract.write(chunk)) await drained(extract)
    }
    extract.end(null)
  } catch (error) {
    extract.destroy(error instanceof Error ? error : new Error(String(error)))
    throw error
  }
}

class StreamTooLong extends Error {}

function readError(error: unknown, options: UnpackOptions): unknown {
  if (options.signal.aborted) return options.signal.reason
  if (error instanceof WeirError) return error
  if (error instanceof StreamTooLong) return tooLargeError(options)
  const message = error instanceof Error ? error.message : String(error)
  return new WeirError(
    options.codes.corrupt,
    `Cannot unpack ${options.what}: not a complete gzipped tar (${message})`,
    {
      cause: error,
    },
  )
}

function tooLargeError(options: UnpackOptions): WeirError {
  return new WeirError(
    options.codes.tooLarge,
    `Cannot unpack ${options.what}: it holds more than ${options.bytesMax} bytes`,
  )
}

async function drain(entry: Entry): Promise<void> {
  for await (const _chunk of entry) {
    // Skipped content; the stream's own bound counts it.
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return lstat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  )
}

function describeType(type: string | null | undefined): string {
  if (type === 'symlink') return 'a symbolic link'
  if (type === 'link') return 'a hard link'
  if (type === 'fifo') return 'a named pipe'
  if (type === 'block-device' || type === 'character-device') return 'a device'
  return 'neither a file nor a directory'
}
