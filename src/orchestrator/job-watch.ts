import type { JobId } from '../model/index.js'
import type { Change } from '../ports/index.js'

/** Wakes whoever follows a job when anything about it was stored. */
export class JobWatch {
  readonly #waiting = new Map<JobId, Set<() => void>>()

  /** To be told of every commit. */
  committed(change: Change): void {
    if (this.#waiting.size === 0) return
    for (const { id } of change.jobs ?? []) this.#wake(id)
    for (const { jobId } of change.executions ?? []) this.#wake(jobId)
  }

  /** Calls `listener` on each change until the returned function is called. */
  listen(jobId: JobId, listener: () => void): () => void {
    const listeners = this.#waiting.get(jobId) ?? new Set()
    this.#waiting.set(jobId, listeners)
    listeners.add(listener)
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0 && this.#waiting.get(jobId) === listeners) this.#waiting.delete(jobId)
    }
  }

  #wake(jobId: JobId): void {
    for (const listener of this.#waiting.get(jobId) ?? []) listener()
  }
}
