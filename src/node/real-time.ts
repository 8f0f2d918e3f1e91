import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Chance, Clock } from '../ports/index.js'

/** The machine's clock. Sleeps of any length: a timer of more than 25 days would fire at once. */
export const REAL_CLOCK: Clock = {
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    let left = ms
    for (; left > TIMER_MS_MAX; left -= TIMER_MS_MAX) await sleep(TIMER_MS_MAX, undefined, { signal })
    await sleep(left, undefined, { signal })
  },
}

const TIMER_MS_MAX = 2 ** 31 - 1

/** The machine's randomness. */
export const REAL_CHANCE: Chance = { uuid: () => randomUUID(), random: () => Math.random() }
