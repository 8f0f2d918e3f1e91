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
import { ALL_RIGHTS, DIRECTORY_RIGHTS, FDFLAGS, FILE_RIGHTS, OFLAGS, RIGHTS, WRITING_RIGHTS } from './abi.js'
import { type DirectoryDescriptor, type FileDescriptor, needs } from './descriptors.js'
import { WasiError } from './errno.js'
import { resize } from './files.js'
import { type Place, type Resolved, identityOf, native } from './job-tree.js'
import type { WasiState } from './state.js'

export interface OpenRequest {
  path: string
  follow: boolean
  oflags: number
  rights: number
  inheriting: number
  fdflags: number
}

/** Opens a file or directory and returns its number. Nothing but regular files and directories can be opened. */
export function openPath(state: WasiState, directory: DirectoryDescriptor, request: OpenRequest): number {
  const { oflags } = request
  if ((oflags & ~OFLAGS.ALL) !== 0 || (request.fdflags & ~FDFLAGS.ALL) !== 0) throw new WasiError('INVAL')
  const creates = (oflags & OFLAGS.CREAT) !== 0
  const truncates = (oflags & OFLAGS.TRUNC) !== 0
  if (creates) needs(directory, RIGHTS.PATH_CREATE_FILE)
  // Existing programs expect this one as EPERM, as from a system that forbids it.
  if (truncates && (directory.denied & RIGHTS.PATH_FILESTAT_SET_SIZE) !== 0) throw new WasiError('PERM')
  if (((request.rights | request.inheriting) & directory.deniedBelow) !== 0) throw new WasiError('NOTCAPABLE')
  if (creates && (oflags & OFLAGS.DIRECTORY) !== 0) throw new WasiError('INVAL')
  state.descriptors.checkRoom()

  const exclusive = creates && (oflags & OFLAGS.EXCL) !== 0
  const follows = request.follow && !exclusive
  const found = state.tree.resolve(directory.place, request.path, follows, creates ? 'create' : 'lookup')
  if (found.stat !== undefined && exclusive) throw new WasiError('EXIST')
  if (isDirectory(found)) {
    const writes = (request.rights & RIGHTS.FD_WRITE) !== 0
    if (creates || truncates || writes) throw new WasiError('ISDIR')
    return openDirectory(state, directory, found, request)
  }
  if (found.stat !== undefined && found.stat !== 'virtual') {
    if ((oflags & OFLAGS.DIRECTORY) !== 0) throw new WasiError('NOTDIR')
    if (found.stat.isSymbolicLink()) throw new WasiError('LOOP')
    if (!found.stat.isFile()) throw new WasiError('ACCES')
  } else if (!creates) {
    throw new WasiError('NOENT')
  }
  return openFile(state, directory, found, request)
}

