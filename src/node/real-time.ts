import { randomUUID } from 'node:crypto'
import type { Chance, TimerClock } from '../ports/index.js'

/** The machine's clock. Sleeps of any length: a timer of more than 25 days would fire at once. */
export const REAL_CLOCK: TimerClock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      // Not that of Node.js: called off, it makes an error with a stack, which costs more than all the rest.
      const callOff = schedule(ms, () => {
        signal?.removeEventListener('abort', aborted)
        resolve()
      })
      const aborted = (): void => {
        callOff()
        reject(signal?.reason as Error)
      }
      if (signal?.aborted === true) aborted()
      else signal?.addEventListener('abort', aborted, { once: true })
    }),
  schedule,
}

function schedule(ms: number, wake: () => void): () => void {
  let timer: NodeJS.Timeout
  const wait = (left: number): void => {
    const now = Math.min(left, TIMER_MS_MAX)
    timer = setTimeout(() => (left > now ? wait(left - now) : wake()), now)
  }
  wait(ms)
  return () => clearTimeout(timer)
}

const TIMER_MS_MAX = 2 ** 31 - 1

/** The machine's randomness. */
export const REAL_CHANCE: Chance = { uuid: () => randomUUID(), random: () => Math.random() }
