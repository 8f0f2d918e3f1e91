import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorBody } from './error-body.js'

/**
 * Answers for paths without a route (404) and for methods that a path does not have (405). Must be called before the
 * routes: it remembers them as they are added.
 */
export function answerUnknownRoutes(app: FastifyInstance): void {
  const routes: { segments: string[]; methods: string[] }[] = []
  app.addHook('onRoute', ({ url, method }) => {
    routes.push({ segments: url.split('/'), methods: [method].flat() })
  })
  // A slash at the end would otherwise be a job or node with an empty id.
  app.addHook('preValidation', async (request, reply) => {
    const { params } = request as { params?: Record<string, string> }
    if (params?.id === '' || params?.name === '') return unknownPath(request, reply)
  })
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.replace(/[?#].*$/s, '').split('/')
    const methods = new Set(
      routes.filter((route) => covers(route.segments, path)).flatMap((route) => route.methods),
    )
    return methods.size === 0 ? unknownPath(request, reply) : wrongMethod(request, reply, [...methods])
  })
}

function unknownPath(request: FastifyRequest, reply: FastifyReply): unknown {
  const path = request.url.replace(/[?#].*$/s, '').slice(0, 200)
  const body: ErrorBody = {
    Status: 404,
    Message: `Cannot find ${path} on this server`,
    RequestID: request.sentRequestId,
    Code: 'NotFound',
    Component: 'APIServer',
    Hint: hintFor(path),
    Details: { WeirCode: 'api.not_found' },
  }
  return reply.code(404).send(body)
}

function hintFor(path: string): string {
  return path.length > 1 && path.endsWith('/')
    ? 'Leave out the slash at the end.'
    : 'Compare the versions of client and server; a server that is only a compute node has no orchestrator endpoints.'
}

function wrongMethod(request: FastifyRequest, reply: FastifyReply, methods: string[]): unknown {
  const body: ErrorBody = {
    Status: 405,
    Message: `Method Not Allowed: ${request.method}`,
    RequestID: request.sentRequestId,
    Code: 'InternalError',
    Component: 'APIServer',
    Hint: `Methods of this path: ${methods.join(', ')}.`,
    Details: { WeirCode: 'api.bad_request' },
  }
  return reply.code(405).header('allow', methods.join(', ')).send(body)
}

/** Bacalhau's clients see `:id` filled and `*` standing for the rest. */
function covers(route: readonly string[], path: readonly string[]): boolean {
  if (route.at(-1) === '*') return route.slice(0, -1).every((segment, index) => segment === path[index])
  return (
    route.length === path.length &&
    route.every((segment, index) => (segment.startsWith(':') ? path[index] !== '' : segment === path[index]))
  )
}
