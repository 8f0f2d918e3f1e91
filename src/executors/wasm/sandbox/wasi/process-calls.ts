import { randomFillSync } from 'node:crypto'
import { clockResolutionNs, clockTimeNs } from './clocks.js'
import { ERRNO, WasiError } from './errno.js'
import type { GuestMemory } from './guest-memory.js'
import { pollOneoff } from './poll.js'
import type { WasiState } from './state.js'
import type { WasiCalls } from './wasi-call.js'

const SIGNAL_MAX = 31
/** The generator takes no more at once than fits into a positive 32-bit number. */
const RANDOM_BYTES_AT_ONCE = 1 << 28

/** Arguments, environment, clocks, chance, and the program's end. */
export function processCalls(state: WasiState, memory: GuestMemory): WasiCalls {
  return {
    args_get: (pointers: number, buffer: number) => writeList(memory, state.args, pointers, buffer),
    args_sizes_get: (count: number, bytes: number) => writeSizes(memory, state.args, count, bytes),
    environ_get: (pointers: number, buffer: number) => writeList(memory, state.environ, pointers, buffer),
    environ_sizes_get: (count: number, bytes: number) => writeSizes(memory, state.environ, count, bytes),
    clock_res_get: (id: number, out: number) => memory.setU64(out, clockResolutionNs(id)),
    clock_time_get: (id: number, _precision: bigint, out: number) => memory.setU64(out, clockTimeNs(id)),
    poll_oneoff: (input: number, output: number, count: number, out: number) => {
      memory.check(out, 4)
      memory.setU32(out, pollOneoff(state, memory, input, output, count))
    },
    proc_exit: (code: number) => state.end('exit', code >>> 0),
    proc_raise: (signal: number) => {
      if (signal === 0) return
      if (signal >>> 0 > SIGNAL_MAX) throw new WasiError('INVAL')
      state.end('raise', signal)
    },
    random_get: (pointer: number, length: number) => {
      const bytes = memory.bytes(pointer, length)
      for (let at = 0; at < bytes.length; at += RANDOM_BYTES_AT_ONCE)
        randomFillSync(bytes.subarray(at, at + RANDOM_BYTES_AT_ONCE))
    },
    sched_yield: () => ERRNO.SUCCESS,
  }
}

function writeList(memory: GuestMemory, list: Uint8Array[], pointers: number, buffer: number): void {
  const first = memory.check(pointers, list.length * 4)
  let at = buffer >>> 0
  list.forEach((bytes, index) => {
    memory.bytes(at, bytes.length).set(bytes)
    memory.setU32(first + index * 4, at)
    at += bytes.length
  })
}

function writeSizes(memory: GuestMemory, list: Uint8Array[], count: number, bytes: number): void {
  memory.check(bytes, 4)
  memory.setU32(count, list.length)
  memory.setU32(
    bytes,
    list.reduce((sum, one) => sum + one.length, 0),
  )
}
