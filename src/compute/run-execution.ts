import { WeirError, toWeirError } from '../errors.js'
import { completionMessage, type ObservedExecution, type RunOutput } from '../model/state.js'
import type { RunExit } from '../ports/index.js'
import type { EventDraft } from './execution-book.js'
import { makeWorkDirs } from './execution-dirs.js'
import { ExecutionEnd } from './execution-end.js'
import type { OutputLog } from './output-log.js'
import { prepareInputs } from './prepare-inputs.js'
import { holdStarted, prepareOutputs } from './prepare-outputs.js'
import { publishResult } from './publish-result.js'
import type { Run } from './run.js'
import { openNetwork } from './run-network.js'
import { startProgram, watchProgram } from './run-program.js'

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
 * Never rejects: whatever happens becomes an outcome, which carries what a successful one does as far as it came.
 * The caller closes `run.closing` after reporting; when the run did not succeed, that has happened already.
 */
export async function runExecution(run: Run): Promise<Outcome> {
  const facts: Partial<ObservedExecution> = {}
  try {
    run.observe({ state: 'Preparing' })
    await makeWorkDirs(run.dirs)
    const inputs = await prepareInputs(run)
    const outputs = await prepareOutputs(run)
    const network = await openNetwork(run)
    const place = { inputs, outputs, network }
    const running = await startProgram(run, place)
    run.closing.add('program', () => running.stop(0))
    holdStarted(outputs)
    facts.startTimeMs = run.parts.clock.now()
    run.observe({ state: 'Running', ...facts }, { topic: 'Execution', message: 'Running' })

    const { exit, end } = await watchProgram(run, running, place)
    await run.log.end()
    facts.runOutput = runOutput(run.log, exit, end)
    // Nothing may leave any more once the program is gone.
    facts.egress = await network.closeEgress()
    if (run.log.truncated) run.note(OUTPUT_DROPPED)
    if (end !== undefined) throw end
    if (exit.code !== '') throw exitError(exit)

    facts.publishedResult = await publishResult(run, outputs, exit)
    return completed(exit, facts)
  } catch (error) {
    await run.closing.close()
    return error instanceof ExecutionEnd && error.kind === 'stopped'
      ? cancelled(error, facts)
      : failed(toWeirError(error), facts)
  } finally {
    await run.log.end()
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
