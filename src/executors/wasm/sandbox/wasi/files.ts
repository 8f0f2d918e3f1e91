import {
  type BigIntStats,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  futimesSync,
  readSync,
  readvSync,
  writeSync,
  writevSync,
} from 'node:fs'
import { FDFLAGS, FILETYPE, RIGHTS, WHENCE } from './abi.js'
import { type Descriptor, type FileDescriptor, type OpenFile, needs } from './descriptors.js'
import { WasiError } from './errno.js'
import { type GuestMemory, TRANSFER_BYTES_MAX } from './guest-memory.js'
import type { WasiState } from './state.js'

/** Largest size and offset: what a number holds exactly. No file system of ours has files of that size. */
const OFFSET_MAX = 0x1f_ffff_ffff_ffff

/** A size or offset that Node's file functions can take. */
export function safeOffset(value: bigint): number {
  if (value < 0n) throw new WasiError('INVAL')
  if (value > BigInt(OFFSET_MAX)) throw new WasiError('FBIG')
  return Number(value)
}

/**
 * Reads at the descriptor's own offset into the buffers of an `iovec_array` of `count` elements at `iovs`; 0 is the end.
 */
export function readStream(from: Descriptor, memory: GuestMemory, iovs: number, count: number): number {
  if (from.kind === 'directory' || !from.canRead) throw notReadable(from)
  if (from.kind === 'stream') return readInto(from.fd, memory, iovs, count, null)
  const bytes = readInto(from.fd, memory, iovs, count, from.offset)
  from.offset += bytes
  return bytes
}

/** Reads anywhere; the descriptor's offset stays. */
export function readAt(
  from: Descriptor,
  memory: GuestMemory,
  iovs: number,
  count: number,
  offset: bigint,
): number {
  const file = positioned(from)
  if (!file.canRead) throw notReadable(file)
  if (offset < 0n) throw new WasiError('INVAL')
  // No file is that long.
  if (offset > BigInt(OFFSET_MAX)) return 0
  return readInto(file.fd, memory, iovs, count, Number(offset))
}

/** Writes at the descriptor's own offset, or at the end in append mode. */
export function writeStream(
  state: WasiState,
  to: Descriptor,
  memory: GuestMemory,
  iovs: number,
  count: number,
): number {
  if (to.kind === 'directory' || !to.canWrite) throw notWritable(to)
  if (to.kind === 'stream') return writeFrom(to.fd, memory, iovs, count, null, TRANSFER_BYTES_MAX)
  if ((to.flags & FDFLAGS.APPEND) !== 0) to.offset = fstatSync(to.fd).size
  const bytes = writeFile(state, to, memory, iovs, count, to.offset)
  to.offset += bytes
  return bytes
}

/** Writes anywhere; the descriptor's offset stays. In append mode it writes at the end all the same, as Linux does. */
export function writeAt(
  state: WasiState,
  to: Descriptor,
  memory: GuestMemory,
  iovs: number,
  count: number,
  offset: bigint,
): number {
  const file = positioned(to)
  if (!file.canWrite) throw notWritable(file)
  const wanted = safeOffset(offset)
  const isAppending = (file.flags & FDFLAGS.APPEND) !== 0
  return writeFile(state, file, memory, iovs, count, isAppending ? fstatSync(file.fd).size : wanted)
}

/** Reads up to `length` bytes anywhere in a file; none are its end. */
export function readBytes(file: FileDescriptor, length: number, offset: number): Uint8Array {
  if (!file.canRead) throw notReadable(file)
  const bytes = Buffer.allocUnsafe(length)
  return bytes.subarray(0, readSync(file.fd, bytes, 0, length, offset))
}

/** Writes bytes anywhere in a file, or at its end; returns how many. */
export function writeBytes(
  state: WasiState,
  file: FileDescriptor,
  bytes: Uint8Array,
  offset: number | 'end',
): number {
  if (!file.canWrite) throw notWritable(file)
  if (bytes.length === 0) return 0
  const at = offset === 'end' ? fstatSync(file.fd).size : offset
  return writeInRoom(state, file, at, (room) => {
    if (room <= 0) state.budget.refuse()
    return writeSync(file.fd, bytes, 0, Math.min(bytes.length, room), at)
  })
}

/** @throws WasiError EINVAL when the file is not open for writing (POSIX ftruncate), ENOSPC, EFBIG. */
export function resize(state: WasiState, file: FileDescriptor, size: number): void {
  if (!file.canResize) throw new WasiError('INVAL')
  const growth = size - file.file.size
  if (growth > 0) state.budget.checkBytes(growth)
  ftruncateSync(file.fd, size)
  state.budget.takeBytes(growth)
  file.file.size = size
}

/** Makes the file at least `size` bytes long. */
export function allocate(state: WasiState, file: FileDescriptor, size: number): void {
  if (!file.canResize) throw new WasiError('BADF')
  const now = fstatSync(file.fd).size
  if (size > now) resize(state, file, size)
}

export function seek(file: FileDescriptor, delta: bigint, whence: number): number {
  let base: bigint
  if (whence === WHENCE.SET) base = 0n
  else if (whence === WHENCE.CUR) base = BigInt(file.offset)
  else if (whence === WHENCE.END) base = fstatSync(file.fd, { bigint: true }).size
  else throw new WasiError('INVAL')
  const target = base + delta
  if (target < 0n) throw new WasiError('INVAL')
  if (target > BigInt(OFFSET_MAX)) throw new WasiError('OVERFLOW')
  file.offset = Number(target)
  return file.offset
}

