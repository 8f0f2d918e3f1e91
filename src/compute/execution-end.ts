import { WeirError } from '../errors.js'

/** Who ended an execution before its program did. */
export type EndKind = 'stopped' | 'shutdown' | 'timeout' | 'disk'

/** The abort reason of an execution's signal: why it ends, and what its record will say. */
export class ExecutionEnd extends WeirError {
  readonly kind: EndKind

  constructor(kind: EndKind, cause: WeirError) {
    super(cause.code, cause.message, { hint: cause.hint, retryable: cause.retryable, cause })
    this.name = 'ExecutionEnd'
    this.kind = kind
  }
}

/** The orchestrator does not want the execution any more. */
export function stoppedEnd(message: string): ExecutionEnd {
  return new ExecutionEnd(
    'stopped',
    new WeirError('job.terminal', message === '' ? 'Execution stopped on request' : message),
  )
}

/** The node is being stopped by its operator. */
export function shutdownEnd(): ExecutionEnd {
  return new ExecutionEnd(
    'shutdown',
    new WeirError('execution.lost', 'The node was stopped while the execution was active', {
      retryable: true,
      hint: 'The job is tried again on another node if its type allows',
    }),
  )
}

/** The time limit passed. Counted from the start of the program: fetching inputs and pulling images is not part of it. */
export function timeoutEnd(limitMs: number): ExecutionEnd {
  return new ExecutionEnd(
    'timeout',
    new WeirError('execution.timeout', `Execution timed out after ${seconds(limitMs)}`, {
      hint: 'Increase the execution timeout of the task (--timeout); pulling the image and fetching inputs do not count',
      retryable: true,
    }),
  )
}

/** The disk limit was reached. */
export function diskEnd(message: string, hint: string, retryable = false): ExecutionEnd {
  return new ExecutionEnd('disk', new WeirError('compute.disk', message, { hint, retryable }))
}

function seconds(ms: number): string {
  const whole = Math.floor(ms / 1000)
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, (ms % 60_000) / 1000]
  return `${h > 0 ? `${h}h` : ''}${h > 0 || m > 0 ? `${m}m` : ''}${s}s`
}
