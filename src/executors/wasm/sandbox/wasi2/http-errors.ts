import { HttpFailure, type HttpProblem } from '../http/http-failure.js'
import type { Variant } from '../component/value-types.js'
import { NONE, some } from './host-interface.js'

/** The `error-code` of `wasi:http` for what went wrong on the way to the gateway. What the gateway refuses is a response. */
export function errorCode(failure: HttpFailure): Variant {
  return CODES[failure.problem]
}

export function internalError(text: string): Variant {
  return { tag: 'internal-error', value: some(text) }
}

const CODES: Readonly<Record<HttpProblem, Variant>> = {
  denied: { tag: 'HTTP-request-denied' },
  unavailable: { tag: 'connection-terminated' },
  invalid: { tag: 'HTTP-request-URI-invalid' },
  too_large: { tag: 'HTTP-request-header-section-size', value: NONE },
  too_many: { tag: 'connection-limit-reached' },
  order: { tag: 'HTTP-request-body-size', value: NONE },
  cut: { tag: 'HTTP-response-incomplete' },
}
