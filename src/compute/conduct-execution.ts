import { WeirError } from '../errors.js'
import { formatResources } from '../model/resources.js'
import { task } from '../model/task-accessors.js'
import type { Resources } from '../model/resources.js'
import type { DesiredExecution } from '../model/sync.js'
import { admit, admitTaskNetwork, chargedResources, type AdmissionView } from './admission.js'
import type { CapacityGate, Release } from './capacity-gate.js'
import { ClosingStack } from './closing-stack.js'
import type { ExecutionBook, ExecutionRecord } from './execution-book.js'
import { removeWorkDirs } from './execution-dirs.js'
import { ExecutionEnd } from './execution-end.js'
import { troubleOf } from './node-trouble.js'
import type { Refusal } from './network-admission.js'
import type { OutputLog } from './output-log.js'
import { resumeExecution } from './resume-execution.js'
import type { Run, RunParts } from './run.js'
import { cancelled, failed, runExecution, type Outcome } from './run-execution.js'
import type { RunMemory } from './run-memory.js'
import type { TakeTurns } from './take-turns.js'

/** What conducting one execution needs of the node. */
export interface ConductParts extends RunParts {
  book: ExecutionBook
  gate: CapacityGate
  /** Admissions side by side are bounded. */
  admissions: TakeTurns
  /** See `readBootId`. */
  bootId: string
  /** Policy and abilities as they are now. */
  view: () => AdmissionView
}

/** What an execution brings along from an earlier process of the node. */
export interface Brought {
  memory: RunMemory
  /** Gives back what it holds already; absent when it has to wait for room like any other. */
  release?: Release
}

/**
 * The whole life of one execution on this node: admission → queue → run → report → clear up. With `brought` it goes on where
 * an earlier process of the node was. Never rejects; when it resolves, the execution holds nothing any more but its record
 * and its log, or it was left for the next process.
 */
export async function conductExecution(
  desired: DesiredExecution,
  { record, log, brought }: { record: ExecutionRecord; log: OutputLog; brought?: Brought },
  parts: ConductParts,
  signal: AbortSignal,
): Promise<void> {
  const { book, logger } = parts
  const closing = new ClosingStack(logger, parts.clock)
  const held: { release?: Release } = {}
  if (brought?.release !== undefined) held.release = brought.release
  let outcome: Outcome | undefined
  try {
    outcome = await outcomeOf(desired, { record, log, closing, held, brought }, parts, signal)
  } catch (error) {
    outcome = endedBefore(error)
  }
  await log.end()
  // The program is gone, so the report of the end already tells of the capacity that is free again.
  held.release?.()
  if (outcome === undefined) return closing.close()
  const { executionId } = desired
  await book.end(executionId, outcome.observed, outcome.event, {
    bytes: log.size,
    truncated: log.truncated || log.hasGap,
  })
  await closing.close()
  try {
    await removeWorkDirs(record.dirs)
  } catch (error) {
    logger.warn({ error, executionId }, 'directories of an execution could not be removed')
  }
}

/** Undefined: it waits for the next process of the node. */
function endedBefore(error: unknown): Outcome | undefined {
  if (!(error instanceof ExecutionEnd)) return failed(troubleOf(error))
  if (error.kind === 'kept') return undefined
  return error.kind === 'stopped' ? cancelled(error) : failed(error)
}

interface Own {
  record: ExecutionRecord
  log: OutputLog
  closing: ClosingStack
  held: { release?: Release }
  brought: Brought | undefined
}

async function outcomeOf(
  desired: DesiredExecution,
  own: Own,
  parts: ConductParts,
  signal: AbortSignal,
): Promise<Outcome | undefined> {
  const { book } = parts
  const { executionId } = desired
  const memory = own.brought?.memory ?? (await acceptance(desired, parts, signal))
  if ('observed' in memory) return memory
  if (own.brought === undefined) await book.accept(executionId, memory)

  if (own.held.release === undefined) {
    own.held.release = await enterGate(memory, parts, signal)
    // The operator may have changed the rules while the execution waited.
    const [withdrawn] = admitTaskNetwork(desired.jobSpec, parts.view())
    if (withdrawn !== undefined) {
      return failed(
        new WeirError(withdrawn.code, withdrawn.message, { hint: withdrawn.hint, retryable: true }),
      )
    }
  }
  const run: Run = {
    parts,
    desired,
    resources: memory.resources,
    diskBytesMax: memory.diskBytesMax,
    dirs: own.record.dirs,
    log: own.log,
    closing: own.closing,
    isLeft: false,
    signal,
    untilDurable: () => book.untilDurable(executionId),
    remember: (change) => book.remember(executionId, change),
    observe: (change, event) => book.observe(executionId, change, event),
    note: (event) => book.note(executionId, event),
  }
  return own.brought === undefined ? runExecution(run) : resumeExecution(run, memory, parts.view)
}

/** What is to be remembered of an execution that the node takes; the refusal otherwise. */
async function acceptance(
  desired: DesiredExecution,
  parts: ConductParts,
  signal: AbortSignal,
): Promise<RunMemory | Outcome> {
  const { gate, limits, bootId } = parts
  const refusals = await parts.admissions.take(() => admit(desired, parts.view(), signal), signal)
  if (gate.isFull) refusals.push(queueFull(gate.waiting))
  if (refusals.length > 0) return rejected(refusals)
  const resources = chargedResources(task(desired.jobSpec))
  const diskBytesMax =
    resources.diskBytes > 0
      ? resources.diskBytes
      : Math.min(limits.diskBytesDefault, parts.view().maxJobRequirements.diskBytes)
  return { desired, resources, diskBytesMax, bootId, phase: 'accepted', inputBytes: 0 }
}

function enterGate(
  { desired, resources }: RunMemory,
  parts: ConductParts,
  signal: AbortSignal,
): Promise<Release> {
  const { book, gate } = parts
  const { executionId, jobSpec } = desired
  const waits = (): void => {
    const message = `Waiting for room on the node: ${lacking(resources, gate.free)}`
    book.note(executionId, { topic: 'Execution', message })
  }
  return gate.enter({ id: executionId, priority: jobSpec.Priority, resources }, signal, waits)
}

/** What there is too little of, as `500m CPU asked, 400m CPU free`; all of it when others wait already. */
function lacking(asked: Resources, free: Resources): string {
  const short = (of: Resources): Resources => ({
    cpu: asked.cpu > free.cpu ? of.cpu : 0,
    memoryBytes: asked.memoryBytes > free.memoryBytes ? of.memoryBytes : 0,
    diskBytes: asked.diskBytes > free.diskBytes ? of.diskBytes : 0,
    gpu: asked.gpu > free.gpu ? of.gpu : 0,
  })
  const isShort = formatResources(short(asked)) !== 'nothing'
  if (!isShort) return `${formatResources(asked)} asked, others wait for longer`
  return `${formatResources(short(asked))} asked, ${formatResources(short(free))} free`
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
