import { writeSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'

/**
 * A write that took longer means that the disk is busy: nobody else should have to stand still for it. Shorter pauses can be
 * those of a busy processor.
 */
const SLOW_MS = 25

/** How long the disk is taken for busy then. */
const WARY_MS = 5_000

/**
 * Appends lines to files of one disk. Into the kernel's memory a few lines are written in some microseconds, far less than
 * it costs to have another thread do it, so they are written at once. When that once was slow, other threads write for the
 * next five seconds, and this one goes on meanwhile.
 */
export class QuickAppender {
  #waryUntilMs = Number.NEGATIVE_INFINITY

  /** Undefined when it is written. Throws or rejects with the system's error; then a part may be there. */
  append(file: FileHandle, text: string): Promise<void> | undefined {
    const startedAt = performance.now()
    if (startedAt < this.#waryUntilMs) return file.appendFile(text)
    const bytes = Buffer.from(text)
    for (let done = 0; done < bytes.length; ) done += writeSync(file.fd, bytes, done)
    const endedAt = performance.now()
    if (endedAt - startedAt > SLOW_MS) this.#waryUntilMs = endedAt + WARY_MS
    return undefined
  }
}
