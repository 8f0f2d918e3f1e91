import type { ErrorCode } from '../errors.js'

/** What people read about one operation; schemas say the rest. */
export interface OperationText {
  /** Unique word for generated clients. */
  id: string
  /** One line: what it gives or does. */
  summary: string
  /** Errors that belong to this operation; those that every operation has are added. */
  errors: readonly ErrorCode[]
}

/** Every operation of the API by method and path. The OpenAPI document and `docs/api.md` are made from it. */
export const OPERATIONS: Readonly<Record<string, OperationText>> = {
  'PUT /api/v1/orchestrator/jobs': {
    id: 'submitJob',
    summary: 'A new job, or a new version of the job with the same name',
    errors: [
      'spec.invalid',
      'blob.not_found',
      'job.unchanged',
      'spec.too_large',
      'job.too_many',
      'store.unavailable',
    ],
  },
  'POST /api/v1/orchestrator/jobs': {
    id: 'submitJobByPost',
    summary: 'The same as PUT',
    errors: [
      'spec.invalid',
      'blob.not_found',
      'job.unchanged',
      'spec.too_large',
      'job.too_many',
      'store.unavailable',
    ],
  },
  'GET /api/v1/orchestrator/jobs': {
    id: 'listJobs',
    summary: 'Jobs, oldest first: by namespace, labels, order and page',
    errors: ['api.bad_request'],
  },
  'GET /api/v1/orchestrator/jobs/{id}': {
    id: 'getJob',
    summary: 'A job; with include=history,executions what became of it',
    errors: ['job.not_found', 'job.ambiguous'],
  },
  'DELETE /api/v1/orchestrator/jobs/{id}': {
    id: 'stopJob',
    summary: 'Stops a job; the reason in the body ({"reason":"…"}) or as ?reason=',
    errors: ['job.not_found', 'job.ambiguous', 'job.terminal'],
  },
  'GET /api/v1/orchestrator/jobs/{id}/history': {
    id: 'listHistory',
    summary: 'Events of a job; the token is empty only when the job has ended and all was delivered',
    errors: ['api.bad_request', 'job.not_found', 'job.ambiguous'],
  },
  'GET /api/v1/orchestrator/jobs/{id}/executions': {
    id: 'listExecutions',
    summary: 'Attempts to run a job, with their output and what they reached',
    errors: ['api.bad_request', 'job.not_found', 'job.ambiguous'],
  },
  'GET /api/v1/orchestrator/jobs/{id}/results': {
    id: 'listResults',
    summary: 'Where results were published',
    errors: ['job.not_found', 'job.ambiguous'],
  },
  'GET /api/v1/orchestrator/jobs/{id}/versions': {
    id: 'listVersions',
    summary: 'Every version of a job that is kept, oldest first',
    errors: ['job.not_found', 'job.ambiguous'],
  },
  'PUT /api/v1/orchestrator/jobs/diff': {
    id: 'diffJob',
    summary: 'What submitting would change in the job with the same name',
    errors: ['spec.invalid'],
  },
  'POST /api/v1/orchestrator/jobs/diff': {
    id: 'diffJobByPost',
    summary: 'The same as PUT',
    errors: ['spec.invalid'],
  },
  'PUT /api/v1/orchestrator/jobs/{id}/rerun': {
    id: 'rerunJob',
    summary: 'Runs a job again, as it is or as an earlier version was',
    errors: ['job.not_found', 'job.ambiguous', 'job.too_many'],
  },
  'POST /api/v1/orchestrator/jobs/{id}/rerun': {
    id: 'rerunJobByPost',
    summary: 'The same as PUT',
    errors: ['job.not_found', 'job.ambiguous', 'job.too_many'],
  },
  'GET /api/v1/orchestrator/jobs/{id}/logs': {
    id: 'streamLogs',
    summary: 'Output of a job over a websocket',
    errors: ['api.bad_request'],
  },
  'GET /api/v1/orchestrator/jobs/{id}/egress': {
    id: 'listEgress',
    summary: 'Audit records of what a job tried to reach; with follow=true one JSON object per line',
    errors: ['api.bad_request', 'job.not_found', 'job.ambiguous', 'execution.not_found'],
  },
  'GET /api/v1/orchestrator/blobs': {
    id: 'listBlobs',
    summary: 'Content that the namespace holds, last used first',
    errors: [],
  },
  'GET /api/v1/orchestrator/blobs/{cid}': {
    id: 'getBlob',
    summary: 'Whether the namespace holds content with this CID; counts as use',
    errors: ['api.bad_request', 'blob.not_found'],
  },
  'GET /api/v1/orchestrator/blobs/{cid}/content': {
    id: 'readBlob',
    summary: 'The bytes',
    errors: ['api.bad_request', 'blob.not_found'],
  },
  'PUT /api/v1/orchestrator/blobs/{cid}': {
    id: 'storeBlob',
    summary: 'Stores the body under its CID, for jobs of the namespace to name',
    errors: ['api.bad_request', 'blob.mismatch', 'blob.too_large', 'blob.full'],
  },
  'GET /api/v1/orchestrator/nodes': {
    id: 'listNodes',
    summary: 'Nodes: by labels, filter-approval, filter-status and order',
    errors: ['api.bad_request'],
  },
  'GET /api/v1/orchestrator/nodes/{id}': {
    id: 'getNode',
    summary: 'A node',
    errors: ['node.not_found', 'node.ambiguous'],
  },
  'PUT /api/v1/orchestrator/nodes/{id}': {
    id: 'updateNode',
    summary:
      '{"Action":"approve|reject|delete"}; status 200 with Success and Error, real errors for clients of 1.8 and later',
    errors: ['api.bad_request', 'node.not_found', 'node.conflict'],
  },
  'POST /api/v1/orchestrator/nodes': {
    id: 'updateNodeByBody',
    summary: 'The same with the id as NodeID of the body, as the Python client sends it',
    errors: ['api.bad_request', 'node.not_found', 'node.conflict'],
  },
  'POST /api/v1/orchestrator/nodes/{id}/explain': {
    id: 'explainEgress',
    summary: "What the node's gateway would decide about a host, and everything that stands against it",
    errors: ['host.invalid', 'pattern.invalid', 'preset.unknown', 'node.not_found', 'egress.unavailable'],
  },
  'GET /api/v1/orchestrator/egress': {
    id: 'getNetworkEgress',
    summary: 'The egress list of the whole network',
    errors: [],
  },
  'GET /api/v1/orchestrator/egress/presets': {
    id: 'listPresets',
    summary: 'Named lists of hosts, which jobs may name as @name',
    errors: [],
  },
  'POST /api/v1/orchestrator/egress/check': {
    id: 'checkEgress',
    summary: 'Which nodes would take a job that names these hosts, or a whole job; nothing is run',
    errors: ['api.bad_request', 'pattern.invalid', 'preset.unknown', 'spec.invalid'],
  },
  'GET /api/v1/orchestrator/egress/allow': {
    id: 'getNetworkAllowlist',
    summary: 'The allowlist of the network, with where each pattern stands',
    errors: ['api.not_found', 'config.invalid'],
  },
  'POST /api/v1/orchestrator/egress/allow': {
    id: 'editNetworkAllowlist',
    summary: 'Adds to the allowlist of the network, or takes out of it; in force when it is answered',
    errors: [
      'api.bad_request',
      'api.not_found',
      'pattern.invalid',
      'preset.unknown',
      'config.invalid',
      'network.no_list',
      'audit.unavailable',
    ],
  },
  'GET /api/v1/orchestrator/egress/requests': {
    id: 'listAccessRequests',
    summary: 'Requests for access to hosts, newest first: all for operators, otherwise those of the caller',
    errors: ['api.bad_request', 'api.not_found'],
  },
  'POST /api/v1/orchestrator/egress/requests': {
    id: 'requestAccess',
    summary: 'Asks operators to add hosts to the list of the network; an open request for the same is joined',
    errors: [
      'api.bad_request',
      'api.not_found',
      'pattern.invalid',
      'preset.unknown',
      'request.invalid',
      'request.too_many',
      'store.unavailable',
      'audit.unavailable',
    ],
  },
  'GET /api/v1/orchestrator/egress/requests/{id}': {
    id: 'getAccessRequest',
    summary: 'A request for access, and what became of it',
    errors: ['api.not_found', 'request.not_found'],
  },
  'POST /api/v1/orchestrator/egress/requests/{id}/approve': {
    id: 'approveAccessRequest',
    summary:
      'Adds the hosts to the list of the network; names them as they were shown; says which nodes still refuse',
    errors: [
      'api.not_found',
      'pattern.invalid',
      'config.invalid',
      'request.not_found',
      'request.decided',
      'request.invalid',
      'store.unavailable',
      'audit.unavailable',
    ],
  },
  'POST /api/v1/orchestrator/egress/requests/{id}/deny': {
    id: 'denyAccessRequest',
    summary: 'Denies a request for access with a reason, which the user is told',
    errors: [
      'api.not_found',
      'request.not_found',
      'request.decided',
      'request.invalid',
      'store.unavailable',
      'audit.unavailable',
    ],
  },
  'GET /api/v1/orchestrator/node_tokens': {
    id: 'listNodeTokens',
    summary: 'Tokens with which machines may join, without their secrets',
    errors: ['api.not_found'],
  },
  'POST /api/v1/orchestrator/node_tokens': {
    id: 'createNodeToken',
    summary: 'A token with which machines may join; the secret is shown once',
    errors: ['api.bad_request', 'api.not_found'],
  },
  'DELETE /api/v1/orchestrator/node_tokens/{id}': {
    id: 'revokeNodeToken',
    summary: 'Revokes such a token; machines that joined stay',
    errors: ['api.not_found'],
  },
  'GET /api/v1/access/whoami': {
    id: 'whoAmI',
    summary: 'Who the server takes the caller for, and what the caller may do',
    errors: [],
  },
  'GET /api/v1/access/tokens': {
    id: 'listTokens',
    summary: 'API tokens, without the tokens themselves',
    errors: ['api.not_found'],
  },
  'POST /api/v1/access/tokens': {
    id: 'createToken',
    summary: 'An API token with a role; it is shown once',
    errors: ['api.bad_request', 'api.not_found'],
  },
  'DELETE /api/v1/access/tokens/{id}': {
    id: 'revokeToken',
    summary: 'Revokes an API token at once',
    errors: ['api.not_found'],
  },
  'GET /api/v1/access/audit': {
    id: 'listAdminActions',
    summary: 'The record of administrative actions; verify=true checks its chain',
    errors: ['api.bad_request', 'audit.unavailable'],
  },
  'GET /api/v1/auth': {
    id: 'listAuthMethods',
    summary: 'How to obtain a token as Bacalhau’s clients do',
    errors: [],
  },
  'GET /api/v1/auth/{name}': {
    id: 'getAuthMethod',
    summary: 'What one method asks for',
    errors: ['api.not_found'],
  },
  'POST /api/v1/auth/{name}': {
    id: 'authenticate',
    summary: 'The answer to it: a token, or status 401 with the reason',
    errors: ['api.bad_request', 'api.not_found'],
  },
  'GET /metrics': {
    id: 'metrics',
    summary: 'What the server counts, in the text format of Prometheus',
    errors: ['api.not_found'],
  },
  'GET /api/v1/agent/alive': { id: 'isAlive', summary: '{"Status":"OK"}', errors: [] },
  'GET /api/v1/agent/version': {
    id: 'getVersion',
    summary: 'Version, as Bacalhau’s clients compare it, and weir’s own',
    errors: [],
  },
  'GET /api/v1/agent/node': {
    id: 'getAgentNode',
    summary: 'The node that answers, in the shapes of old and new clients at once',
    errors: [],
  },
  'GET /api/v1/agent/config': {
    id: 'getConfig',
    summary: 'Its effective configuration, without secrets',
    errors: [],
  },
  'GET /api/v1/agent/debug': { id: 'getDebug', summary: 'What it is doing, in no fixed shape', errors: [] },
  'GET /api/v1/agent/authconfig': {
    id: 'getAuthConfig',
    summary: 'Single sign-on, as later clients ask for it: none',
    errors: [],
  },
  'GET /api/v1/node_info': { id: 'getNodeInfo', summary: 'Older form of agent/node', errors: [] },
  'GET /api/v1/version': { id: 'getVersionPlain', summary: 'Older form of agent/version', errors: [] },
  'POST /api/v1/version': {
    id: 'postVersion',
    summary: 'Older form of agent/version, as old clients ask for it',
    errors: [],
  },
  'POST /api/v1/compute/debug': { id: 'getComputeDebug', summary: 'Older form of agent/debug', errors: [] },
  'GET /api/v1/livez': { id: 'livez', summary: 'OK, as text', errors: [] },
  'GET /api/v1/healthz': { id: 'healthz', summary: 'OK, as text', errors: [] },
  'GET /api/v1/id': { id: 'getNodeId', summary: 'The id of the node, as text', errors: [] },
  'GET /': { id: 'home', summary: 'Version, as text', errors: [] },
}

/** Errors that any operation may answer with. */
export const COMMON_ERRORS: readonly ErrorCode[] = [
  'api.unauthorized',
  'api.forbidden',
  'api.overload',
  'internal',
]
