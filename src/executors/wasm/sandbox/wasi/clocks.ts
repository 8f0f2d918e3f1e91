import { CLOCK } from './abi.js'
import { WasiError } from './errno.js'

/** Read at the first question: what stands at the top of a module may have run long ago, for the start-up snapshot. */
let startNs: bigint | undefined
/** The realtime clock is exact to a microsecond at best; the others are as fine as the system's. */
const REALTIME_RESOLUTION_NS = 1_000n

export function clockTimeNs(id: number): bigint {
  if (id === CLOCK.MONOTONIC) return process.hrtime.bigint()
  if (id === CLOCK.REALTIME) return realtimeNs()
  if (id === CLOCK.PROCESS_CPU || id === CLOCK.THREAD_CPU) {
    const used = process.cpuUsage()
    return BigInt(used.user + used.system) * 1_000n
  }
  throw new WasiError('INVAL')
}

export function clockResolutionNs(id: number): bigint {
  if (id === CLOCK.MONOTONIC) return 1n
  if (id === CLOCK.REALTIME || id === CLOCK.PROCESS_CPU || id === CLOCK.THREAD_CPU)
    return REALTIME_RESOLUTION_NS
  throw new WasiError('INVAL')
}

export function realtimeNs(): bigint {
  // The system's clock may be set while a slot waits: follow it when it has gone away from the start's reckoning.
  const system = BigInt(Date.now()) * 1_000_000n
  startNs ??= system - process.hrtime.bigint()
  const reckoned = startNs + process.hrtime.bigint()
  const drift = system - reckoned
  const isNear = drift > -2_000_000n && drift < 2_000_000n
  const now = isNear ? reckoned : system
  return now - (now % REALTIME_RESOLUTION_NS)
}

let sleeper: Int32Array | undefined

export function sleepNs(duration: bigint): void {
  sleeper ??= new Int32Array(new SharedArrayBuffer(4))
  const end = process.hrtime.bigint() + duration
  for (let left = duration; left > 0n; left = end - process.hrtime.bigint()) {
    // In pieces, since one wait cannot be longer than a number of milliseconds may be.
    Atomics.wait(sleeper, 0, 0, Math.min(Number(left) / 1e6, 3_600_000))
  }
}
