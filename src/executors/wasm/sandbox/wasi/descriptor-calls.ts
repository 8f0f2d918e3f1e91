import { type BigIntStats, fstatSync } from 'node:fs'
import { FDFLAGS, FILETYPE, RIGHTS } from './abi.js'
import { type Descriptor, needs, shrinkRights } from './descriptors.js'
import { WasiError } from './errno.js'
import { setFileTimes } from './files.js'
import type { GuestMemory } from './guest-memory.js'
import { fillListing } from './listing.js'
import { closeDescriptor, setPathTimes } from './paths.js'
import { chosenTimes, writeStat } from './stat-record.js'
import type { WasiState } from './state.js'
import type { WasiCalls } from './wasi-call.js'

/** Asking about descriptors and changing them. */
export function descriptorCalls(state: WasiState, memory: GuestMemory): WasiCalls {
  const { descriptors, tree } = state
  return {
    fd_close: (fd: number) => closeDescriptor(state, fd),
    fd_renumber: (from: number, to: number) => {
      const closed = descriptors.renumber(from, to)
      if (closed?.kind === 'file') state.openFiles.close(closed, state.budget)
    },
    fd_fdstat_get: (fd: number, out: number) => {
      const found = descriptors.get(fd)
      const at = memory.check(out, 24)
      memory.bytes(at, 24).fill(0)
      memory.setU8(at, descriptorType(found))
      memory.setU16(at + 2, found.flags)
      memory.setU64(at + 8, BigInt(found.rights))
      memory.setU64(at + 16, BigInt(found.inheriting))
    },
    fd_fdstat_set_flags: (fd: number, flags: number) => {
      const found = descriptors.get(fd)
      // They are about reading and writing.
      if (found.kind === 'directory') throw new WasiError('BADF')
      needs(found, RIGHTS.FD_FDSTAT_SET_FLAGS)
      if ((flags & ~FDFLAGS.ALL) !== 0) throw new WasiError('INVAL')
      found.flags = flags
    },
    fd_fdstat_set_rights: (fd: number, rights: bigint, inheriting: bigint) =>
      shrinkRights(descriptors.get(fd), rights, inheriting),
    fd_filestat_get: (fd: number, out: number) => {
      const found = descriptors.get(fd)
      needs(found, RIGHTS.FD_FILESTAT_GET)
      const inode = found.kind === 'directory' ? tree.virtualInode(found.place) : 0n
      writeStat(state, memory, out, statOf(state, found), inode)
    },
    fd_filestat_set_times: (fd: number, atim: bigint, mtim: bigint, flags: number) => {
      const found = descriptors.get(fd)
      needs(found, RIGHTS.FD_FILESTAT_SET_TIMES)
      if (found.kind === 'stream') throw new WasiError('INVAL')
      const [atimNs, mtimNs] = chosenTimes(state, statOf(state, found), atim, mtim, flags)
      if (found.kind === 'directory') setPathTimes(state, found.place, atimNs, mtimNs)
      else setFileTimes(state, found, atimNs, mtimNs)
    },
    fd_prestat_get: (fd: number, out: number) => {
      const name = preopenName(descriptors.get(fd))
      const at = memory.check(out, 8)
      memory.setU32(at, 0)
      memory.setU32(at + 4, name.length)
    },
    fd_prestat_dir_name: (fd: number, pointer: number, length: number) => {
      const name = preopenName(descriptors.get(fd))
      if (length >>> 0 < name.length) throw new WasiError('NAMETOOLONG')
      memory.bytes(pointer, name.length).set(name)
    },
    fd_readdir: (fd: number, buffer: number, length: number, cookie: bigint, out: number) => {
      const directory = descriptors.directory(fd, RIGHTS.FD_READDIR)
      const bytes = memory.bytes(buffer, length)
      memory.check(out, 4)
      memory.setU32(out, fillListing(state, directory, cookie, bytes))
    },
  }
}

function descriptorType(found: Descriptor): number {
  if (found.kind === 'directory') return FILETYPE.DIRECTORY
  // Streams are pipes, which have no type of their own: above all they are no terminals.
  return found.kind === 'file' ? FILETYPE.REGULAR_FILE : FILETYPE.UNKNOWN
}

/** ENOENT for an open directory that is gone. */
export function statOf(state: WasiState, found: Descriptor): BigIntStats | 'virtual' | 'stream' {
  if (found.kind === 'stream') return 'stream'
  if (found.kind === 'file') return fstatSync(found.fd, { bigint: true })
  const stat = state.tree.stat(found.place)
  if (stat === undefined) throw new WasiError('NOENT')
  return stat
}

function preopenName(found: Descriptor): Uint8Array {
  if (found.kind !== 'directory' || found.preopen === undefined) throw new WasiError('BADF')
  return Buffer.from(found.preopen, 'latin1')
}
