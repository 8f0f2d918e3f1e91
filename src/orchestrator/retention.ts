import { isTerminalObservedState } from '../model/index.js'
import type { Execution } from '../model/index.js'
import type { Clock, JobStore } from '../ports/index.js'
import type { DesiredFeed } from './desired-feed.js'
import type { OrchestratorLimits, OrchestratorLogger } from './options.js'
import type { Writer } from './writer.js'

/** Jobs forgotten in one commit: few, so that nothing else waits for long. */
const JOBS_PER_STEP = 32
/** Between two steps. */
const PAUSE_MS = 50

export interface RetentionParts {
  store: JobStore
  writer: Writer
  feed: DesiredFeed
  clock: Clock
  limits: OrchestratorLimits
  logger: OrchestratorLogger
}

/**
 * Forgets ended jobs that are too old or too many, with their history, so that the disk does not fill for ever. A node
 * that comes back with an execution of such a job is told to stop it, as with any that nobody knows.
 */
export class Retention {
  readonly #parts: RetentionParts

  constructor(parts: RetentionParts) {
    this.#parts = parts
  }

  /** Forgets all that may go now, in small steps. Resolves with their number; rejects with `store.unavailable`. */
  async run(signal: AbortSignal): Promise<number> {
    let forgotten = 0
    for (;;) {
      const count = await this.#step()
      forgotten += count
      if (count < JOBS_PER_STEP) break
      await this.#parts.clock.sleep(PAUSE_MS, signal)
    }
    if (forgotten > 0) this.#parts.logger.info({ jobs: forgotten }, 'Ended jobs are forgotten')
    return forgotten
  }

  async #step(): Promise<number> {
    const { store, writer, feed, clock, limits } = this.#parts
    const ids = await store.endedJobs({
      beforeMs: clock.now() - limits.endedJobsKeptMs,
      keepMax: limits.endedJobsMax,
      limit: JOBS_PER_STEP,
    })
    if (ids.length === 0) return 0
    const left = await writer.transact((snapshot) => {
      const executions = ids.flatMap((id) => snapshot.executionsOfJob(id))
      return { change: { deleteJobs: ids }, result: executions.filter(isOpen) }
    })
    for (const execution of left) feed.forget(execution)
    return ids.length
  }
}

/** Of a node that has not spoken since. */
function isOpen({ observed }: Execution): boolean {
  return !isTerminalObservedState(observed.state)
}
