import { RIGHTS, WHENCE } from './abi.js'
import { type FileDescriptor, needs } from './descriptors.js'
import { WasiError } from './errno.js'
import {
  allocate,
  readAt,
  readStream,
  resize,
  safeOffset,
  seek,
  sync,
  writeAt,
  writeStream,
} from './files.js'
import type { GuestMemory } from './guest-memory.js'
import type { WasiState } from './state.js'
import type { WasiCalls } from './wasi-call.js'

const ADVICE_MAX = 5
const STDERR = 2
/** Enough of stderr for the last line of a program that ended in a trap. */
const STDERR_TAIL_CHARS = 512

/** Reading, writing and moving about. Results are placed only where `check` has found room before anything happened. */
export function streamCalls(state: WasiState, memory: GuestMemory): WasiCalls {
  const { descriptors } = state
  const file = (fd: number, right: number): FileDescriptor => {
    const found = descriptors.file(fd)
    needs(found, right)
    return found
  }
  return {
    fd_read: (fd: number, iovs: number, count: number, out: number) => {
      const from = descriptors.get(fd)
      memory.check(out, 4)
      memory.setU32(out, readStream(from, memory, iovs, count))
    },
    fd_pread: (fd: number, iovs: number, count: number, offset: bigint, out: number) => {
      const from = descriptors.get(fd)
      memory.check(out, 4)
      memory.setU32(out, readAt(from, memory, iovs, count, offset))
    },
    fd_write: (fd: number, iovs: number, count: number, out: number) => {
      const to = descriptors.get(fd)
      memory.check(out, 4)
      if (to.kind === 'stream' && to.fd === STDERR) rememberStderr(state, memory.buffers(iovs, count))
      memory.setU32(out, writeStream(state, to, memory, iovs, count))
    },
    fd_pwrite: (fd: number, iovs: number, count: number, offset: bigint, out: number) => {
      const to = descriptors.get(fd)
      memory.check(out, 4)
      memory.setU32(out, writeAt(state, to, memory, iovs, count, offset))
    },
    fd_seek: (fd: number, delta: bigint, whence: number, out: number) => {
      const found = descriptors.file(fd)
      if (delta === 0n && whence === WHENCE.CUR) needsToTell(found)
      else needs(found, RIGHTS.FD_SEEK)
      memory.check(out, 8)
      memory.setU64(out, BigInt(seek(found, delta, whence)))
    },
    fd_tell: (fd: number, out: number) => {
      const found = descriptors.file(fd)
      needsToTell(found)
      memory.setU64(out, BigInt(found.offset))
    },
    fd_sync: (fd: number) => sync(descriptors.get(fd), false),
    fd_datasync: (fd: number) => sync(descriptors.get(fd), true),
    fd_advise: (fd: number, offset: bigint, length: bigint, advice: number) => {
      file(fd, RIGHTS.FD_ADVISE)
      if (advice >>> 0 > ADVICE_MAX || offset < 0n || length < 0n) throw new WasiError('INVAL')
    },
    fd_allocate: (fd: number, offset: bigint, length: bigint) => {
      const found = file(fd, RIGHTS.FD_ALLOCATE)
      if (length === 0n) throw new WasiError('INVAL')
      allocate(state, found, safeOffset(offset) + safeOffset(length))
    },
    fd_filestat_set_size: (fd: number, size: bigint) =>
      resize(state, file(fd, RIGHTS.FD_FILESTAT_SET_SIZE), safeOffset(size)),
  }
}

/** Who may move may also ask where it is. */
function needsToTell(file: FileDescriptor): void {
  if ((file.denied & RIGHTS.FD_SEEK) !== 0) needs(file, RIGHTS.FD_TELL)
}

/** Keeps the end of what is written to stderr. */
export function rememberStderr(state: WasiState, buffers: readonly Uint8Array[]): void {
  for (const one of buffers) {
    const text = Buffer.from(one.subarray(-STDERR_TAIL_CHARS)).toString('latin1')
    state.stderrTail = (state.stderrTail + text).slice(-STDERR_TAIL_CHARS)
  }
}
