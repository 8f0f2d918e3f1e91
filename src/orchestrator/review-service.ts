import type { JobReview } from './job-review.js'
import { notEnoughNodes, shortageDetails } from './refusals.js'
import { stopSurplus, waitForNodes } from './review-batch.js'

/**
 * Service: `Count` slots that are kept running. What ends, also with success, is replaced after a growing wait. A
 * service that finds no node at its first look fails; one that ran before waits for nodes.
 */
export function reviewService(review: JobReview): void {
  const { job, attempts } = review
  stopSurplus(review, job.spec.Count)
  const slots = Array.from({ length: job.spec.Count }, (_, slot) => slot)
  const idle = slots.filter((slot) => !review.tries(slot).some((attempt) => attempt.fate === 'live'))
  const ready = idle.filter((slot) => review.mayTry(review.tries(slot)))
  if (ready.length === 0) return review.run()
  const found = review.findNodes(ready.length)
  const ranBefore = attempts.all.some((attempt) => attempt.fate !== 'rejected')
  if (found.chosen.length < ready.length && !ranBefore) {
    return review.fail(notEnoughNodes(found.shortage), { details: shortageDetails(found.shortage) })
  }
  for (const [index, nodeId] of found.chosen.entries()) review.start(ready[index] ?? 0, nodeId)
  if (found.chosen.length < ready.length) waitForNodes(review, found)
  else review.run()
}
