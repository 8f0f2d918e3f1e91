import { WeirError } from '../errors.js'
import { OBSERVED_STATES, RECEIPT_TYPE, checkNodeId, isReceipt } from '../model/index.js'
import type {
  EgressLimits,
  EgressReceipt,
  ReceiptDestination,
  EgressSummary,
  ExecutionEvent,
  ObservedExecution,
  ObservedReport,
  RunOutput,
  SpecConfig,
  SyncRequest,
} from '../model/index.js'
import { isNodeInfo, isRecord } from './node-info-shape.js'
import { clip } from './wording.js'

const REPORTS_MAX = 2_000
const EVENTS_MAX = 1_000
const TEXT_LENGTH_MAX = 4_096
/** Twice what a node keeps, in characters. */
const OUTPUT_LENGTH_MAX = 4_096
const DESTINATIONS_MAX = 100
const RESULT_PARAMS_MAX = 64
const CODES_MAX = 128

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
  if (typeof request.incarnation !== 'string' || request.incarnation.length > 128)
    throw bad('it has no proper incarnation')
  if (!Number.isSafeInteger(request.knownRevision)) throw bad('it has no known revision')
  if (!isNodeInfo(request.info)) throw bad('the information about the node is incomplete or too large')
  if (!Array.isArray(request.observed)) throw bad('it has no list of observations')
  if (request.observed.length > REPORTS_MAX) throw bad(`it has more than ${REPORTS_MAX} observations`)
  return { ...request, leaving: request.leaving === true, observed: request.observed.map(readReport) }
}

function readReport(report: unknown): ObservedReport {
  if (!isRecord(report)) throw bad('an observation is not an object')
  const { executionId, jobId, observed, events } = report
  if (typeof executionId !== 'string' || typeof jobId !== 'string')
    throw bad('an observation names no execution')
  if (!isRecord(observed) || !(OBSERVED_STATES as readonly unknown[]).includes(observed.state)) {
    throw bad(`the state of execution "${clip(executionId, 60)}" is unknown`)
  }
  if (!isCount(observed.sequence) || observed.sequence < 1) {
    throw bad(`the observation of execution "${clip(executionId, 60)}" has no sequence`)
  }
  return {
    executionId,
    jobId,
    observed: boundObserved(observed),
    events: (Array.isArray(events) ? events : []).slice(0, EVENTS_MAX).filter(isEvent),
  }
}

/** Known fields only: what a node makes up is neither stored nor passed on. */
function boundObserved(observed: Record<string, unknown>): ObservedExecution {
  const { startTimeMs, endTimeMs, runOutput, publishedResult, egress, egressLimits, receipt } = observed
  return {
    state: observed.state as ObservedExecution['state'],
    sequence: observed.sequence as number,
    message: text(observed.message),
    code: text(observed.code),
    hint: text(observed.hint),
    retryable: observed.retryable === true,
    ...(isCount(startTimeMs) ? { startTimeMs } : {}),
    ...(isCount(endTimeMs) ? { endTimeMs } : {}),
    ...(isRecord(runOutput) ? { runOutput: boundOutput(runOutput) } : {}),
    ...boundResult(publishedResult),
    ...(isRecord(egress) ? { egress: boundEgress(egress) } : {}),
    ...(isReceipt(receipt) ? { receipt: boundReceipt(receipt as unknown as Record<string, unknown>) } : {}),
    ...(isRecord(egressLimits) ? { egressLimits: boundLimits(egressLimits) } : {}),
  }
}

/** Where a result is: a few plain values. What is deep or large would cost everybody who reads or stores it. */
function boundResult(result: unknown): { publishedResult?: SpecConfig } {
  if (!isRecord(result) || typeof result.Type !== 'string') return {}
  const Type = clip(result.Type, 128)
  if (!isRecord(result.Params)) return { publishedResult: { Type } }
  const params = Object.entries(result.Params).slice(0, RESULT_PARAMS_MAX)
  const plain = params.filter(([key, value]) => key.length <= 128 && isPlain(value))
  return { publishedResult: { Type, Params: Object.fromEntries(plain) } }
}

function isPlain(value: unknown): boolean {
  return (
    typeof value === 'boolean' ||
    Number.isFinite(value) ||
    (typeof value === 'string' && value.length <= 8_192)
  )
}

