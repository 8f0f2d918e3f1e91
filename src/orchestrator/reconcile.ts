import { isTerminalJobState } from '../model/index.js'
import type { Execution, Job, TimeMs } from '../model/index.js'
import { readAttempts, STOP_JOB_FAILED, STOP_JOB_STOPPED, STOP_SURPLUS, stopAttempt } from './attempts.js'
import { JobReview } from './job-review.js'
import type { NodeViews } from './node-view.js'
import { keepApart } from './older-versions.js'
import type { SchedulingLimits } from './options.js'
import type { Plan } from './plan.js'
import { reviewBatch } from './review-batch.js'
import { reviewDaemon } from './review-daemon.js'
import { reviewOps } from './review-ops.js'
import { reviewService } from './review-service.js'

/**
 * Decides what should happen to a job, given everything that is known about it. Pure: no I/O, no clock, no chance; the
 * same arguments give the same plan. Once the plan is applied, another look at the same time proposes nothing.
 *
 * In this order: 1. executions that ended, are lost or overdue are settled; 2. an ended job keeps nothing running;
 * 3. what runs of older versions stops first; 4. a job past its total timeout fails; 5. the rules of the job's type.
 */
export function reconcile(
  job: Job,
  executions: readonly Execution[],
  nodes: NodeViews,
  now: TimeMs,
  limits: SchedulingLimits,
): Plan {
  if (isTerminalJobState(job.state)) {
    const attempts = readAttempts(job, executions, nodes, now, limits)
    for (const attempt of attempts.all) stopAttempt(attempts, attempt, stopMessage(job), now)
    return { placements: [], stops: attempts.stops, events: [] }
  }
  const versions = keepApart(job, executions, nodes, now, limits)
  const { stops, waitUntilMs } = versions
  if (waitUntilMs !== undefined) {
    return { placements: [], stops, events: [], lookAgain: { atMs: waitUntilMs, trigger: 'job-update' } }
  }
  const attempts = readAttempts(job, versions.current, nodes, now, limits)
  attempts.stops.push(...stops)
  const review = new JobReview({ job, attempts, nodes, now, limits })
  if (!review.timeOut()) reviewByType(review)
  return review.plan()
}

function reviewByType(review: JobReview): void {
  switch (review.job.spec.Type) {
    case 'batch':
      return reviewBatch(review)
    case 'service':
      return reviewService(review)
    case 'ops':
      return reviewOps(review)
    case 'daemon':
      return reviewDaemon(review)
  }
}

function stopMessage(job: Job): string {
  if (job.state === 'Stopped') return STOP_JOB_STOPPED
  return job.state === 'Failed' ? STOP_JOB_FAILED : STOP_SURPLUS
}
