import { Failure } from '../component/faults.js'
import { FDFLAGS, FILETYPE, FSTFLAGS, OFLAGS, RIGHTS, WRITING_RIGHTS } from '../wasi/abi.js'
import { statOf } from '../wasi/descriptor-calls.js'
import { type Descriptor, type DirectoryDescriptor, type FileDescriptor, needs } from '../wasi/descriptors.js'
import { ERRNO, WasiError, errnoOf } from '../wasi/errno.js'
import { fileTypeOf, readBytes, resize, safeOffset, setFileTimes, sync, writeBytes } from '../wasi/files.js'
import { latin } from '../wasi/job-tree.js'
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
} from '../wasi/paths.js'
import { type AnyStat, chosenTimes } from '../wasi/stat-record.js'
import type { WasiState } from '../wasi/state.js'
import {
  type HostFunction,
  type HostInterfaces,
  NONE,
  type Option,
  some,
  utf8Text,
} from './host-interface.js'
import {
  CHUNK_BYTES_MAX,
  InputStreamHandle,
  IoError,
  OutputStreamHandle,
  fileInput,
  fileOutput,
} from './streams.js'
import { datetime, nanosecondsOf } from './system.js'

/** An open file or directory: a number among the very descriptors that WASI preview 1 programs have. */
class OpenDescriptor {
  readonly #state: WasiState
  readonly number: number
  readonly #stays: boolean

  constructor(state: WasiState, number: number, stays: boolean) {
    this.#state = state
    this.number = number
    this.#stays = stays
  }

  drop(): void {
    if (!this.#stays) closeDescriptor(this.#state, this.number)
  }
}

/** The entries of a directory as they were when the listing began. */
class Listing {
  readonly #entries: Iterator<DirectoryEntry>

  constructor(entries: Iterator<DirectoryEntry>) {
    this.#entries = entries
  }

