import type { Socket } from 'node:net'
import type { Server as TlsServer } from 'node:tls'
import rateLimit from '@fastify/rate-limit'
import websocket from '@fastify/websocket'
import fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify'
import { isWeirError, WeirError } from '../errors.js'
import {
  type ListenOptions,
  NO_PRESETS,
  STOCK_JOB_DEFAULTS,
  isLoopback,
  type JobDefaults,
  type NodeInfo,
  type NodeRecord,
  type Presets,
} from '../model/index.js'
import type { Access, AdminLog, BlobStore, JobService, NodeTokenService } from '../ports/index.js'
import { tokenMethod, type AuthMethod } from './authentication.js'
import { BodyDeadlines } from './body-deadlines.js'
import { CallerScope } from './caller.js'
import { challengeMethod } from './challenge-method.js'
import type { ApiContext, ApiLogger, EgressDesk, ServerIdentity } from './context.js'
import { errorBody, isDefect } from './error-body.js'
import { authorizeRequests } from './guards/authorize.js'
import { parseJsonBody } from './guards/json-body.js'
import type { OriginRules } from './guards/origin.js'
import { readQuery } from './guards/request-schema.js'
import { listen, type ListenAddress } from './listen.js'
import { answerUnknownRoutes } from './not-found.js'
import { OpenStreams } from './open-streams.js'
import { serveOpenApi } from './openapi.js'
import { answerExpectations, answerParserError, rawHeaders } from './raw-answers.js'
import { firstHooks, lastHooks } from './request-hooks.js'
import { accessRoutes } from './routes/access.js'
import { agentRoutes } from './routes/agent.js'
import { authRoutes } from './routes/auth.js'
import { blobRoutes } from './routes/blobs.js'
import { egressRoutes } from './routes/egress.js'
import { egressDeskRoutes } from './routes/egress-desk.js'
import { egressPolicyRoutes } from './routes/egress-policy.js'
import { jobRoutes } from './routes/jobs.js'
import { legacyRoutes, rewriteUnversioned } from './routes/legacy.js'
import { logRoutes } from './routes/logs.js'
import { nodeTokenRoutes } from './routes/node-tokens.js'
import { nodeRoutes } from './routes/nodes.js'
import { scopedBlobs } from './scoped-blobs.js'
import { scopedJobs } from './scoped-jobs.js'
import { refusalForClient } from './refusal-for-client.js'
import { RefusalRecord } from './refusal-record.js'
import { buildInfo, writeJson, type ServerVersion, type WireObject } from './wire/index.js'

/** Bounds of the server. */
export interface ApiLimits {
  /** Default 10 MB. */
  bodyBytesMax: number
  /** Per client address, and per principal where callers authenticate. Default 1000. */
  requestsPerSecond: number
  /** Log and egress streams of one principal at the same time. Default 64. */
  streamsPerPrincipalMax: number
  /** Until a TLS handshake, and then each request's head, must be complete. Default 5,000. */
  headTimeoutMs: number
  /** Until the whole request must be read; for an upload, until its next piece must be there. Default 20,000. */
  readTimeoutMs: number
  /** Until a whole upload must be read. Default 30 minutes. */
  uploadTimeoutMs: number
  /** Until a route must have answered; log and egress streams excepted. Default 30,000. */
  handlerTimeoutMs: number
  /** Log and egress streams open at the same time. Default 512. */
  streamsMax: number
  /** Default 4096. */
  connectionsMax: number
}

