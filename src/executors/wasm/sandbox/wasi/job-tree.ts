import { type BigIntStats, lstatSync, readdirSync, readlinkSync } from 'node:fs'
import type { SandboxMount } from '../job.js'
import { WasiError } from './errno.js'

/** A spot in the job's tree, whether something is there or not. Strings hold one character per byte. */
export interface Place {
  /** Absolute path that the program sees, without a slash at the end. */
  path: string
  /** Path in the sandbox; undefined for a directory that exists only because something is mounted below it. */
  real: string | undefined
  writable: boolean
  /** Number of the mount it belongs to; places of different mounts never link to each other. */
  mount: number
  /** True for the mount's own directory or file, which cannot be moved or removed. */
  isMountPoint: boolean
  /**
   * Of an open directory: which one it was. Another one in its place, or a link to one, is not it; absent = whatever
   * is there.
   */
  identity?: string
}

export interface Resolved {
  place: Place
  /** Absent when nothing is there. */
  stat: BigIntStats | 'virtual' | undefined
  /** The path ended in a slash, so only a directory will do. */
  wantsDirectory: boolean
}

const LINKS_MAX = 40
const NAME_BYTES_MAX = 255
const PATH_BYTES_MAX = 65_536

/**
 * What the last name of a path is for, which decides what a slash behind it means (as in Linux):
 *
 * - `lookup`: something that is there; the slash follows a link and wants a directory.
 * - `entry`: a name in its directory, to be made, removed or moved; it is never followed, and the caller judges the slash.
 * - `create`: a file to be opened and made when missing; the slash is EISDIR, whatever is there.
 */
export type LastName = 'lookup' | 'entry' | 'create'

/**
 * The files a job sees: its mounts, and read-only directories that lead to them.
 *
 * Paths are resolved one component at a time. A path never climbs above the directory it starts from, an absolute path
 * or link is refused, and no component is ever left for the kernel to follow.
 */
export class JobTree {
  readonly root: Place = { path: '', real: undefined, writable: false, mount: -1, isMountPoint: true }
  readonly #mounts = new Map<string, Place>()
  /** Names that mounts add to a directory, by the directory's path. */
  readonly #added = new Map<string, Set<string>>()

