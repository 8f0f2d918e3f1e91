import { ERROR_CODES, WeirError, type ErrorCode } from '../errors.js'

/**
 * The error that an answer of the server stands for: with the server's own code where it gives one (weir), with the
 * nearest one otherwise (Bacalhau, a proxy).
 */
export function serverError(status: number, text: string, what: string): WeirError {
  const body = readObject(text)
  const details = readObject(JSON.stringify(body.Details ?? {}))
  const { WeirCode: weirCode, Retryable: retryable, ...rest } = details
  const isKnown = typeof weirCode === 'string' && Object.hasOwn(ERROR_CODES, weirCode)
  const code = isKnown ? (weirCode as ErrorCode) : codeOf(status)
  return new WeirError(code, messageOf(body, status, text, what), {
    hint: typeof body.Hint === 'string' && body.Hint !== '' ? body.Hint : undefined,
    retryable: retryable === 'true' || status === 429 || status === 503,
    details: {
      ...Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, decoded(value)])),
      status,
    },
  })
}

function messageOf(body: Record<string, unknown>, status: number, text: string, what: string): string {
  for (const message of [body.Message, body.Error, body.message]) {
    if (typeof message === 'string' && message !== '') return message
  }
  const start = text.trim().slice(0, 200)
  return `Cannot ${what}: the server answered with status ${status}${start === '' ? '' : `: ${start}`}`
}

function codeOf(status: number): ErrorCode {
  switch (status) {
    case 400:
      return 'api.bad_request'
    case 401:
      return 'api.unauthorized'
    case 403:
      return 'api.forbidden'
    case 404:
      return 'api.not_found'
    case 413:
      return 'spec.too_large'
    case 429:
      return 'api.overload'
    default:
      return 'api.failed'
  }
}

/** Details travel as strings; lists and objects among them were written as JSON. */
function decoded(value: unknown): unknown {
  if (typeof value !== 'string' || !/^[[{]/.test(value)) return value
  try {
    return JSON.parse(value)
  } catch {
    return value // A text that only looks like JSON.
  }
}

function readObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {}
  } catch {
    return {} // Not from our server: the text is shown as it is.
  }
}
