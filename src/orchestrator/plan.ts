import type {
  Evaluation,
  Execution,
  ExecutionId,
  Job,
  JobState,
  NewHistoryEvent,
  NodeId,
  ObservedExecution,
  Resources,
  TimeMs,
} from '../model/index.js'
import { jobVersionOf, shortId } from '../model/index.js'
import type { Change } from '../ports/index.js'
import type { JobDemand } from './job-demand.js'
import type { NodePast } from './placement.js'

/** A new execution. */
export interface Placement {
  slot: number
  attempt: number
  nodeId: NodeId
  resources: Resources
}

/** An execution that is no longer wanted. */
export interface Stop {
  executionId: ExecutionId
  /** Becomes the message of the desired state. */
  message: string
  /** The history line; absent when the history says it already. */
  event?: { topic: string; message: string }
}

/** A history line about the job as a whole. */
export interface JobEvent {
  topic: string
  message: string
  details: Record<string, string>
}

/** What a reconciliation proposes; nothing has happened yet. */
export interface Plan {
  placements: Placement[]
  stops: Stop[]
  /** The job's new state; absent = unchanged. */
  job?: { state: JobState; message: string; details: Record<string, string> }
  events: JobEvent[]
  /** When to look at the job again although nothing may have happened; absent = only when something happens. */
  lookAgain?: { atMs: TimeMs; trigger: Evaluation['trigger'] }
  /** What the job waits for; absent when it waits for no node. */
  waiting?: Waiting
}

/** What a job that waits for a node looks for. */
export interface Waiting {
  demand: JobDemand
  past: ReadonlyMap<NodeId, NodePast>
  /** It runs wherever it may, whatever runs there already. */
  ignoresLoad: boolean
}

export function emptyPlan(): Plan {
  return { placements: [], stops: [], events: [] }
}

/** True when the plan changes nothing: only the next look may be set. */
export function isEmptyPlan(plan: Plan): boolean {
  return (
    plan.placements.length === 0 &&
    plan.stops.length === 0 &&
    plan.job === undefined &&
    plan.events.length === 0
  )
}

export interface ApplyContext {
  job: Job
  executions: readonly Execution[]
  now: TimeMs
  evaluationId: string
  newExecutionId: () => ExecutionId
}

/** The change that makes a plan happen. Placements come first in the history, the job's own lines last. */
export function applyPlan(plan: Plan, context: ApplyContext): Change {
  const { job, now } = context
  const placed = plan.placements.map((placement) => newExecution(placement, context))
  const stopped = plan.stops.flatMap((stop) => stopExecution(stop, context))
  return {
    ...(plan.job === undefined ? {} : { jobs: [changedJob(job, plan.job, now)] }),
    executions: [...placed, ...stopped],
    history: [
      ...placed.map((execution) => requestedEvent(execution, job, now)),
      ...plan.stops.flatMap((stop) => stopEvent(stop, context)),
      ...plan.events.map((event) => ({ jobId: job.id, ...event, timeMs: now, jobVersion: job.version })),
    ],
  }
}

const NOTHING_OBSERVED: ObservedExecution = Object.freeze({
  state: 'New',
  sequence: 0,
  message: '',
  code: '',
  hint: '',
  retryable: false,
})

function newExecution(placement: Placement, context: ApplyContext): Execution {
  const { job, now } = context
  return {
    id: context.newExecutionId(),
    jobId: job.id,
    namespace: job.spec.Namespace,
    nodeId: placement.nodeId,
    evaluationId: context.evaluationId,
    jobVersion: job.version,
    slot: placement.slot,
    attempt: placement.attempt,
    desired: { state: 'Running', message: '', sinceMs: now },
    observed: NOTHING_OBSERVED,
    resources: placement.resources,
    revision: 1,
    createTimeMs: now,
    modifyTimeMs: now,
  }
}

function stopExecution({ executionId, message }: Stop, { executions, now }: ApplyContext): Execution[] {
  const execution = executions.find((one) => one.id === executionId)
  if (execution === undefined) return []
  return [
    {
      ...execution,
      desired: { state: 'Stopped', message, sinceMs: now },
      revision: execution.revision + 1,
      modifyTimeMs: now,
    },
  ]
}

function changedJob(job: Job, to: NonNullable<Plan['job']>, now: TimeMs): Job {
  return { ...job, ...to, revision: job.revision + 1, modifyTimeMs: now }
}

function requestedEvent(execution: Execution, job: Job, timeMs: TimeMs): NewHistoryEvent {
  return {
    jobId: job.id,
    executionId: execution.id,
    topic: 'Scheduling',
    message: `Requested execution on ${shortId(execution.nodeId)}`,
    details: { NodeID: execution.nodeId },
    timeMs,
    jobVersion: job.version,
  }
}

function stopEvent({ executionId, event }: Stop, { job, executions, now }: ApplyContext): NewHistoryEvent[] {
  if (event === undefined) return []
  const execution = executions.find((one) => one.id === executionId)
  const jobVersion = execution === undefined ? job.version : jobVersionOf(execution)
  return [{ jobId: job.id, executionId, ...event, details: {}, timeMs: now, jobVersion }]
}
