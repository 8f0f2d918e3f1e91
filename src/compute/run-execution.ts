import { WeirError } from '../errors.js'
import { completionMessage, type ObservedExecution, type RunOutput } from '../model/state.js'
import type { RunExit, RunningExecution } from '../ports/index.js'
import type { EventDraft } from './execution-book.js'
import { makeWorkDirs } from './execution-dirs.js'
import { ExecutionEnd, plainEnd, revivedEnd } from './execution-end.js'
import { troubleOf } from './node-trouble.js'
import type { OutputLog } from './output-log.js'
import { prepareInputs } from './prepare-inputs.js'
import { holdStarted, prepareOutputs, type PreparedOutput } from './prepare-outputs.js'
import { publishResult } from './publish-result.js'
import type { Run } from './run.js'
import type { ExitMemory } from './run-memory.js'
import { receiptOf } from './receipt.js'
import { openNetwork, type RunNetwork } from './run-network.js'
import { startProgram, watchProgram, type WatchedProgram } from './run-program.js'

/** The end of an execution, to be written into its record. */
export interface Outcome {
  observed: Partial<ObservedExecution>
  /** Absent where the state alone says everything: the orchestrator writes the history's line. */
  event?: EventDraft
}

/**
 * Runs one execution that has its capacity:
 *
 *     directories → inputs → network slot → egress lease → program → (output, egress summary) → result → publisher
 *
 * Never rejects: whatever happens becomes an outcome, which carries what a successful one does as far as it came; undefined
 * when the execution was left for the next process of the node. The caller closes `run.closing` after reporting; when the
 * run did not succeed, that has happened already.
 */
export function runExecution(run: Run): Promise<Outcome | undefined> {
  return concluded(run, async (facts) => {
    run.observe({ state: 'Preparing' })
    await makeWorkDirs(run.dirs)
    const inputs = await prepareInputs(run)
    const outputs = await prepareOutputs(run)
    const network = await openNetwork(run)
    const running = await startProgram(run, { inputs, outputs, network })
    closeWithRun(run, running)
    holdStarted(outputs)
    facts.startTimeMs = running.startTimeMs ?? run.parts.clock.now()
    if (network.limits !== undefined) facts.egressLimits = network.limits
    run.observe({ state: 'Running', ...facts }, { topic: 'Execution', message: 'Running' })
    rememberBeginning(run, facts.startTimeMs)
    const watched = {
      inputBytes: inputs.bytes,
      startTimeMs: facts.startTimeMs,
      networkLost: network.lost,
    }
    return finishProgram(run, { running, outputs, network, watched }, facts)
  })
}

/** A program under watch, and what belongs to it. */
export interface ProgramParts {
  running: RunningExecution
  outputs: PreparedOutput[]
  network: RunNetwork
  watched: WatchedProgram
}

/** From the running program to the outcome. Rejects with what went wrong, or with who ended it. */
export async function finishProgram(
  run: Run,
  { running, outputs, network, watched }: ProgramParts,
  facts: Partial<ObservedExecution>,
): Promise<Outcome> {
  const { exit, end } = await watchProgram(run, running, watched)
  await run.log.end()
  // Nothing may leave any more once the program is gone.
  const egress = await network.closeEgress()
  const receipt = receiptOf(run, watched.startTimeMs, egress)
  const exited: ExitMemory = {
    exit,
    ...(end !== undefined && { end: plainEnd(end) }),
    ...(egress !== undefined && { egress }),
    ...(receipt !== undefined && { receipt }),
    outputTruncated: run.log.truncated,
    outputGap: run.log.hasGap,
  }
  await rememberExit(run, exited)
  return afterExit(run, exited, outputs, facts)
}

/** From the end of the program to the outcome; does the same when it is done again. */
export async function afterExit(
  run: Run,
  { exit, end: plain, egress, receipt, outputTruncated, outputGap }: ExitMemory,
  outputs: readonly PreparedOutput[],
  facts: Partial<ObservedExecution>,
): Promise<Outcome> {
  const end = plain === undefined ? undefined : revivedEnd(plain)
  facts.runOutput = runOutput(run.log, exit, end)
  facts.egress = egress
  facts.receipt = receipt
  if (outputTruncated) run.note(OUTPUT_DROPPED)
  if (outputGap) run.note(OUTPUT_MISSING)
  if (end !== undefined) throw end
  if (exit.code !== '') throw exitError(exit)
  facts.publishedResult = await publishResult(run, outputs, { exit, receipt })
  return completed(exit, facts)
}