  next(): Option {
    const { done, value } = this.#entries.next()
    return done === true ? NONE : some(value)
  }
}

interface DirectoryEntry {
  type: string
  name: string
}

type Flags = ReadonlySet<string>
type NewTime =
  | { tag: 'no-change' | 'now' }
  | { tag: 'timestamp'; value: { seconds: bigint; nanoseconds: number } }

/**
 * `wasi:filesystem`, over the same descriptors, path resolution and disk budget as the functions of WASI preview 1: what
 * holds there holds here.
 */
export function filesystemInterfaces(state: WasiState): HostInterfaces {
  return {
    'wasi:filesystem/preopens': {
      functions: {
        'get-directories': () =>
          state.descriptors
            .preopens()
            .map(([number, name]) => [new OpenDescriptor(state, number, true), utf8Text(name) ?? name]),
      },
    },
    'wasi:filesystem/types': {
      resources: ['descriptor', 'directory-entry-stream'],
      failureOf: fileFailure,
      functions: { ...fileFunctions(state), ...statFunctions(state), ...pathFunctions(state), ...others() },
    },
  }
}

function others(): Record<string, HostFunction> {
  return {
    '[method]directory-entry-stream.read-directory-entry': (listing: Listing) => listing.next(),
    'filesystem-error-code': ({ errno }: IoError) => {
      const name = errno === undefined ? undefined : ERROR_CODES.get(errno)
      return name === undefined ? NONE : some(name)
    },
  }
}

/** Reading, writing and the size of open files. */
function fileFunctions(state: WasiState): Record<string, HostFunction> {
  const file = ({ number }: OpenDescriptor, right: number): FileDescriptor => {
    const found = openOne(state, number)
    if (found.kind === 'directory') throw new WasiError('ISDIR')
    if (found.kind === 'stream') throw new WasiError('BADF')
    needs(found, right)
    return found
  }
  const readable = (one: OpenDescriptor): void => {
    if (!file(one, RIGHTS.FD_READ).canRead) throw new WasiError('BADF')
  }
  const writable = (one: OpenDescriptor): void => {
    if (!file(one, RIGHTS.FD_WRITE).canWrite) throw new WasiError('BADF')
  }
  return {
    '[method]descriptor.read-via-stream': (one: OpenDescriptor, offset: bigint) => {
      readable(one)
      return new InputStreamHandle(fileInput(state, one.number, safeOffset(offset)))
    },
    '[method]descriptor.write-via-stream': (one: OpenDescriptor, offset: bigint) => {
      writable(one)
      return new OutputStreamHandle(fileOutput(state, one.number, safeOffset(offset)))
    },
    '[method]descriptor.append-via-stream': (one: OpenDescriptor) => {
      writable(one)
      return new OutputStreamHandle(fileOutput(state, one.number, 'end'))
    },
    '[method]descriptor.read': (one: OpenDescriptor, length: bigint, offset: bigint) => {
      const found = file(one, RIGHTS.FD_READ)
      const wanted = length > BigInt(CHUNK_BYTES_MAX) ? CHUNK_BYTES_MAX : Number(length)
      const bytes = readBytes(found, wanted, safeOffset(offset))
      return [bytes, bytes.length === 0 && wanted > 0]
    },
    '[method]descriptor.write': (one: OpenDescriptor, bytes: Uint8Array, offset: bigint) =>
      BigInt(writeBytes(state, file(one, RIGHTS.FD_WRITE), bytes, safeOffset(offset))),
    '[method]descriptor.set-size': (one: OpenDescriptor, size: bigint) =>
      resize(state, file(one, RIGHTS.FD_FILESTAT_SET_SIZE), safeOffset(size)),
    '[method]descriptor.advise': (one: OpenDescriptor, offset: bigint, length: bigint, advice: string) => {
      void [offset, length, advice]
      file(one, RIGHTS.FD_ADVISE)
    },
    '[method]descriptor.sync': ({ number }: OpenDescriptor) => sync(openOne(state, number), false),
    '[method]descriptor.sync-data': ({ number }: OpenDescriptor) => sync(openOne(state, number), true),
  }
}

/** What is known of an open file or directory. */
function statFunctions(state: WasiState): Record<string, HostFunction> {
  return {
    '[method]descriptor.get-flags': ({ number }: OpenDescriptor) => flagsOf(openOne(state, number)),
    '[method]descriptor.get-type': ({ number }: OpenDescriptor) =>
      typeOf(statOf(state, openOne(state, number))),
    '[method]descriptor.stat': ({ number }: OpenDescriptor) => {
      const found = openOne(state, number)
      needs(found, RIGHTS.FD_FILESTAT_GET)
      return statRecord(state, statOf(state, found))
    },
    '[method]descriptor.set-times': ({ number }: OpenDescriptor, access: NewTime, modification: NewTime) => {
      const found = openOne(state, number)
      needs(found, RIGHTS.FD_FILESTAT_SET_TIMES)
      const [atimNs, mtimNs] = newTimes(state, statOf(state, found), access, modification)
      if (found.kind === 'directory') setPathTimes(state, found.place, atimNs, mtimNs)
      else if (found.kind === 'file') setFileTimes(state, found, atimNs, mtimNs)
      else throw new WasiError('INVAL')
    },
    '[method]descriptor.metadata-hash': ({ number }: OpenDescriptor) =>
      identity(state, statOf(state, openOne(state, number)), openOne(state, number)),
    '[method]descriptor.is-same-object': (one: OpenDescriptor, other: OpenDescriptor) => {
      const of = ({ number }: OpenDescriptor): { lower: bigint; upper: bigint } =>
        identity(state, statOf(state, openOne(state, number)), openOne(state, number))
      const [a, b] = [of(one), of(other)]
      return a.lower === b.lower && a.upper === b.upper
    },
  }
}

/** Everything that names a file by its path below an open directory. */
function pathFunctions(state: WasiState): Record<string, HostFunction> {
  const directory = ({ number }: OpenDescriptor, right: number): DirectoryDescriptor =>
    state.descriptors.directory(number, right)
  return {
    '[method]descriptor.open-at': (
      one: OpenDescriptor,
      at: Flags,
      path: string,
      how: Flags,
      descriptorFlags: Flags,
    ) => {
      const number = openPath(state, directory(one, RIGHTS.PATH_OPEN), {
        path: latin(path),
        follow: follows(at),
        oflags: bitsOf(how, OPEN_FLAGS),
        rights:
          (descriptorFlags.has('read') ? RIGHTS.FD_READ : 0) |
          (descriptorFlags.has('write') ? WRITING_RIGHTS : 0),
        inheriting: 0,
        fdflags: bitsOf(descriptorFlags, SYNC_FLAGS),
      })
      return new OpenDescriptor(state, number, false)
    },
    '[method]descriptor.read-directory': (one: OpenDescriptor) => {
      const { place } = directory(one, RIGHTS.FD_READDIR)
      const names = state.tree.list(place)
      const entries = function* (): Iterator<DirectoryEntry> {
        for (const name of names) {
          const stat = state.tree.stat(state.tree.child(place, name))
          // Gone meanwhile.
          if (stat === undefined) continue
          yield { type: typeOf(stat), name: nameText(name) }
        }
      }
      return new Listing(entries())
    },
    '[method]descriptor.create-directory-at': (one: OpenDescriptor, path: string) =>
      createDirectory(state, directory(one, RIGHTS.PATH_CREATE_DIRECTORY), latin(path)),
    '[method]descriptor.remove-directory-at': (one: OpenDescriptor, path: string) =>
      removeDirectory(state, directory(one, RIGHTS.PATH_REMOVE_DIRECTORY), latin(path)),
    '[method]descriptor.unlink-file-at': (one: OpenDescriptor, path: string) =>
      unlinkFile(state, directory(one, RIGHTS.PATH_UNLINK_FILE), latin(path)),
    '[method]descriptor.rename-at': (one: OpenDescriptor, from: string, other: OpenDescriptor, to: string) =>
      rename(
        state,
        directory(one, RIGHTS.PATH_RENAME_SOURCE),
        latin(from),
        directory(other, RIGHTS.PATH_RENAME_TARGET),
        latin(to),
      ),
    '[method]descriptor.link-at': (
      one: OpenDescriptor,
      at: Flags,
      from: string,
      other: OpenDescriptor,
      to: string,
    ) =>
      link(
        state,
        directory(one, RIGHTS.PATH_LINK_SOURCE),
        latin(from),
        follows(at),
        directory(other, RIGHTS.PATH_LINK_TARGET),
        latin(to),
      ),
    '[method]descriptor.symlink-at': (one: OpenDescriptor, target: string, path: string) =>
      symlink(state, latin(target), directory(one, RIGHTS.PATH_SYMLINK), latin(path)),
    '[method]descriptor.readlink-at': (one: OpenDescriptor, path: string) =>
      nameText(readLink(state, directory(one, RIGHTS.PATH_READLINK), latin(path))),
    '[method]descriptor.stat-at': (one: OpenDescriptor, at: Flags, path: string) => {
      const found = existing(state, directory(one, RIGHTS.PATH_FILESTAT_GET), latin(path), follows(at))
      return statRecord(state, found.stat ?? 'virtual')
    },
    '[method]descriptor.set-times-at': (
      one: OpenDescriptor,
      at: Flags,
      path: string,
      access: NewTime,
      modification: NewTime,
    ) => {
      const found = existing(state, directory(one, RIGHTS.PATH_FILESTAT_SET_TIMES), latin(path), follows(at))
      const times = newTimes(state, found.stat ?? 'virtual', access, modification)
      setPathTimes(state, found.place, ...times)
    },
    '[method]descriptor.metadata-hash-at': (one: OpenDescriptor, at: Flags, path: string) => {
      const found = existing(state, directory(one, RIGHTS.PATH_FILESTAT_GET), latin(path), follows(at))
      return identity(state, found.stat ?? 'virtual', found)
    },
  }
}

function openOne(state: WasiState, number: number): Descriptor {
  return state.descriptors.get(number)
}

const OPEN_FLAGS: Record<string, number> = {
  create: OFLAGS.CREAT,
  directory: OFLAGS.DIRECTORY,
  exclusive: OFLAGS.EXCL,
  truncate: OFLAGS.TRUNC,
}
const SYNC_FLAGS: Record<string, number> = {
  'file-integrity-sync': FDFLAGS.SYNC,
  'data-integrity-sync': FDFLAGS.DSYNC,
  'requested-write-sync': FDFLAGS.RSYNC,
}

function bitsOf(flags: Flags, values: Record<string, number>): number {
  return Object.entries(values).reduce((bits, [name, value]) => (flags.has(name) ? bits | value : bits), 0)
}

function follows(at: Flags): boolean {
  return at.has('symlink-follow')
}

function flagsOf(found: Descriptor): Flags {
  if (found.kind === 'directory')
    return new Set(found.place.writable ? ['read', 'mutate-directory'] : ['read'])
  const flags = new Set(
    Object.keys(SYNC_FLAGS).filter((name) => (found.flags & (SYNC_FLAGS[name] ?? 0)) !== 0),
  )
  if (found.canRead) flags.add('read')
  if (found.canWrite) flags.add('write')
  return flags
}

const TYPES: Record<number, string> = {
  [FILETYPE.BLOCK_DEVICE]: 'block-device',
  [FILETYPE.CHARACTER_DEVICE]: 'character-device',
  [FILETYPE.DIRECTORY]: 'directory',
  [FILETYPE.REGULAR_FILE]: 'regular-file',
  [FILETYPE.SOCKET_STREAM]: 'socket',
  [FILETYPE.SYMBOLIC_LINK]: 'symbolic-link',
}

function typeOf(stat: AnyStat): string {
  if (stat === 'virtual') return 'directory'
  return stat === 'stream' ? 'unknown' : (TYPES[fileTypeOf(stat)] ?? 'unknown')
}

function statRecord(state: WasiState, stat: AnyStat): Record<string, unknown> {
  const type = typeOf(stat)
  if (typeof stat === 'string') {
    const times = {
      'data-access-timestamp': NONE,
      'data-modification-timestamp': NONE,
      'status-change-timestamp': NONE,
    }
    return { type, 'link-count': 1n, size: 0n, ...times }
  }
  const { atim, mtim, ctim } = state.times.of(stat)
  return {
    type,
    'link-count': stat.nlink,
    size: stat.size,
    'data-access-timestamp': some(datetime(atim)),
    'data-modification-timestamp': some(datetime(mtim)),
    'status-change-timestamp': some(datetime(ctim)),
  }
}

/** Tells one file from another; libraries take the lower half for the number of its inode. */
function identity(
  state: WasiState,
  stat: AnyStat,
  found: Descriptor | { place: DirectoryDescriptor['place'] },
): { lower: bigint; upper: bigint } {
  if (typeof stat !== 'string') return { lower: stat.ino, upper: stat.dev }
  return { lower: 'place' in found ? state.tree.virtualInode(found.place) : 0n, upper: 0n }
}

function newTimes(state: WasiState, stat: AnyStat, access: NewTime, modification: NewTime): [bigint, bigint] {
  const flag = (time: NewTime, set: number, now: number): number =>
    time.tag === 'timestamp' ? set : time.tag === 'now' ? now : 0
  const at = (time: NewTime): bigint => (time.tag === 'timestamp' ? nanosecondsOf(time.value) : 0n)
  const flags =
    flag(access, FSTFLAGS.ATIM, FSTFLAGS.ATIM_NOW) | flag(modification, FSTFLAGS.MTIM, FSTFLAGS.MTIM_NOW)
  return chosenTimes(state, stat, at(access), at(modification), flags)
}

/** A name of the file system, which may be any bytes, as the text that it must be here. */
function nameText(name: string): string {
  const text = utf8Text(name)
  if (text === undefined) throw new WasiError('ILSEQ')
  return text
}

function fileFailure(error: unknown): Failure | undefined {
  const errno = errnoOf(error)
  return errno === undefined ? undefined : new Failure(ERROR_CODES.get(errno) ?? 'io')
}

/** The cases of `error-code` for the numbers of WASI preview 1. */
const ERROR_CODES: ReadonlyMap<number, string> = new Map([
  [ERRNO.ACCES, 'access'],
  [ERRNO.AGAIN, 'would-block'],
  [ERRNO.BADF, 'bad-descriptor'],
  [ERRNO.BUSY, 'busy'],
  [ERRNO.DQUOT, 'quota'],
  [ERRNO.EXIST, 'exist'],
  [ERRNO.FBIG, 'file-too-large'],
  [ERRNO.ILSEQ, 'illegal-byte-sequence'],
  [ERRNO.INTR, 'interrupted'],
  [ERRNO.INVAL, 'invalid'],
  [ERRNO.IO, 'io'],
  [ERRNO.ISDIR, 'is-directory'],
  [ERRNO.LOOP, 'loop'],
  // There is no case of their own for too many open files.
  [ERRNO.MFILE, 'quota'],
  [ERRNO.NFILE, 'quota'],
  [ERRNO.MLINK, 'too-many-links'],
  [ERRNO.NAMETOOLONG, 'name-too-long'],
  [ERRNO.NODEV, 'no-device'],
  [ERRNO.NOENT, 'no-entry'],
  [ERRNO.NOMEM, 'insufficient-memory'],
  [ERRNO.NOSPC, 'insufficient-space'],
  [ERRNO.NOTDIR, 'not-directory'],
  [ERRNO.NOTEMPTY, 'not-empty'],
  [ERRNO.NOTSUP, 'unsupported'],
  [ERRNO.NXIO, 'no-such-device'],
  [ERRNO.OVERFLOW, 'overflow'],
  [ERRNO.PERM, 'not-permitted'],
  [ERRNO.PIPE, 'pipe'],
  [ERRNO.ROFS, 'read-only'],
  [ERRNO.SPIPE, 'invalid-seek'],
  [ERRNO.TXTBSY, 'text-file-busy'],
  [ERRNO.XDEV, 'cross-device'],
  [ERRNO.NOTCAPABLE, 'not-permitted'],
])
