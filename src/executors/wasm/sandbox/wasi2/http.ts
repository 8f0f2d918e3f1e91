import { CanonicalTrap, Failure } from '../component/faults.js'
import type { HttpClient } from '../http/http-client.js'
import { HttpFailure } from '../http/http-failure.js'
import { type HostFunction, type HostInterfaces, NONE, type Option, some } from './host-interface.js'
import { errorCode } from './http-errors.js'
import { fieldsFunctions } from './http-fields.js'
import { type RequestDraft, type RequestOptions, requestFunctions } from './http-requests.js'
import { FutureResponse, responseFunctions } from './http-responses.js'
import type { IoError } from './streams.js'

/**
 * `wasi:http` for programs that ask: each request is one of {@link HttpClient}, judged by the egress gateway. What the
 * gateway refuses is a response, as for every program; a job without network is told `HTTP-request-denied`.
 */
export function httpInterfaces(client: HttpClient): HostInterfaces {
  const failureOf = (error: unknown): Failure | undefined =>
    error instanceof HttpFailure ? new Failure(errorCode(error)) : undefined
  return {
    'wasi:http/types': {
      resources: RESOURCES,
      failureOf,
      functions: {
        'http-error-code': ({ http }: IoError) => (http === undefined ? NONE : some(errorCode(http))),
        ...fieldsFunctions(),
        ...requestFunctions(),
        ...responseFunctions(),
        ...serverFunctions(),
      },
    },
    'wasi:http/outgoing-handler': {
      failureOf,
      functions: {
        handle: (request: RequestDraft, options: Option) => {
          const exchange = client.open(request.outgoing)
          try {
            request.body?.sendTo(exchange)
          } catch (error) {
            exchange.close()
            throw error
          }
          const chosen = options.tag === 'some' ? (options.value as RequestOptions) : undefined
          return new FutureResponse(exchange, chosen, client)
        },
      },
    },
  }
}

const RESOURCES = [
  'fields',
  'incoming-request',
  'outgoing-request',
  'request-options',
  'response-outparam',
  'incoming-response',
  'incoming-body',
  'future-trailers',
  'outgoing-response',
  'outgoing-body',
  'future-incoming-response',
]

/** Runtimes of languages import these whether the program is a server or not. Nobody sends requests to a job. */
function serverFunctions(): Record<string, HostFunction> {
  const refuse = (): never => {
    throw new CanonicalTrap('the program answers a request, and weir gives it none')
  }
  const one = (subject: unknown): never => refuse.call(subject)
  const two = (subject: unknown, argument: unknown): never => refuse.call([subject, argument])
  return {
    '[method]incoming-request.method': one,
    '[method]incoming-request.path-with-query': one,
    '[method]incoming-request.scheme': one,
    '[method]incoming-request.authority': one,
    '[method]incoming-request.headers': one,
    '[method]incoming-request.consume': one,
    '[constructor]outgoing-response': one,
    '[method]outgoing-response.status-code': one,
    '[method]outgoing-response.set-status-code': two,
    '[method]outgoing-response.headers': one,
    '[method]outgoing-response.body': one,
    '[static]response-outparam.set': two,
  }
}
