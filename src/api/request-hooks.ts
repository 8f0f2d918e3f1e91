import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { WeirError } from '../errors.js'
import type { ApiLogger } from './context.js'
import { checkClientVersion, CLIENT_VERSION_MIN } from './guards/client-version.js'
import { checkOrigin, type OriginRules } from './guards/origin.js'
import { writeJson, type BuildInfo } from './wire/index.js'

export interface RequestHookOptions {
  build: BuildInfo
  logger: ApiLogger
  /** Asked at each request: the address is known only when the server listens. */
  originRules: () => OriginRules
}

/**
 * What happens to every request before its route, in this order: ids and version headers, host and web origin,
 * (rate limit and authorization, registered between the two functions,) client version.
 */
export function firstHooks(app: FastifyInstance, options: RequestHookOptions): void {
  app.decorateRequest('clientVersion', undefined)
  app.decorateRequest('sentRequestId', '')

  app.addHook('onRequest', async (request, reply) => {
    request.sentRequestId = readRequestId(request)
    reply.headers(options.build.headers)
    reply.header('x-request-id', request.sentRequestId || randomUUID())
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff')
    const indent = 'pretty' in (request.query as object) ? 2 : 0
    // A text is an answer that is written already; routes that give no JSON set their own type.
    reply.type('application/json; charset=utf-8')
    reply.serializer((value: unknown) => (typeof value === 'string' ? value : writeJson(value, indent)))
    requireHost(request)
    const { host, origin } = request.headers
    allowOrigin(reply, checkOrigin(host, origin, options.originRules()))
    if (isPreflight(request)) return answerPreflight(request, reply)
  })

  app.addHook('onResponse', async (request, reply) => {
    const { method, routeOptions } = request
    options.logger.debug(
      {
        method,
        route: routeOptions.url ?? 'none',
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime),
      },
      'request',
    )
  })
}

/** The hooks that come after rate limit and authorization. */
export function lastHooks(app: FastifyInstance, options: RequestHookOptions): void {
  app.addHook('onRequest', async (request, reply) => {
    return checkVersion(request, reply, options.build)
  })
  app.addHook('onRequest', async (request) => {
    refuseEncodedBody(request)
    refuseWebsocketElsewhere(request)
  })
}

/** These two answers have a shape of their own, in Bacalhau too. */
function checkVersion(request: FastifyRequest, reply: FastifyReply, build: BuildInfo): unknown {
  const header = request.headers['x-bacalhau-git-version']
  const text = Array.isArray(header) ? header[0] : header
  const check = checkClientVersion(text)
  switch (check.answer) {
    case 'serve':
      request.clientVersion = check.version
      return undefined
    case 'malformed':
      return reply.code(400).send({ Error: `Invalid client version ${(text ?? '').slice(0, 120)}` })
    case 'too_old':
      return reply.code(403).send({
        Error: `Client version ${check.version} is too old for this server: it needs at least ${CLIENT_VERSION_MIN}`,
        MinVersion: CLIENT_VERSION_MIN,
        ClientVersion: check.version,
        ServerVersion: build.bacalhauVersion,
      })
  }
}

/** HTTP/1.1 demands it; without it nobody can say for which server the request was meant. */
function requireHost(request: FastifyRequest): void {
  if (request.headers.host !== undefined || request.raw.httpVersion === '1.0') return
  throw new WeirError('api.bad_request', 'Cannot serve a request without a Host header', {
    hint: 'Send the header Host, as HTTP/1.1 demands.',
  })
}

/** Bodies are read as they are: a small one that unpacks to a large one would pass the limit. */
function refuseEncodedBody(request: FastifyRequest): void {
  const encoding = request.headers['content-encoding']
  if (encoding === undefined || /^\s*(?:identity)?\s*$/i.test(encoding)) return
  throw new WeirError(
    'api.bad_request',
    `Cannot read a body with the content encoding ${JSON.stringify(encoding.slice(0, 80))}`,
    { hint: 'Send the body uncompressed, without the header Content-Encoding.' },
  )
}

/** Before the upgrade, so that the client gets a status instead of a connection that closes at once. */
function refuseWebsocketElsewhere(request: FastifyRequest): void {
  if (!request.ws || request.routeOptions.config.isWebsocket === true || request.is404) return
  throw new WeirError('api.bad_request', 'Cannot open a websocket here', {
    hint: 'Only /api/v1/orchestrator/jobs/{id}/logs is a websocket.',
  })
}

function readRequestId(request: FastifyRequest): string {
  const id = request.headers['x-request-id']
  return typeof id === 'string' && /^[\x21-\x7e]{1,128}$/.test(id) ? id : ''
}

function allowOrigin(reply: FastifyReply, origin: string | undefined): void {
  reply.header('vary', 'Origin')
  if (origin === undefined) return
  reply.header('access-control-allow-origin', origin)
  reply.header('access-control-expose-headers', 'X-Request-ID, X-Bacalhau-Git-Version')
}

function isPreflight(request: FastifyRequest): boolean {
  return request.method === 'OPTIONS' && request.headers['access-control-request-method'] !== undefined
}

/** Method and headers are free; the origin was judged already. */
function answerPreflight(request: FastifyRequest, reply: FastifyReply): unknown {
  const headers = request.headers['access-control-request-headers'] ?? ''
  return reply
    .code(204)
    .header('access-control-allow-methods', 'GET, HEAD, PUT, POST, DELETE')
    .header('access-control-allow-headers', headers.replace(/[^A-Za-z0-9, -]/g, '').slice(0, 1024))
    .header('access-control-max-age', '600')
    .send()
}
