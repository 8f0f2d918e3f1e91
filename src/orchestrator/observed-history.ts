import { completionMessage, isTerminalObservedState, jobVersionOf } from '../model/index.js'
import type {
  Execution,
  ExecutionEvent,
  Job,
  NewHistoryEvent,
  ObservedExecution,
  TimeMs,
} from '../model/index.js'
import { clip } from './wording.js'

const MESSAGE_LENGTH_MAX = 4096
const DETAILS_MAX = 32

/**
 * The history lines of one report: what the node says it did, and the changes of state that follow from the report.
 * Each line once: a node may have said the same in its own words' place.
 */
export function historyOfReport(
  job: Job,
  before: Execution,
  observed: ObservedExecution,
  events: readonly ExecutionEvent[],
  now: TimeMs,
): NewHistoryEvent[] {
  const line = (
    event: Pick<ExecutionEvent, 'topic' | 'message' | 'details' | 'timeMs'>,
  ): NewHistoryEvent => ({
    jobId: job.id,
    executionId: before.id,
    topic: clip(event.topic, 128),
    message: clip(event.message, MESSAGE_LENGTH_MAX),
    details: boundedDetails(event.details),
    timeMs: event.timeMs,
    jobVersion: jobVersionOf(before),
  })
  const said = events.map(line)
  const running = runningLine(before.observed, observed, now)
  if (running !== undefined && !isSaid(said, running.message)) {
    const at = said.findIndex((event) => event.timeMs > running.timeMs)
    said.splice(at < 0 ? said.length : at, 0, line(running))
  }
  const ending = endingLine(before.observed, observed, now)
  if (ending !== undefined && !isSaid(said, ending.message)) said.push(line(ending))
  return said
}

function isSaid(said: readonly NewHistoryEvent[], message: string): boolean {
  return said.some((event) => event.topic === 'Execution' && event.message === message)
}

type Line = Pick<ExecutionEvent, 'topic' | 'message' | 'details' | 'timeMs'>

function runningLine(before: ObservedExecution, after: ObservedExecution, now: TimeMs): Line | undefined {
  const hadStarted =
    before.state === 'Running' || before.state === 'Publishing' || isTerminalObservedState(before.state)
  const hasStarted = after.state === 'Running' || after.state === 'Publishing' || after.state === 'Completed'
  if (hadStarted || !(hasStarted || (after.state === 'Failed' && after.startTimeMs !== undefined)))
    return undefined
  return {
    topic: 'Execution',
    message: 'Running',
    details: {},
    timeMs: after.startTimeMs ?? after.endTimeMs ?? now,
  }
}

function endingLine(before: ObservedExecution, after: ObservedExecution, now: TimeMs): Line | undefined {
  if (isTerminalObservedState(before.state)) return undefined
  const timeMs = after.endTimeMs ?? now
  if (after.state === 'Completed') {
    const message = completionMessage(after.runOutput?.exitCode ?? 0)
    return { topic: 'Execution', message, details: {}, timeMs }
  }
  if (after.state === 'Rejected') {
    return {
      topic: 'Exec Scanning',
      message: `rejected bid: ${after.message}`,
      details: errorDetails(after),
      timeMs,
    }
  }
  if (after.state !== 'Failed') return undefined
  const details = { IsError: 'true', FailsExecution: 'true', ...errorDetails(after) }
  return { topic: 'Execution', message: after.message || 'Execution failed', details, timeMs }
}

function errorDetails({ code, hint, retryable }: ObservedExecution): Record<string, string> {
  return {
    ...(code === '' ? {} : { ErrorCode: code }),
    ...(hint === '' ? {} : { Hint: hint }),
    ...(retryable ? { Retryable: 'true' } : {}),
  }
}

function boundedDetails(details: Record<string, string>): Record<string, string> {
  const entries = Object.entries(details).slice(0, DETAILS_MAX)
  return Object.fromEntries(
    entries.map(([key, value]) => [clip(key, 128), clip(String(value), MESSAGE_LENGTH_MAX)]),
  )
}
