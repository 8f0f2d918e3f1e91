import type { JobReview } from './job-review.js'
import { noMatchingNodes, shortageDetails } from './refusals.js'
import { failureDetails, isQueueTimeOver, waitForNodes } from './review-batch.js'

/**
 * Ops: once on every node that matches at the first look; never tried again. Failed when any execution failed or all
 * nodes refused, after all have ended.
 */
export function reviewOps(review: JobReview): void {
  if (review.attempts.all.length === 0) return startEverywhere(review)
  if (review.live.length > 0) return review.run()
  const failed = review.attempts.all.find((attempt) => attempt.fate === 'failed')
  if (failed !== undefined) {
    return review.fail(`Job failed because one or more executions failed: ${failed.reason}`, {
      details: failureDetails(failed),
    })
  }
  if (review.attempts.all.some((attempt) => attempt.fate === 'completed')) return review.complete()
  const found = review.findNodes(1, { ignoreLoad: true })
  review.fail(noMatchingNodes(found.shortage), { details: shortageDetails(found.shortage) })
}

function startEverywhere(review: JobReview): void {
  const found = review.findNodes(Infinity, { ignoreLoad: true })
  for (const [slot, nodeId] of found.chosen.entries()) review.start(slot, nodeId)
  if (found.chosen.length > 0) return review.run()
  const { shortage } = found
  if (!isQueueTimeOver(review))
    return waitForNodes(review, { chosen: [], shortage: { ...shortage, requested: 1 } })
  review.fail(noMatchingNodes(shortage), { details: shortageDetails(shortage) })
}