function boundOutput(output: Record<string, unknown>): RunOutput {
  return {
    stdout: text(output.stdout, OUTPUT_LENGTH_MAX),
    stdoutTruncated: output.stdoutTruncated === true,
    stderr: text(output.stderr, OUTPUT_LENGTH_MAX),
    stderrTruncated: output.stderrTruncated === true,
    exitCode: Number.isSafeInteger(output.exitCode) ? (output.exitCode as number) : 0,
    errorMessage: text(output.errorMessage),
  }
}

function boundEgress(summary: Record<string, unknown>): EgressSummary {
  const all = Array.isArray(summary.destinations) ? (summary.destinations as unknown[]) : []
  return {
    ...counts(summary, ['records', 'allowed', 'refused', 'bytesUp', 'bytesDown']),
    destinations: all
      .filter(isRecord)
      .slice(0, DESTINATIONS_MAX)
      .map((one) => ({
        ...boundDestination(one),
        ...(one.code === undefined ? {} : { code: text(one.code) }),
        ...(one.advice === undefined ? {} : { advice: text(one.advice) }),
      })),
    destinationsTruncated: summary.destinationsTruncated === true || all.length > DESTINATIONS_MAX,
    chainHead: text(summary.chainHead),
  }
}

function boundDestination(one: Record<string, unknown>): ReceiptDestination {
  return { host: text(one.host), ...counts(one, ['port', 'allowed', 'refused', 'bytesUp', 'bytesDown']) }
}

/** A receipt that is changed here does not verify any more: what is out of bounds was not signed by our code. */
function boundReceipt(receipt: Record<string, unknown>): EgressReceipt {
  const all = Array.isArray(receipt.destinations) ? (receipt.destinations as unknown[]) : []
  const generations = Array.isArray(receipt.policyGenerations) ? (receipt.policyGenerations as unknown[]) : []
  const codes = isRecord(receipt.codes) ? Object.entries(receipt.codes).slice(0, CODES_MAX) : []
  const [network = 'none'] = (['none', 'http', 'full'] as const).filter((word) => word === receipt.network)
  return {
    type: RECEIPT_TYPE,
    nodeId: text(receipt.nodeId),
    publicKey: text(receipt.publicKey, 64),
    jobId: text(receipt.jobId),
    executionId: text(receipt.executionId),
    network,
    ...(receipt.learning === true && { learning: true as const }),
    ...counts(receipt, ['startTimeMs', 'endTimeMs', 'records']),
    chainHead: text(receipt.chainHead, 64),
    ...counts(receipt, ['allowed', 'refused', 'bytesUp', 'bytesDown']),
    codes: Object.fromEntries(
      codes
        .filter((entry): entry is [string, number] => isCount(entry[1]))
        .map(([code, count]) => [text(code, 64), count]),
    ),
    policyGenerations: generations.filter(isCount).slice(0, 2),
    destinations: all.filter(isRecord).slice(0, DESTINATIONS_MAX).map(boundDestination),
    destinationsTruncated: receipt.destinationsTruncated === true,
    statement: text(receipt.statement),
    signature: text(receipt.signature, 128),
  }
}

function boundLimits(limits: Record<string, unknown>): EgressLimits {
  const budgets = Array.isArray(limits.budgets) ? (limits.budgets as unknown[]) : []
  return {
    ...counts(limits, [
      'bitsPerSecondUp',
      'bitsPerSecondDown',
      'bytesUpMax',
      'bytesDownMax',
      'requestsPerSecond',
      'connectionsMax',
      'hostConnectionsMax',
      'hostNamesMax',
    ]),
    budgets: budgets
      .filter(isRecord)
      .slice(0, DESTINATIONS_MAX)
      .map((one) => ({ domain: text(one.domain), ...counts(one, ['bytesUpMax', 'bytesDownMax']) })),
  }
}

function counts<K extends string>(of: Record<string, unknown>, names: readonly K[]): Record<K, number> {
  const entries = names.map((name) => [name, isCount(of[name]) ? of[name] : 0] as const)
  return Object.fromEntries(entries) as Record<K, number>
}

function isEvent(event: unknown): event is ExecutionEvent {
  return (
    isRecord(event) &&
    isCount(event.index) &&
    typeof event.topic === 'string' &&
    typeof event.message === 'string' &&
    isRecord(event.details) &&
    Object.values(event.details).every((value) => typeof value === 'string') &&
    isCount(event.timeMs)
  )
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function text(value: unknown, lengthMax = TEXT_LENGTH_MAX): string {
  return typeof value === 'string' ? clip(value, lengthMax) : ''
}

function bad(reason: string, cause?: unknown): WeirError {
  return new WeirError('api.bad_request', `Cannot read the message of a node: ${reason}`, { cause })
}
