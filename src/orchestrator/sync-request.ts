import { WeirError } from '../errors.js'
import { OBSERVED_STATES, checkNodeId } from '../model/index.js'
import type { ExecutionEvent, ObservedExecution, ObservedReport, SyncRequest } from '../model/index.js'
import { clip } from './wording.js'

const REPORTS_MAX = 2_000
const EVENTS_MAX = 1_000
const TEXT_LENGTH_MAX = 4_096
/** Twice what a node keeps, in characters. */
const OUTPUT_LENGTH_MAX = 4_096

/**
 * Checks what a node sent: it is trusted with its own executions, not with the shape of its messages. Rejects with
 * `api.bad_request`; texts that are too long are cut.
 */
export function readSyncRequest(body: unknown): SyncRequest {
  if (!isRecord(body) || typeof body.nodeId !== 'string') throw bad('it names no node')
  const request = body as unknown as SyncRequest
  try {
    checkNodeId(request.nodeId)
  } catch (error) {
    throw bad('the name of the node is not valid', error)
  }
  if (typeof request.incarnation !== 'string') throw bad('it has no incarnation')
  if (!Number.isSafeInteger(request.knownRevision)) throw bad('it has no known revision')
  if (!isRecord(request.info) || !isNodeInfo(request.info))
    throw bad('the information about the node is incomplete')
  if (!Array.isArray(request.observed)) throw bad('it has no list of observations')
  if (request.observed.length > REPORTS_MAX) throw bad(`it has more than ${REPORTS_MAX} observations`)
  return { ...request, leaving: request.leaving === true, observed: request.observed.map(readReport) }
}

function readReport(report: ObservedReport): ObservedReport {
  const { executionId, jobId, observed, events } = report
  if (typeof executionId !== 'string' || typeof jobId !== 'string')
    throw bad('an observation names no execution')
  if (!isRecord(observed) || !OBSERVED_STATES.includes(observed.state)) {
    throw bad(`the state of execution "${clip(executionId, 60)}" is unknown`)
  }
  if (!Number.isSafeInteger(observed.sequence) || observed.sequence < 1) {
    throw bad(`the observation of execution "${clip(executionId, 60)}" has no sequence`)
  }
  return {
    executionId,
    jobId,
    observed: boundObserved(observed),
    events: (Array.isArray(events) ? events : []).slice(0, EVENTS_MAX).filter(isEvent),
  }
}

function boundObserved(observed: ObservedExecution): ObservedExecution {
  const { runOutput } = observed
  return {
    ...observed,
    message: text(observed.message),
    code: text(observed.code),
    hint: text(observed.hint),
    retryable: observed.retryable === true,
    ...(runOutput === undefined
      ? {}
      : {
          runOutput: {
            ...runOutput,
            stdout: clip(String(runOutput.stdout), OUTPUT_LENGTH_MAX),
            stderr: clip(String(runOutput.stderr), OUTPUT_LENGTH_MAX),
            errorMessage: text(runOutput.errorMessage),
          },
        }),
  }
}

function isEvent(event: unknown): event is ExecutionEvent {
  return (
    isRecord(event) &&
    Number.isSafeInteger(event.index) &&
    typeof event.topic === 'string' &&
    typeof event.message === 'string' &&
    isRecord(event.details) &&
    Number.isFinite(event.timeMs)
  )
}

function isNodeInfo(info: Record<string, unknown>): boolean {
  const lists = [info.roles, info.engines, info.sources, info.publishers]
  const records = [info.labels, info.maxCapacity, info.maxJobRequirements, info.egress, info.engineProblems]
  if (!lists.every(Array.isArray) || !records.every(isRecord)) return false
  const egress = info.egress as Record<string, unknown>
  const egressLists = [egress.allow, egress.deny, egress.httpEngines, egress.fullEngines, egress.problems]
  return egressLists.every(Array.isArray) && [info.maxCapacity, info.maxJobRequirements].every(isResources)
}

function isResources(value: unknown): boolean {
  if (!isRecord(value)) return false
  return ['cpu', 'memoryBytes', 'diskBytes', 'gpu'].every((key) => Number.isFinite(value[key]))
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function text(value: unknown): string {
  return typeof value === 'string' ? clip(value, TEXT_LENGTH_MAX) : ''
}

function bad(reason: string, cause?: unknown): WeirError {
  return new WeirError('api.bad_request', `Cannot read the message of a node: ${reason}`, { cause })
}
