import { executionTimeoutMs, isTerminalObservedState, runsToEnd } from '../model/index.js'
import type { Execution, Job, NodeId, TimeMs } from '../model/index.js'
import type { NodeViews } from './node-view.js'
import type { SchedulingLimits } from './options.js'
import type { NodePast } from './placement.js'
import type { Stop } from './plan.js'
import { REASON_LENGTH_MAX, clip, goDuration } from './wording.js'

/** What became of one execution. */
export type Fate =
  /** Wanted, and not ended as far as anybody knows. */
  | 'live'
  | 'completed'
  /** The node refused it; it never ran. */
  | 'rejected'
  /** It ended without success, or the orchestrator no longer waits for it. */
  | 'failed'

/** One execution with its fate. */
export interface Attempt {
  execution: Execution
  fate: Fate
  /** When it ended, by the orchestrator's clock; meaningless while live. */
  endedAtMs: TimeMs
  /** Why it did not succeed; empty otherwise. */
  reason: string
}

/** All attempts of a job, and the stops that follow from what was observed. */
export interface Attempts {
  all: Attempt[]
  bySlot: Map<number, Attempt[]>
  stops: Stop[]
  /** Earliest time at which a live one becomes overdue. */
  overdueAtMs: TimeMs
}

export const STOP_JOB_STOPPED = 'Execution stop requested because job has been stopped'
export const STOP_NODE_GONE = 'Execution stop requested because node has disappeared'
export const STOP_NODE_REJECTED = 'Execution stop requested because node has been rejected'
export const STOP_NO_MATCH =
  'Execution stop requested because the labels of the node no longer match the constraints of the job'
export const STOP_SURPLUS = 'Execution stop requested because there are more executions than needed'
export const STOP_JOB_FAILED = 'Execution stopped due to job failure'

/** Reads the executions of a job, oldest first. Pure. */
export function readAttempts(
  job: Job,
  executions: readonly Execution[],
  nodes: NodeViews,
  now: TimeMs,
  limits: SchedulingLimits,
): Attempts {
  const attempts: Attempts = { all: [], bySlot: new Map(), stops: [], overdueAtMs: Infinity }
  for (const execution of executions) {
    const { attempt, stop, overdueAtMs } = readOne(job, execution, nodes, now, limits)
    attempts.all.push(attempt)
    if (stop !== undefined) attempts.stops.push(stop)
    if (overdueAtMs !== undefined) attempts.overdueAtMs = Math.min(attempts.overdueAtMs, overdueAtMs)
    const slot = attempts.bySlot.get(execution.slot)
    if (slot === undefined) attempts.bySlot.set(execution.slot, [attempt])
    else slot.push(attempt)
  }
  return attempts
}

/** Stops a live attempt; from then on it is not live. */
export function stopAttempt(attempts: Attempts, attempt: Attempt, message: string, now: TimeMs): void {
  if (attempt.fate !== 'live') return
  attempt.fate = 'failed'
  attempt.endedAtMs = now
  attempt.reason = message
  attempts.stops.push(stopWith(attempt.execution, message, 'Scheduling'))
}

/** What the attempts say about each node, for the placement of the next one. */
export function readPast(
  attempts: readonly Attempt[],
  nodes: NodeViews,
  now: TimeMs,
  limits: SchedulingLimits,
): Map<NodeId, NodePast> {
  const past = new Map<NodeId, NodePast>()
  for (const attempt of attempts) {
    const { nodeId } = attempt.execution
    const before = past.get(nodeId)
    const failures = (before?.failures ?? 0) + (attempt.fate === 'failed' ? 1 : 0)
    past.set(nodeId, { failures, excluded: before?.excluded ?? exclusion(attempt, nodes, now, limits) })
  }
  return past
}

/**
 * When a node may be asked again that refused the job or failed it for good: after a while, if the reason may pass by
 * itself, or if the node has become another one since. Undefined: never, as it is now.
 */
export function askAgainAtMs(
  { execution, endedAtMs }: Attempt,
  nodes: NodeViews,
  limits: SchedulingLimits,
): TimeMs | undefined {
  const { changedMs = 0 } = nodes.get(execution.nodeId)?.record ?? {}
  const mayHelp = execution.observed.retryable || changedMs > endedAtMs
  return mayHelp ? endedAtMs + limits.queueRecheckMs : undefined
}

/** When the next try of a slot may start: the wait doubles with each try that did not hold. */
export function retryAtMs(tries: readonly Attempt[], limits: SchedulingLimits): TimeMs {
  const last = tries.at(-1)
  if (last === undefined) return 0
  let quick = 0
  for (const { execution, endedAtMs } of tries.toReversed()) {
    if (endedAtMs - execution.createTimeMs >= limits.stableAfterMs) break
    quick += 1
  }
  const endedAtMs = tries.reduce((latest, attempt) => Math.max(latest, attempt.endedAtMs), 0)
  return endedAtMs + Math.min(limits.retryBackoffMs * 2 ** Math.max(0, quick - 1), limits.retryBackoffMsMax)
}

