import { isTerminalJobState, isTerminalObservedState, jobVersionOf, newEvaluationId } from '../model/index.js'
import type { Execution, Job, JobSpec, NewHistoryEvent, TimeMs } from '../model/index.js'
import { VERSIONS_MAX } from '../ports/index.js'
import type { Chance, Change } from '../ports/index.js'
import { makeEvaluation } from './evaluations.js'
import { STOP_REPLACED } from './older-versions.js'

export interface NewVersion {
  spec: JobSpec
  trigger: 'job-update' | 'job-rerun'
  /** For the history. */
  details: Record<string, string>
  idempotencyToken: string | undefined
}

/**
 * The one change that makes a job its next version: waiting again, the version before kept as it was, and everything that
 * runs of it told to stop.
 */
export function newVersion(
  before: Job,
  executions: readonly Execution[],
  { spec, trigger, details, idempotencyToken }: NewVersion,
  now: TimeMs,
  chance: Chance,
): { job: Job; evaluationId: string; change: Change } {
  const version = before.version + 1
  const { stopRequest: _stopRequest, idempotencyToken: _token, ...kept } = before
  const job: Job = {
    ...kept,
    spec,
    state: 'Pending',
    message: '',
    details: {},
    version,
    revision: before.revision + 1,
    modifyTimeMs: now,
    versionTimeMs: now,
    ...(idempotencyToken === undefined ? {} : { idempotencyToken }),
  }
  const evaluation = makeEvaluation(newEvaluationId(chance), job, trigger, now, 0)
  const live = executions.filter(({ desired }) => desired.state === 'Running')
  const event: NewHistoryEvent = {
    jobId: job.id,
    topic: 'Submission',
    message: trigger === 'job-update' ? 'Job updated' : 'Job rerun',
    details: { ...details, JobVersion: String(version) },
    timeMs: now,
    jobVersion: version,
  }
  const change: Change = {
    jobs: [job],
    replacedJobs: [replaced(before, version, now)],
    executions: live.map((execution) => stopped(execution, now)),
    evaluations: [evaluation],
    history: [...live.flatMap((execution) => stopEvent(execution, now)), event],
    deleteExecutions: forgotten(executions, version),
  }
  return { job, evaluationId: evaluation.id, change }
}

/** A version that had ended stays as it ended. */
function replaced(job: Job, by: number, now: TimeMs): Job {
  if (isTerminalJobState(job.state)) return job
  return { ...job, state: 'Stopped', message: `Replaced by version ${by}`, details: {}, modifyTimeMs: now }
}

function stopped(execution: Execution, now: TimeMs): Execution {
  return {
    ...execution,
    desired: { state: 'Stopped', message: stopMessage(execution), sinceMs: now },
    revision: execution.revision + 1,
    modifyTimeMs: now,
  }
}

/** What has ended already was only not looked at yet. */
function stopMessage({ observed }: Execution): string {
  if (!isTerminalObservedState(observed.state)) return STOP_REPLACED
  return observed.state === 'Completed' ? 'execution completed' : 'execution failed'
}

function stopEvent(execution: Execution, now: TimeMs): NewHistoryEvent[] {
  if (isTerminalObservedState(execution.observed.state)) return []
  const { jobId, id } = execution
  return [
    {
      jobId,
      executionId: id,
      topic: 'Scheduling',
      message: STOP_REPLACED,
      details: {},
      timeMs: now,
      jobVersion: jobVersionOf(execution),
    },
  ]
}

/** Executions of versions that are no longer kept, as far as their nodes have let go of them. */
function forgotten(executions: readonly Execution[], version: number): string[] {
  return executions
    .filter((execution) => jobVersionOf(execution) < version - VERSIONS_MAX)
    .filter(({ desired, observed }) => desired.state === 'Stopped' && isTerminalObservedState(observed.state))
    .map(({ id }) => id)
}
