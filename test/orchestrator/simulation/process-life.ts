import type { Clock, Closable, Handler, Message, Subject, Transport } from '../../../src/ports/index.js'
import type { VirtualClock } from '../virtual-time.js'

/**
 * One process of the simulated world. When it is killed nothing that it waits for ever comes: no time passes for it, no
 * message arrives, no file is written. What is left of it in memory is never heard of again.
 */
export class ProcessLife {
  #isAlive = true
  readonly #atDeath = new Set<() => void>()

  get isAlive(): boolean {
    return this.#isAlive
  }

  kill(): void {
    if (!this.#isAlive) return
    this.#isAlive = false
    for (const end of this.#atDeath) end()
    this.#atDeath.clear()
  }

  /** Called when the process dies; the returned function calls it off. */
  onDeath(end: () => void): () => void {
    this.#atDeath.add(end)
    return () => this.#atDeath.delete(end)
  }

  /** What the process gets of `promise`: nothing once it is dead. */
  awaits<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => {
          if (this.#isAlive) resolve(value)
        },
        (error: unknown) => {
          if (this.#isAlive) reject(error as Error)
        },
      )
    })
  }
}

/** How the clock of a machine differs from the true time. Lasts longer than the processes on it. */
export class ClockError {
  /** 1.001 = runs ahead by a thousandth. */
  readonly rate: number
  #offsetMs: number
  /** Steps so far, for whoever compares times. */
  steps: { atMs: number; byMs: number }[] = []

  constructor(rate = 1, offsetMs = 0) {
    this.rate = rate
    this.#offsetMs = offsetMs
  }

  step(trueMs: number, byMs: number): void {
    this.#offsetMs += byMs
    this.steps.push({ atMs: trueMs, byMs })
  }

  shown(trueMs: number): number {
    return Math.floor(START_MS + (trueMs - START_MS) * this.rate + this.#offsetMs)
  }
}

const START_MS = 1_800_000_000_000

/** The clock of one process. Sleeping does not mind when the clock is set: timers are monotonic. */
export function processClock(time: VirtualClock, error: ClockError, life: ProcessLife): Clock {
  return {
    now: () => error.shown(time.now()),
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (!life.isAlive) return
        if (signal?.aborted === true) return reject(signal.reason as Error)
        const done = (): void => {
          signal?.removeEventListener('abort', onAbort)
          stay()
        }
        const onAbort = (): void => {
          callOff()
          done()
          reject(signal?.reason as Error)
        }
        const callOff = time.schedule(ms / error.rate, () => {
          done()
          resolve()
        })
        const stay = life.onDeath(callOff)
        signal?.addEventListener('abort', onAbort, { once: true })
      }),
  }
}

/** The network as one process sees it. */
export function processTransport(
  network: Transport,
  life: ProcessLife,
  onRequest: (subject: Subject) => void,
): Transport {
  return {
    request(subject: Subject, body: Message, timeoutMs: number): Promise<Message> {
      if (!life.isAlive) return new Promise(() => undefined)
      onRequest(subject)
      return life.awaits(network.request(subject, body, timeoutMs))
    },
    async serve(subject: Subject, handler: Handler): Promise<Closable> {
      const served = await network.serve(subject, (body, signal, ...more) =>
        life.isAlive ? life.awaits(handler(body, signal, ...more)) : new Promise(() => undefined),
      )
      life.onDeath(() => void served.close())
      return served
    },
    close: async () => undefined,
  }
}