export interface ApiServerOptions {
  /** Absent on a node that is not an orchestrator: jobs and nodes are answered with 404 then. */
  jobs?: JobService
  /** Content that jobs name by CID. Absent, or without `jobs`: its routes do not exist. */
  blobs?: BlobStore
  /** Join tokens, where other machines can join; `joinUrl` says where. */
  nodeTokens?: NodeTokenService
  joinUrl?: string
  /** The list of the network, and requests to change it. */
  egressDesk?: EgressDesk
  /** For a compute node alone: how it stands with its network. Absent: approved and connected. */
  standing?: () => Pick<NodeRecord, 'membership' | 'connection'>
  identity: ServerIdentity
  nodeInfo: () => NodeInfo | Promise<NodeInfo>
  version: ServerVersion
  /** Effective configuration as a tree, without secrets. Default `{}`. */
  config?: () => WireObject
  /** Anything that helps to see what the node is doing. Default: uptime and memory. */
  debug?: () => WireObject | Promise<WireObject>
  /** What `/metrics` answers. Absent: nothing is measured for others. */
  metrics?: () => Promise<string>
  /** What submissions leave open. Default: half a core and 1 GB. */
  jobDefaults?: JobDefaults
  /** Named lists of hosts that jobs may name. Default: none. */
  presets?: Presets
  logger?: ApiLogger
  limits?: Partial<ApiLimits>
  /** Default: with `access` one that asks for a token, else one challenge that accepts every key. Clients with several methods have to ask a human. */
  authMethods?: readonly AuthMethod[]
  /** Users and tokens. Absent: nobody has to authenticate, and everybody may do everything. */
  access?: Access
  /** Where administrative actions are recorded. Without it tokens cannot be changed. */
  adminLog?: AdminLog
  /** True for addresses from which jobs could call; consulted where nobody has to authenticate. Default: none is. */
  isJobAddress?: (address: string) => boolean
  /** More names under which this server may be addressed. */
  allowedHosts?: readonly string[]
  /** Web origins whose pages may call the API, `*` for all. Default: pages from loopback and from this server only. */
  allowedOrigins?: readonly string[]
  /** PEM texts; plain HTTP without. TLS 1.2 and newer. */
  tls?: { cert: string; key: string }
}

export interface ApiServer {
  /** For routes of the assembly; add them before `listen`. */
  readonly fastify: FastifyInstance
  /** `METHOD path` of every route, as it was registered. */
  readonly routes: readonly string[]
  /** Rejects with `port.in_use` or `config.invalid`. */
  listen(where: ListenOptions): Promise<ListenAddress>
  /** Shows another certificate to new connections; the open ones stay. Throws when it cannot be used. */
  renewCertificate(tls: { cert: string; key: string }): void
  /** Answers what is being answered, ends streams, and cuts what is left after two seconds. Idempotent. */
  close(): Promise<void>
}

const TLS = { minVersion: 'TLSv1.2' } as const
const CLOSE_GRACE_MS = 2_000

const DEFAULT_LIMITS: ApiLimits = {
  bodyBytesMax: 10_000_000,
  requestsPerSecond: 1000,
  streamsPerPrincipalMax: 64,
  headTimeoutMs: 5_000,
  readTimeoutMs: 20_000,
  uploadTimeoutMs: 1_800_000,
  handlerTimeoutMs: 30_000,
  streamsMax: 512,
  connectionsMax: 4096,
}

