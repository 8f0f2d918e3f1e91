import {
  type BigIntStats,
  constants,
  closeSync,
  fstatSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs'
import {
  DIRECTORY_RIGHTS,
  FDFLAGS,
  FILE_RIGHTS,
  OFLAGS,
  READING_RIGHTS,
  RIGHTS,
  WRITING_RIGHTS,
} from './abi.js'
import type { DirectoryDescriptor, FileDescriptor } from './descriptors.js'
import { WasiError } from './errno.js'
import { resize } from './files.js'
import { type Place, type Resolved, identityOf, native } from './job-tree.js'
import type { WasiState } from './state.js'

export interface OpenRequest {
  path: string
  follow: boolean
  oflags: number
  rights: bigint
  inheriting: bigint
  fdflags: number
}

/** Opens a file or directory and returns its number. Nothing but regular files and directories can be opened. */
export function openPath(state: WasiState, directory: DirectoryDescriptor, request: OpenRequest): number {
  const { oflags } = request
  if ((oflags & ~OFLAGS.ALL) !== 0 || (request.fdflags & ~FDFLAGS.ALL) !== 0) throw new WasiError('INVAL')
  const creates = (oflags & OFLAGS.CREAT) !== 0
  const truncates = (oflags & OFLAGS.TRUNC) !== 0
  if (creates && (directory.rights & RIGHTS.PATH_CREATE_FILE) === 0n) throw new WasiError('NOTCAPABLE')
  if (truncates && (directory.rights & RIGHTS.PATH_FILESTAT_SET_SIZE) === 0n) throw new WasiError('PERM')
  if (creates && (oflags & OFLAGS.DIRECTORY) !== 0) throw new WasiError('INVAL')
  state.descriptors.checkRoom()

  const exclusive = creates && (oflags & OFLAGS.EXCL) !== 0
  const found = state.tree.resolve(directory.place, request.path, request.follow && !exclusive)
  if (found.stat !== undefined && exclusive) throw new WasiError('EXIST')
  if (isDirectory(found)) {
    if (creates || truncates) throw new WasiError('ISDIR')
    return openDirectory(state, directory, found, request)
  }
  if (found.stat !== undefined && found.stat !== 'virtual') {
    if (found.stat.isSymbolicLink()) throw new WasiError('LOOP')
    if (found.wantsDirectory || (oflags & OFLAGS.DIRECTORY) !== 0) throw new WasiError('NOTDIR')
    if (!found.stat.isFile()) throw new WasiError('ACCES')
  } else if (!creates) {
    throw new WasiError('NOENT')
  } else if (found.wantsDirectory) {
    throw new WasiError('ISDIR')
  }
  return openFile(state, directory, found, request)
}

function openDirectory(
  state: WasiState,
  parent: DirectoryDescriptor,
  { place, stat }: Resolved,
  request: OpenRequest,
): number {
  const inherited = parent.inheriting
  if ((request.rights & inherited & RIGHTS.FD_WRITE) !== 0n) throw new WasiError('ISDIR')
  return state.descriptors.add({
    kind: 'directory',
    // Remembered by path, so what stands there later must be the same directory.
    place: typeof stat === 'object' ? { ...place, identity: identityOf(stat) } : place,
    rights: request.rights & inherited & DIRECTORY_RIGHTS,
    inheriting: request.inheriting & inherited,
    flags: request.fdflags,
  })
}

function openFile(
  state: WasiState,
  parent: DirectoryDescriptor,
  found: Resolved,
  request: OpenRequest,
): number {
  const { place } = found
  const isNew = found.stat === undefined
  const rights = request.rights & parent.inheriting & FILE_RIGHTS
  const truncates = (request.oflags & OFLAGS.TRUNC) !== 0 && !isNew
  const canWrite = (rights & (place.writable ? WRITING_RIGHTS : RIGHTS.FD_WRITE)) !== 0n
  const canRead = (rights & READING_RIGHTS) !== 0n || !canWrite
  if ((canWrite || truncates || isNew) && !place.writable) throw new WasiError('ROFS')
  if (isNew) state.budget.checkFile()

  const opensWriting = canWrite || truncates
  const access = opensWriting ? (canRead ? constants.O_RDWR : constants.O_WRONLY) : constants.O_RDONLY
  const create = isNew ? constants.O_CREAT | constants.O_EXCL : 0
  // O_NONBLOCK: should a pipe have taken the file's place, opening it must not wait.
  const flags = access | create | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const fd = openSync(native(place.real ?? ''), flags, 0o666)
  const stat = fstatSync(fd, { bigint: true })
  if (!stat.isFile()) {
    closeSync(fd)
    throw new WasiError('ACCES')
  }
  if (isNew) state.budget.takeFile()
  const file = state.openFiles.open(stat)
  const descriptor: FileDescriptor = {
    kind: 'file',
    fd,
    rights,
    inheriting: request.inheriting & parent.inheriting & FILE_RIGHTS,
    flags: request.fdflags,
    offset: 0,
    canRead: (rights & RIGHTS.FD_READ) !== 0n,
    canWrite: opensWriting,
    file,
  }
  if (truncates) resize(state, descriptor, 0)
  descriptor.canWrite = canWrite
  return state.descriptors.add(descriptor)
}

export function closeDescriptor(state: WasiState, number: number): void {
  const closed = state.descriptors.remove(number)
  if (closed.kind === 'file') state.openFiles.close(closed, state.budget)
}

export function createDirectory(state: WasiState, directory: DirectoryDescriptor, path: string): void {
  const found = state.tree.resolve(directory.place, path, false)
  if (found.stat !== undefined) throw new WasiError('EXIST')
  checkWritable(found.place)
  state.budget.checkFile()
  mkdirSync(native(found.place.real ?? ''), 0o777)
  state.budget.takeFile()
}

export function removeDirectory(state: WasiState, directory: DirectoryDescriptor, path: string): void {
  const found = existing(state, directory, path)
  if (!isDirectory(found)) throw new WasiError('NOTDIR')
  checkMovable(found.place)
  if (/(^|\/)\.\.?\/*$/.test(path)) throw new WasiError('INVAL')
  rmdirSync(native(found.place.real ?? ''))
  state.budget.giveFile()
  closeOff(state, found.place)
}

/** A directory is gone: numbers are used again, so its identity alone does not tell it from its successor. */
function closeOff(state: WasiState, gone: Place): void {
  for (const open of state.descriptors.directories()) {
    if (open.place.real === gone.real) open.place = { ...open.place, identity: GONE }
  }
}

/** No directory has this identity. */
const GONE = 'gone'

export function unlinkFile(state: WasiState, directory: DirectoryDescriptor, path: string): void {
  const found = existing(state, directory, path)
  if (isDirectory(found)) throw new WasiError('ISDIR')
  checkMovable(found.place)
  unlinkSync(native(found.place.real ?? ''))
  state.openFiles.unlinked(found.stat as BigIntStats, state.budget)
}

export function rename(
  state: WasiState,
  fromDirectory: DirectoryDescriptor,
  fromPath: string,
  toDirectory: DirectoryDescriptor,
  toPath: string,
): void {
  const from = existing(state, fromDirectory, fromPath)
  const to = state.tree.resolve(toDirectory.place, toPath, false)
  checkMovable(from.place)
  checkMovable(to.place)
  if (from.place.mount !== to.place.mount) throw new WasiError('XDEV')
  if (to.wantsDirectory && !isDirectory(from)) throw new WasiError('NOTDIR')
  const oldPath = from.place.real ?? ''
  const newPath = to.place.real ?? ''
  renameSync(native(oldPath), native(newPath))
  if (oldPath !== newPath) closeOff(state, to.place)
  const replaced = to.stat !== undefined && to.stat !== 'virtual' ? to.stat : undefined
  const isSame = replaced !== undefined && from.stat !== 'virtual' && replaced.ino === from.stat?.ino
  if (replaced !== undefined && !isSame) state.openFiles.unlinked(replaced, state.budget)
  // Open directories are remembered by path, so they move along.
  for (const open of state.descriptors.directories()) {
    const { place } = open
    if (place.real !== oldPath && place.real?.startsWith(`${oldPath}/`) !== true) continue
    const rest = place.real.slice(oldPath.length)
    open.place = { ...place, real: newPath + rest, path: to.place.path + rest }
  }
}

export function link(
  state: WasiState,
  fromDirectory: DirectoryDescriptor,
  fromPath: string,
  toDirectory: DirectoryDescriptor,
  toPath: string,
): void {
  const from = existing(state, fromDirectory, fromPath)
  if (isDirectory(from)) throw new WasiError('PERM')
  const to = state.tree.resolve(toDirectory.place, toPath, false)
  if (to.stat !== undefined) throw new WasiError('EXIST')
  if (to.wantsDirectory) throw new WasiError('NOENT')
  if (from.place.mount !== to.place.mount) throw new WasiError('XDEV')
  checkMovable(from.place)
  checkWritable(to.place)
  state.budget.checkFile()
  linkSync(native(from.place.real ?? ''), native(to.place.real ?? ''))
  state.budget.takeFile()
}

export function symlink(
  state: WasiState,
  target: string,
  directory: DirectoryDescriptor,
  path: string,
): void {
  if (target === '') throw new WasiError('NOENT')
  if (target.startsWith('/')) throw new WasiError('PERM')
  if (target.includes('\0')) throw new WasiError('INVAL')
  const found = state.tree.resolve(directory.place, path, false)
  if (found.stat !== undefined) throw new WasiError('EXIST')
  if (found.wantsDirectory) throw new WasiError('NOENT')
  checkWritable(found.place)
  state.budget.checkFile()
  symlinkSync(native(target), native(found.place.real ?? ''))
  state.budget.takeFile()
}

/** The text of a link; a link that points out of the job's tree is not told (EPERM). */
export function readLink(state: WasiState, directory: DirectoryDescriptor, path: string): string {
  const found = existing(state, directory, path)
  if (found.stat === 'virtual' || found.stat?.isSymbolicLink() !== true) throw new WasiError('INVAL')
  const target = readlinkSync(native(found.place.real ?? ''), { encoding: 'latin1' })
  if (target.startsWith('/') || climbsOut(found.place.path, target)) throw new WasiError('PERM')
  return target
}

export function setPathTimes(state: WasiState, place: Place, atimNs: bigint, mtimNs: bigint): void {
  checkWritable(place)
  const path = native(place.real ?? '')
  lutimesSync(path, Number(atimNs) / 1e9, Number(mtimNs) / 1e9)
  state.times.remember(lstatSync(path, { bigint: true }), atimNs, mtimNs)
}

/** Resolves without following a link at the end; ENOENT when nothing is there. */
export function existing(
  state: WasiState,
  directory: DirectoryDescriptor,
  path: string,
  follow = false,
): Resolved {
  const found = state.tree.resolve(directory.place, path, follow)
  if (found.stat === undefined) throw new WasiError('NOENT')
  return found
}

export function isDirectory(found: Resolved): boolean {
  return found.stat === 'virtual' || found.stat?.isDirectory() === true
}

function checkWritable(place: Place): void {
  if (!place.writable || place.real === undefined || place.real === '') throw new WasiError('ROFS')
}

function checkMovable(place: Place): void {
  if (place.isMountPoint) throw new WasiError('BUSY')
  checkWritable(place)
}

function climbsOut(linkPath: string, target: string): boolean {
  let depth = linkPath.split('/').length - 2
  for (const part of target.split('/')) {
    if (part === '..') depth--
    else if (part !== '' && part !== '.') depth++
    if (depth < 0) return true
  }
  return false
}
