import { COMMON_NODE, EGRESS, EXECUTION, HISTORY, JOB, NODE, VERSION } from './example-records.js'

/** One request and its answer. */
export interface OperationExample {
  /** Absent for operations without a body. */
  body?: unknown
  answer: unknown
}

const JOB_ID = JOB.ID
const EVALUATION_ID = EXECUTION.EvalID

const SUBMISSION = {
  body: {
    Job: {
      Name: 'hello',
      Type: 'batch',
      Tasks: [
        {
          Name: 'main',
          Engine: { Type: 'docker', Params: { Image: 'alpine', Parameters: ['echo', 'hi'] } },
          Network: { Type: 'HTTP', Domains: ['example.org'] },
        },
      ],
    },
    IdempotencyToken: 'any text of yours',
  },
  answer: { JobID: JOB_ID, JobVersion: 1, EvaluationID: EVALUATION_ID, Warnings: [] },
}
const DIFF = {
  body: { Job: { ...SUBMISSION.body.Job, Priority: 5 } },
  answer: { Diff: '- Priority: 0\n+ Priority: 5\n', Warnings: [] },
}
const RERUN = {
  body: { JobVersion: 0, Reason: 'new data' },
  answer: { JobID: JOB_ID, JobVersion: 2, EvaluationID: EVALUATION_ID, Warnings: [] },
}
const NODE_TOKEN = {
  ID: 'nt-1a2b3c4d',
  Description: 'machines of the laboratory',
  CreatedAt: '2026-01-10T08:00:00.000Z',
  ExpiresAt: '2026-01-11T08:00:00.000Z',
  UsesMax: 1,
  Uses: 0,
}
const TOKEN = {
  ID: 't-1a2b3c4d',
  Name: 'ci',
  Role: 'submitter',
  Namespaces: ['default'],
  CreatedAt: '2026-01-10T08:00:00.000Z',
  CreatedBy: 'admin',
}
const CHALLENGE = { type: 'challenge', params: { InputPhrase: 'bi0xYTJiM2M0ZA==' } }

const BLOB = {
  CID: 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku',
  Bytes: 0,
  LastUsed: '2026-01-10T08:00:00.000Z',
}

const ACCESS_REQUEST = {
  ID: 'r-3f0f2c4e-5b1a-4c7e-9d7e-2f1a9b8c7d6e',
  State: 'open',
  Domains: ['data.example.net'],
  CreatedAt: '2024-11-29T10:00:00Z',
  ExpiresAt: '2024-12-29T10:00:00Z',
  Askers: [
    { ID: 't-3k5x9q2m7p4w', Name: 'analysis', Reason: 'data sets of the lab', At: '2024-11-29T10:00:00Z' },
  ],
}

