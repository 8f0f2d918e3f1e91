import { queueTimeoutMs, versionTimeMs } from '../model/index.js'
import { STOP_SURPLUS } from './attempts.js'
import type { Attempt } from './attempts.js'
import type { JobReview } from './job-review.js'
import type { PlacementResult } from './placement.js'
import { notEnoughNodes, shortageDetails } from './refusals.js'

/**
 * Batch: `Count` slots, each to be completed once, on nodes of their own.
 *
 * A slot that failed is tried again, on other nodes first, at most `triesMax` times. When nodes are missing the job
 * waits until its queue timeout is over, then it fails and says why.
 */
export function reviewBatch(review: JobReview): void {
  const { job, limits } = review
  stopSurplus(review, job.spec.Count)
  const slots = Array.from({ length: job.spec.Count }, (_, slot) => slot)
  const open = slots.filter((slot) => !review.tries(slot).some((attempt) => attempt.fate === 'completed'))
  if (open.length === 0) return review.complete()
  const idle = open.filter((slot) => !review.tries(slot).some((attempt) => attempt.fate === 'live'))
  const worn = idle.find((slot) => review.tries(slot).length >= limits.triesMax)
  if (worn !== undefined) return failWorn(review, review.tries(worn))
  const ready = idle.filter((slot) => review.mayTry(review.tries(slot)))
  if (ready.length === 0) return review.live.length > 0 ? review.run() : undefined
  const found = review.findNodes(ready.length)
  if (found.chosen.length < ready.length && isQueueTimeOver(review)) return failShort(review, ready, found)
  for (const [index, nodeId] of found.chosen.entries()) review.start(ready[index] ?? 0, nodeId)
  if (found.chosen.length < ready.length) waitForNodes(review, found)
  else review.run()
}

/** Slots beyond the count, second live executions of a slot, and live ones of completed slots. */
export function stopSurplus(review: JobReview, count: number): void {
  for (const [slot, attempts] of review.attempts.bySlot) {
    const isDone = attempts.some((attempt) => attempt.fate === 'completed')
    const live = attempts.filter((attempt) => attempt.fate === 'live')
    const kept = slot >= count || isDone ? 0 : 1
    for (const attempt of live.slice(kept)) review.stop(attempt, STOP_SURPLUS)
  }
}

/** Looks again when nodes change, and after a while, until the queue timeout. */
export function waitForNodes(review: JobReview, found: PlacementResult): void {
  const { job, now, limits } = review
  const endMs = versionTimeMs(job) + queueTimeoutMs(job.spec)
  const recheckMs = now + limits.queueRecheckMs
  review.waitForRoom(endMs > now ? Math.min(endMs, recheckMs) : recheckMs)
  if (review.started > 0 || review.live.length > 0) review.run()
  else review.queue(notEnoughNodes(found.shortage), shortageDetails(found.shortage))
}

export function isQueueTimeOver({ job, now }: JobReview): boolean {
  return now >= versionTimeMs(job) + queueTimeoutMs(job.spec)
}

function failWorn(review: JobReview, tries: readonly Attempt[]): void {
  const last = tries.at(-1)
  review.fail(
    `Job failed because it has been retried too many times: ${tries.length} tries, the last one: ${last?.reason ?? ''}`,
    { details: failureDetails(last) },
  )
}

function failShort(review: JobReview, ready: readonly number[], found: PlacementResult): void {
  const failed = ready.flatMap((slot) => review.tries(slot)).at(-1)
  const shortage = notEnoughNodes(found.shortage)
  if (failed === undefined) return review.fail(shortage, { details: shortageDetails(found.shortage) })
  review.fail(
    `Job failed because one or more executions failed: ${failed.reason}. No other node: ${shortage}`,
    {
      details: { ...shortageDetails(found.shortage), ...failureDetails(failed) },
    },
  )
}

/** Code and advice of the execution that failed. */
export function failureDetails(failed: Attempt | undefined): Record<string, string> {
  if (failed === undefined) return {}
  const { id, observed } = failed.execution
  return {
    ExecutionID: id,
    ...(observed.code === '' ? {} : { ErrorCode: observed.code }),
    ...(observed.hint === '' ? {} : { Hint: observed.hint }),
  }
}
