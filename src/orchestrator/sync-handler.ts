import { executionTimeoutMs, isTerminalObservedState } from '../model/index.js'
import type {
  DesiredExecution,
  Evaluation,
  Execution,
  ExecutionId,
  JobId,
  NetworkEgressPolicy,
  NewHistoryEvent,
  NodeRecord,
  ObservedReport,
  SyncRequest,
  SyncResponse,
  TimeMs,
} from '../model/index.js'
import type { Clock, Handler, JobStore, Snapshot } from '../ports/index.js'
import { STOP_NODE_REJECTED } from './attempts.js'
import type { DesiredAnswers } from './desired-answer.js'
import { evaluationOf } from './evaluations.js'
import type { NodeRegistry } from './node-registry.js'
import type { Nudger } from './nudger.js'
import { historyOfReport } from './observed-history.js'
import type { OrchestratorLimits, OrchestratorLogger } from './options.js'
import { readSyncRequest } from './sync-request.js'
import type { Decision, Writer } from './writer.js'

export interface SyncHandlerParts {
  store: JobStore
  writer: Writer
  registry: NodeRegistry
  answers: DesiredAnswers
  nudger: Nudger
  clock: Clock
  limits: OrchestratorLimits
  logger: OrchestratorLogger
  /** The egress list of the network now, with its digest. */
  networkEgress: () => { policy: NetworkEgressPolicy; digest: string }
}

/**
 * Answers nodes: stores what they observed, tells them what is wanted. Everything is idempotent: the same message
 * twice, late or out of order changes nothing.
 */
export function createSyncHandler(parts: SyncHandlerParts): Handler {
  return async (body) => {
    const request = readSyncRequest(body)
    const { record, wantsLists } = await parts.registry.heard(request)
    const outcome = await storeReports(request, parts)
    return {
      ...(await answer(request, record, outcome, parts)),
      ...(wantsLists && { wantsEgressLists: true }),
    }
  }
}

interface Outcome {
  acknowledged: Record<ExecutionId, number>
  /** The node spoke of executions that do not exist or are not its own. */
  strangers: boolean
}

async function storeReports(request: SyncRequest, parts: SyncHandlerParts): Promise<Outcome> {
  if (request.observed.length === 0) return { acknowledged: {}, strangers: false }
  return parts.writer.transact((snapshot) => decideReports(request, snapshot, parts.clock.now()))
}

function decideReports(request: SyncRequest, snapshot: Snapshot, now: TimeMs): Decision<Outcome> {
  const outcome: Outcome = { acknowledged: {}, strangers: false }
  const executions = new Map<ExecutionId, Execution>()
  const evaluations = new Map<JobId, Evaluation>()
  const history: NewHistoryEvent[] = []
  for (const report of request.observed) {
    const before = executions.get(report.executionId) ?? snapshot.execution(report.executionId)
    const job = before === undefined ? undefined : snapshot.job(before.jobId)
    if (before === undefined || job === undefined || before.nodeId !== request.nodeId) {
      outcome.strangers = true
      outcome.acknowledged[report.executionId] = report.observed.sequence
      continue
    }
    const after = takeReport(before, report, now)
    outcome.acknowledged[before.id] = Math.max(before.observed.sequence, report.observed.sequence)
    if (after === before) continue
    const fresh = report.events.filter((event) => event.index > (before.eventIndex ?? 0))
    history.push(...historyOfReport(job, before, after.observed, fresh, now))
    executions.set(after.id, after)
    if (!needsALook(before, after, executionTimeoutMs(job.spec) !== undefined)) continue
    const isFailure = after.observed.state === 'Failed' || after.observed.state === 'Rejected'
    evaluations.set(job.id, evaluationOf(job, isFailure ? 'exec-failure' : 'exec-update', now))
  }
  const change = { executions: [...executions.values()], evaluations: [...evaluations.values()], history }
  return { change, result: outcome }
}

/**
 * The execution with the report in it; the same object when the report says nothing new. A report carries every event
 * that was not acknowledged, so an older one has nothing that a newer one had not. What has ended stays so, in the
 * history too: a node that could not write the end down may tell another one after its restart.
 */
function takeReport(before: Execution, { observed, events }: ObservedReport, now: TimeMs): Execution {
  if (observed.sequence <= before.observed.sequence) return before
  if (isTerminalObservedState(before.observed.state)) return before
  const lastEvent = Math.max(0, ...events.map((event) => event.index))
  return {
    ...before,
    observed,
    ...(observed.state === 'Running' && before.runningSinceMs === undefined ? { runningSinceMs: now } : {}),
    ...(lastEvent > (before.eventIndex ?? 0) ? { eventIndex: lastEvent } : {}),
    revision: before.revision + 1,
    modifyTimeMs: now,
  }
}

/** An end always; the start only where somebody has to watch the time. */
function needsALook(before: Execution, after: Execution, isTimed: boolean): boolean {
  if (before.observed.state === after.observed.state) return false
  return isTerminalObservedState(after.observed.state) || (isTimed && after.observed.state === 'Running')
}

async function answer(
  request: SyncRequest,
  node: NodeRecord,
  outcome: Outcome,
  parts: SyncHandlerParts,
): Promise<SyncResponse> {
  const { membership } = node
  const { acknowledged } = outcome
  const news = membership === 'APPROVED' ? networkEgressFor(request, parts.networkEgress()) : {}
  const snapshot = await parts.store.snapshot()
  const { more, ...wanted } = isLong(news)
    ? { desired: [], revision: request.knownRevision, complete: false, more: true }
    : parts.answers.answer(request, snapshot, outcome.strangers)
  if (more) {
    parts.logger.debug(
      { nodeId: request.nodeId, sent: wanted.desired.length },
      'Sends the desired executions in parts',
    )
    parts.nudger.nudge(request.nodeId)
  }
  return {
    membership,
    acknowledged,
    ...news,
    ...wanted,
    desired: wanted.desired.map(membership === 'APPROVED' ? same : unwanted),
  }
}

type EgressNews = Pick<SyncResponse, 'networkEgress'>

/** The list of the network, for a node that has another. */
function networkEgressFor(
  { networkEgress }: SyncRequest,
  { policy, digest }: { policy: NetworkEgressPolicy; digest: string },
): EgressNews {
  return networkEgress === digest ? {} : { networkEgress: policy }
}

/** True for a list that needs a message of its own: a message holds 1 MiB. */
function isLong({ networkEgress }: EgressNews): boolean {
  if (networkEgress === undefined) return false
  const { allow = [], deny } = networkEgress
  return allow.length + deny.length > INLINE_PATTERNS_MAX
}

const INLINE_PATTERNS_MAX = 200

function same(one: DesiredExecution): DesiredExecution {
  return one
}

/** A node that is not (or no longer) part of the network keeps nothing; it reports the ends of what it had. */
function unwanted(one: DesiredExecution): DesiredExecution {
  return one.state === 'Stopped' ? one : { ...one, state: 'Stopped', message: STOP_NODE_REJECTED }
}
