import { type BigIntStats, fstatSync } from 'node:fs'
import { randomFillSync } from 'node:crypto'
import { FDFLAGS, FILETYPE, FSTFLAGS, LOOKUP_SYMLINK_FOLLOW, RIGHTS } from './abi.js'
import { clockResolutionNs, clockTimeNs, realtimeNs } from './clocks.js'
import type { Descriptor } from './descriptors.js'
import { ERRNO, WasiError, errnoOf } from './errno.js'
import {
  allocate,
  fileTypeOf,
  readAt,
  readStream,
  resize,
  safeOffset,
  seek,
  setFileTimes,
  sync,
  writeAt,
  writeStream,
} from './files.js'
import type { GuestMemory } from './guest-memory.js'
import { fillListing } from './listing.js'
import {
  closeDescriptor,
  createDirectory,
  existing,
  link,
  openPath,
  readLink,
  removeDirectory,
  rename,
  setPathTimes,
  symlink,
  unlinkFile,
} from './paths.js'
import { pollOneoff } from './poll.js'
import type { WasiState } from './state.js'

export { GuestMemory } from './guest-memory.js'
export { type WasiState, createWasiState } from './state.js'

type WasiFunction = (...args: never[]) => number | void

/**
 * The functions of WASI preview 1 for one instance: `state` is shared by all instances of a program, `memory` is the
 * instance's own.
 *
 * Every function answers with an error number. Numbers arrive signed, 64-bit ones as BigInt.
 */
export function wasiFunctions(state: WasiState, memory: GuestMemory): Record<string, WasiFunction> {
  const groups = [
    processFunctions(state, memory),
    clockFunctions(state, memory),
    streamFunctions(state, memory),
    descriptorFunctions(state, memory),
    pathFunctions(state, memory),
    socketFunctions(state),
  ]
  const functions: Record<string, WasiFunction> = Object.create(null) as Record<string, WasiFunction>
  for (const [name, call] of groups.flatMap((one) => Object.entries(one))) functions[name] = answering(call)
  return functions
}

/** Turns what a call throws into an error number; what is not meant for the program (a stack overflow) goes on. */
function answering(call: WasiFunction): WasiFunction {
  return (...args) => {
    try {
      return call(...args) ?? ERRNO.SUCCESS
    } catch (error) {
      const errno = errnoOf(error)
      if (errno === undefined) throw error
      return errno
    }
  }
}

function processFunctions(state: WasiState, memory: GuestMemory): Record<string, WasiFunction> {
  const writeList = (list: string[], pointers: number, buffer: number): void => {
    let at = buffer >>> 0
    list.forEach((text, index) => {
      const bytes = Buffer.from(`${text}\0`, 'utf8')
      memory.setU32((pointers >>> 0) + index * 4, at)
      memory.bytes(at, bytes.length).set(bytes)
      at += bytes.length
    })
  }
  const writeSizes = (list: string[], count: number, bytes: number): void => {
    memory.setU32(count, list.length)
    memory.setU32(
      bytes,
      list.reduce((sum, text) => sum + Buffer.byteLength(text, 'utf8') + 1, 0),
    )
  }
  return {
    args_get: (pointers: number, buffer: number) => writeList(state.args, pointers, buffer),
    args_sizes_get: (count: number, bytes: number) => writeSizes(state.args, count, bytes),
    environ_get: (pointers: number, buffer: number) => writeList(state.environ, pointers, buffer),
    environ_sizes_get: (count: number, bytes: number) => writeSizes(state.environ, count, bytes),
    proc_exit: (code: number) => state.end('exit', code >>> 0),
    proc_raise: (signal: number) => {
      if (signal === 0) return
      if (signal >>> 0 > 31) throw new WasiError('INVAL')
      state.end('raise', signal)
    },
    random_get: (pointer: number, length: number) => {
      randomFillSync(memory.bytes(pointer, length))
    },
    sched_yield: () => ERRNO.SUCCESS,
  }
}

function clockFunctions(state: WasiState, memory: GuestMemory): Record<string, WasiFunction> {
  return {
    clock_res_get: (id: number, out: number) => memory.setU64(out, clockResolutionNs(id)),
    clock_time_get: (id: number, _precision: bigint, out: number) => memory.setU64(out, clockTimeNs(id)),
    poll_oneoff: (input: number, output: number, count: number, out: number) => {
      memory.setU32(out, 0)
      memory.setU32(out, pollOneoff(state, memory, input, output, count))
    },
  }
}

