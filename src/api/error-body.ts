import { isWeirError, WeirError, type ErrorCode } from '../errors.js'

/** The one shape of every error answer. */
export interface ErrorBody {
  Status: number
  Message: string
  /** The request's own `X-Request-ID`; empty when it had none. */
  RequestID: string
  Code: string
  Component: string
  Hint?: string
  /** Strings only: Go's clients decode nothing else. `WeirCode` is the code of our catalogue. */
  Details?: Record<string, string>
}

/** Turns anything thrown while a request was handled into the answer. Statuses are chosen here and nowhere else. */
export function errorBody(error: unknown, requestId: string): ErrorBody {
  if (isWeirError(error)) return fromWeirError(error, requestId)
  if (isFrameworkError(error)) return fromFramework(error, requestId)
  return fromWeirError(new WeirError('internal', HIDDEN), requestId)
}

/** True for an error whose cause is a defect: it belongs into the log, with its stack. */
export function isDefect(error: unknown): boolean {
  return isWeirError(error) ? error.code === 'internal' : !isFrameworkError(error)
}

function fromWeirError(error: WeirError, requestId: string): ErrorBody {
  const answer = ANSWERS[error.code] ?? INTERNAL
  const isHidden = error.code === 'internal'
  return {
    Status: answer.status,
    Message: isHidden ? HIDDEN : error.message,
    RequestID: requestId,
    Code: answer.code,
    Component: answer.component,
    Hint: isHidden ? undefined : error.hint,
    Details: {
      ...(isHidden ? {} : textDetails(error.details)),
      WeirCode: error.code,
      Retryable: error.retryable ? 'true' : 'false',
    },
  }
}

/** Errors that fastify raises itself. As in Bacalhau, those without a word of their own are InternalError. */
function fromFramework(error: FrameworkError, requestId: string): ErrorBody {
  const [status, weirCode] = FRAMEWORK_ANSWERS[error.code ?? ''] ?? [error.statusCode, 'api.bad_request']
  return {
    Status: status,
    Message: error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE' ? MEDIA_TYPE : error.message,
    RequestID: requestId,
    Code: status === 400 ? 'BadRequest' : 'InternalError',
    Component: 'APIServer',
    Hint:
      error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE'
        ? 'Send the header Content-Type: application/json.'
        : undefined,
    Details: { WeirCode: weirCode },
  }
}

interface FrameworkError {
  message: string
  statusCode: number
  code?: string
}

function isFrameworkError(error: unknown): error is FrameworkError {
  if (!(error instanceof Error) || !('statusCode' in error)) return false
  const { statusCode } = error
  return typeof statusCode === 'number' && statusCode >= 400 && statusCode < 600
}

function textDetails(details: Readonly<Record<string, unknown>>): Record<string, string> {
  const texts: Record<string, string> = {}
  for (const [key, value] of Object.entries(details)) {
    if (value === undefined) continue
    texts[key] = typeof value === 'string' ? value : JSON.stringify(value)
  }
  return texts
}

interface Answer {
  status: number
  /** Bacalhau's word. */
  code: string
  component: string
}

const HIDDEN = 'Internal server error'
const MEDIA_TYPE = 'code=415, message=Unsupported Media Type'
const INTERNAL: Answer = { status: 500, code: 'InternalError', component: 'Unknown' }
const BAD_REQUEST: Answer = { status: 400, code: 'BadRequest', component: 'APIServer' }
const UNAVAILABLE: Answer = { status: 503, code: 'ServiceUnavailable', component: 'Bacalhau' }

