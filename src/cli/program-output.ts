import { COMPUTE_STATE } from './outcome.js'
import { shortId } from '../model/ids.js'
import type { LogChunk, WeirClient, WireExecution } from '../client/index.js'
import type { Terminal } from './terminal.js'

/** Writes the output of a program: what it wrote to standard output and error, to ours. */
export async function writeOutput(chunks: AsyncIterable<LogChunk>, terminal: Terminal): Promise<void> {
  try {
    for await (const { stream, data } of chunks) {
      await (stream === 'stdout' ? terminal.data(data) : terminal.programError(data))
    }
  } catch (error) {
    if (!terminal.outputClosed.aborted) throw error
  }
}

/**
 * Writes the output of every execution that ran, after the end of the job; of a retried one only that of the last try. With several, a line on standard error says
 * whose output follows. Short output is in the execution already and costs no request.
 */
export async function printOutputs(
  client: WeirClient,
  jobId: string,
  executions: readonly WireExecution[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const ran = lastAttempts(executions.filter(hasOutput))
  for (const execution of ran) {
    if (ran.length > 1) {
      terminal.talk(terminal.talkStyle.dim(`── ${shortId(execution.ID)} on ${shortId(execution.NodeID)}`))
    }
    const { RunOutput } = execution
    if (RunOutput !== null && isWhole(RunOutput)) {
      if (RunOutput.Stdout !== '') await terminal.data(RunOutput.Stdout)
      if (RunOutput.stderr !== '') await terminal.programError(RunOutput.stderr)
    } else {
      const whileRead = AbortSignal.any([signal, terminal.outputClosed])
      await writeOutput(client.logs(jobId, { executionId: execution.ID }, { signal: whileRead }), terminal)
    }
  }
}

function lastAttempts(executions: readonly WireExecution[]): WireExecution[] {
  const bySlot = new Map<string, WireExecution>()
  for (const execution of executions) {
    // A server without slots and attempts (Bacalhau) has every execution stand for itself.
    const slot = execution.Attempt === undefined ? execution.ID : `${execution.PartitionIndex}`
    const before = bySlot.get(slot)
    if (before === undefined || before.Attempt <= execution.Attempt) bySlot.set(slot, execution)
  }
  return [...bySlot.values()]
}

function hasOutput({ ComputeState, RunOutput, StartTime }: WireExecution): boolean {
  const { StateType } = ComputeState
  const ended = StateType === COMPUTE_STATE.completed || StateType === COMPUTE_STATE.failed
  return RunOutput !== null || (ended && StartTime !== undefined)
}

/** Neither cut nor changed on the way: text with replacement characters may have been bytes. */
function isWhole(output: NonNullable<WireExecution['RunOutput']>): boolean {
  const { Stdout, StdoutTruncated, stderr, StderrTruncated } = output
  return !StdoutTruncated && !StderrTruncated && !`${Stdout}${stderr}`.includes('\ufffd')
}