/** Reading, writing and moving about. */
function streamFunctions(state: WasiState, memory: GuestMemory): Record<string, WasiFunction> {
  const { descriptors } = state
  /** Sets the result before anything happens, so that a bad pointer has no effect. */
  const counted = (out: number, act: () => number): void => {
    memory.setU32(out, 0)
    memory.setU32(out, act())
  }
  return {
    fd_read: (fd: number, iovs: number, count: number, out: number) => {
      const from = descriptors.get(fd)
      const buffers = memory.buffers(iovs, count)
      counted(out, () => readStream(from, buffers))
    },
    fd_pread: (fd: number, iovs: number, count: number, offset: bigint, out: number) => {
      const from = descriptors.file(fd)
      const buffers = memory.buffers(iovs, count)
      counted(out, () => readAt(from, buffers, safeOffset(offset)))
    },
    fd_write: (fd: number, iovs: number, count: number, out: number) => {
      const to = descriptors.get(fd)
      const buffers = memory.buffers(iovs, count)
      if (to.kind === 'stream' && to.fd === 2) rememberStderr(state, buffers)
      counted(out, () => writeStream(state, to, buffers))
    },
    fd_pwrite: (fd: number, iovs: number, count: number, offset: bigint, out: number) => {
      const to = descriptors.file(fd)
      const buffers = memory.buffers(iovs, count)
      counted(out, () => writeAt(state, to, buffers, safeOffset(offset)))
    },
    fd_seek: (fd: number, delta: bigint, whence: number, out: number) => {
      const file = descriptors.file(fd)
      memory.bytes(out, 8)
      memory.setU64(out, BigInt(seek(file, delta, whence)))
    },
    fd_tell: (fd: number, out: number) => memory.setU64(out, BigInt(descriptors.file(fd).offset)),
    fd_sync: (fd: number) => sync(descriptors.get(fd), false),
    fd_datasync: (fd: number) => sync(descriptors.get(fd), true),
    fd_advise: (fd: number, offset: bigint, length: bigint, advice: number) => {
      descriptors.file(fd)
      if (advice >>> 0 > 5 || offset < 0n || length < 0n) throw new WasiError('INVAL')
    },
    fd_allocate: (fd: number, offset: bigint, length: bigint) => {
      const file = descriptors.file(fd)
      if (length === 0n) throw new WasiError('INVAL')
      safeOffset(length)
      allocate(state, file, safeOffset(BigInt.asUintN(64, offset) + BigInt.asUintN(64, length)))
    },
    fd_filestat_set_size: (fd: number, size: bigint) => resize(state, descriptors.file(fd), safeOffset(size)),
  }
}

/** Asking about descriptors and changing them. */
function descriptorFunctions(state: WasiState, memory: GuestMemory): Record<string, WasiFunction> {
  const { descriptors } = state
  return {
    fd_close: (fd: number) => closeDescriptor(state, fd),
    fd_renumber: (from: number, to: number) => {
      const closed = descriptors.renumber(from, to)
      if (closed?.kind === 'file') state.openFiles.close(closed, state.budget)
    },
    fd_fdstat_get: (fd: number, out: number) => {
      const found = descriptors.get(fd)
      memory.bytes(out, 24).fill(0)
      memory.setU8(out, descriptorType(found))
      memory.setU16((out >>> 0) + 2, found.flags)
      memory.setU64((out >>> 0) + 8, found.rights)
      memory.setU64((out >>> 0) + 16, found.inheriting)
    },
    fd_fdstat_set_flags: (fd: number, flags: number) => {
      const found = descriptors.get(fd)
      if ((flags & ~FDFLAGS.ALL) !== 0) throw new WasiError('INVAL')
      found.flags = flags
    },
    fd_fdstat_set_rights: (fd: number, rights: bigint, inheriting: bigint) => {
      const found = descriptors.get(fd)
      const base = BigInt.asUintN(64, rights)
      const passed = BigInt.asUintN(64, inheriting)
      if ((base & ~found.rights) !== 0n || (passed & ~found.inheriting) !== 0n)
        throw new WasiError('NOTCAPABLE')
      found.rights = base
      found.inheriting = passed
    },
    fd_filestat_get: (fd: number, out: number) =>
      writeStat(state, memory, out, descriptorStat(state, descriptors.get(fd))),
    fd_filestat_set_times: (fd: number, atim: bigint, mtim: bigint, flags: number) => {
      const found = descriptors.get(fd)
      if (found.kind === 'stream') throw new WasiError('INVAL')
      const stat = descriptorStat(state, found)
      const [atimNs, mtimNs] = chosenTimes(state, stat, atim, mtim, flags)
      if (found.kind === 'file') {
        if (!found.canWrite && !found.canRead) throw new WasiError('BADF')
        setFileTimes(state, found, atimNs, mtimNs)
      } else {
        setPathTimes(state, found.place, atimNs, mtimNs)
      }
    },
    fd_prestat_get: (fd: number, out: number) => {
      const name = preopenName(descriptors.get(fd))
      memory.bytes(out, 8).fill(0)
      memory.setU32((out >>> 0) + 4, name.length)
    },
    fd_prestat_dir_name: (fd: number, pointer: number, length: number) => {
      const name = preopenName(descriptors.get(fd))
      if (length >>> 0 < name.length) throw new WasiError('NAMETOOLONG')
      memory.bytes(pointer, name.length).set(name)
    },
    fd_readdir: (fd: number, buffer: number, length: number, cookie: bigint, out: number) => {
      const directory = descriptors.directory(fd, RIGHTS.FD_READDIR)
      const bytes = memory.bytes(buffer, length)
      memory.setU32(out, 0)
      memory.setU32(out, fillListing(state, directory, cookie, bytes))
    },
  }
}

