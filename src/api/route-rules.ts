import type { Permission } from '../model/access.js'

/** `open`: everybody. `known`: every principal. Otherwise one of the permissions; for jobs, in the job's namespace. */
export type RouteRule = 'open' | 'known' | readonly Permission[]

/**
 * Who may call what: every route of the server, and nothing else. A route that is missing here is refused where
 * callers have to authenticate, and a test fails. HEAD follows GET.
 */
const RULES: Readonly<Record<string, RouteRule>> = {
  'GET /': 'open',
  'GET /api/v1/openapi.json': 'open',
  'GET /api/v1/version': 'open',
  'POST /api/v1/version': 'open',
  'GET /api/v1/livez': 'open',
  'GET /api/v1/healthz': 'open',
  'GET /api/v1/agent/alive': 'open',
  'GET /api/v1/agent/version': 'open',
  'GET /api/v1/agent/authconfig': 'open',
  'GET /api/v1/auth': 'open',
  'GET /api/v1/auth/:name': 'open',
  'POST /api/v1/auth/:name': 'open',
  // Only says that it is gone.
  '* /api/v1/requester/*': 'open',

  'GET /api/v1/agent/node': ['read:agent', 'read:node'],
  'GET /api/v1/node_info': ['read:agent', 'read:node'],
  'GET /api/v1/id': ['read:agent', 'read:node'],
  'GET /metrics': ['read:agent', 'read:node'],
  'GET /api/v1/agent/config': ['read:agent'],
  'GET /api/v1/agent/debug': ['read:agent'],
  'POST /api/v1/compute/debug': ['read:agent'],

  'PUT /api/v1/orchestrator/jobs': ['write:job'],
  'POST /api/v1/orchestrator/jobs': ['write:job'],
  'PUT /api/v1/orchestrator/jobs/diff': ['read:job'],
  'POST /api/v1/orchestrator/jobs/diff': ['read:job'],
  'PUT /api/v1/orchestrator/jobs/:id/rerun': ['write:job'],
  'POST /api/v1/orchestrator/jobs/:id/rerun': ['write:job'],
  'DELETE /api/v1/orchestrator/jobs/:id': ['write:job'],
  'GET /api/v1/orchestrator/jobs': ['read:job'],
  'GET /api/v1/orchestrator/jobs/:id': ['read:job'],
  'GET /api/v1/orchestrator/jobs/:id/history': ['read:job'],
  'GET /api/v1/orchestrator/jobs/:id/executions': ['read:job'],
  'GET /api/v1/orchestrator/jobs/:id/results': ['read:job'],
  'GET /api/v1/orchestrator/jobs/:id/versions': ['read:job'],
  'GET /api/v1/orchestrator/jobs/:id/logs': ['read:job'],
  'GET /api/v1/orchestrator/jobs/:id/egress': ['read:job'],

  'GET /api/v1/orchestrator/blobs': ['read:job'],
  'GET /api/v1/orchestrator/blobs/:cid': ['read:job', 'write:job'],
  'GET /api/v1/orchestrator/blobs/:cid/content': ['read:job'],
  'PUT /api/v1/orchestrator/blobs/:cid': ['write:job'],

  'GET /api/v1/orchestrator/nodes': ['read:node'],
  'GET /api/v1/orchestrator/nodes/:id': ['read:node'],
  'PUT /api/v1/orchestrator/nodes/:id': ['write:node'],
  'POST /api/v1/orchestrator/nodes': ['write:node'],
  'POST /api/v1/orchestrator/nodes/:id/explain': ['read:node'],
  'GET /api/v1/orchestrator/egress': ['read:node'],
  'GET /api/v1/orchestrator/egress/presets': ['read:node'],
  'POST /api/v1/orchestrator/egress/check': ['read:node'],
  'GET /api/v1/orchestrator/egress/allow': ['write:node'],
  'POST /api/v1/orchestrator/egress/allow': ['write:node'],
  // One's own; who may decide sees all.
  'GET /api/v1/orchestrator/egress/requests': ['write:job', 'write:node'],
  'POST /api/v1/orchestrator/egress/requests': ['write:job'],
  'GET /api/v1/orchestrator/egress/requests/:id': ['write:job', 'write:node'],
  'POST /api/v1/orchestrator/egress/requests/:id/approve': ['write:node'],
  'POST /api/v1/orchestrator/egress/requests/:id/deny': ['write:node'],
  'GET /api/v1/orchestrator/node_tokens': ['write:node'],
  'POST /api/v1/orchestrator/node_tokens': ['write:node'],
  'DELETE /api/v1/orchestrator/node_tokens/:id': ['write:node'],

  'GET /api/v1/access/whoami': 'known',
  'GET /api/v1/access/tokens': ['manage:access'],
  'POST /api/v1/access/tokens': ['manage:access'],
  'DELETE /api/v1/access/tokens/:id': ['manage:access'],
  'GET /api/v1/access/audit': ['manage:access'],
}

/** The rule of a route as it was registered; undefined when it has none. */
export function ruleOf(method: string, route: string): RouteRule | undefined {
  const key = `${method === 'HEAD' ? 'GET' : method} ${route}`
  if (Object.hasOwn(RULES, key)) return RULES[key]
  return Object.hasOwn(RULES, `* ${route}`) ? RULES[`* ${route}`] : undefined
}

/** `METHOD path` of every rule, for the test that holds them against the routes. */
export const RULED_ROUTES: readonly string[] = Object.keys(RULES)
