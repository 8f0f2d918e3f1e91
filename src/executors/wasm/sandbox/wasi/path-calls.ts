import { LOOKUP_SYMLINK_FOLLOW, RIGHTS, rightsOf } from './abi.js'
import type { DirectoryDescriptor } from './descriptors.js'
import { WasiError } from './errno.js'
import type { GuestMemory } from './guest-memory.js'
import {
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
import { chosenTimes, writeStat } from './stat-record.js'
import type { WasiState } from './state.js'
import type { WasiCalls } from './wasi-call.js'

/** Everything that names a file by its path below an open directory. */
export function pathCalls(state: WasiState, memory: GuestMemory): WasiCalls {
  const directory = (fd: number, right: number): DirectoryDescriptor => state.descriptors.directory(fd, right)
  return {
    path_open: (
      fd: number,
      flags: number,
      pointer: number,
      length: number,
      oflags: number,
      base: bigint,
      passed: bigint,
      fdflags: number,
      out: number,
    ) => {
      const from = directory(fd, RIGHTS.PATH_OPEN)
      const follow = follows(flags)
      const path = memory.text(pointer, length)
      const [rights, inheriting] = [rightsOf(base), rightsOf(passed)]
      memory.check(out, 4)
      memory.setU32(out, openPath(state, from, { path, follow, oflags, rights, inheriting, fdflags }))
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
    ) =>
      link(
        state,
        directory(fd, RIGHTS.PATH_LINK_SOURCE),
        memory.text(from, fromLength),
        follows(flags),
        directory(toFd, RIGHTS.PATH_LINK_TARGET),
        memory.text(to, toLength),
      ),
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
      memory.check(out, 4)
      const target = Buffer.from(readLink(state, from, memory.text(pointer, length)), 'latin1')
      // What does not fit is left out, as by POSIX readlink.
      const fitting = target.subarray(0, bytes.length)
      bytes.set(fitting)
      memory.setU32(out, fitting.length)
    },
    path_filestat_get: (fd: number, flags: number, pointer: number, length: number, out: number) => {
      const from = directory(fd, RIGHTS.PATH_FILESTAT_GET)
      const { place, stat } = existing(state, from, memory.text(pointer, length), follows(flags))
      writeStat(state, memory, out, stat ?? 'virtual', state.tree.virtualInode(place))
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

/** Whether a link that is the last name is followed; EINVAL for flags that do not exist. */
function follows(flags: number): boolean {
  if ((flags & ~LOOKUP_SYMLINK_FOLLOW) !== 0) throw new WasiError('INVAL')
  return (flags & LOOKUP_SYMLINK_FOLLOW) !== 0
}
