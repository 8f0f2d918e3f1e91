import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseServerAddress, type ServerAddress } from './address.js'
import { HttpConnection, type Call, type ConnectionOptions } from './http.js'
import { readLogStream } from './log-stream.js'
import { serverError } from './server-error.js'
import type { JobState } from '../model/index.js'
import type {
  AuditRecord,
  DescribedJob,
  LogChunk,
  Page,
  NewTokenRequest,
  SubmittedJob,
  WireAdminLog,
  WireBlob,
  WireBuildVersion,
  WireExecution,
  WireHistoryItem,
  WireJob,
  WireEgressCheck,
  WireEgressExplanation,
  WireNetworkEgress,
  WireAccessRequest,
  WireApproval,
  WireListChange,
  WireNetworkList,
  WirePreset,
  WireNode,
  WireNodeInfo,
  WireNodeToken,
  WireSpecConfig,
  WireToken,
  WireWhoAmI,
} from './wire.js'

export interface ClientOptions extends ConnectionOptions {
  /** `http://host:port`, `https://host:port` or `unix:/path`. Default `http://127.0.0.1:1234`. */
  baseUrl?: string
}

/** What every call takes last. */
export interface CallOptions {
  /** Aborting rejects the call with the signal's reason and closes its connection. */
  signal?: AbortSignal
}

/** Which job a name means and which of its versions is asked for. */
export interface JobViewQuery {
  /** Where a name is looked up. Default `default`; ids need none. */
  namespace?: string
  /** Default the latest. */
  jobVersion?: number
  allVersions?: boolean
}

export interface JobsQuery {
  namespace?: string
  /** Only jobs in these states; absent and empty = all. */
  states?: readonly JobState[]
  /** Label selectors. */
  labels?: readonly string[]
  orderBy?: 'created_at' | 'modified_at'
  reverse?: boolean
  limit?: number
  nextToken?: string
}

export interface ExecutionsQuery extends JobViewQuery {
  orderBy?: 'created_at' | 'modified_at'
  reverse?: boolean
  limit?: number
}

export interface HistoryRequest extends JobViewQuery {
  eventType?: 'all' | 'job' | 'execution'
  /** Id or beginning of one. */
  executionId?: string
  sinceSeconds?: number
  limit?: number
  nextToken?: string
  /** Wait so long for something new. Default 0. */
  waitMs?: number
}

export interface LogsRequest extends JobViewQuery {
  executionId?: string
  /** Until the execution ends. */
  follow?: boolean
  /** Skip what exists. */
  fromEnd?: boolean
  /** Of what exists, only so many last lines of each execution. */
  tailLines?: number
  /** Only what was written then or later. */
  sinceMs?: number
  /** Every execution, also those that were tried again and, with `follow`, those that come later; with notices. */
  allExecutions?: boolean
}

export interface EgressRequest extends JobViewQuery {
  executionId?: string
  /** Only what was refused. */
  denied?: boolean
  limit?: number
  nextToken?: string
}

export interface NodesQuery {
  labels?: readonly string[]
  approval?: 'pending' | 'approved' | 'rejected'
  status?: 'connected' | 'disconnected'
  orderBy?: string
  reverse?: boolean
  limit?: number
}

/** Where content is held. Default `default`. */
export type BlobPlace = Pick<JobViewQuery, 'namespace'>

/** As long as the server takes an upload. */
const UPLOAD_TIMEOUT_MS = 1_800_000
const LONG_POLL_MS = 10_000
const POLL_PAUSE_MS = [20, 50, 100, 200, 500] as const

/**
 * Talks to one server. Every call rejects with a `WeirError`: the server's own, or `api.unreachable` when nobody
 * answers. Connections are kept and do not hold the process; {@link close} drops them.
 */
export class WeirClient {
  readonly address: ServerAddress
  readonly #connection: HttpConnection

  constructor(options: ClientOptions = {}) {
    const { baseUrl = 'http://127.0.0.1:1234', ...connection } = options
    this.address = parseServerAddress(baseUrl)
    this.#connection = new HttpConnection(this.address, connection)
  }