/** Turns whatever `work` comes to into an outcome. */
export async function concluded(
  run: Run,
  work: (facts: Partial<ObservedExecution>) => Promise<Outcome>,
): Promise<Outcome | undefined> {
  const facts: Partial<ObservedExecution> = {}
  try {
    return await work(facts)
  } catch (error) {
    await run.closing.close()
    if (!(error instanceof ExecutionEnd)) return failed(troubleOf(error), facts)
    if (error.kind === 'kept') return undefined
    return error.kind === 'stopped' ? cancelled(error, facts) : failed(error, facts)
  } finally {
    await run.log.end()
  }
}

/** The program ends with the run at the latest, unless it was left to the next process. */
export function closeWithRun(run: Run, running: RunningExecution): void {
  run.closing.add('program', async () => {
    if (run.isLeft) return
    await running.stop(0)
    await running.remove?.()
  })
}

/** For the record only: the engine knows it too. */
function rememberBeginning(run: Run, startTimeMs: number): void {
  run.remember({ startTimeMs }).catch((error: unknown) => {
    const { executionId } = run.desired
    run.parts.logger.warn({ error, executionId }, 'the beginning of a program could not be written down')
  })
}

/** What cannot be written down is done all the same: should the node die now, the engine still has the exit. */
async function rememberExit(run: Run, exited: ExitMemory): Promise<void> {
  try {
    await run.remember({ phase: 'exited', exited })
  } catch (error) {
    const { executionId } = run.desired
    run.parts.logger.warn({ error, executionId }, 'the end of a program could not be written down')
  }
}

/** An execution that ends without success, wherever it was. */
export function failed(error: WeirError, facts: Partial<ObservedExecution> = {}): Outcome {
  const { code, message, hint = '', retryable } = error
  return {
    observed: { ...facts, state: 'Failed', code, message, hint, retryable },
    event: {
      topic: 'Execution',
      message,
      details: {
        IsError: 'true',
        FailsExecution: 'true',
        ErrorCode: code,
        ...(hint !== '' && { Hint: hint }),
        ...(retryable && { Retryable: 'true' }),
      },
    },
  }
}

/** An execution that nobody wants any more. */
export function cancelled({ message }: ExecutionEnd, facts: Partial<ObservedExecution> = {}): Outcome {
  return {
    observed: { ...facts, state: 'Cancelled', code: '', message, hint: '', retryable: false },
    event: { topic: 'Execution', message },
  }
}

/** The program ran to its end, with whatever exit code: the code is the program's own matter. */
function completed({ exitCode, details }: RunExit, facts: Partial<ObservedExecution>): Outcome {
  return {
    observed: { ...facts, state: 'Completed', message: '', code: '', hint: '', retryable: false },
    event: {
      topic: 'Execution',
      message: completionMessage(exitCode),
      details,
    },
  }
}

function runOutput(log: OutputLog, exit: RunExit, end: ExecutionEnd | undefined): RunOutput {
  const [stdout, stderr] = [log.head('stdout'), log.head('stderr')]
  return {
    stdout: stdout.text,
    stdoutTruncated: stdout.truncated,
    stderr: stderr.text,
    stderrTruncated: stderr.truncated,
    exitCode: exit.exitCode,
    errorMessage: end?.message ?? exit.message,
  }
}

function exitError({ code, message, hint, retryable }: RunExit): WeirError {
  const known = code === '' ? 'engine.failed' : code
  return new WeirError(known, message === '' ? 'The program was ended by its engine' : message, {
    hint: hint === '' ? undefined : hint,
    retryable: retryable ?? known === 'engine.failed',
  })
}

const OUTPUT_DROPPED: EventDraft = Object.freeze({
  topic: 'Running Execution',
  message: 'The program wrote more output than the node keeps; the rest was dropped',
})

const OUTPUT_MISSING: EventDraft = Object.freeze({
  topic: 'Running Execution',
  message: 'Output is missing: around a restart of the node the program wrote more than the engine keeps',
})
