import { fstatSync } from 'node:fs'
import { CLOCK, EVENTTYPE, EVENT_HANGUP, RIGHTS, SUBCLOCK_ABSTIME } from './abi.js'
import { clockTimeNs, sleepNs } from './clocks.js'
import { type Descriptor, needs } from './descriptors.js'
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
  /** For descriptors: bytes that can be read or written at least, and flags. */
  bytes: bigint
  flags: number
}

/**
 * Waits until something the program asked for is there; returns the number of events.
 *
 * Files and streams are always ready: reading and writing them is done in the call itself. So only a poll for nothing
 * but clocks waits. What is wrong with one subscription is told in its event.
 */
export function pollOneoff(
  state: WasiState,
  memory: GuestMemory,
  input: number,
  output: number,
  count: number,
): number {
  if (count >>> 0 === 0 || count >>> 0 > SUBSCRIPTIONS_MAX) throw new WasiError('INVAL')
  const from = memory.check(input, count * SUBSCRIPTION_BYTES)
  const to = memory.check(output, count * EVENT_BYTES)
  const subscriptions: Subscription[] = []
  for (let index = 0; index < count; index++) {
    subscriptions.push(readSubscription(state, memory, from + index * SUBSCRIPTION_BYTES))
  }
  const waitNs = subscriptions.reduce(
    (least, one) => (one.waitNs < least ? one.waitNs : least),
    subscriptions[0]?.waitNs ?? 0n,
  )
  if (waitNs > 0n) sleepNs(waitNs)
  const due = subscriptions.filter((one) => one.waitNs <= waitNs)
  due.forEach((one, index) => writeEvent(memory, to + index * EVENT_BYTES, one))
  return due.length
}

function writeEvent(memory: GuestMemory, at: number, one: Subscription): void {
  memory.bytes(at, EVENT_BYTES).fill(0)
  memory.setU64(at, one.userdata)
  memory.setU16(at + 8, one.errno)
  memory.setU8(at + 10, one.type)
  memory.setU64(at + 16, one.bytes)
  memory.setU16(at + 24, one.flags)
}

function readSubscription(state: WasiState, memory: GuestMemory, at: number): Subscription {
  const userdata = memory.getU64(at)
  const type = memory.getU8(at + 8)
  if (type > EVENTTYPE.FD_WRITE) throw new WasiError('INVAL')
  const subscription = { userdata, type, waitNs: 0n, errno: ERRNO.SUCCESS, bytes: 0n, flags: 0 }
  try {
    if (type === EVENTTYPE.CLOCK) return { ...subscription, waitNs: clockWaitNs(memory, at) }
    const descriptor = state.descriptors.get(memory.getU32(at + 16) | 0)
    const isReading = type === EVENTTYPE.FD_READ
    return { ...subscription, ...(isReading ? readable(descriptor) : writable(descriptor)) }
  } catch (error) {
    return { ...subscription, errno: errnoOf(error) ?? ERRNO.INVAL }
  }
}

function clockWaitNs(memory: GuestMemory, at: number): bigint {
  const id = memory.getU32(at + 16)
  const timeout = memory.getU64(at + 24)
  const flags = memory.getU16(at + 40)
  if (id > CLOCK.MONOTONIC || (flags & ~SUBCLOCK_ABSTIME) !== 0) throw new WasiError('INVAL')
  const waitNs = (flags & SUBCLOCK_ABSTIME) === 0 ? timeout : timeout - clockTimeNs(id)
  return waitNs > 0n ? waitNs : 0n
}

type Readiness = Pick<Subscription, 'bytes' | 'flags'>

function readable(descriptor: Descriptor): Readiness {
  if (descriptor.kind === 'directory') throw new WasiError('BADF')
  needs(descriptor, RIGHTS.POLL_FD_READWRITE | RIGHTS.FD_READ)
  if (!descriptor.canRead) throw new WasiError('BADF')
  // How much there is in a stream is not known before it is read.
  if (descriptor.kind === 'stream') return { bytes: 1n, flags: 0 }
  const left = fstatSync(descriptor.fd).size - descriptor.offset
  return left > 0 ? { bytes: BigInt(left), flags: 0 } : { bytes: 0n, flags: EVENT_HANGUP }
}

function writable(descriptor: Descriptor): Readiness {
  if (descriptor.kind === 'directory') throw new WasiError('BADF')
  needs(descriptor, RIGHTS.POLL_FD_READWRITE | RIGHTS.FD_WRITE)
  if (!descriptor.canWrite) throw new WasiError('BADF')
  return { bytes: 1n, flags: 0 }
}
