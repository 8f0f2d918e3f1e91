import { createHash } from 'node:crypto'
import { versionTimeMs } from '../model/index.js'
import type { Evaluation, EvaluationId, Job, JobId, TimeMs } from '../model/index.js'

/** The one evaluation of a job that waits for a time; a newer one replaces it. */
export function lookAgainId(jobId: JobId): EvaluationId {
  return derivedId('later', jobId)
}

/** Written when something happened to a job. One per job and kind, so that many reports make one look. */
export function evaluationOf(job: Job, trigger: Evaluation['trigger'], now: TimeMs): Evaluation {
  return makeEvaluation(derivedId(trigger, job.id), job, trigger, now, 0)
}

/** Written by a plan that wants to look again. As old as its job, so that who waits longest comes first. */
export function lookAgainOf(job: Job, at: { atMs: TimeMs; trigger: Evaluation['trigger'] }): Evaluation {
  return makeEvaluation(lookAgainId(job.id), job, at.trigger, versionTimeMs(job), at.atMs)
}

export function makeEvaluation(
  id: EvaluationId,
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

/** A UUID (version 8) that is always the same for one job and kind, and as random as the job's own id. */
function derivedId(kind: string, jobId: JobId): EvaluationId {
  const hex = createHash('sha256').update(`${kind} ${jobId}`).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
