import { stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 25

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
  for (let before = known; !signal.aborted; ) {
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined)
    const seen = await stamp(path)
    const isStill = seen === before
    before = seen
    if (seen === known || !isStill || signal.aborted) continue
    known = seen
    await changed()
  }
}

async function stamp(path: string): Promise<string> {
  try {
    const { mtimeMs, size, ino } = await stat(path)
    return `${mtimeMs} ${size} ${ino}`
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unreadable'
  }
}
