import { stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 25
/** A file that was not written to for so long is taken to be whole. */
const STILL_MS = 25

/**
 * Calls `changed` each time the file is another one than before (time, size or inode) and has stayed so for a moment, since
 * it may be half-written, until the signal aborts: within 100 ms, also on file systems without notifications and for editors
 * that replace the file. Never rejects; `changed` must not either.
 */
export async function watchFile(
  path: string,
  changed: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  let known = await stamp(path)
  let [before, waitMs] = [known, POLL_MS]
  while (!signal.aborted) {
    await sleep(waitMs, undefined, { signal }).catch(() => undefined)
    const seen = await stamp(path)
    const isStill = seen.text === before.text
    const isKnown = seen.text === known.text
    before = seen
    waitMs = isKnown || isStill ? POLL_MS : untilStill(seen.timeMs)
    if (isKnown || !isStill || signal.aborted) continue
    known = seen
    await changed()
  }
}

/** Until it is so old that it counts as whole. Times of whole seconds tell nothing of what happened since. */
function untilStill(timeMs: number): number {
  if (timeMs % 1_000 === 0) return STILL_MS
  return Math.min(STILL_MS, Math.max(1, timeMs + STILL_MS - Date.now()))
}

/** `timeMs`: when it was written to last; 0 for one that cannot be read. */
async function stamp(path: string): Promise<{ text: string; timeMs: number }> {
  try {
    const { mtimeMs, size, ino } = await stat(path)
    return { text: `${mtimeMs} ${size} ${ino}`, timeMs: mtimeMs }
  } catch (error) {
    return { text: (error as NodeJS.ErrnoException).code ?? 'unreadable', timeMs: 0 }
  }
}