  constructor(mounts: readonly SandboxMount[]) {
    mounts.forEach((one, index) => this.#mount(one, index))
  }

  /** The place of a mount's target, or the root for any other path; for preopened directories. */
  at(target: string): Place {
    return this.#mounts.get(normal(target)) ?? this.root
  }

  child(directory: Place, name: string): Place {
    const path = `${directory.path}/${name}`
    const mounted = this.#mounts.get(path)
    if (mounted !== undefined) return mounted
    if (directory.real === undefined) {
      const leads = this.#added.has(path)
      if (leads) return { path, real: undefined, writable: false, mount: -1, isMountPoint: true }
      // Nothing is there, and nothing can be made there: creating it fails with EROFS as `writable` is false.
      return { path, real: '', writable: false, mount: -1, isMountPoint: false }
    }
    if (
      this.#added.has(path) &&
      this.stat({ ...directory, path, real: `${directory.real}/${name}`, identity: undefined }) === undefined
    ) {
      return { path, real: undefined, writable: false, mount: -1, isMountPoint: true }
    }
    return {
      path,
      real: `${directory.real}/${name}`,
      writable: directory.writable,
      mount: directory.mount,
      isMountPoint: false,
    }
  }

  /** Names in a directory, without `.` and `..`. */
  list(directory: Place): string[] {
    this.check(directory)
    const names =
      directory.real === undefined ? [] : readdirSync(native(directory.real), { encoding: 'latin1' })
    const added = this.#added.get(directory.path)
    if (added === undefined) return names
    return [...new Set([...names, ...added])]
  }

  stat(place: Place): BigIntStats | 'virtual' | undefined {
    if (place.real === undefined) return 'virtual'
    if (place.real === '') return undefined
    const found = lstatSync(native(place.real), { bigint: true, throwIfNoEntry: false })
    if (found === undefined || place.identity === undefined) return found
    return found.isDirectory() && identityOf(found) === place.identity ? found : undefined
  }

  /** ENOENT for an open directory that is no longer there: only its own parts may be looked for below it. */
  check(directory: Place): void {
    if (directory.identity !== undefined && this.stat(directory) === undefined) throw new WasiError('NOENT')
  }

  /**
   * Finds the place a path leads to from a directory. `follow` follows a link that is the last name.
   *
   * @throws WasiError ENOENT (a directory on the way, or the open one, is missing), ENOTDIR, EISDIR, ELOOP, EPERM (would
   *   leave the directory), EINVAL (NUL byte), ENAMETOOLONG.
   */
  resolve(start: Place, path: string, follow: boolean, last: LastName = 'lookup'): Resolved {
    checkPath(path)
    this.check(start)
    const stack: Place[] = [start]
    const todo = namesOf(path)
    let wantsDirectory = path.endsWith('/')
    let links = 0
    let stat: Resolved['stat'] = undefined
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (name === '.') continue
      if (name === '..') {
        if (stack.length === 1) throw new WasiError('PERM')
        stack.pop()
        stat = undefined
        continue
      }
      if (name.length > NAME_BYTES_MAX) throw new WasiError('NAMETOOLONG')
      const isLast = todo.length === 0
      if (isLast && wantsDirectory && last === 'create') throw new WasiError('ISDIR')
      const place = this.child(stack.at(-1) ?? start, name)
      stat = this.stat(place)
      if (stat === undefined) {
        if (!isLast) throw new WasiError('NOENT')
        return { place, stat, wantsDirectory }
      }
      const isLink = stat !== 'virtual' && stat.isSymbolicLink()
      if (isLink && (!isLast || follow || (wantsDirectory && last === 'lookup'))) {
        if (++links > LINKS_MAX) throw new WasiError('LOOP')
        const target = readlinkSync(native(place.real ?? ''), { encoding: 'latin1' })
        checkPath(target)
        if (isLast && target.endsWith('/')) wantsDirectory = true
        todo.push(...namesOf(target))
        // Should the target be nothing but dots, the directory that the link is in is what was found.
        stat = undefined
        continue
      }
      if (stat !== 'virtual' && !stat.isDirectory()) {
        if (!isLast || (wantsDirectory && last === 'lookup')) throw new WasiError('NOTDIR')
      }
      stack.push(place)
    }
    const place = stack.at(-1) ?? start
    return { place, stat: stat ?? this.stat(place), wantsDirectory }
  }

  /** The directory above; the root's is the root. */
  parent(place: Place): Place {
    let at = this.root
    for (const name of place.path.split('/').slice(1, -1)) at = this.child(at, name)
    return at
  }

  /** An inode number for a directory that exists only because something is mounted below it. */
  virtualInode(place: Place): bigint {
    return BigInt([...this.#added.keys()].indexOf(place.path) + 1)
  }

  #mount(mount: SandboxMount, index: number): void {
    const path = normal(mount.target)
    const place = {
      path,
      real: latin(mount.source),
      writable: mount.writable,
      mount: index,
      isMountPoint: true,
    }
    if (path === '') Object.assign(this.root, place)
    this.#mounts.set(path, place)
    for (let at = path; at !== ''; ) {
      const slash = at.lastIndexOf('/')
      const parent = at.slice(0, slash)
      const names = this.#added.get(parent) ?? new Set()
      names.add(at.slice(slash + 1))
      this.#added.set(parent, names)
      at = parent
    }
  }
}

export function identityOf(stat: BigIntStats): string {
  return `${stat.dev}:${stat.ino}`
}

/** A name as Node's file functions want it: strings with one character per byte become bytes. */
export function native(path: string): string | Buffer {
  return /^[\x01-\x7f]*$/.test(path) ? path : Buffer.from(path, 'latin1')
}

/** UTF-8 text as a string with one character per byte. */
export function latin(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1')
}

function normal(target: string): string {
  const parts = latin(target)
    .split('/')
    .filter((one) => one !== '' && one !== '.')
  return parts.map((one) => `/${one}`).join('')
}

/** The names of a path, the last one first. */
function namesOf(path: string): string[] {
  return path
    .split('/')
    .filter((name) => name !== '')
    .reverse()
}

function checkPath(path: string): void {
  if (path === '') throw new WasiError('NOENT')
  if (path.startsWith('/')) throw new WasiError('PERM')
  if (path.includes('\0')) throw new WasiError('INVAL')
  if (path.length > PATH_BYTES_MAX) throw new WasiError('NAMETOOLONG')
}