  /**
   * Submits a job (the specification in the wire's shape). Answers before it is scheduled. Submitting again with the
   * same `idempotencyToken` gives the id of the job that exists. A job whose name exists in its namespace becomes the
   * next version of that; one that changes nothing is refused (`job.unchanged`) without `force`.
   */
  submit(
    job: object,
    options: CallOptions & { idempotencyToken?: string; force?: boolean } = {},
  ): Promise<SubmittedJob> {
    const body = {
      Job: job,
      IdempotencyToken: options.idempotencyToken ?? '',
      ...(options.force === true ? { Force: true } : {}),
    }
    return this.#json('PUT', '/orchestrator/jobs', 'submit the job', options, body)
  }

  /** Content that the namespace holds. Rejects with `blob.not_found`, or `api.not_found` when the server keeps no content. */
  blob(cid: string, options: CallOptions & BlobPlace = {}): Promise<WireBlob> {
    return this.#json('GET', blobPath(cid, '', options), `look up the content ${cid}`, options)
  }

  /** Sends content under its CID. Rejects with `blob.mismatch` when the stream holds something else. */
  async storeBlob(
    cid: string,
    content: { stream: Readable; bytes: number },
    options: CallOptions & BlobPlace = {},
  ): Promise<WireBlob> {
    const call: Call = {
      method: 'PUT',
      path: `${API}${blobPath(cid, '', options)}`,
      what: `upload ${cid}`,
      content,
      timeoutMs: UPLOAD_TIMEOUT_MS,
      signal: options.signal,
    }
    return this.#connection.json(call) as Promise<WireBlob>
  }