/** Builds the HTTP face of a node: everything is in place, nothing listens yet. */
export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const refusals = new RefusalRecord(options.adminLog, options.logger ?? SILENT)
  const context = buildContext(options, limits, refusals)
  let originRules: OriginRules = {
    loopbackOnly: true,
    allowedHosts: (options.allowedHosts ?? []).map((name) => name.toLowerCase()),
    allowedOrigins: options.allowedOrigins ?? [],
  }
  const app = buildFastify(limits, options.tls, context.build)
  const deadlines = new BodyDeadlines(app.server, limits.readTimeoutMs, limits.uploadTimeoutMs)
  const routes: string[] = []
  app.addHook('onRoute', ({ method, url }) => {
    routes.push(...[method].flat().map((one) => `${one} ${url}`))
  })
  speakJson(app, limits)
  answerErrors(app, context.logger)
  answerUnknownRoutes(app)
  boundHandlers(app, limits)
  await app.register(websocket, { options: { maxPayload: 64 * 1024 }, preClose: closeWebsockets })
  const hooks = {
    build: context.build,
    logger: context.logger,
    originRules: () => originRules,
  }
  firstHooks(app, hooks)
  await limitRate(app, limits)
  const scope = new CallerScope()
  authorizeRequests(app, {
    access: options.access,
    scope,
    requestsPerSecond: limits.requestsPerSecond,
    isJobAddress: options.isJobAddress ?? (() => false),
    onRefused: (refusal) => refusals.note(refusal),
  })
  lastHooks(app, hooks)
  await serveOpenApi(app, options.version.weir)
  const streamsMax = limits.streamsPerPrincipalMax
  const { jobs, adminLog } = context
  addRoutes(
    app,
    jobs === undefined ? context : { ...context, jobs: scopedJobs({ jobs, scope, adminLog, streamsMax }) },
  )
  if (jobs !== undefined && options.blobs !== undefined) {
    blobRoutes(app, scopedBlobs(options.blobs, scope), deadlines)
  }
  app.addHook('preClose', async () => context.streams.close())
  // A connection that is answered while the server closes must not be kept: the server would wait for it.
  app.addHook('onSend', async (_request, reply) => {
    if (context.streams.isClosed) reply.header('connection', 'close')
  })
  return {
    fastify: app,
    routes,
    listen: async (where) => {
      originRules = { ...originRules, loopbackOnly: isLoopback(where) }
      const address = await listen(app, where, options.tls === undefined ? 'http' : 'https')
      // A connection that the kernel cannot hand over is no reason to die.
      app.server.on('error', (error) => context.logger.warn({ err: error }, 'a connection was not taken'))
      return address
    },
    renewCertificate: (tls) => {
      if ('setSecureContext' in app.server)
        (app.server as unknown as TlsServer).setSecureContext({ ...tls, ...TLS })
    },
    close: () => close(app),
  }
}

function addRoutes(app: FastifyInstance, context: ApiContext): void {
  agentRoutes(app, context)
  authRoutes(app, context)
  accessRoutes(app, context)
  legacyRoutes(app)
  if (context.jobs === undefined) return
  jobRoutes(app, context, context.jobs)
  logRoutes(app, context, context.jobs)
  egressRoutes(app, context, context.jobs)
  nodeRoutes(app, context, context.jobs)
  egressPolicyRoutes(app, context, context.jobs)
  egressDeskRoutes(app, context, context.jobs)
  nodeTokenRoutes(app, context)
}

function buildContext(options: ApiServerOptions, limits: ApiLimits, refusals: RefusalRecord): ApiContext {
  return {
    jobs: options.jobs,
    nodeTokens: options.nodeTokens,
    joinUrl: options.joinUrl,
    egressDesk: options.egressDesk,
    standing: options.standing,
    identity: options.identity,
    build: buildInfo(options.version),
    nodeInfo: options.nodeInfo,
    config: options.config ?? (() => ({})),
    debug: options.debug ?? processDebug,
    metrics: options.metrics,
    jobDefaults: options.jobDefaults ?? STOCK_JOB_DEFAULTS,
    presets: options.presets ?? NO_PRESETS,
    authMethods: options.authMethods ?? [
      options.access === undefined
        ? challengeMethod({ phrase: options.identity.nodeId })
        : tokenMethod(options.access, (refusal) => refusals.note(refusal)),
    ],
    access: options.access,
    adminLog: options.adminLog,
    streams: new OpenStreams(limits.streamsMax),
    logger: options.logger ?? SILENT,
  }
}