export function sync(descriptor: Descriptor, dataOnly: boolean): void {
  needs(descriptor, dataOnly ? RIGHTS.FD_DATASYNC : RIGHTS.FD_SYNC)
  if (descriptor.kind === 'stream') throw new WasiError('INVAL')
  if (descriptor.kind === 'directory') return
  if (dataOnly) fdatasyncSync(descriptor.fd)
  else fsyncSync(descriptor.fd)
}

export function setFileTimes(state: WasiState, file: FileDescriptor, atimNs: bigint, mtimNs: bigint): void {
  futimesSync(file.fd, Number(atimNs) / 1e9, Number(mtimNs) / 1e9)
  state.times.remember(fstatSync(file.fd, { bigint: true }), atimNs, mtimNs)
}

export function fileTypeOf(stat: BigIntStats): number {
  if (stat.isFile()) return FILETYPE.REGULAR_FILE
  if (stat.isDirectory()) return FILETYPE.DIRECTORY
  if (stat.isSymbolicLink()) return FILETYPE.SYMBOLIC_LINK
  if (stat.isCharacterDevice()) return FILETYPE.CHARACTER_DEVICE
  if (stat.isBlockDevice()) return FILETYPE.BLOCK_DEVICE
  if (stat.isSocket()) return FILETYPE.SOCKET_STREAM
  return FILETYPE.UNKNOWN
}

/** Never opened for it: EBADF as in POSIX. Given up: ENOTCAPABLE. */
function notReadable(from: Descriptor): WasiError {
  return new WasiError((from.denied & RIGHTS.FD_READ) !== 0 ? 'NOTCAPABLE' : 'BADF')
}

function notWritable(to: Descriptor): WasiError {
  return new WasiError((to.denied & RIGHTS.FD_WRITE) !== 0 ? 'NOTCAPABLE' : 'BADF')
}

/** Reading and writing anywhere need the right to seek as well. */
function positioned(descriptor: Descriptor): FileDescriptor {
  if (descriptor.kind === 'directory') throw new WasiError('BADF')
  if (descriptor.kind === 'stream') throw new WasiError('SPIPE')
  needs(descriptor, RIGHTS.FD_SEEK)
  return descriptor
}

function writeFile(
  state: WasiState,
  to: FileDescriptor,
  memory: GuestMemory,
  iovs: number,
  count: number,
  offset: number,
): number {
  return writeInRoom(state, to, offset, (room) =>
    writeFrom(to.fd, memory, iovs, count, offset, Math.min(room, TRANSFER_BYTES_MAX), state),
  )
}

/** Writes with `write`, which is told how many bytes the disk budget has room for, and counts what was written. */
function writeInRoom(
  state: WasiState,
  to: FileDescriptor,
  offset: number,
  write: (room: number) => number,
): number {
  const { file } = to
  // A gap before the offset counts as well: it can be filled later without growing the file.
  const bytes = write(file.size - offset + state.budget.bytesLeft)
  if (bytes === 0) return 0
  if ((to.flags & (FDFLAGS.SYNC | FDFLAGS.DSYNC)) !== 0) fdatasyncSync(to.fd)
  growTo(state, file, offset + bytes)
  return bytes
}

function growTo(state: WasiState, file: OpenFile, size: number): void {
  if (size <= file.size) return
  state.budget.takeBytes(size - file.size)
  file.size = size
}

/** A single buffer, which most reads have, is read into without anything being allocated. */
function readInto(
  fd: number,
  memory: GuestMemory,
  iovs: number,
  count: number,
  offset: number | null,
): number {
  if (count !== 1) {
    const buffers = memory.buffers(iovs, count)
    return buffers.length === 0 ? 0 : readvSync(fd, buffers, offset ?? undefined)
  }
  const at = memory.check(iovs, 8)
  const length = memory.getU32(at + 4)
  const start = memory.check(memory.getU32(at), length)
  return readSync(fd, memory.whole, start, Math.min(length, TRANSFER_BYTES_MAX), offset)
}

/** Writes at most `room` bytes; when there is something to write and no room for any of it, that is ENOSPC. */
function writeFrom(
  fd: number,
  memory: GuestMemory,
  iovs: number,
  count: number,
  offset: number | null,
  room: number,
  state?: WasiState,
): number {
  if (count !== 1) {
    const buffers = memory.buffers(iovs, count)
    if (buffers.length === 0) return 0
    if (room <= 0) state?.budget.refuse()
    return writevSync(fd, cut(buffers, room), offset ?? undefined)
  }
  const at = memory.check(iovs, 8)
  const length = memory.getU32(at + 4)
  const start = memory.check(memory.getU32(at), length)
  if (length === 0) return 0
  if (room <= 0) state?.budget.refuse()
  return writeSync(fd, memory.whole, start, Math.min(length, room), offset)
}

/** The first `length` bytes of the buffers. */
function cut(buffers: Uint8Array[], length: number): Uint8Array[] {
  const kept: Uint8Array[] = []
  for (const one of buffers) {
    if (length <= 0) break
    kept.push(one.subarray(0, length))
    length -= one.length
  }
  return kept
}