function pathFunctions(state: WasiState, memory: GuestMemory): Record<string, WasiFunction> {
  const directory = (fd: number, rights: bigint) => state.descriptors.directory(fd, rights)
  const follows = (flags: number): boolean => (flags & LOOKUP_SYMLINK_FOLLOW) !== 0
  return {
    path_open: (
      fd: number,
      flags: number,
      pointer: number,
      length: number,
      oflags: number,
      rights: bigint,
      inheriting: bigint,
      fdflags: number,
      out: number,
    ) => {
      const from = directory(fd, RIGHTS.PATH_OPEN)
      memory.bytes(out, 4)
      const path = memory.text(pointer, length)
      memory.setU32(
        out,
        openPath(state, from, { path, follow: follows(flags), oflags, rights, inheriting, fdflags }),
      )
    },
    path_create_directory: (fd: number, pointer: number, length: number) =>
      createDirectory(state, directory(fd, RIGHTS.PATH_CREATE_DIRECTORY), memory.text(pointer, length)),
    path_remove_directory: (fd: number, pointer: number, length: number) =>
      removeDirectory(state, directory(fd, RIGHTS.PATH_REMOVE_DIRECTORY), memory.text(pointer, length)),
    path_unlink_file: (fd: number, pointer: number, length: number) =>
      unlinkFile(state, directory(fd, RIGHTS.PATH_UNLINK_FILE), memory.text(pointer, length)),
    path_rename: (fd: number, from: number, fromLength: number, toFd: number, to: number, toLength: number) =>
      rename(
        state,
        directory(fd, RIGHTS.PATH_RENAME_SOURCE),
        memory.text(from, fromLength),
        directory(toFd, RIGHTS.PATH_RENAME_TARGET),
        memory.text(to, toLength),
      ),
    path_link: (
      fd: number,
      flags: number,
      from: number,
      fromLength: number,
      toFd: number,
      to: number,
      toLength: number,
    ) => {
      if (flags !== 0) throw new WasiError('INVAL')
      link(
        state,
        directory(fd, RIGHTS.PATH_LINK_SOURCE),
        memory.text(from, fromLength),
        directory(toFd, RIGHTS.PATH_LINK_TARGET),
        memory.text(to, toLength),
      )
    },
    path_symlink: (target: number, targetLength: number, fd: number, pointer: number, length: number) =>
      symlink(
        state,
        memory.text(target, targetLength),
        directory(fd, RIGHTS.PATH_SYMLINK),
        memory.text(pointer, length),
      ),
    path_readlink: (
      fd: number,
      pointer: number,
      length: number,
      buffer: number,
      bufferLength: number,
      out: number,
    ) => {
      const from = directory(fd, RIGHTS.PATH_READLINK)
      const bytes = memory.bytes(buffer, bufferLength)
      memory.setU32(out, 0)
      const target = Buffer.from(readLink(state, from, memory.text(pointer, length)), 'latin1').subarray(
        0,
        bytes.length,
      )
      bytes.set(target)
      memory.setU32(out, target.length)
    },
    path_filestat_get: (fd: number, flags: number, pointer: number, length: number, out: number) => {
      const from = directory(fd, RIGHTS.PATH_FILESTAT_GET)
      const { stat } = existing(state, from, memory.text(pointer, length), follows(flags))
      writeStat(state, memory, out, stat ?? 'virtual')
    },
    path_filestat_set_times: (
      fd: number,
      flags: number,
      pointer: number,
      length: number,
      atim: bigint,
      mtim: bigint,
      times: number,
    ) => {
      const from = directory(fd, RIGHTS.PATH_FILESTAT_SET_TIMES)
      const found = existing(state, from, memory.text(pointer, length), follows(flags))
      const [atimNs, mtimNs] = chosenTimes(state, found.stat ?? 'virtual', atim, mtim, times)
      setPathTimes(state, found.place, atimNs, mtimNs)
    },
  }
}