  /** The bytes, which the caller compares with the CID. */
  blobContent(cid: string, options: CallOptions & BlobPlace = {}): Promise<Buffer> {
    const path = `${API}${blobPath(cid, '/content', options)}`
    const timeoutMs = UPLOAD_TIMEOUT_MS
    return this.#connection.bytes({
      method: 'GET',
      path,
      what: `read the content ${cid}`,
      timeoutMs,
      signal: options.signal,
    })
  }

  /** Everything that the namespace holds, last used first. */
  blobs(options: CallOptions & BlobPlace = {}): Promise<Page<WireBlob>> {
    const path = `/orchestrator/blobs${queryOf({ namespace: options.namespace })}`
    return this.#json('GET', path, 'list uploaded content', options)
  }

  /** What submitting the job would change of the one that has its name: lines `- path: old` and `+ path: new`. */
  diff(job: object, options: CallOptions = {}): Promise<{ Diff: string; Warnings: string[] | null }> {
    return this.#json('PUT', '/orchestrator/jobs/diff', 'compare the job', options, { Job: job })
  }

  /** Runs a job again as its next version; what still runs of it is stopped first. Version 0 or absent = the latest. */
  rerun(
    id: string,
    request: { namespace?: string; jobVersion?: number; reason?: string; idempotencyToken?: string } = {},
    options: CallOptions = {},
  ): Promise<SubmittedJob> {
    const body = {
      JobVersion: request.jobVersion ?? 0,
      Reason: request.reason ?? '',
      Namespace: request.namespace ?? '',
      IdempotencyToken: request.idempotencyToken ?? '',
    }
    return this.#json('PUT', `${jobPath(id)}/rerun`, `run job ${id} again`, options, body)
  }

  /** Every version that is kept, oldest first; the last one is the job as it is. */
  versions(
    id: string,
    view: Pick<JobViewQuery, 'namespace'> = {},
    options: CallOptions = {},
  ): Promise<Page<WireJob>> {
    const path = `${jobPath(id)}/versions${queryOf({ namespace: view.namespace })}`
    return this.#json('GET', path, `list versions of job ${id}`, options)
  }

  /** A job by id, unique beginning of it, or name. */
  job(
    id: string,
    options: CallOptions & JobViewQuery & { include?: readonly ('history' | 'executions')[] } = {},
  ): Promise<DescribedJob> {
    const query = queryOf({ include: options.include?.join(','), ...viewOf(options) })
    return this.#json('GET', `${jobPath(id)}${query}`, `look up job ${id}`, options)
  }

  /** One page. */
  jobs(query: JobsQuery = {}, options: CallOptions = {}): Promise<Page<WireJob>> {
    const text = queryOf({
      namespace: query.namespace,
      state: query.states,
      labels: query.labels,
      order_by: query.orderBy,
      reverse: query.reverse,
      limit: query.limit,
      next_token: query.nextToken,
    })
    return this.#json('GET', `/orchestrator/jobs${text}`, 'list jobs', options)
  }

  /** All pages, job by job. */
  async *allJobs(query: JobsQuery = {}, options: CallOptions = {}): AsyncIterable<WireJob> {
    let nextToken = query.nextToken
    do {
      const page: Page<WireJob> = await this.jobs({ ...query, nextToken }, options)
      yield* page.Items
      nextToken = page.NextToken
    } while (nextToken !== '')
  }

  /** Rejects with `job.terminal` when the job has ended; an empty evaluation id means that it was stopped before. */
  stop(
    id: string,
    reason: string,
    options: CallOptions & Pick<JobViewQuery, 'namespace'> = {},
  ): Promise<{ EvaluationID: string }> {
    const path = `${jobPath(id)}${queryOf({ namespace: options.namespace })}`
    return this.#json('DELETE', path, `stop job ${id}`, options, { reason })
  }

  executions(
    id: string,
    query: ExecutionsQuery = {},
    options: CallOptions = {},
  ): Promise<Page<WireExecution>> {
    const text = queryOf({
      order_by: query.orderBy,
      reverse: query.reverse,
      limit: query.limit,
      ...viewOf(query),
    })
    return this.#json('GET', `${jobPath(id)}/executions${text}`, `list executions of job ${id}`, options)
  }

  /** One page. `NextToken` stays filled while the job runs: ask again with it. */
  history(
    id: string,
    request: HistoryRequest = {},
    options: CallOptions = {},
  ): Promise<Page<WireHistoryItem>> {
    const text = queryOf({
      event_type: request.eventType,
      execution_id: request.executionId,
      since: request.sinceSeconds,
      limit: request.limit,
      next_token: request.nextToken,
      wait_ms: request.waitMs,
      ...viewOf(request),
    })
    return this.#json('GET', `${jobPath(id)}/history${text}`, `read the history of job ${id}`, options)
  }

  /** Every event as it happens, until the job (or the execution asked for) has ended. */
  async *pollHistory(
    id: string,
    request: HistoryRequest = {},
    options: CallOptions = {},
  ): AsyncIterable<WireHistoryItem> {
    let nextToken = request.nextToken
    for (let idle = 0; ; ) {
      const page: Page<WireHistoryItem> = await this.history(
        id,
        { waitMs: LONG_POLL_MS, ...request, nextToken },
        options,
      )
      yield* page.Items
      if (page.NextToken === '') return
      nextToken = page.NextToken
      // A server that does not wait by itself (Bacalhau) is asked less and less often.
      idle = page.Items.length > 0 ? 0 : Math.min(idle + 1, POLL_PAUSE_MS.length - 1)
      if (page.Items.length === 0) await sleep(POLL_PAUSE_MS[idle], undefined, { signal: options.signal })
    }
  }

  /** Where results were published. */
  results(id: string, options: CallOptions & JobViewQuery = {}): Promise<Page<WireSpecConfig>> {
    return this.#json(
      'GET',
      `${jobPath(id)}/results${queryOf(viewOf(options))}`,
      `list results of job ${id}`,
      options,
    )
  }

  /** Output of the program, byte for byte. */
  logs(id: string, request: LogsRequest = {}, options: CallOptions = {}): AsyncIterable<LogChunk> {
    const text = queryOf({
      execution_id: request.executionId,
      follow: request.follow,
      tail: request.fromEnd,
      tail_lines: request.tailLines,
      since: request.sinceMs === undefined ? undefined : request.sinceMs / 1000,
      all_executions: request.allExecutions,
      ...viewOf(request),
      encoding: 'base64',
    })
    return readLogStream(this.#connection, `${API}${jobPath(id)}/logs${text}`, options.signal)
  }

  /** A page of what the job tried to reach. */
  egress(id: string, request: EgressRequest = {}, options: CallOptions = {}): Promise<Page<AuditRecord>> {
    return this.#json('GET', egressPath(id, request, false), `read the egress of job ${id}`, options)
  }

  /** What the job tries to reach, as it happens, until the job has ended. */
  async *followEgress(
    id: string,
    request: Omit<EgressRequest, 'limit' | 'nextToken'> = {},
    options: CallOptions = {},
  ): AsyncIterable<AuditRecord> {
    const call: Call = {
      method: 'GET',
      path: `${API}${egressPath(id, request, true)}`,
      what: `follow the egress of job ${id}`,
      signal: options.signal,
    }
    for await (const line of this.#connection.lines(call)) {
      const record = JSON.parse(line) as AuditRecord | { Error: { Status?: number } }
      if ('Error' in record)
        throw serverError(record.Error.Status ?? 0, JSON.stringify(record.Error), call.what)
      yield record
    }
  }

  async nodes(query: NodesQuery = {}, options: CallOptions = {}): Promise<WireNode[]> {
    const text = queryOf({
      labels: query.labels,
      'filter-approval': query.approval,
      'filter-status': query.status,
      order_by: query.orderBy,
      reverse: query.reverse,
      limit: query.limit,
    })
    const answer = await this.#json<{ Nodes: WireNode[] }>(
      'GET',
      `/orchestrator/nodes${text}`,
      'list nodes',
      options,
    )
    return answer.Nodes
  }

  async node(id: string, options: CallOptions = {}): Promise<WireNode> {
    const path = `/orchestrator/nodes/${encodeURIComponent(id)}`
    return (await this.#json<{ Node: WireNode }>('GET', path, `look up node ${id}`, options)).Node
  }

  /** The egress list of the network. */
  networkEgress(options: CallOptions = {}): Promise<WireNetworkEgress> {
    return this.#json('GET', '/orchestrator/egress', 'ask for the egress list of the network', options)
  }

  /** The named lists of hosts that jobs may name. */
  async presets(options: CallOptions = {}): Promise<WirePreset[]> {
    const path = '/orchestrator/egress/presets'
    return (await this.#json<{ Presets: WirePreset[] }>('GET', path, 'list the presets', options)).Presets
  }

  /** The allowlist of the network, with where each pattern stands. */
  networkAllowlist(options: CallOptions = {}): Promise<WireNetworkList> {
    return this.#json('GET', '/orchestrator/egress/allow', 'ask for the list of the network', options)
  }

  /** Edits the allowlist of the network; in force when it resolves. */
  editNetworkAllowlist(
    edit: {
      add?: readonly string[]
      remove?: readonly string[]
      comment?: string
      dryRun?: boolean
      begin?: boolean
    },
    options: CallOptions = {},
  ): Promise<WireListChange> {
    const { add, remove, comment, dryRun, begin } = edit
    const body = { Add: add, Remove: remove, Comment: comment, DryRun: dryRun, Begin: begin }
    return this.#json('POST', '/orchestrator/egress/allow', 'change the list of the network', options, body)
  }

  /** Asks operators to let jobs reach these hosts. */
  requestAccess(
    domains: readonly string[],
    reason: string,
    options: CallOptions = {},
  ): Promise<{ Request: WireAccessRequest; New: boolean }> {
    const body = { Domains: domains, Reason: reason }
    return this.#json('POST', '/orchestrator/egress/requests', 'ask for access', options, body)
  }

  /** Newest first: all for operators, otherwise one's own. */
  async accessRequests(
    query: { state?: string | undefined } = {},
    options: CallOptions = {},
  ): Promise<WireAccessRequest[]> {
    const path = `/orchestrator/egress/requests${queryOf({ state: query.state })}`
    return (
      await this.#json<{ Items: WireAccessRequest[] }>('GET', path, 'list requests for access', options)
    ).Items
  }

  async accessRequest(id: string, options: CallOptions = {}): Promise<WireAccessRequest> {
    const path = `/orchestrator/egress/requests/${encodeURIComponent(id)}`
    return (await this.#json<{ Request: WireAccessRequest }>('GET', path, `look up request ${id}`, options))
      .Request
  }

  /** `domains`: exactly those of the request, as they were shown. */
  approveAccess(
    id: string,
    decision: { domains: readonly string[]; reason?: string },
    options: CallOptions = {},
  ): Promise<WireApproval> {
    const path = `/orchestrator/egress/requests/${encodeURIComponent(id)}/approve`
    const body = { Domains: decision.domains, Reason: decision.reason }
    return this.#json('POST', path, `approve request ${id}`, options, body)
  }

  async denyAccess(id: string, reason: string, options: CallOptions = {}): Promise<WireAccessRequest> {
    const path = `/orchestrator/egress/requests/${encodeURIComponent(id)}/deny`
    const body = { Reason: reason }
    return (
      await this.#json<{ Request: WireAccessRequest }>('POST', path, `deny request ${id}`, options, body)
    ).Request
  }

  /** Which nodes would take a job that names these hosts, or this very job. */
  checkEgress(
    asked: { domains?: readonly string[]; engine?: string; signedBy?: readonly string[]; job?: unknown },
    options: CallOptions = {},
  ): Promise<WireEgressCheck> {
    const { domains, engine, signedBy, job } = asked
    const body = { Domains: domains, Engine: engine, SignedBy: signedBy, Job: job }
    return this.#json('POST', '/orchestrator/egress/check', 'check the hosts', options, body)
  }

  /** What the gateway of a node would decide about a host for a job that names these patterns. */
  explainEgress(
    id: string,
    asked: { host: string; domains: readonly string[]; signedBy?: readonly string[] },
    options: CallOptions = {},
  ): Promise<WireEgressExplanation> {
    const path = `/orchestrator/nodes/${encodeURIComponent(id)}/explain`
    const body = { Host: asked.host, Domains: asked.domains, SignedBy: asked.signedBy }
    return this.#json('POST', path, `ask node ${id}`, options, body)
  }

  /** Never rejects because of the node: a refusal is in the answer. */
  updateNode(
    id: string,
    action: 'approve' | 'reject' | 'delete',
    message = '',
    options: CallOptions = {},
  ): Promise<{ Success: boolean; Error?: string; Code?: string; Hint?: string }> {
    const body = { Action: action, Message: message, NodeID: id }
    return this.#json(
      'PUT',
      `/orchestrator/nodes/${encodeURIComponent(id)}`,
      `${action} node ${id}`,
      options,
      body,
    )
  }

  /** Makes a token with which machines join; absent: for one machine, for a day. Its secret is not shown again. */
  createNodeToken(
    wish: { description?: string; expiresAfterSeconds?: number; usesMax?: number },
    options: CallOptions = {},
  ): Promise<{ Secret: string; JoinURL: string; Token: WireNodeToken }> {
    const body = {
      Description: wish.description,
      ExpiresAfterSeconds: wish.expiresAfterSeconds,
      UsesMax: wish.usesMax,
    }
    return this.#json('POST', '/orchestrator/node_tokens', 'make a join token', options, body)
  }

  async nodeTokens(options: CallOptions = {}): Promise<WireNodeToken[]> {
    const path = '/orchestrator/node_tokens'
    return (await this.#json<{ Items: WireNodeToken[] }>('GET', path, 'list join tokens', options)).Items
  }

  async revokeNodeToken(id: string, options: CallOptions = {}): Promise<void> {
    await this.#json(
      'DELETE',
      `/orchestrator/node_tokens/${encodeURIComponent(id)}`,
      'revoke a join token',
      options,
    )
  }

  /** Rejects with `api.unreachable` when nobody answers. */
  alive(options: CallOptions = {}): Promise<{ Status: string }> {
    return this.#json('GET', '/agent/alive', 'ask whether the server is alive', options)
  }

  version(options: CallOptions = {}): Promise<WireBuildVersion> {
    return this.#json('GET', '/agent/version', 'ask for the version', options)
  }

  /** The node that answers, in the forms of old and new clients at once. */
  agentNode(options: CallOptions = {}): Promise<WireNode & WireNodeInfo> {
    return this.#json('GET', '/agent/node', 'ask for the node', options)
  }

  /** The server's effective configuration, without secrets. */
  async config(options: CallOptions = {}): Promise<Record<string, unknown>> {
    const answer = await this.#json<{ config: Record<string, unknown> }>(
      'GET',
      '/agent/config',
      'ask for the configuration',
      options,
    )
    return answer.config
  }

  /** Who the server takes the caller for. */
  whoAmI(options: CallOptions = {}): Promise<WireWhoAmI> {
    return this.#json('GET', '/access/whoami', 'ask who you are', options)
  }

  async tokens(options: CallOptions = {}): Promise<WireToken[]> {
    const answer = await this.#json<Page<WireToken>>('GET', '/access/tokens', 'list tokens', options)
    return answer.Items
  }

  /** The token is in this answer and nowhere else. */
  createToken(
    token: NewTokenRequest,
    options: CallOptions = {},
  ): Promise<{ Token: string; Record: WireToken }> {
    return this.#json('POST', '/access/tokens', `make the token "${token.Name}"`, options, token)
  }

  async revokeToken(id: string, options: CallOptions = {}): Promise<WireToken> {
    const path = `/access/tokens/${encodeURIComponent(id)}`
    const answer = await this.#json<{ Record: WireToken }>('DELETE', path, `revoke the token ${id}`, options)
    return answer.Record
  }

  /** The newest administrative actions, newest last, with the state of their chain on request. */
  adminLog(
    query: { limit?: number; nextToken?: string; verify?: boolean } = {},
    options: CallOptions = {},
  ): Promise<WireAdminLog> {
    const text = queryOf({ limit: query.limit, next_token: query.nextToken, verify: query.verify })
    return this.#json('GET', `/access/audit${text}`, 'read the record of administrative actions', options)
  }

  close(): void {
    this.#connection.close()
  }

  #json<Answer>(
    method: Call['method'],
    path: string,
    what: string,
    options: CallOptions,
    body?: unknown,
  ): Promise<Answer> {
    const call: Call = { method, path: `${API}${path}`, what, body, signal: options.signal }
    return this.#connection.json(call) as Promise<Answer>
  }
}

const API = '/api/v1'

function blobPath(cid: string, part: string, { namespace }: BlobPlace): string {
  return `/orchestrator/blobs/${encodeURIComponent(cid)}${part}${queryOf({ namespace })}`
}

function jobPath(id: string): string {
  return `/orchestrator/jobs/${encodeURIComponent(id)}`
}

function egressPath(id: string, request: EgressRequest, follow: boolean): string {
  return `${jobPath(id)}/egress${queryOf({
    execution_id: request.executionId,
    denied: request.denied,
    follow: follow || undefined,
    limit: request.limit,
    next_token: request.nextToken,
    ...viewOf(request),
  })}`
}

function viewOf({ namespace, jobVersion, allVersions }: JobViewQuery): Record<string, QueryValue> {
  return { namespace, job_version: jobVersion, all_job_versions: allVersions }
}

type QueryValue = string | number | boolean | readonly string[] | undefined

/** `?a=1&b=2`, or an empty text; what is undefined or empty is left out. */
function queryOf(values: Readonly<Record<string, QueryValue>>): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(values)) {
    for (const item of [value].flat()) {
      if (item !== undefined && item !== '') query.append(name, String(item))
    }
  }
  const text = query.toString()
  return text === '' ? '' : `?${text}`
}
