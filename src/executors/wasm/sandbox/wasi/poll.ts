import { CLOCK, EVENTTYPE, SUBCLOCK_ABSTIME } from './abi.js'
import { clockTimeNs, sleepNs } from './clocks.js'
import { ERRNO, WasiError, errnoOf } from './errno.js'
import type { GuestMemory } from './guest-memory.js'
import type { WasiState } from './state.js'

const SUBSCRIPTION_BYTES = 48
const EVENT_BYTES = 32
const SUBSCRIPTIONS_MAX = 65_536

interface Subscription {
  userdata: bigint
  type: number
  /** Nanoseconds from now; for descriptors 0. */
  waitNs: bigint
  errno: number
}

/**
 * Waits until something the program asked for is there; returns the number of events.
 *
 * Files and streams are always ready: reading and writing them is done in the call itself. So only a poll for nothing
 * but clocks waits.
 */
export function pollOneoff(
  state: WasiState,
  memory: GuestMemory,
  input: number,
  output: number,
  count: number,
): number {
  if (count >>> 0 === 0 || count >>> 0 > SUBSCRIPTIONS_MAX) throw new WasiError('INVAL')
  memory.bytes(input, count * SUBSCRIPTION_BYTES)
  memory.bytes(output, count * EVENT_BYTES)
  const subscriptions: Subscription[] = []
  for (let index = 0; index < count; index++) {
    subscriptions.push(readSubscription(state, memory, (input >>> 0) + index * SUBSCRIPTION_BYTES))
  }
  const waitNs = subscriptions.reduce(
    (least, one) => (one.waitNs < least ? one.waitNs : least),
    subscriptions[0]?.waitNs ?? 0n,
  )
  if (waitNs > 0n) sleepNs(waitNs)
  const due = subscriptions.filter((one) => one.waitNs <= waitNs || one.waitNs <= 0n)
  due.forEach((one, index) => {
    const at = (output >>> 0) + index * EVENT_BYTES
    memory.bytes(at, EVENT_BYTES).fill(0)
    memory.setU64(at, one.userdata)
    memory.setU16(at + 8, one.errno)
    memory.setU8(at + 10, one.type)
    if (one.type !== EVENTTYPE.CLOCK && one.errno === 0) memory.setU64(at + 16, 1n)
  })
  return due.length
}

function readSubscription(state: WasiState, memory: GuestMemory, at: number): Subscription {
  const userdata = memory.getU64(at)
  const type = memory.getU8(at + 8)
  try {
    if (type === EVENTTYPE.CLOCK) {
      const id = memory.getU32(at + 16)
      const timeout = memory.getU64(at + 24)
      const isAbsolute = (memory.getU16(at + 40) & SUBCLOCK_ABSTIME) !== 0
      if (id > CLOCK.MONOTONIC) throw new WasiError('INVAL')
      const waitNs = isAbsolute ? timeout - clockTimeNs(id) : timeout
      return { userdata, type, waitNs: waitNs > 0n ? waitNs : 0n, errno: 0 }
    }
    if (type !== EVENTTYPE.FD_READ && type !== EVENTTYPE.FD_WRITE) throw new WasiError('INVAL')
    const descriptor = state.descriptors.get(memory.getU32(at + 16) | 0)
    if (descriptor.kind === 'directory') throw new WasiError('BADF')
    return { userdata, type, waitNs: 0n, errno: 0 }
  } catch (error) {
    return { userdata, type, waitNs: 0n, errno: errnoOf(error) ?? ERRNO.INVAL }
  }
}
