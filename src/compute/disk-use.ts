import { lstat, opendir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { formatBytes } from '../model/resources.js'
import type { Clock } from '../ports/index.js'
import { sleepFor } from './bounded-work.js'
import { diskEnd, type ExecutionEnd } from './execution-end.js'

/** Bounds of what one execution may leave on disk. */
export interface DiskBounds {
  bytesMax: number
  filesMax: number
  /** What must stay free on the disk, for everybody. */
  reserveBytes: number
}

/** What lies below some directories. */
export interface DiskUse {
  /** Lengths of regular files: a sparse file counts with its whole length, because that is what publishing it costs. */
  bytes: number
  /** Everything that has a name. */
  files: number
  /** Directories are nested so deep that what is below cannot be counted. */
  tooDeep: boolean
}

/**
 * Counts without following links, and stops as soon as a bound is passed: looking at a million files costs no more
 * than looking at the permitted ones.
 */
export async function measureDisk(
  dirs: readonly string[],
  bounds: { bytesMax: number; filesMax: number },
  signal: AbortSignal,
): Promise<DiskUse> {
  const use: DiskUse = { bytes: 0, files: 0, tooDeep: false }
  const todo = [...dirs]
  for (let dir = todo.pop(); dir !== undefined; dir = todo.pop()) {
    use.tooDeep ||= Buffer.byteLength(dir) > PATH_BYTES_MAX
    if (use.tooDeep) return use
    for await (const names of batches(dir)) {
      if (signal.aborted) return use
      use.files += names.length
      const stats = await Promise.all(names.map((name) => lstatOrGone(join(dir, name))))
      for (const [index, found] of stats.entries()) {
        if (found?.isFile() === true) use.bytes += found.size
        if (found?.isDirectory() === true) todo.push(join(dir, names[index] ?? ''))
      }
      if (use.files > bounds.filesMax || use.bytes > bounds.bytesMax) return use
    }
  }
  return use
}

/**
 * Looks at the directories every `intervalMs` (less often when looking takes long) until a bound is passed or the
 * signal aborts; then undefined.
 */
export async function watchDisk(
  dirs: readonly string[],
  bounds: DiskBounds,
  { clock, intervalMs }: { clock: Clock; intervalMs: number },
  signal: AbortSignal,
): Promise<ExecutionEnd | undefined> {
  let pauseMs = intervalMs
  while (await sleepFor(clock, pauseMs, signal)) {
    const startMs = clock.now()
    const end = await judge(dirs, bounds, signal)
    if (end !== undefined) return end
    pauseMs = Math.max(intervalMs, 4 * (clock.now() - startMs))
  }
  return undefined
}

async function judge(
  dirs: readonly string[],
  bounds: DiskBounds,
  signal: AbortSignal,
): Promise<ExecutionEnd | undefined> {
  const use = await measureDisk(dirs, bounds, signal)
  if (use.bytes > bounds.bytesMax) {
    return diskEnd(
      `The program wrote more than ${formatBytes(bounds.bytesMax)} to disk`,
      'Write less, or ask for more: --disk',
    )
  }
  if (use.files > bounds.filesMax) {
    return diskEnd(
      `The program made more than ${bounds.filesMax} files`,
      'Pack results into fewer files, for example with tar',
    )
  }
  if (use.tooDeep) {
    return diskEnd('The program nested directories too deep', 'Keep paths below 3,000 bytes')
  }
  const [dir] = dirs
  if (dir === undefined) return undefined
  const { bavail, bsize } = await statfs(dir)
  if (bavail * bsize >= bounds.reserveBytes) return undefined
  return diskEnd('The disk of the node is full', 'Try again later or on another node', true)
}

async function* batches(dir: string): AsyncGenerator<string[]> {
  let names: string[] = []
  try {
    for await (const entry of await opendir(dir, { bufferSize: BATCH })) {
      names.push(entry.name)
      if (names.length < BATCH) continue
      yield names
      names = []
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // The program removed the directory, or forbade its own user to read it: what it hides is not collected either.
    if (code !== 'ENOENT' && code !== 'EACCES' && code !== 'ENOTDIR') throw error
  }
  if (names.length > 0) yield names
}

async function lstatOrGone(path: string) {
  try {
    return await lstat(path)
  } catch {
    // The program removed it in the meantime.
    return undefined
  }
}

const BATCH = 64
/** The kernel takes paths up to 4,096 bytes; a name has up to 255. */
const PATH_BYTES_MAX = 3_800
