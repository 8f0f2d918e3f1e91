import type { FastifyInstance } from 'fastify'
import { WeirError } from '../../errors.js'
import type { ApiContext } from '../context.js'
import {
  AgentNodeAnswer,
  AliveAnswer,
  AuthConfigAnswer,
  BuildVersion,
  ConfigAnswer,
  DebugAnswer,
  NodeAnswer,
  PlainText,
  VersionAnswer,
  VersionBody,
} from '../schemas.js'
import { nodeToWire, redactSecrets, type WireObject } from '../wire/index.js'
import { answers } from './answers.js'

/** What a node says about itself, whatever its role. */
export function agentRoutes(app: FastifyInstance, context: ApiContext): void {
  const { build, identity } = context
  const tags = ['agent']

  app.get('/api/v1/agent/alive', { schema: { tags, ...answers(AliveAnswer) } }, () => ({ Status: 'OK' }))
  app.get('/api/v1/agent/version', { schema: { tags, ...answers(BuildVersion) } }, () => build.wire)
  app.get('/api/v1/agent/node', { schema: { tags, ...answers(AgentNodeAnswer) } }, async () => {
    const state = await ownState(context)
    return { ...state, ...(state.Info as WireObject) }
  })
  app.get('/api/v1/agent/config', { schema: { tags, ...answers(ConfigAnswer) } }, () => ({
    config: redactSecrets(context.config()),
  }))
  app.get('/api/v1/agent/debug', { schema: { tags, ...answers(DebugAnswer) } }, () => context.debug())
  const authConfig = { schema: { tags, ...answers(AuthConfigAnswer) } }
  app.get('/api/v1/agent/authconfig', authConfig, () => NO_SINGLE_SIGN_ON)

  // Older than the agent group; Bacalhau 1.5 still serves them.
  app.get('/api/v1/node_info', { schema: { tags, ...answers(NodeAnswer) } }, () => ownState(context))
  app.post('/api/v1/compute/debug', { schema: { tags, ...answers(DebugAnswer) } }, () => context.debug())
  app.get('/api/v1/version', { schema: { tags, ...answers(BuildVersion) } }, () => build.wire)
  app.post('/api/v1/version', { schema: { tags, body: VersionBody, ...answers(VersionAnswer) } }, () => ({
    build_version_info: build.wire,
  }))
  const text = { schema: { tags, ...answers(PlainText, 'text/plain') } }
  for (const path of ['/api/v1/livez', '/api/v1/healthz']) {
    app.get(path, text, (_request, reply) => reply.type('text/plain; charset=utf-8').send('OK'))
  }
  app.get('/metrics', text, async (_request, reply) => {
    if (context.metrics === undefined) {
      throw new WeirError('api.not_found', 'This server serves no metrics', {
        hint: 'Its operator switched them off: API.Metrics',
      })
    }
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(await context.metrics())
  })
  app.get('/api/v1/id', text, (_request, reply) =>
    reply.type('text/plain; charset=utf-8').send(identity.nodeId),
  )
  app.get('/', text, (_request, reply) =>
    reply.type('text/plain; charset=utf-8').send(JSON.stringify(build.wire)),
  )
}

async function ownState(context: ApiContext): Promise<WireObject> {
  const now = Date.now()
  return nodeToWire(
    {
      info: await context.nodeInfo(),
      ...(context.standing?.() ?? { membership: 'APPROVED', connection: 'CONNECTED' }),
      incarnation: '',
      lastSyncMs: now,
      connectedSinceMs: Math.round(now - process.uptime() * 1000),
      revision: 0,
    },
    context.build.wire,
  )
}

/** What clients of 1.7 and later ask before a device login; an empty provider means that there is none. */
const NO_SINGLE_SIGN_ON = {
  Version: '1.0.0',
  Config: {
    ProviderID: '',
    ProviderName: '',
    DeviceAuthorizationEndpoint: '',
    TokenEndpoint: '',
    Issuer: '',
    JWKSUri: '',
    DeviceClientID: '',
    PollingInterval: 0,
    Audience: '',
    Scopes: [],
  },
}
