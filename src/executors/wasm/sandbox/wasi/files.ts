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
import type { Descriptor, FileDescriptor } from './descriptors.js'
import { WasiError } from './errno.js'
import type { WasiState } from './state.js'

/** A size or offset that Node's file functions can take. */
export function safeOffset(value: bigint): number {
  if (value < 0n) throw new WasiError('INVAL')
  if (value > 0x1f_ffff_ffff_ffffn) throw new WasiError('FBIG')
  return Number(value)
}

/** Reads at the descriptor's own offset; 0 is the end. */
export function readStream(from: Descriptor, buffers: Uint8Array[]): number {
  if (from.kind === 'directory') throw new WasiError('BADF')
  if ((from.rights & RIGHTS.FD_READ) === 0n) throw new WasiError('BADF')
  if (from.kind === 'stream') return readInto(from.fd, buffers, null)
  if (!from.canRead) throw new WasiError('BADF')
  const count = readInto(from.fd, buffers, from.offset)
  from.offset += count
  return count
}

export function readAt(from: FileDescriptor, buffers: Uint8Array[], offset: number): number {
  if (!from.canRead) throw new WasiError('BADF')
  return readInto(from.fd, buffers, offset)
}

/** Writes at the descriptor's own offset, or at the end in append mode. */
export function writeStream(state: WasiState, to: Descriptor, buffers: Uint8Array[]): number {
  if (to.kind === 'directory') throw new WasiError('BADF')
  if ((to.rights & RIGHTS.FD_WRITE) === 0n) throw new WasiError('BADF')
  if (to.kind === 'stream') return writeFrom(to.fd, buffers, null)
  if ((to.flags & FDFLAGS.APPEND) !== 0) to.offset = fstatSync(to.fd).size
  const count = writeAt(state, to, buffers, to.offset)
  to.offset += count
  return count
}

export function writeAt(state: WasiState, to: FileDescriptor, buffers: Uint8Array[], offset: number): number {
  if (!to.canWrite || (to.rights & RIGHTS.FD_WRITE) === 0n) throw new WasiError('BADF')
  const length = buffers.reduce((sum, one) => sum + one.length, 0)
  const growth = offset + length - to.file.size
  if (growth > 0 && length > 0) {
    // A gap before the offset counts as well: it can be filled later without growing the file.
    const room = length - (growth - state.budget.fitBytes(growth))
    if (room <= 0) state.budget.refuse()
    if (room < length) buffers = cut(buffers, room)
  }
  const count = writeFrom(to.fd, buffers, offset)
  if ((to.flags & (FDFLAGS.SYNC | FDFLAGS.DSYNC)) !== 0) fdatasyncSync(to.fd)
  if (count > 0) growTo(state, to, offset + count)
  return count
}

export function resize(state: WasiState, file: FileDescriptor, size: number): void {
  if (!file.canWrite) throw new WasiError('BADF')
  if (size > file.file.size) state.budget.takeBytes(size - file.file.size)
  else state.budget.giveBytes(file.file.size - size)
  file.file.size = size
  ftruncateSync(file.fd, size)
}

/** Makes the file at least `size` bytes long. */
export function allocate(state: WasiState, file: FileDescriptor, size: number): void {
  if (!file.canWrite) throw new WasiError('BADF')
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
  if (target > 0x1f_ffff_ffff_ffffn) throw new WasiError('OVERFLOW')
  file.offset = Number(target)
  return file.offset
}

export function sync(descriptor: Descriptor, dataOnly: boolean): void {
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

function growTo(state: WasiState, file: FileDescriptor, size: number): void {
  if (size <= file.file.size) return
  state.budget.takeBytes(size - file.file.size)
  file.file.size = size
}

function readInto(fd: number, buffers: Uint8Array[], offset: number | null): number {
  const [only] = buffers
  if (only === undefined) return 0
  if (buffers.length === 1) return readSync(fd, only, 0, only.length, offset)
  return readvSync(fd, buffers, offset ?? undefined)
}

function writeFrom(fd: number, buffers: Uint8Array[], offset: number | null): number {
  const [only] = buffers
  if (only === undefined) return 0
  if (buffers.length === 1) return writeSync(fd, only, 0, only.length, offset)
  return writevSync(fd, buffers, offset ?? undefined)
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
