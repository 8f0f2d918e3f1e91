import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Chance, Clock } from '../ports/index.js'

/** The machine's clock. */
export const REAL_CLOCK: Clock = {
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    await sleep(ms, undefined, { signal })
  },
}

/** The machine's randomness. */
export const REAL_CHANCE: Chance = { uuid: () => randomUUID(), random: () => Math.random() }
