import { isTerminalJobState } from '../model/index.js'
import type { Execution, ExecutionId, Job, JobId } from '../model/index.js'
import type { JobStore } from '../ports/index.js'
import type { JobWatch } from './job-watch.js'
import { MergedStream } from './merged-stream.js'

export interface FollowParts<T> {
  store: JobStore
  watch: JobWatch
  jobId: JobId
  follow: boolean
  /** Which executions to read, given the job and all there are now; called again when the job changes. */
  choose: (executions: readonly Execution[], job: Job | undefined) => Execution[]
  /** Reads one. The signal aborts when nobody listens any more. */
  read: (executionId: ExecutionId, signal: AbortSignal) => AsyncIterable<T>
}

/** Reads executions of a job side by side; with `follow` also those that come later, until the job ends. */
export async function* followExecutions<T>(parts: FollowParts<T>, signal: AbortSignal): AsyncIterable<T> {
  const merged = new MergedStream<T>()
  const seen = new Set<ExecutionId>()
  const gone = new AbortController()
  const onAbort = (): void => {
    gone.abort(signal.reason)
    merged.fail(signal.reason)
  }
  const look = (): void => {
    parts.store
      .snapshot()
      .then((snapshot) => {
        const job = snapshot.job(parts.jobId)
        for (const execution of parts.choose(snapshot.executionsOfJob(parts.jobId), job)) {
          if (seen.has(execution.id) || gone.signal.aborted) continue
          seen.add(execution.id)
          merged.add(parts.read(execution.id, gone.signal))
        }
        if (!parts.follow || job === undefined || isTerminalJobState(job.state)) merged.finish()
      })
      .catch((error: unknown) => merged.fail(error))
  }
  signal.throwIfAborted()
  signal.addEventListener('abort', onAbort, { once: true })
  const stopListening = parts.watch.listen(parts.jobId, look)
  try {
    look()
    yield* merged.items()
  } finally {
    stopListening()
    signal.removeEventListener('abort', onAbort)
    gone.abort()
  }
}
