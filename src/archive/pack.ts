import { Buffer, isUtf8 } from 'node:buffer'
import { constants } from 'node:fs'
import { lstat, open, readdir } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { join } from 'node:path'
import type { Pack } from 'tar-stream'
import { WeirError, type ErrorCode } from '../errors.js'
import { readEntryPath } from './entry-path.js'
import { printableName } from './printable-name.js'
import { drained } from './stream-drain.js'

type Sink = ReturnType<Pack['entry']>

export interface PackOptions {
  /** A directory, whose content becomes the archive's root, or a regular file, which becomes its only entry. */
  path: string
  /** Content of all files together. */
  bytesMax: number
  /** Files and directories together. */
  entriesMax: number
  /** What is packed, in messages. */
  what: string
  /** The codes of the caller's room. */
  codes: { failed: ErrorCode; tooLarge: ErrorCode }
  signal: AbortSignal
}

/** Every entry carries this time, so that the same content always gives the same bytes. */
const ENTRY_TIME = new Date('2000-01-01T00:00:00Z')
const CHUNK_BYTES = 256 * 1024

/**
 * A tar of a directory tree, not compressed. Deterministic: names in byte order, fixed times and owners, modes only
 * "executable or not". Regular files and directories only: a link or anything else makes the stream fail with
 * `codes.failed`, as does a file that shrinks while it is read; too much content with `codes.tooLarge`.
 */
export async function packTar(options: PackOptions): Promise<Readable> {
  const { pack: newPack } = await import('tar-stream')
  return Readable.from(chunksOf(newPack(), options), { objectMode: false })
}

/** Packing begins when somebody reads, so that a failure always has somebody to tell. */
async function* chunksOf(pack: Pack, options: PackOptions): AsyncGenerator<Uint8Array> {
  const packing = packRoot(pack, options).then(
    () => pack.finalize(),
    (error: unknown) => pack.destroy(error instanceof Error ? error : new Error(String(error))),
  )
  try {
    yield* pack as AsyncIterable<Uint8Array>
  } finally {
    pack.destroy(null)
    await packing
  }
}

interface Counts {
  bytes: number
  entries: number
}

async function packRoot(pack: Pack, options: PackOptions): Promise<void> {
  const counts: Counts = { bytes: 0, entries: 0 }
  const stats = await lstat(options.path)
  if (stats.isDirectory()) return packDirectory(pack, options, counts, options.path, '')
  const name = options.path.slice(options.path.lastIndexOf('/') + 1)
  await packFile(pack, options, counts, options.path, name)
}

async function packDirectory(
  pack: Pack,
  options: PackOptions,
  counts: Counts,
  dir: string,
  prefix: string,
): Promise<void> {
  const entries = await readdir(dir, { withFileTypes: true, encoding: 'buffer' })
  entries.sort((a, b) => Buffer.compare(a.name, b.name))
  for (const entry of entries) {
    options.signal.throwIfAborted()
    if (!isUtf8(entry.name)) throw refused(options, prefix, entry.name, 'its name is not UTF-8')
    const name = prefix + entry.name.toString('utf8')
    const path = join(dir, entry.name.toString('utf8'))
    if (entry.isDirectory()) {
      count(options, counts, name)
      await addDirectory(pack, name)
      await packDirectory(pack, options, counts, path, `${name}/`)
    } else if (entry.isFile()) await packFile(pack, options, counts, path, name)
    else throw refused(options, prefix, entry.name, 'it is neither a file nor a directory')
  }
}

function addDirectory(pack: Pack, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    pack.entry({ name: `${name}/`, type: 'directory', mode: 0o755, mtime: ENTRY_TIME }, (error) => {
      if (error) reject(error)
      else resolve()
    })
  })
}

async function packFile(
  pack: Pack,
  options: PackOptions,
  counts: Counts,
  path: string,
  name: string,
): Promise<void> {
  count(options, counts, name)
  // Without O_NONBLOCK, opening what turned into a named pipe would wait for ever.
  const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)
  const file = await open(path, flags)
  try {
    const stats = await file.stat()
    if (!stats.isFile()) throw refused(options, '', Buffer.from(name), 'it is not a regular file')
    counts.bytes += stats.size
    if (counts.bytes > options.bytesMax) throw tooLarge(options, `more than ${options.bytesMax} bytes`)
    const mode = (stats.mode & 0o111) === 0 ? 0o644 : 0o755
    await new Promise<void>((resolve, reject) => {
      const sink = pack.entry({ name, type: 'file', size: stats.size, mode, mtime: ENTRY_TIME }, (error) => {
        if (error) reject(error)
        else resolve()
      })
      copyExactly(file, stats.size, sink, options).then(
        () => sink.end(null),
        (error: unknown) => sink.destroy(error instanceof Error ? error : new Error(String(error))),
      )
    })
  } finally {
    await file.close()
  }
}

async function copyExactly(
  file: Awaited<ReturnType<typeof open>>,
  size: number,
  sink: Sink,
  options: PackOptions,
): Promise<void> {
  for (let position = 0; position < size; ) {
    options.signal.throwIfAborted()
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - position))
    const { bytesRead } = await file.read(buffer, 0, buffer.length, position)
    if (bytesRead === 0)
      throw new WeirError(
        options.codes.failed,
        `Cannot pack ${options.what}: a file became shorter meanwhile`,
      )
    position += bytesRead
    if (!sink.write(buffer.subarray(0, bytesRead))) await drained(sink)
  }
}

function count(options: PackOptions, counts: Counts, name: string): void {
  counts.entries += 1
  if (counts.entries > options.entriesMax)
    throw tooLarge(options, `more than ${options.entriesMax} files and directories`)
  const path = readEntryPath(name)
  if (path.problem !== undefined) throw refused(options, '', Buffer.from(name), path.problem)
}

function tooLarge(options: PackOptions, what: string): WeirError {
  return new WeirError(options.codes.tooLarge, `Cannot pack ${options.what}: it holds ${what}`)
}

function refused(options: PackOptions, prefix: string, name: Uint8Array, problem: string): WeirError {
  return new WeirError(
    options.codes.failed,
    `Cannot pack ${options.what}: "${printableName(prefix)}${printableName(name)}" is refused because ${problem}`,
    { hint: 'Only regular files and directories can be packed; copy what a link points to in its place' },
  )
}
