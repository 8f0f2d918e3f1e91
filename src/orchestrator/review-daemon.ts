import { matchConstraints } from '../model/index.js'
import type { NodeId } from '../model/index.js'
import { STOP_NO_MATCH, askAgainAtMs, isHopeless } from './attempts.js'
import type { Attempt } from './attempts.js'
import type { JobReview } from './job-review.js'
import { noMatchingNodes, shortageDetails } from './refusals.js'

/**
 * Daemon: one on every matching node, also on nodes that join later; none where the labels no longer match. What ends
 * is started again after a growing wait. An engine that is missing for a while drives nothing away.
 */
export function reviewDaemon(review: JobReview): void {
  stopMismatched(review)
  const byNode = new Map<NodeId, Attempt[]>()
  let slotsUsed = 0
  for (const attempt of review.attempts.all) {
    const { nodeId, slot } = attempt.execution
    const onNode = byNode.get(nodeId)
    if (onNode === undefined) byNode.set(nodeId, [attempt])
    else onNode.push(attempt)
    slotsUsed = Math.max(slotsUsed, slot + 1)
  }
  const found = review.findNodes(Infinity, { ignoreLoad: true })
  for (const nodeId of found.chosen) {
    const before = byNode.get(nodeId) ?? []
    const tries = before.filter((attempt) => attempt.fate !== 'rejected')
    if (review.mayTry(tries)) review.start(before[0]?.execution.slot ?? slotsUsed++, nodeId)
  }
  askAgain(review, byNode)
  if (review.started > 0 || review.live.length > 0) review.run()
  else review.queue(noMatchingNodes(found.shortage), shortageDetails(found.shortage))
}

function stopMismatched(review: JobReview): void {
  const { Constraints } = review.job.spec
  for (const attempt of Constraints.length === 0 ? [] : review.live) {
    const node = review.nodes.get(attempt.execution.nodeId)
    if (node === undefined || matchConstraints(Constraints, node.record.info.labels).matches) continue
    review.stop(attempt, STOP_NO_MATCH)
  }
}

/** A node that may be asked again is asked; nothing else would bring the job back to it. */
function askAgain(review: JobReview, byNode: ReadonlyMap<NodeId, readonly Attempt[]>): void {
  for (const attempts of byNode.values()) {
    const last = attempts.at(-1)
    if (last === undefined || !(last.fate === 'rejected' || (last.fate === 'failed' && isHopeless(last))))
      continue
    const atMs = askAgainAtMs(last, review.nodes, review.limits)
    if (atMs !== undefined && atMs > review.now) review.lookAgain(atMs, 'exec-retry')
  }
}