/** The sandbox has no network: no descriptor is ever a socket. */
function socketFunctions(state: WasiState): Record<string, WasiFunction> {
  const notSocket = (fd: number): never => {
    state.descriptors.get(fd)
    throw new WasiError('NOTSOCK')
  }
  return { sock_accept: notSocket, sock_recv: notSocket, sock_send: notSocket, sock_shutdown: notSocket }
}

function descriptorType(found: Descriptor): number {
  if (found.kind === 'directory') return FILETYPE.DIRECTORY
  return found.kind === 'file' ? FILETYPE.REGULAR_FILE : FILETYPE.UNKNOWN
}

function descriptorStat(state: WasiState, found: Descriptor): BigIntStats | 'virtual' | 'stream' {
  if (found.kind === 'stream') return 'stream'
  if (found.kind === 'file') return fstatSync(found.fd, { bigint: true })
  const stat = state.tree.stat(found.place)
  if (stat === undefined) throw new WasiError('NOENT')
  return stat
}

function writeStat(
  state: WasiState,
  memory: GuestMemory,
  out: number,
  stat: BigIntStats | 'virtual' | 'stream',
): void {
  memory.bytes(out, 64).fill(0)
  const at = out >>> 0
  if (stat === 'stream') return
  if (stat === 'virtual') {
    memory.setU8(at + 16, FILETYPE.DIRECTORY)
    memory.setU64(at + 24, 1n)
    return
  }
  const times = state.times.of(stat)
  memory.setU64(at, stat.dev)
  memory.setU64(at + 8, stat.ino)
  memory.setU8(at + 16, fileTypeOf(stat))
  memory.setU64(at + 24, stat.nlink)
  memory.setU64(at + 32, stat.size)
  memory.setU64(at + 40, times.atim)
  memory.setU64(at + 48, times.mtim)
  memory.setU64(at + 56, times.ctim)
}

function chosenTimes(
  state: WasiState,
  stat: BigIntStats | 'virtual' | 'stream',
  atim: bigint,
  mtim: bigint,
  flags: number,
): [atimNs: bigint, mtimNs: bigint] {
  if ((flags & ~15) !== 0) throw new WasiError('INVAL')
  const choose = (value: bigint, set: number, now: number, old: bigint): bigint => {
    if ((flags & set) !== 0 && (flags & now) !== 0) throw new WasiError('INVAL')
    if ((flags & now) !== 0) return realtimeNs()
    return (flags & set) !== 0 ? BigInt.asUintN(64, value) : old
  }
  const old = typeof stat === 'string' ? { atim: 0n, mtim: 0n } : state.times.of(stat)
  return [
    choose(atim, FSTFLAGS.ATIM, FSTFLAGS.ATIM_NOW, old.atim),
    choose(mtim, FSTFLAGS.MTIM, FSTFLAGS.MTIM_NOW, old.mtim),
  ]
}

function preopenName(found: Descriptor): Uint8Array {
  if (found.kind !== 'directory' || found.preopen === undefined) throw new WasiError('BADF')
  return Buffer.from(found.preopen, 'latin1')
}

function rememberStderr(state: WasiState, buffers: Uint8Array[]): void {
  for (const one of buffers) {
    state.stderrTail = (state.stderrTail + Buffer.from(one.subarray(-512)).toString('latin1')).slice(-512)
  }
}
