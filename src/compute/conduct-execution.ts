import { WeirError, toWeirError } from '../errors.js'
import { formatResources } from '../model/resources.js'
import { task } from '../model/task-accessors.js'
import type { DesiredExecution } from '../model/sync.js'
import { admit, admitTaskNetwork, chargedResources, type AdmissionView } from './admission.js'
import type { CapacityGate, Release } from './capacity-gate.js'
import { ClosingStack } from './closing-stack.js'
import type { ExecutionBook, ExecutionRecord } from './execution-book.js'
import { removeWorkDirs } from './execution-dirs.js'
import { ExecutionEnd } from './execution-end.js'
import type { Refusal } from './network-admission.js'
import type { OutputLog } from './output-log.js'
import type { RunParts } from './run.js'
import { cancelled, failed, runExecution, type Outcome } from './run-execution.js'
import type { TakeTurns } from './take-turns.js'

/** What conducting one execution needs of the node. */
export interface ConductParts extends RunParts {
  book: ExecutionBook
  gate: CapacityGate
  /** Admissions side by side are bounded. */
  admissions: TakeTurns
  /** Policy and abilities as they are now. */
  view: () => AdmissionView
}

/**
 * The whole life of one execution on this node: admission → queue → run → report → clear up. Never rejects; when it
 * resolves, the execution holds nothing any more but its record and its log.
 */
export async function conductExecution(
  desired: DesiredExecution,
  { record, log }: { record: ExecutionRecord; log: OutputLog },
  parts: ConductParts,
  signal: AbortSignal,
): Promise<void> {
  const { book, logger } = parts
  const closing = new ClosingStack(logger, parts.clock)
  const held: { release?: Release } = {}
  let outcome: Outcome
  try {
    outcome = await outcomeOf(desired, { record, log, closing, held }, parts, signal)
  } catch (error) {
    outcome =
      error instanceof ExecutionEnd && error.kind === 'stopped'
        ? cancelled(error)
        : failed(toWeirError(error))
  }
  await log.end()
  // The program is gone, so the report of the end already tells of the capacity that is free again.
  held.release?.()
  const { executionId } = desired
  await book.end(executionId, outcome.observed, outcome.event, { bytes: log.size, truncated: log.truncated })
  await closing.close()
  try {
    await removeWorkDirs(record.dirs)
  } catch (error) {
    logger.warn({ error, executionId }, 'directories of an execution could not be removed')
  }
}

async function outcomeOf(
  desired: DesiredExecution,
  own: { record: ExecutionRecord; log: OutputLog; closing: ClosingStack; held: { release?: Release } },
  parts: ConductParts,
  signal: AbortSignal,
): Promise<Outcome> {
  const { book, gate, limits } = parts
  const { executionId, jobSpec } = desired
  const refusals = await parts.admissions.take(() => admit(desired, parts.view(), signal), signal)
  if (gate.isFull) refusals.push(queueFull(gate.waiting))
  if (refusals.length > 0) return rejected(refusals)
  await book.accept(executionId)

  const resources = chargedResources(task(jobSpec))
  const waits = (): void => {
    const message = `Waiting for room on the node: ${formatResources(gate.free)} free, ${formatResources(resources)} asked`
    book.note(executionId, { topic: 'Execution', message })
  }
  own.held.release = await gate.enter(
    { id: executionId, priority: jobSpec.Priority, resources },
    signal,
    waits,
  )
  const { maxJobRequirements } = parts.view()
  // The operator may have changed the rules while the execution waited.
  const [withdrawn] = admitTaskNetwork(task(jobSpec), parts.view())
  if (withdrawn !== undefined) {
    return failed(new WeirError(withdrawn.code, withdrawn.message, { hint: withdrawn.hint, retryable: true }))
  }
  return runExecution({
    parts,
    desired,
    resources,
    diskBytesMax:
      resources.diskBytes > 0
        ? resources.diskBytes
        : Math.min(limits.diskBytesDefault, maxJobRequirements.diskBytes),
    dirs: own.record.dirs,
    log: own.log,
    closing: own.closing,
    signal,
    untilDurable: () => book.untilDurable(executionId),
    observe: (change, event) => book.observe(executionId, change, event),
    note: (event) => book.note(executionId, event),
  })
}

/** All reasons in one message; trying again helps only if it helps against each of them. */
export function rejected(refusals: readonly Refusal[]): Outcome {
  const message = refusals.map((refusal) => refusal.message).join('; ')
  const hint = [...new Set(refusals.map((refusal) => refusal.hint))].slice(0, HINTS_MAX).join('; ')
  const code = refusals[0]?.code ?? 'compute.policy'
  const retryable = refusals.every((refusal) => refusal.retryable === true)
  return { observed: { state: 'Rejected', code, message, hint, retryable } }
}

const HINTS_MAX = 3

function queueFull(waiting: number): Refusal {
  return {
    code: 'compute.resources',
    message: `The queue of this node is full (${waiting} executions)`,
    hint: 'Try again later or on another node',
    retryable: true,
  }
}
