import { ERROR_CODES, WeirError } from '../errors.js'
import type { ErrorCode } from '../errors.js'
import type { Message, Subject } from '../ports/index.js'

/** Bytes of JSON; the same bound everywhere, so that nothing works in one process that fails between machines. */
export const MESSAGE_BYTES_MAX = 1024 * 1024

/** The message as JSON. Throws `spec.too_large`. */
export function encodeMessage(subject: Subject, body: Message): string {
  const text = JSON.stringify(body ?? null)
  const bytes = Buffer.byteLength(text)
  if (bytes <= MESSAGE_BYTES_MAX) return text
  throw new WeirError('spec.too_large', `Cannot send to "${subject}": the message is larger than 1 MiB`, {
    details: { bytes, max: MESSAGE_BYTES_MAX },
  })
}

/** Errors travel like messages: code, message, hint and plain details, without cause and stack. */
export function encodeError(error: WeirError): string {
  const { code, message, hint, retryable, details } = error
  const text = JSON.stringify({ code, message, hint, retryable, details })
  if (Buffer.byteLength(text) <= MESSAGE_BYTES_MAX) return text
  return JSON.stringify({ code, message: message.slice(0, TEXT_LENGTH_MAX), retryable, details: {} })
}

/** The error that {@link encodeError} wrote; what cannot be read is `internal`. */
export function decodeError(text: string): WeirError {
  try {
    const { code, message, hint, retryable, details } = JSON.parse(text) as Record<string, unknown>
    if (isCode(code) && typeof message === 'string')
      return new WeirError(code, message.slice(0, TEXT_LENGTH_MAX), {
        ...(typeof hint === 'string' ? { hint: hint.slice(0, TEXT_LENGTH_MAX) } : {}),
        retryable: retryable === true,
        details: isPlain(details) ? details : {},
      })
  } catch {
    // Not JSON: the answer below says so.
  }
  return new WeirError('internal', 'The other side answered with an error that cannot be read')
}

export function noResponder(subject: Subject, cause?: unknown): WeirError {
  return new WeirError('transport.no_responder', `Cannot reach "${subject}": nobody serves it`, {
    retryable: true,
    cause,
  })
}

/** Who is not connected has said so, and why. */
export function offline(cause?: unknown): WeirError {
  return new WeirError('transport.no_responder', 'There is no connection to the network', {
    retryable: true,
    details: { offline: true },
    cause,
  })
}

export function noAnswer(subject: Subject, timeoutMs: number): WeirError {
  return new WeirError('transport.timeout', `Cannot reach "${subject}": no answer within ${timeoutMs} ms`, {
    retryable: true,
  })
}

export function transportClosed(): WeirError {
  return new WeirError('transport.no_responder', 'Cannot send: the transport is closed')
}

export function servedAlready(subject: Subject): WeirError {
  return new WeirError('internal', `Cannot serve subject "${subject}": somebody serves it already`)
}

/** The other side may be older, newer or hostile: only words of our catalogue mean something here. */
function isCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(ERROR_CODES, code)
}

function isPlain(details: unknown): details is Record<string, unknown> {
  return typeof details === 'object' && details !== null && !Array.isArray(details)
}

const TEXT_LENGTH_MAX = 4_096
