import { WeirError, isWeirError, toWeirError } from '../errors.js'
import { task } from '../model/task-accessors.js'
import type { ObservedExecution } from '../model/state.js'
import type { RunningExecution } from '../ports/index.js'
import { admitTaskNetwork, kind, type AdmissionView } from './admission.js'
import { bounded, sleepFor } from './bounded-work.js'
import { clearWorkDirs } from './execution-dirs.js'
import { ExecutionEnd } from './execution-end.js'
import { prepareOutputs } from './prepare-outputs.js'
import {
  afterExit,
  closeWithRun,
  concluded,
  finishProgram,
  runExecution,
  type Outcome,
} from './run-execution.js'
import type { Run } from './run.js'
import type { RunMemory } from './run-memory.js'
import { adoptNetwork, settleEgress, type RunNetwork } from './run-network.js'

/**
 * Goes on with an execution that an earlier process of this node has begun, from the phase it had come to:
 *
 *     accepted   its program has not begun: everything is done from the start
 *     starting   taken up in its engine: watched on, or collected when it has ended by now; done from the start when it
 *                provably never began
 *     exited     published, perhaps once more
 *
 * Promises what {@link runExecution} does.
 */
export async function resumeExecution(
  run: Run,
  memory: RunMemory,
  view: () => AdmissionView,
): Promise<Outcome | undefined> {
  if (memory.phase === 'accepted') return startOver(run)
  if (memory.phase === 'exited') return publishAgain(run, memory)
  // Until it is ours again, nothing may be taken away from it.
  run.isLeft = true
  // Whoever stops it can only do so once it is taken up.
  const signal = untilLeft(run.signal)
  let running: RunningExecution | 'not started'
  try {
    running = await takeUp(run, signal)
  } catch (error) {
    return concluded(run, () => Promise.reject(toWeirError(error)))
  }
  if (running !== 'not started') return watchOn(run, memory, { running, signal, view })
  run.isLeft = false
  return startOver(run)
}

function watchOn(
  run: Run,
  memory: RunMemory,
  { running, signal, view }: { running: RunningExecution; signal: AbortSignal; view: () => AdmissionView },
): Promise<Outcome | undefined> {
  return concluded(run, async (facts) => {
    const outputs = await prepareOutputs(run, { taken: true })
    const { network, lost } = await takeOverNetwork(run, running, signal)
    closeWithRun(run, running)
    run.isLeft = false
    tell(run, running, view)
    const startTimeMs = memory.startTimeMs ?? running.startTimeMs ?? run.parts.clock.now()
    facts.startTimeMs = startTimeMs
    if (network.limits !== undefined) facts.egressLimits = network.limits
    run.observe({ state: 'Running', ...facts })
    const watched = { inputBytes: memory.inputBytes, startTimeMs, networkLost: lost }
    return finishProgram(run, { running, outputs, network, watched }, facts)
  })
}

async function startOver(run: Run): Promise<Outcome | undefined> {
  try {
    await clearWorkDirs(run.dirs)
    await run.remember({ phase: 'accepted' })
  } catch (error) {
    return concluded(run, () => Promise.reject(toWeirError(error)))
  }
  run.note({
    topic: TOPIC,
    message: 'The node was restarted before the program began; its preparation is repeated',
  })
  return runExecution(run)
}

function publishAgain(run: Run, { exited, startTimeMs }: RunMemory): Promise<Outcome | undefined> {
  return concluded(run, async (facts: Partial<ObservedExecution>) => {
    if (exited === undefined) throw lost('it does not know how the program ended')
    if (startTimeMs !== undefined) facts.startTimeMs = startTimeMs
    run.note({ topic: TOPIC, message: 'The node was restarted after the program had ended' })
    const outputs = await prepareOutputs(run, { taken: true })
    return afterExit(run, exited, outputs, facts)
  })
}

/** Aborts when the execution is left to the next process of the node, and for no other end. */
function untilLeft(signal: AbortSignal): AbortSignal {
  const left = new AbortController()
  const look = () => {
    const { reason } = signal
    if (reason instanceof ExecutionEnd && reason.kind === 'kept') left.abort(reason)
  }
  if (signal.aborted) look()
  else signal.addEventListener('abort', look, { once: true })
  return left.signal
}

/** An engine that is not there yet, because the machine is just starting, is waited for. */
async function takeUp(run: Run, signal: AbortSignal): Promise<RunningExecution | 'not started'> {
  const { desired, parts, log } = run
  const { clock, limits } = parts
  const executor = parts.executors.get(kind(task(desired.jobSpec).Engine.Type))
  const spec = { executionId: desired.executionId, output: log, outputBytesMax: limits.outputBytesMax }
  const untilMs = clock.now() + ENGINE_PATIENCE_MS
  for (;;) {
    try {
      const found = await bounded(async (inner) => executor?.resume?.(spec, inner), {
        clock,
        signal,
        ms: limits.checkTimeoutMs,
        timeout: () => new WeirError('engine.unavailable', 'The engine does not answer', { retryable: true }),
        late: (made) => (typeof made === 'object' ? made.leave?.() : undefined),
      })
      if (found !== undefined) return found
      throw lost('nothing is left of the program in its engine')
    } catch (error) {
      signal.throwIfAborted()
      if (!isWeirError(error, 'engine.unavailable') || clock.now() > untilMs) throw error
      await sleepFor(clock, ENGINE_RETRY_MS, signal)
      signal.throwIfAborted()
    }
  }
}

/** `lost`: resolves when a program that runs must not go on, because its network cannot be guarded. */
async function takeOverNetwork(
  run: Run,
  { hadEnded: ended = false }: RunningExecution,
  signal: AbortSignal,
): Promise<{ network: RunNetwork; lost: Promise<WeirError> | undefined }> {
  try {
    const network = await adoptNetwork(run, { ended, signal })
    return { network, lost: network.lost }
  } catch (error) {
    signal.throwIfAborted()
    const reason = toWeirError(error, 'egress.unavailable')
    const { executionId } = run.desired
    run.parts.logger.warn({ executionId, reason: reason.message }, 'a network could not be taken over')
    // What is left of the slot still has to be given back.
    const rest = ended ? undefined : await adoptNetwork(run, { ended: true, signal }).catch(() => undefined)
    const network = rest ?? { slot: NO_SLOT, env: {}, closeEgress: () => settleEgress(run) }
    return { network, lost: ended ? undefined : Promise.resolve(reason) }
  }
}

function tell(run: Run, { hadEnded = false }: RunningExecution, view: () => AdmissionView): void {
  const message = hadEnded
    ? 'The node was restarted; the program had ended meanwhile'
    : 'The node was restarted; the running program was taken up again'
  run.note({ topic: TOPIC, message })
  if (hadEnded) return
  // Running jobs are the gateway's matter: it judges every attempt by the lists of now.
  const [withdrawn] = admitTaskNetwork(run.desired.jobSpec, view())
  if (withdrawn !== undefined) {
    run.note({
      topic: TOPIC,
      message: `Some of the job's network is not allowed here any more: ${withdrawn.message}`,
    })
  }
}

function lost(reason: string): WeirError {
  return new WeirError('execution.lost', `The node was restarted, and ${reason}`, {
    retryable: true,
    hint: 'The job is tried again if its type allows',
  })
}

const TOPIC = 'Execution'
const ENGINE_PATIENCE_MS = 120_000
const ENGINE_RETRY_MS = 1_000
const NO_SLOT: RunNetwork['slot'] = Object.freeze({ mode: 'none' as const, release: async () => {} })
