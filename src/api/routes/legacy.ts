import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { writeJson } from '../wire/index.js'

/** The requester API of Bacalhau before 1.4: gone, and saying so. The body is a JSON string, as Bacalhau sends it. */
export function legacyRoutes(app: FastifyInstance): void {
  const answer = async (_request: FastifyRequest, reply: FastifyReply) =>
    reply.code(410).type('application/json; charset=utf-8').send(writeJson(GONE))
  // Before the body is read: whatever it is, the endpoint is gone.
  app.all('/api/v1/requester/*', { schema: { hide: true }, onRequest: answer }, answer)
}

const GONE = 'This endpoint was removed. Use the endpoints under /api/v1/orchestrator instead.'

const ALIASES = ['/node_info', '/version', '/id', '/livez', '/healthz', '/peers']

/** Unversioned paths that mean the one of the same name under `/api/v1`. */
export function rewriteUnversioned(url: string): string {
  const end = url.search(/[?#]/)
  const path = end < 0 ? url : url.slice(0, end)
  return ALIASES.includes(path) || path.startsWith('/requester/') ? `/api/v1${url}` : url
}
