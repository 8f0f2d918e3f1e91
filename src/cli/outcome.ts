import { EXIT } from './exit-codes.js'
import type { WireExecution, WireJob } from '../client/index.js'

/** How a job ended, as an exit code and for people. */
export interface Outcome {
  exitCode: number
  succeeded: boolean
  /** What happened, one sentence without full stop. */
  summary: string
  /** What to do, when something went wrong and somebody knows. */
  hints: string[]
}

/** States of executions on the wire. */
export const COMPUTE_STATE = { rejected: 4, completed: 9, failed: 10, cancelled: 11 } as const

/**
 * In this order:
 * 1. completed, one execution that ended → the program's own code;
 * 2. completed, several → 0 when all ended with 0, else 1;
 * 3. failed by a limit of time → 124;
 * 4. one execution that was killed for its memory → 137, as the shell would say;
 * 5. anything else → 126.
 */
export function outcomeOf(job: WireJob, executions: readonly WireExecution[]): Outcome {
  const { StateType, Message = '', Details = {} } = job.State
  const completed = executions.filter(
    ({ ComputeState }) => ComputeState.StateType === COMPUTE_STATE.completed,
  )
  if (StateType === 'Completed') return completedOutcome(completed)
  const failed = executions.filter(({ ComputeState }) => ComputeState.StateType === COMPUTE_STATE.failed)
  const last = failed.at(-1)
  const code = Details.ErrorCode ?? last?.ComputeState.Details?.ErrorCode ?? ''
  const shortage = shortageOf(Message)
  const hints = [shortage?.hint ?? Details.Hint, last?.ComputeState.Details?.Hint].filter(
    (hint) => hint !== undefined && hint !== '',
  )
  const reason = reasonOf(shortage?.reason ?? Message, failed)
  const verb = StateType === 'Stopped' ? 'was stopped' : 'failed'
  return {
    exitCode: failureCode(code, failed),
    succeeded: false,
    summary: `The job ${verb}${reason === '' ? '' : `: ${reason}`}`,
    hints: [...new Set(hints)] as string[],
  }
}

function completedOutcome(completed: readonly WireExecution[]): Outcome {
  const codes = completed.map(({ RunOutput }) => RunOutput?.ExitCode ?? 0)
  const [only = 0] = codes
  if (codes.length <= 1) {
    const summary = only === 0 ? 'The job completed' : `The program ended with exit code ${only}`
    return { exitCode: asExitCode(only), succeeded: only === 0, summary, hints: [] }
  }
  const bad = codes.filter((code) => code !== 0)
  if (bad.length === 0) {
    return {
      exitCode: EXIT.ok,
      succeeded: true,
      summary: `All ${codes.length} executions completed`,
      hints: [],
    }
  }
  const summary = `${bad.length} of ${codes.length} executions ended with an exit code other than 0: ${bad.join(', ')}`
  return { exitCode: EXIT.no, succeeded: false, summary, hints: [] }
}

function failureCode(code: string, failed: readonly WireExecution[]): number {
  if (code === 'execution.timeout') return EXIT.timeout
  if (code === 'execution.out_of_memory' && failed.length === 1) return EXIT.outOfMemory
  return EXIT.jobFailed
}

/** Of a job that no node took: the reasons without the count before them, which says the same in figures. */
function shortageOf(message: string): { reason: string; hint?: string } | undefined {
  const match =
    /^not enough nodes to run job\. requested: (\d+), available: \d+, suitable: (\d+)\. (.+)$/s.exec(message)
  if (match === null) return undefined
  const [requested, suitable] = [Number(match[1]), Number(match[2])]
  const reason = match[3] ?? ''
  if (suitable === 0 || suitable >= requested) return { reason }
  return {
    reason: `${requested} executions need ${requested} nodes, and ${reason}`,
    hint: 'Lower --count, or start more compute nodes: each execution of a job runs on a node of its own',
  }
}

/** Where the job's message repeats the execution's, that alone is said: `job describe` has every word. */
function reasonOf(message: string, failed: readonly WireExecution[]): string {
  const inner = failed.at(-1)?.ComputeState.Message ?? ''
  if (message === '' || inner === '') return message === '' ? inner : message
  if (!message.includes(inner)) return `${message}: ${inner}`
  return failed.length > 1 ? `${inner} (tried ${failed.length} times)` : inner
}

/** Codes of programs outside 0–255 keep being failures. */
function asExitCode(code: number): number {
  if (code >= 0 && code <= 255) return code
  return (code & 0xff) === 0 ? EXIT.no : code & 0xff
}