/** An example of every operation, by method and path; a test holds each against its schemas and the server. */
export const EXAMPLES: Readonly<Record<string, OperationExample>> = {
  'PUT /api/v1/orchestrator/jobs': SUBMISSION,
  'POST /api/v1/orchestrator/jobs': SUBMISSION,
  'GET /api/v1/orchestrator/blobs': { answer: { NextToken: '', Items: [BLOB] } },
  'GET /api/v1/orchestrator/blobs/{cid}': { answer: BLOB },
  'GET /api/v1/orchestrator/blobs/{cid}/content': { answer: '' },
  'PUT /api/v1/orchestrator/blobs/{cid}': { body: '', answer: BLOB },
  'GET /api/v1/orchestrator/jobs': { answer: { NextToken: '', Items: [JOB] } },
  'GET /api/v1/orchestrator/jobs/{id}': {
    answer: {
      Job: JOB,
      History: { NextToken: '', Items: HISTORY },
      Executions: { NextToken: '', Items: [EXECUTION] },
    },
  },
  'DELETE /api/v1/orchestrator/jobs/{id}': { answer: { EvaluationID: EVALUATION_ID } },
  'GET /api/v1/orchestrator/jobs/{id}/history': { answer: { NextToken: '', Items: HISTORY } },
  'GET /api/v1/orchestrator/jobs/{id}/executions': { answer: { NextToken: '', Items: [EXECUTION] } },
  'GET /api/v1/orchestrator/jobs/{id}/results': {
    answer: { NextToken: '', Items: [EXECUTION.PublishedResult] },
  },
  'GET /api/v1/orchestrator/jobs/{id}/versions': { answer: { NextToken: '', Items: [JOB] } },
  'PUT /api/v1/orchestrator/jobs/diff': DIFF,
  'POST /api/v1/orchestrator/jobs/diff': DIFF,
  'PUT /api/v1/orchestrator/jobs/{id}/rerun': RERUN,
  'POST /api/v1/orchestrator/jobs/{id}/rerun': RERUN,
  'GET /api/v1/orchestrator/jobs/{id}/logs': {
    answer: '{"value":{"Type":1,"Line":"hi\\n"}}',
  },
  'GET /api/v1/orchestrator/jobs/{id}/egress': { answer: { NextToken: '', Items: [EGRESS] } },
  'GET /api/v1/orchestrator/nodes': { answer: { NextToken: '', Nodes: [NODE], nodes: [NODE] } },
  'GET /api/v1/orchestrator/nodes/{id}': { answer: { Node: NODE, node: NODE } },
  'PUT /api/v1/orchestrator/nodes/{id}': {
    body: { Action: 'approve', Message: 'seen' },
    answer: { Success: true, success: true },
  },
  'POST /api/v1/orchestrator/nodes': {
    body: { Action: 'approve', Message: 'seen', NodeID: COMMON_NODE },
    answer: { Success: true, success: true },
  },
  'POST /api/v1/orchestrator/nodes/{id}/explain': {
    body: { Host: 'example.org', Domains: ['example.com'] },
    answer: {
      NodeID: NODE.Info.NodeID,
      Host: 'example.org',
      Oddities: [],
      PolicyGeneration: 1,
      Verdicts: [
        {
          Scheme: 'https',
          Port: 443,
          Allowed: false,
          Code: 'egress.not_in_job_list',
          Owner: 'job',
          Rule: '',
          Objections: [
            {
              Code: 'egress.not_in_job_list',
              Owner: 'job',
              Rule: '',
              Change: 'the job is submitted with --domain example.org',
            },
          ],
        },
      ],
    },
  },
  'GET /api/v1/orchestrator/egress': {
    answer: { Version: 3, Limited: true, Allow: ['.example.org'], Deny: [] },
  },
  'GET /api/v1/orchestrator/egress/presets': {
    answer: {
      Presets: [{ Name: 'lab', Digest: 'ha1kVm0eM5xn2XjD', Domains: ['data.example.org', '.example.net'] }],
    },
  },
  'GET /api/v1/orchestrator/egress/allow': {
    answer: {
      Version: 3,
      Limited: true,
      File: '/etc/weir/network-hosts',
      Patterns: [{ Pattern: '.example.org', Where: '/etc/weir/network-hosts:1', Comment: '' }],
    },
  },
  'POST /api/v1/orchestrator/egress/allow': {
    body: { Add: ['data.example.net'], Comment: 'for the lab' },
    answer: {
      Version: 4,
      DryRun: false,
      Added: ['data.example.net'],
      Removed: [],
      Present: [],
      Covered: [],
      Redundant: [],
      Absent: [],
      StillAllowed: [],
    },
  },
  'GET /api/v1/orchestrator/egress/requests': { answer: { Items: [ACCESS_REQUEST] } },
  'POST /api/v1/orchestrator/egress/requests': {
    body: { Domains: ['data.example.net'], Reason: 'data sets of the lab' },
    answer: { Request: ACCESS_REQUEST, New: true },
  },
  'GET /api/v1/orchestrator/egress/requests/{id}': { answer: { Request: ACCESS_REQUEST, New: false } },
  'POST /api/v1/orchestrator/egress/requests/{id}/approve': {
    body: { Domains: ['data.example.net'] },
    answer: {
      Request: {
        ...ACCESS_REQUEST,
        State: 'approved',
        Decision: {
          By: 'operator',
          Reason: '',
          At: '2024-11-29T11:00:00Z',
          Added: ['data.example.net'],
          NetworkVersion: 4,
        },
      },
      Accepting: 1,
      Refusing: [],
    },
  },
  'POST /api/v1/orchestrator/egress/requests/{id}/deny': {
    body: { Reason: 'anybody can write there' },
    answer: {
      Request: {
        ...ACCESS_REQUEST,
        State: 'denied',
        Decision: {
          By: 'operator',
          Reason: 'anybody can write there',
          At: '2024-11-29T11:00:00Z',
          Added: [],
          NetworkVersion: 0,
        },
      },
      New: false,
    },
  },
  'POST /api/v1/orchestrator/egress/check': {
    body: { Domains: ['example.org'], OutboundURLs: ['https://ipfs.io'] },
    answer: {
      NetworkVersion: 3,
      Fitting: 0,
      Domains: [
        { Pattern: 'example.org', Accepting: 1, Refusing: 0, Reason: '' },
        { Pattern: 'https://ipfs.io', Accepting: 0, Refusing: 1, Reason: "not in the node's list" },
      ],
      Nodes: [
        {
          NodeID: NODE.Info.NodeID,
          Fits: false,
          Reasons: [],
          Missing: [{ Pattern: 'https://ipfs.io', Owner: 'node', Code: 'egress.not_in_node_list', Rule: '' }],
          MissingCount: 1,
          Keys: [],
        },
      ],
    },
  },
  'GET /api/v1/orchestrator/node_tokens': { answer: { NextToken: '', Items: [NODE_TOKEN] } },
  'POST /api/v1/orchestrator/node_tokens': {
    body: { Description: 'machines of the laboratory', ExpiresAfterSeconds: 86_400, UsesMax: 1 },
    answer: { Secret: 'shown once', JoinURL: 'tls://weir.example:4222', Token: NODE_TOKEN },
  },
  'DELETE /api/v1/orchestrator/node_tokens/{id}': { answer: { Success: true, success: true } },
  'GET /api/v1/access/whoami': {
    answer: {
      Authenticated: true,
      ID: TOKEN.ID,
      Name: TOKEN.Name,
      Kind: 'token',
      Role: TOKEN.Role,
      Permissions: ['read:job', 'write:job', 'read:node', 'read:agent'],
      Namespaces: TOKEN.Namespaces,
    },
  },
  'GET /api/v1/access/tokens': { answer: { NextToken: '', Items: [TOKEN] } },
  'POST /api/v1/access/tokens': {
    body: { Name: 'ci', Role: 'submitter', Namespaces: ['default'] },
    answer: { Token: 'shown once', Record: TOKEN },
  },
  'DELETE /api/v1/access/tokens/{id}': {
    answer: { Record: { ...TOKEN, RevokedAt: '2026-01-10T09:00:00.000Z' } },
  },
  'GET /api/v1/access/audit': {
    answer: {
      NextToken: '',
      Items: [
        {
          timeMs: 1_768_032_000_000,
          sequence: 1,
          principal: 't-0a0b0c0d',
          principalName: 'admin',
          address: '192.0.2.7',
          action: 'token.create',
          object: 'ci',
          outcome: 'allowed',
          details: { role: 'submitter' },
          previousHash: '0'.repeat(64),
          hash: 'ab'.repeat(32),
        },
      ],
    },
  },
  'GET /api/v1/auth': { answer: { NextToken: '', Methods: { clientkey: CHALLENGE } } },
  'GET /api/v1/auth/{name}': { answer: CHALLENGE },
  'POST /api/v1/auth/{name}': {
    body: { Name: 'clientkey', MethodData: 'eyJQaHJhc2VTaWduYXR1cmUiOiLigKYiLCJQdWJsaWNLZXkiOiLigKYifQ==' },
    answer: { Authentication: { success: true, token: 'opaque to clients' } },
  },
  'GET /metrics': { answer: '# TYPE weir_egress_leases gauge\nweir_egress_leases 3\n' },
  'GET /api/v1/agent/alive': { answer: { Status: 'OK' } },
  'GET /api/v1/agent/version': { answer: VERSION },
  'GET /api/v1/agent/node': { answer: { ...NODE, ...NODE.Info } },
  'GET /api/v1/agent/config': { answer: { config: { API: { Host: '127.0.0.1', Port: 1234 } } } },
  'GET /api/v1/agent/debug': { answer: { Process: { UptimeSeconds: 60, ResidentBytes: 80_000_000 } } },
  'GET /api/v1/agent/authconfig': {
    answer: {
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
    },
  },
  'GET /api/v1/node_info': { answer: NODE },
  'GET /api/v1/version': { answer: VERSION },
  'POST /api/v1/version': { body: { client_id: 'me' }, answer: { build_version_info: VERSION } },
  'POST /api/v1/compute/debug': { answer: { Process: { UptimeSeconds: 60, ResidentBytes: 80_000_000 } } },
  'GET /api/v1/livez': { answer: 'OK' },
  'GET /api/v1/healthz': { answer: 'OK' },
  'GET /api/v1/id': { answer: COMMON_NODE },
  'GET /': { answer: JSON.stringify(VERSION) },
}