function buildFastify(
  limits: ApiLimits,
  tls: ApiServerOptions['tls'],
  build: ApiContext['build'],
): FastifyInstance {
  const timeouts = {
    headersTimeout: limits.headTimeoutMs,
    // The shorter limit of everything else is kept by BodyDeadlines.
    requestTimeout: limits.readTimeoutMs + limits.uploadTimeoutMs,
    // How often both are looked at; the default of 30 s would make them meaningless.
    connectionsCheckingInterval: 1000,
    // A request without it is refused by a hook, which has an answer to give.
    requireHostHeader: false,
  }
  const common = {
    bodyLimit: limits.bodyBytesMax,
    requestTimeout: limits.readTimeoutMs + limits.uploadTimeoutMs,
    connectionTimeout: 60_000,
    keepAliveTimeout: 65_000,
    forceCloseConnections: 'idle' as const,
    routerOptions: { maxParamLength: 512 },
    // Paths that cannot be decoded never reach the hooks and the error handler.
    frameworkErrors: (error: FastifyError, _request: FastifyRequest, reply: FastifyReply) => {
      const body = errorBody(error, '')
      const text = writeJson(body)
      return reply.code(body.Status).headers(rawHeaders(build, text)).send(text)
    },
    clientErrorHandler: (error: Error, socket: Socket) => answerParserError(error, socket, build),
    rewriteUrl: ({ url = '/' }: { url?: string }) => rewriteUnversioned(url),
  }
  const app = (
    tls === undefined
      ? fastify({ ...common, http: timeouts })
      : fastify({ ...common, https: { ...tls, ...TLS, ...timeouts, handshakeTimeout: limits.headTimeoutMs } })
  ) as FastifyInstance
  app.server.maxConnections = limits.connectionsMax
  answerExpectations(app.server, limits.bodyBytesMax, build)
  return app
}

/** Requests are read by their schemas, answers written by our own writer. */
function speakJson(app: FastifyInstance, limits: ApiLimits): void {
  app.removeAllContentTypeParsers()
  const parsing = { parseAs: 'string', bodyLimit: limits.bodyBytesMax } as const
  app.addContentTypeParser<string>('application/json', parsing, async (_request: unknown, body: string) =>
    parseJsonBody(body),
  )
  app.setValidatorCompiler(({ schema, httpPart }) => (data: unknown) => {
    if (httpPart !== 'querystring') return { value: data }
    try {
      return { value: readQuery(schema as object, data) }
    } catch (error) {
      return { error: error as Error }
    }
  })
  app.setSerializerCompiler(() => (value) => writeJson(value))
  app.setReplySerializer((value) => writeJson(value))
}

function answerErrors(app: FastifyInstance, logger: ApiLogger): void {
  app.setErrorHandler((error, request, reply) => {
    const { url: route } = request.routeOptions
    if (isDefect(error)) logger.error({ err: error, method: request.method, route }, 'request failed')
    if (error instanceof Error && 'code' in error && error.code === 'FST_ERR_HANDLER_TIMEOUT') {
      return reply.code(503).type('text/plain; charset=utf-8').send('Server Timeout!')
    }
    const body = errorBody(refusalForClient(error, request, reply), request.sentRequestId)
    const wait = isWeirError(error) ? error.details.retryAfterSeconds : undefined
    if (typeof wait === 'number') reply.header('retry-after', String(wait))
    return reply.code(body.Status).type('application/json; charset=utf-8').send(body)
  })
}

/** Streams may last; everything else must answer in time. */
function boundHandlers(app: FastifyInstance, limits: ApiLimits): void {
  app.addHook('onRoute', (route) => {
    if (route.config?.isStream !== true) route.handlerTimeout = limits.handlerTimeoutMs
  })
}

async function limitRate(app: FastifyInstance, limits: ApiLimits): Promise<void> {
  await app.register(rateLimit, {
    global: true,
    max: limits.requestsPerSecond,
    timeWindow: 1000,
    keyGenerator: (request) => request.ip ?? 'unix',
    errorResponseBuilder: () =>
      new WeirError('api.overload', 'rate limit exceeded', {
        hint: 'Send fewer requests per second.',
        retryable: true,
      }),
  })
}

/** Clients are told that the server goes. */
function closeWebsockets(this: FastifyInstance, done: () => void): void {
  for (const client of this.websocketServer.clients) client.close(1001)
  this.websocketServer.close()
  done()
}

async function close(app: FastifyInstance): Promise<void> {
  const cut = setTimeout(() => {
    app.server.closeAllConnections()
    for (const client of app.websocketServer.clients) client.terminate()
  }, CLOSE_GRACE_MS)
  try {
    await app.close()
  } finally {
    clearTimeout(cut)
  }
}

function processDebug(): WireObject {
  return {
    Process: { UptimeSeconds: Math.round(process.uptime()), ResidentBytes: process.memoryUsage.rss() },
  }
}

const SILENT: ApiLogger = { debug: () => {}, warn: () => {}, error: () => {} }
