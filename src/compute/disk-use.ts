import { lstatSync, type Stats } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { formatBytes } from '../model/resources.js'
import type { Clock } from '../ports/index.js'
import { sleepFor } from './bounded-work.js'
import { diskEnd, type ExecutionEnd } from './execution-end.js'
import { OpenDirectory } from './open-directory.js'

/** Bounds of what one execution may leave on disk. */
export interface DiskBounds {
  /** All places together. */
  bytesMax: number
  /** What must stay free on the disk of each place, for everybody. */
  reserveBytes: number
}

/** Directories on one disk, with a bound on what has a name in them. */
export interface WatchedPlace {
  dirs: readonly string[]
  filesMax: number
}

/** What lies below some directories. */
export interface DiskUse {
  /** Lengths of regular files: a sparse file counts with its whole length, because that is what publishing it costs. */
  bytes: number
  /** Everything that has a name. */
  files: number
  /** Directories are nested so deep that what is below is not counted. */
  tooDeep: boolean
}

/**
 * Counts whatever the names are, text or not, follows no link, and stops as soon as a bound is passed: looking at a
 * million files costs no more than looking at the permitted ones. What cannot be read is not counted, because it is
 * not collected either. Ends early when the signal aborts.
 */
export async function measureDisk(
  dirs: readonly string[],
  bounds: { bytesMax: number; filesMax: number },
  signal: AbortSignal,
): Promise<DiskUse> {
  const use: DiskUse = { bytes: 0, files: 0, tooDeep: false }
  const isEnough = () =>
    signal.aborted || use.tooDeep || use.files > bounds.filesMax || use.bytes > bounds.bytesMax
  for (const dir of dirs) {
    const root = openOrGone(dir)
    if (root !== undefined) await count(root, 1, use, isEnough)
  }
  return use
}

/** Closes `directory`. One descriptor is open per level. */
async function count(
  directory: OpenDirectory,
  depth: number,
  use: DiskUse,
  isEnough: () => boolean,
): Promise<void> {
  try {
    const deeper: Buffer[] = []
    for await (const { name } of directory.entries()) {
      if (isEnough()) return
      use.files += 1
      const stats = lstatOrGone(directory.path(name))
      if (stats?.isFile() === true) use.bytes += stats.size
      else if (stats?.isDirectory() === true) deeper.push(name)
    }
    use.tooDeep ||= deeper.length > 0 && depth >= DEPTH_MAX
    for (const name of deeper) {
      if (isEnough()) return
      const inner = openOrGone(directory.path(name))
      if (inner !== undefined) await count(inner, depth + 1, use, isEnough)
    }
  } catch (error) {
    if (!isHidden(error)) throw error
  } finally {
    directory.close()
  }
}

/**
 * Looks at the places, also those that are added meanwhile, every `intervalMs` (less often when looking takes long) until a bound is passed or the
 * signal aborts; then undefined. A disk that cannot be looked at five times in a row ends the execution as well.
 */
export async function watchDisk(
  places: readonly WatchedPlace[],
  bounds: DiskBounds,
  { clock, intervalMs }: { clock: Clock; intervalMs: number },
  signal: AbortSignal,
): Promise<ExecutionEnd | undefined> {
  let pauseMs = intervalMs
  let failures = 0
  while (await sleepFor(clock, pauseMs, signal)) {
    const startMs = clock.now()
    try {
      const end = await judge(places, bounds, signal)
      if (end !== undefined) return end
      failures = 0
    } catch (error) {
      failures += 1
      if (failures >= FAILURES_MAX) return unwatched(error)
    }
    pauseMs = Math.max(intervalMs, 4 * (clock.now() - startMs))
  }
  return undefined
}

async function judge(
  places: readonly WatchedPlace[],
  { bytesMax, reserveBytes }: DiskBounds,
  signal: AbortSignal,
): Promise<ExecutionEnd | undefined> {
  let bytes = 0
  for (const { dirs, filesMax } of places) {
    const use = await measureDisk(dirs, { bytesMax: bytesMax - bytes, filesMax }, signal)
    bytes += use.bytes
    if (bytes > bytesMax) {
      return diskEnd(
        `The program wrote more than ${formatBytes(bytesMax)} to disk`,
        'Write less, or ask for more: --disk',
      )
    }
    if (use.files > filesMax) {
      return diskEnd(
        `The program made more than ${filesMax} files`,
        'Pack results into fewer files, for example with tar',
      )
    }
    if (use.tooDeep) {
      return diskEnd('The program nested directories too deep', `Nest at most ${DEPTH_MAX} directories`)
    }
    const [dir] = dirs
    if (dir === undefined) continue
    const { bavail, bsize } = await statfs(dir)
    if (bavail * bsize < reserveBytes)
      return diskEnd('The disk of the node is full', 'Try again later or on another node', true)
  }
  return undefined
}

function unwatched(error: unknown): ExecutionEnd {
  const reason = error instanceof Error ? error.message : String(error)
  return diskEnd(
    `The disk that the program uses cannot be watched: ${reason}`,
    'Try again later or on another node',
    true,
  )
}

/** Undefined when the program removed it, replaced it, or forbade its own user to read it. */
function openOrGone(path: string | Buffer): OpenDirectory | undefined {
  try {
    return new OpenDirectory(path)
  } catch (error) {
    if (isHidden(error)) return undefined
    throw error
  }
}

function lstatOrGone(path: Buffer): Stats | undefined {
  try {
    return lstatSync(path)
  } catch (error) {
    if (isHidden(error)) return undefined
    throw error
  }
}

function isHidden(error: unknown): boolean {
  return ['ENOENT', 'EACCES', 'ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '')
}

/** One more than what archives of inputs may hold. */
const DEPTH_MAX = 257
const FAILURES_MAX = 5
