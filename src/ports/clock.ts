/** Time comes in from outside, so that the orchestrator and the nodes run in a simulation. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Resolves after `ms`; rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** A clock for those who set many timers and call nearly all of them off. */
export interface TimerClock extends Clock {
  /** Calls `wake` after `ms`; the returned function calls it off. */
  schedule(ms: number, wake: () => void): () => void
}

/** Chance comes in from outside as well: fresh ids and random numbers. */
export interface Chance {
  /** UUID v4. */
  uuid(): string
  /** In [0, 1). */
  random(): number
}
