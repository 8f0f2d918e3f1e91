import { WeirError, type ErrorCode } from '../errors.js'

/** Who ended an execution before its program did. */
export type EndKind = 'stopped' | 'shutdown' | 'kept' | 'timeout' | 'disk' | 'network'

/** The abort reason of an execution's signal: why it ends, and what its record will say. */
export class ExecutionEnd extends WeirError {
  readonly kind: EndKind

  constructor(kind: EndKind, cause: WeirError) {
    super(cause.code, cause.message, { hint: cause.hint, retryable: cause.retryable, cause })
    this.name = 'ExecutionEnd'
    this.kind = kind
  }
}

/** An end as it is written down. */
export interface PlainEnd {
  kind: EndKind
  code: ErrorCode
  message: string
  hint: string
  retryable: boolean
}

export function plainEnd({ kind, code, message, hint = '', retryable }: ExecutionEnd): PlainEnd {
  return { kind, code, message, hint, retryable }
}

export function revivedEnd({ kind, code, message, hint, retryable }: PlainEnd): ExecutionEnd {
  return new ExecutionEnd(kind, new WeirError(code, message, { retryable, ...(hint !== '' && { hint }) }))
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

/** The node is being stopped, and takes the execution up again when it is started. */
export function keptEnd(): ExecutionEnd {
  return new ExecutionEnd(
    'kept',
    new WeirError('execution.lost', 'The node was stopped', { retryable: true }),
  )
}

/** The network of a program cannot be guarded any more. */
export function networkEnd(cause: WeirError): ExecutionEnd {
  return new ExecutionEnd(
    'network',
    new WeirError(cause.code, `The program was stopped because of its network: ${cause.message}`, {
      hint: cause.hint ?? 'The job is tried again if its type allows',
      retryable: true,
      cause,
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
