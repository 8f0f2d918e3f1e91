import type { WeirError } from '../errors.js'
import type { Clock } from '../ports/index.js'

/** Bounds of a piece of work. */
export interface Bounds<T> {
  clock: Clock
  /** Ends the work early. */
  signal: AbortSignal
  ms: number
  /** What a caller is told when `ms` has passed. */
  timeout: () => WeirError
  /** Gets what the work made after nobody waited for it any more: close it here. */
  late?: (made: T) => unknown
}

/** How long work that was told to end may take to do so before it is left behind. */
const SETTLE_MS = 2_000

/** Longest sleep of a timer; longer ones would fire at once. */
const TIMER_MAX_MS = 2 ** 30

/**
 * Does `work` within time. When time is up or the signal aborts, the work's own signal aborts with the same reason,
 * the work gets 2 s to end in an orderly way, and the promise rejects with that reason whatever the work then says.
 * Nothing is leaked: what the work still makes goes to `late`.
 */
export async function bounded<T>(
  work: (signal: AbortSignal) => Promise<T>,
  { clock, signal, ms, timeout, late }: Bounds<T>,
): Promise<T> {
  signal.throwIfAborted()
  const end = new AbortController()
  const timers = new AbortController()
  const forward = () => end.abort(signal.reason)
  signal.addEventListener('abort', forward, { once: true })
  const outTime = sleepFor(clock, ms, timers.signal).then((slept) => slept && end.abort(timeout()))
  const ended = new Promise<'ended'>((resolve) => {
    end.signal.addEventListener('abort', () => resolve('ended'), { once: true })
  })
  try {
    const working = Promise.resolve().then(() => work(end.signal))
    const outcome = working.then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    )
    const first = await Promise.race([outcome, ended])
    if (first === 'ended') {
      const settled = await Promise.race([outcome, sleepFor(clock, SETTLE_MS, timers.signal)])
      if (settled === true || settled === false) void outcome.then((made) => closeLate(made, late))
      else await closeLate(settled, late)
      throw end.signal.reason
    }
    if ('error' in first) throw first.error
    if (end.signal.aborted) {
      await closeLate(first, late)
      throw end.signal.reason
    }
    return first.value
  } finally {
    signal.removeEventListener('abort', forward)
    timers.abort()
    await outTime
  }
}

/** Resolves with true after `ms` (however many), with false when the signal aborted first; never rejects. */
export async function sleepFor(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  let left = ms
  while (left > 0 && !signal.aborted) {
    const part = Math.min(left, TIMER_MAX_MS)
    try {
      await clock.sleep(part, signal)
    } catch {
      // The signal aborted: that is the answer, not a failure.
      return false
    }
    left -= part
  }
  return !signal.aborted
}

async function closeLate<T>(
  made: { value: T } | { error: unknown },
  late: ((made: T) => unknown) | undefined,
): Promise<void> {
  if (late === undefined || 'error' in made) return
  try {
    await late(made.value)
  } catch {
    // Its owner reports what it cannot close; here nobody waits for it any more.
  }
}