interface Reading {
  attempt: Attempt
  stop?: Stop
  overdueAtMs?: TimeMs
}

function readOne(
  job: Job,
  execution: Execution,
  nodes: NodeViews,
  now: TimeMs,
  limits: SchedulingLimits,
): Reading {
  const { observed, desired } = execution
  const wanted = desired.state === 'Running'
  const endedAtMs = wanted ? now : desired.sinceMs
  if (isTerminalObservedState(observed.state)) {
    const { fate, message } = ending(job, execution)
    const reason = fate === 'completed' ? '' : observed.message || message
    const stop = wanted ? { executionId: execution.id, message } : undefined
    return { attempt: { execution, fate, endedAtMs, reason }, stop }
  }
  if (!wanted) return { attempt: { execution, fate: 'failed', endedAtMs, reason: desired.message } }
  const gone = whyGone(execution, nodes)
  if (gone !== undefined) return givenUp(execution, gone, 'Scheduling', now)
  const overdueAtMs = overdueAt(job, execution, limits)
  if (overdueAtMs !== undefined && now >= overdueAtMs) {
    const limit = goDuration(executionTimeoutMs(job.spec) ?? 0)
    return givenUp(execution, `Execution timed out. Execution took longer than ${limit}`, 'Exec Timeout', now)
  }
  return { attempt: { execution, fate: 'live', endedAtMs: 0, reason: '' }, overdueAtMs }
}

function ending(job: Job, { observed }: Execution): { fate: Fate; message: string } {
  if (observed.state === 'Rejected') return { fate: 'rejected', message: 'bid rejected' }
  if (observed.state === 'Failed') return { fate: 'failed', message: 'execution failed' }
  if (observed.state === 'Cancelled') return { fate: 'failed', message: 'execution cancelled' }
  return runsToEnd(job.spec.Type)
    ? { fate: 'completed', message: 'execution completed' }
    : { fate: 'failed', message: 'execution completed unexpectedly' }
}

function whyGone(execution: Execution, nodes: NodeViews): string | undefined {
  const node = nodes.get(execution.nodeId)
  if (node === undefined || node.lost) return STOP_NODE_GONE
  return node.record.membership === 'REJECTED' ? STOP_NODE_REJECTED : undefined
}

/** The node enforces the limit; this is for a node that does not. Its clock may be wrong, so it is not asked. */
function overdueAt(
  job: Job,
  { observed, runningSinceMs }: Execution,
  limits: SchedulingLimits,
): TimeMs | undefined {
  const limitMs = executionTimeoutMs(job.spec)
  if (limitMs === undefined || observed.state !== 'Running' || runningSinceMs === undefined) return undefined
  return runningSinceMs + limitMs + limits.overdueGraceMs
}

function givenUp(execution: Execution, reason: string, topic: string, now: TimeMs): Reading {
  return {
    attempt: { execution, fate: 'failed', endedAtMs: now, reason },
    stop: stopWith(execution, reason, topic),
  }
}

function stopWith(execution: Execution, message: string, topic: string): Stop {
  return { executionId: execution.id, message, event: { topic, message } }
}

function exclusion(
  attempt: Attempt,
  nodes: NodeViews,
  now: TimeMs,
  limits: SchedulingLimits,
): NodePast['excluded'] {
  const { execution, fate, reason } = attempt
  const { observed } = execution
  if (fate === 'live') return refusal('busy', 'already runs this job', 'already run this job')
  if (fate === 'completed') return refusal('done', 'already ran this job', 'already ran this job')
  if (fate === 'rejected') {
    if (now >= (askAgainAtMs(attempt, nodes, limits) ?? Infinity)) return undefined
    const text = `refused the job (${clip(reason, REASON_LENGTH_MAX)})`
    return refusal(observed.code || 'rejected', text, text, observed.retryable, observed.hint)
  }
  // A failure that another try cannot mend: other nodes may have what this one lacks, this one will not.
  if (!isHopeless(attempt) || now >= (askAgainAtMs(attempt, nodes, limits) ?? Infinity)) return undefined
  const text = `failed it before (${clip(reason, REASON_LENGTH_MAX)})`
  return refusal(observed.code || 'failed', text, text, false, observed.hint)
}

/** Failed in a way that another try on the same node cannot mend. */
export function isHopeless({ execution: { observed } }: Attempt): boolean {
  return observed.state === 'Failed' && !observed.retryable
}

function refusal(
  code: string,
  one: string,
  many: string,
  transient = false,
  hint = '',
): NonNullable<NodePast['excluded']> {
  return { code, one, many, transient, hint }
}