function openDirectory(
  state: WasiState,
  parent: DirectoryDescriptor,
  { place, stat }: Resolved,
  request: OpenRequest,
): number {
  const { inheriting } = request
  // Who passes no rights on at all does not use them; who passes some on limits what can be opened to those.
  const limits = inheriting === 0 ? 0 : ALL_RIGHTS & ~inheriting
  return state.descriptors.add({
    kind: 'directory',
    // Remembered by path, so what stands there later must be the same directory.
    place: typeof stat === 'object' ? { ...place, identity: identityOf(stat) } : place,
    rights: request.rights & DIRECTORY_RIGHTS,
    inheriting,
    denied: parent.deniedBelow,
    deniedBelow: parent.deniedBelow | limits,
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
  const rights = request.rights & FILE_RIGHTS
  const truncates = (request.oflags & OFLAGS.TRUNC) !== 0 && !isNew
  const canRead = (rights & RIGHTS.FD_READ) !== 0
  const canWrite = (rights & RIGHTS.FD_WRITE) !== 0
  // Where nothing can be written, asking for the lesser rights of writing beside reading is no attempt to write.
  const canResize = canWrite || (place.writable && (rights & WRITING_RIGHTS) !== 0)
  const opensWriting = canResize || truncates
  if ((opensWriting || isNew) && !place.writable) throw new WasiError('ROFS')
  if (isNew) state.budget.checkFile()

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
  const descriptor: FileDescriptor = {
    kind: 'file',
    fd,
    rights,
    inheriting: request.inheriting & FILE_RIGHTS,
    denied: parent.deniedBelow,
    deniedBelow: parent.deniedBelow,
    flags: request.fdflags,
    offset: 0,
    canRead,
    canWrite,
    canResize: opensWriting,
    file: state.openFiles.open(stat),
  }
  try {
    if (truncates) resize(state, descriptor, 0)
  } catch (error) {
    closeSync(fd)
    state.openFiles.close(descriptor, state.budget)
    throw error
  }
  descriptor.canResize = canResize
  return state.descriptors.add(descriptor)
}

export function closeDescriptor(state: WasiState, number: number): void {
  const closed = state.descriptors.remove(number)
  if (closed.kind === 'file') state.openFiles.close(closed, state.budget)
}

export function createDirectory(state: WasiState, directory: DirectoryDescriptor, path: string): void {
  const found = state.tree.resolve(directory.place, path, false, 'entry')
  if (found.stat !== undefined) throw new WasiError('EXIST')
  checkWritable(found.place)
  state.budget.checkFile()
  mkdirSync(native(found.place.real ?? ''), 0o777)
  state.budget.takeFile()
}

export function removeDirectory(state: WasiState, directory: DirectoryDescriptor, path: string): void {
  const found = entry(state, directory, path)
  const dots = dotsAtTheEnd(path)
  if (dots !== '') throw new WasiError(dots === '.' ? 'INVAL' : 'NOTEMPTY')
  if (!isDirectory(found)) throw new WasiError('NOTDIR')
  checkMovable(found.place)
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
  const found = entry(state, directory, path)
  if (isDirectory(found)) throw new WasiError('ISDIR')
  if (found.wantsDirectory) throw new WasiError('NOTDIR')
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
  const from = state.tree.resolve(fromDirectory.place, fromPath, false, 'entry')
  const to = state.tree.resolve(toDirectory.place, toPath, false, 'entry')
  if (dotsAtTheEnd(fromPath) !== '' || dotsAtTheEnd(toPath) !== '') throw new WasiError('BUSY')
  if (from.stat === undefined) throw new WasiError('NOENT')
  checkMovable(from.place)
  checkMovable(to.place)
  if (from.place.mount !== to.place.mount) throw new WasiError('XDEV')
  if ((from.wantsDirectory || to.wantsDirectory) && !isDirectory(from)) throw new WasiError('NOTDIR')
  const oldPath = from.place.real ?? ''
  const newPath = to.place.real ?? ''
  renameSync(native(oldPath), native(newPath))
  const replaced = to.stat !== undefined && to.stat !== 'virtual' ? to.stat : undefined
  // Two names of one file: renaming one to the other does nothing.
  if (replaced !== undefined && from.stat !== 'virtual' && replaced.ino === from.stat.ino) return
  closeOff(state, to.place)
  if (replaced !== undefined) state.openFiles.unlinked(replaced, state.budget)
  // Open directories are remembered by path, so they move along.
  for (const open of state.descriptors.directories()) {
    const { place } = open
    if (place.real !== oldPath && place.real?.startsWith(`${oldPath}/`) !== true) continue
    const rest = place.real.slice(oldPath.length)
    open.place = { ...place, real: newPath + rest, path: to.place.path + rest }
  }
}

/** `follow` links to what a link leads to, otherwise the link itself gets another name. */
export function link(
  state: WasiState,
  fromDirectory: DirectoryDescriptor,
  fromPath: string,
  follow: boolean,
  toDirectory: DirectoryDescriptor,
  toPath: string,
): void {
  const from = existing(state, fromDirectory, fromPath, follow)
  const to = state.tree.resolve(toDirectory.place, toPath, false, 'entry')
  if (to.stat !== undefined) throw new WasiError('EXIST')
  if (to.wantsDirectory) throw new WasiError('NOENT')
  if (isDirectory(from)) throw new WasiError('PERM')
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
  const found = state.tree.resolve(directory.place, path, false, 'entry')
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

/** What a path leads to; ENOENT when nothing is there. */
export function existing(
  state: WasiState,
  directory: DirectoryDescriptor,
  path: string,
  follow = false,
): Resolved {
  return there(state.tree.resolve(directory.place, path, follow))
}

/** A name in its directory, never followed; ENOENT when nothing has it. */
function entry(state: WasiState, directory: DirectoryDescriptor, path: string): Resolved {
  return there(state.tree.resolve(directory.place, path, false, 'entry'))
}

function there(found: Resolved): Resolved {
  if (found.stat === undefined) throw new WasiError('NOENT')
  return found
}

/** `.` or `..` as the last name, which is no entry of its own; else empty. */
function dotsAtTheEnd(path: string): string {
  return /(?:^|\/)(\.\.?)\/*$/.exec(path)?.[1] ?? ''
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