/** What is not listed here is an internal error. */
const ANSWERS: Partial<Record<ErrorCode, Answer>> = {
  'spec.invalid': { status: 400, code: 'ValidationError', component: 'APIServer' },
  'spec.template': BAD_REQUEST,
  'spec.too_large': { status: 413, code: 'BadRequest', component: 'APIServer' },
  'pattern.invalid': BAD_REQUEST,
  'preset.unknown': BAD_REQUEST,
  'host.invalid': BAD_REQUEST,
  'input.invalid': BAD_REQUEST,
  'key.invalid': BAD_REQUEST,
  'signature.invalid': { status: 400, code: 'ValidationError', component: 'APIServer' },
  'signature.expired': { status: 400, code: 'ValidationError', component: 'APIServer' },
  'publisher.invalid': BAD_REQUEST,
  'config.invalid': BAD_REQUEST,
  'job.not_found': { status: 404, code: 'NotFound', component: 'JobStore' },
  'job.ambiguous': { status: 409, code: 'MultipleJobsFound', component: 'JobStore' },
  'job.unchanged': { status: 409, code: 'ConflictJobVersion', component: 'JobStore' },
  'job.terminal': { status: 409, code: 'ConflictJobState', component: 'JobStore' },
  'job.too_many': { status: 429, code: 'ResourceExhausted', component: 'JobStore' },
  'execution.ambiguous': { status: 409, code: 'MultipleExecutionsFound', component: 'JobStore' },
  'execution.not_found': { status: 404, code: 'NotFound', component: 'JobStore' },
  'node.not_found': { status: 404, code: 'NotFound', component: 'NodesManager' },
  'node.ambiguous': { status: 409, code: 'MultipleNodesFound', component: 'NodesManager' },
  'node.conflict': { status: 409, code: 'ConflictNodeState', component: 'NodesManager' },
  'node.token_not_found': { status: 404, code: 'NotFound', component: 'NodesManager' },
  'request.not_found': { status: 404, code: 'NotFound', component: 'NodesManager' },
  'request.decided': { status: 409, code: 'ConflictRequestState', component: 'NodesManager' },
  'request.invalid': BAD_REQUEST,
  'request.too_many': { status: 429, code: 'ResourceExhausted', component: 'NodesManager' },
  'network.no_list': { status: 409, code: 'ConflictNetworkList', component: 'NodesManager' },
  'scheduling.no_nodes': UNAVAILABLE,
  'store.stale': { status: 503, code: 'ConflictJobVersion', component: 'JobStore' },
  'store.unavailable': { status: 503, code: 'DatastoreFailure', component: 'JobStore' },
  'transport.timeout': UNAVAILABLE,
  'transport.no_responder': UNAVAILABLE,
  'transport.unavailable': UNAVAILABLE,
  'results.unavailable': { status: 404, code: 'NotFound', component: 'Bacalhau' },
  'source.unavailable': BAD_REQUEST,
  'source.refused': BAD_REQUEST,
  'source.too_large': { status: 413, code: 'BadRequest', component: 'APIServer' },
  'wasm.invalid': { status: 400, code: 'ValidationError', component: 'APIServer' },
  'wasm.imports': { status: 400, code: 'ValidationError', component: 'APIServer' },
  'wasm.entry_point': { status: 400, code: 'ValidationError', component: 'APIServer' },
  'blob.not_found': { status: 404, code: 'NotFound', component: 'BlobStore' },
  'blob.mismatch': { status: 400, code: 'BadRequest', component: 'BlobStore' },
  'blob.too_large': { status: 413, code: 'BadRequest', component: 'BlobStore' },
  'blob.full': { status: 507, code: 'ResourceExhausted', component: 'BlobStore' },
  'egress.self': { status: 403, code: 'Forbidden', component: 'Authorizer' },
  'egress.audit_failed': UNAVAILABLE,
  'egress.unavailable': UNAVAILABLE,
  'api.bad_request': BAD_REQUEST,
  'api.not_found': { status: 404, code: 'NotFound', component: 'APIServer' },
  'api.version': { status: 403, code: 'VersionMismatch', component: 'APIServer' },
  'api.refused': { status: 403, code: 'Forbidden', component: 'APIServer' },
  'api.unauthorized': { status: 401, code: 'Unauthorized', component: 'Authorizer' },
  'api.forbidden': { status: 403, code: 'Forbidden', component: 'Authorizer' },
  'api.from_job': { status: 403, code: 'Forbidden', component: 'Authorizer' },
  'access.off': BAD_REQUEST,
  'access.invalid': BAD_REQUEST,
  'access.not_found': { status: 404, code: 'NotFound', component: 'Authorizer' },
  'access.too_many': { status: 429, code: 'ResourceExhausted', component: 'Authorizer' },
  'audit.unavailable': UNAVAILABLE,
  'api.overload': { status: 429, code: 'TooManyRequests', component: 'APIServer' },
  'api.timeout': { status: 503, code: 'TimeOut', component: 'APIServer' },
}

/** Fastify's codes that need another status than its own, or a code of ours that says more than "bad request". */
const FRAMEWORK_ANSWERS: Readonly<Record<string, readonly [status: number, code: ErrorCode]>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [400, 'api.bad_request'],
  FST_ERR_CTP_BODY_TOO_LARGE: [413, 'spec.too_large'],
}
