import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../ports/index.js'

/** The machine's time; used when no other clock is handed in. Its waits do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, { ref: false, ...(signal === undefined ? {} : { signal }) }),
}
