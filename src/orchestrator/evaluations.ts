import type { Evaluation, Job, TimeMs } from '../model/index.js'

/** The one evaluation of a job that waits for a time; a newer one replaces it. */
export function lookAgainId(jobId: string): string {
  return `later-${jobId}`
}

/** Written when something happened to a job. One per job and kind, so that many reports make one look. */
export function evaluationOf(job: Job, trigger: Evaluation['trigger'], now: TimeMs): Evaluation {
  return makeEvaluation(`${trigger}-${job.id}`, job, trigger, now, 0)
}

/** Written by a plan that wants to look again. As old as its job, so that who waits longest comes first. */
export function lookAgainOf(job: Job, at: { atMs: TimeMs; trigger: Evaluation['trigger'] }): Evaluation {
  return makeEvaluation(lookAgainId(job.id), job, at.trigger, job.createTimeMs, at.atMs)
}

export function makeEvaluation(
  id: string,
  job: Job,
  trigger: Evaluation['trigger'],
  createTimeMs: TimeMs,
  waitUntilMs: TimeMs,
): Evaluation {
  return {
    id,
    jobId: job.id,
    namespace: job.spec.Namespace,
    trigger,
    priority: job.spec.Priority,
    waitUntilMs,
    createTimeMs,
  }
}
