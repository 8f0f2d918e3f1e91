import { WeirError, toWeirError } from '../errors.js'

/**
 * The error that ends an execution. What the system refused the node itself (a full disk, no more descriptors) is not
 * the job's fault and may pass: another try can succeed, here or elsewhere.
 */
export function troubleOf(error: unknown): WeirError {
  const known = (error as NodeJS.ErrnoException | undefined)?.code ?? ''
  if (error instanceof WeirError || !PASSING.has(known)) return toWeirError(error)
  const { message } = error as Error
  return new WeirError('compute.disk', `The node cannot do its work for the execution: ${message}`, {
    hint: 'Try again later or on another node; its operator finds the reason in the message',
    retryable: true,
    cause: error,
  })
}

const PASSING = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'EBUSY'])
