import { isTerminalObservedState } from '../model/index.js'
import type {
  DesiredExecution,
  Evaluation,
  Execution,
  ExecutionId,
  JobId,
  NewHistoryEvent,
  NodeId,
  NodeRecord,
  ObservedReport,
  SyncRequest,
  SyncResponse,
  TimeMs,
} from '../model/index.js'
import { executionTimeoutMs } from '../model/index.js'
import type { Clock, Handler, JobStore, Snapshot } from '../ports/index.js'
import type { Broker } from './broker.js'
import type { DesiredFeed } from './desired-feed.js'
import { evaluationOf } from './evaluations.js'
import type { NodeRegistry } from './node-registry.js'
import { historyOfReport } from './observed-history.js'
import type { OrchestratorLimits, OrchestratorLogger } from './options.js'
import { readSyncRequest } from './sync-request.js'
import type { Decision, Writer } from './writer.js'

/** Room for desired executions in one answer; a message holds 1 MiB. */
const DESIRED_BYTES_MAX = 768 * 1024

export interface SyncHandlerParts {
  store: JobStore
  writer: Writer
  broker: Broker
  registry: NodeRegistry
  feed: DesiredFeed
  clock: Clock
  limits: OrchestratorLimits
  logger: OrchestratorLogger
}

/**
 * Answers nodes: stores what they observed, tells them what is wanted. Everything is idempotent: the same message
 * twice, late or out of order changes nothing.
 */
export function createSyncHandler(parts: SyncHandlerParts): Handler {
  return async (body) => {
    const request = readSyncRequest(body)
    const node = await parts.registry.heard(request)
    const outcome = await storeReports(request, parts)
    if (outcome.ended) parts.broker.wakeQueued(parts.limits.wokenPerEnding)
    return answer(request, node, outcome, parts)
  }
}

interface Outcome {
  acknowledged: Record<ExecutionId, number>
  /** The node spoke of executions that do not exist or are not its own. */
  strangers: boolean
  /** Something ended, so there may be room. */
  ended: boolean
}

async function storeReports(request: SyncRequest, parts: SyncHandlerParts): Promise<Outcome> {
  if (request.observed.length === 0) return { acknowledged: {}, strangers: false, ended: false }
  return parts.writer.transact((snapshot) => decideReports(request, snapshot, parts.clock.now()))
}

function decideReports(request: SyncRequest, snapshot: Snapshot, now: TimeMs): Decision<Outcome> {
  const outcome: Outcome = { acknowledged: {}, strangers: false, ended: false }
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
    const ended = isTerminalObservedState(after.observed.state)
    outcome.ended ||= ended
    const isFailure = after.observed.state === 'Failed' || after.observed.state === 'Rejected'
    evaluations.set(job.id, evaluationOf(job, isFailure ? 'exec-failure' : 'exec-update', now))
  }
  const change = { executions: [...executions.values()], evaluations: [...evaluations.values()], history }
  return { change, result: outcome }
}

/** The execution with the report in it; the same object when the report says nothing new. What has ended stays so. */
function takeReport(before: Execution, { observed, events }: ObservedReport, now: TimeMs): Execution {
  const isNewer =
    observed.sequence > before.observed.sequence && !isTerminalObservedState(before.observed.state)
  const lastEvent = Math.max(0, ...events.map((event) => event.index))
  if (!isNewer && lastEvent <= (before.eventIndex ?? 0)) return before
  return {
    ...before,
    observed: isNewer ? observed : before.observed,
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
  { store, feed, logger }: SyncHandlerParts,
): Promise<SyncResponse> {
  const { membership } = node
  const { acknowledged } = outcome
  // A node that is not (or no longer) part of the network keeps nothing.
  if (membership !== 'APPROVED') return { membership, acknowledged, desired: [], revision: 0, complete: true }
  const snapshot = await store.snapshot()
  const changes = feed.since(request.nodeId, request.knownRevision, outcome.strangers)
  const desired: DesiredExecution[] = []
  let bytes = 0
  for (const { id, revision } of changes.ids) {
    const one = desiredExecution(snapshot, id, request.nodeId)
    if (one === undefined) continue
    bytes += Buffer.byteLength(JSON.stringify(one))
    if (desired.length > 0 && bytes > DESIRED_BYTES_MAX) {
      // In parts: the node asks for the rest from here; a list in parts cannot be called complete.
      logger.debug({ nodeId: request.nodeId, sent: desired.length }, 'Sends the desired executions in parts')
      return { membership, acknowledged, desired, revision: revision - 1, complete: false }
    }
    desired.push(one)
  }
  return { membership, acknowledged, desired, revision: changes.revision, complete: changes.complete }
}

/** Undefined when it is over: the node may have forgotten it, and must not run it again. */
function desiredExecution(snapshot: Snapshot, id: ExecutionId, nodeId: NodeId): DesiredExecution | undefined {
  const execution = snapshot.execution(id)
  const job = execution === undefined ? undefined : snapshot.job(execution.jobId)
  if (execution === undefined || job === undefined || execution.nodeId !== nodeId) return undefined
  if (isTerminalObservedState(execution.observed.state)) return undefined
  return {
    executionId: id,
    jobId: job.id,
    jobSpec: job.spec,
    slot: execution.slot,
    attempt: execution.attempt,
    state: execution.desired.state,
    message: execution.desired.message,
    createTimeMs: execution.createTimeMs,
    jobCreateTimeMs: job.createTimeMs,
    observedSequence: execution.observed.sequence,
  }
}
