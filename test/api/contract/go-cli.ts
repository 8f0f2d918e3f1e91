import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import WebSocket from 'ws'
import { goDecode, type GoType } from './go-decode.js'
import { goStructs, type GoClientVersion, type GoStructs } from './go-structs.js'

/** An answer as it came. */
export interface RawAnswer {
  status: number
  headers: IncomingHttpHeaders
  text: string
}

/** What the CLI prints when the server answers with anything but 200. */
export class GoApiError extends Error {
  readonly status: number
  readonly body: Record<string, unknown>
  constructor(status: number, body: Record<string, unknown>) {
    super(String(body.Message))
    this.status = status
    this.body = body
  }
}

export interface GoCliOptions {
  version?: GoClientVersion
  /** Default true: the auth flow runs before the first call. */
  logsIn?: boolean
  /** The CLI polls every 500 ms; tests need not wait so long. */
  pollMs?: number
}

/** A decoded struct; a test that reads a field that is not there fails. */
// eslint-disable-next-line typescript/no-explicit-any
export type Decoded = Record<string, any>

/**
 * Sends what Bacalhau's command line client sends, in its order, and decodes answers as it does. It imitates the
 * network behaviour only: what is printed is left out.
 */
export class GoCli {
  /** Method and path with query of every request, in order. */
  readonly requests: string[] = []
  readonly structs: GoStructs
  readonly #url: URL
  readonly #version: GoClientVersion
  readonly #pollMs: number
  #token: string | undefined
  #needsLogin: boolean

  constructor(url: string, options: GoCliOptions = {}) {
    this.#url = new URL(url)
    this.#version = options.version ?? 'v1.5.2'
    this.#pollMs = options.pollMs ?? 10
    this.#needsLogin = options.logsIn !== false
    this.structs = goStructs(this.#version)
  }

  /* ---- Commands ---- */

  /** `docker run`, `wasm run`, `job run` with `--wait`: submit, poll the history to its end, read the job. */
  async run(job: object): Promise<{ id: string; events: Decoded[]; job: Decoded }> {
    const { JobID: id, Warnings: warnings } = await this.submit(job)
    if (warnings?.length > 0) throw new Error(`the client would print warnings: ${warnings.join(', ')}`)
    const isLongRunning = ['service', 'daemon'].includes(String((job as { Type: string }).Type))
    const events = await this.pollHistory(id, isLongRunning)
    const described = await this.get(`/orchestrator/jobs/${id}`, this.structs.getJob)
    return { id, events, job: described.Job as Decoded }
  }

  /** `… run --follow`: submit, wait while the job is pending, then the log stream. */
  async runFollowing(job: object): Promise<{ id: string; stdout: string; stderr: string }> {
    const { JobID: id } = await this.submit(job)
    for (let attempt = 0; attempt < 100; attempt++) {
      const { Job: described } = await this.get(`/orchestrator/jobs/${id}`, this.structs.getJob)
      if (described.State.StateType !== 'Pending') break
      await sleep(this.#pollMs)
    }
    return { id, ...(await this.logs(id, { follow: true })) }
  }

  submit(job: object): Promise<Decoded> {
    const body = { Namespace: '', Credential: null, IdempotencyToken: '', Job: goJob(job) }
    return this.send('PUT', '/orchestrator/jobs', body, this.structs.putJob)
  }

  /** Until the token is empty; for a job without end until the first event of an execution. */
  async pollHistory(id: string, untilStarted = false): Promise<Decoded[]> {
    const events: Decoded[] = []
    for (let token = '', polls = 0; ; polls++) {
      if (polls > 2000) throw new Error(`the history of ${id} never ends`)
      const query = new URLSearchParams({ event_type: 'all', limit: '10', next_token: token })
      const page = await this.get(`/orchestrator/jobs/${id}/history?${query}`, this.structs.history)
      events.push(...((page.Items ?? []) as Decoded[]))
      token = page.NextToken as string
      if (token === '') return events
      if (untilStarted && events.some((event) => event.Type === 'ExecutionLevel')) return events
      await sleep(this.#pollMs)
    }
  }

  describe(id: string): Promise<Decoded> {
    return this.get(`/orchestrator/jobs/${id}?include=executions%2Chistory`, this.structs.getJob)
  }

  list(query: Record<string, string> = {}): Promise<Decoded> {
    const parameters = new URLSearchParams({ labels: 'bacalhau_canary!=true', limit: '10', ...query })
    return this.get(`/orchestrator/jobs?${parameters}`, this.structs.listJobs)
  }

  executions(id: string, orderBy = ''): Promise<Decoded> {
    const query = new URLSearchParams({ limit: '20', ...(orderBy !== '' && { order_by: orderBy }) })
    return this.get(`/orchestrator/jobs/${id}/executions?${query}`, this.structs.executions)
  }

  history(id: string): Promise<Decoded> {
    return this.get(`/orchestrator/jobs/${id}/history?event_type=all`, this.structs.history)
  }

  results(id: string): Promise<Decoded> {
    return this.get(`/orchestrator/jobs/${id}/results`, this.structs.results)
  }

  /** `job stop`: refuses by itself when the job has ended. */
  async stop(id: string): Promise<Decoded> {
    const { Job: job } = await this.get(`/orchestrator/jobs/${id}`, this.structs.getJob)
    if (['Completed', 'Failed', 'Stopped'].includes(job.State.StateType as string)) {
      throw new Error(`job ${id} is already in a terminal state`)
    }
    return this.delete(id)
  }

  delete(id: string): Promise<Decoded> {
    const body = { Namespace: '', Credential: null, IdempotencyToken: '', reason: 'Stopped at user request' }
    return this.send('DELETE', `/orchestrator/jobs/${id}`, body, this.structs.stopJob)
  }

  nodes(query: Record<string, string> = {}): Promise<Decoded> {
    const text = new URLSearchParams(query).toString()
    return this.get(`/orchestrator/nodes${text === '' ? '' : `?${text}`}`, this.structs.listNodes)
  }

  node(id: string): Promise<Decoded> {
    return this.get(`/orchestrator/nodes/${id}`, this.structs.getNode)
  }

  updateNode(id: string, action: string): Promise<Decoded> {
    const body = {
      Namespace: '',
      Credential: null,
      IdempotencyToken: '',
      Action: action,
      Message: '',
      NodeID: id,
    }
    return this.send('PUT', `/orchestrator/nodes/${id}`, body, this.structs.putNode)
  }

  /** The log stream; any close code but 1000 is an error, and so is an error frame. */
  async logs(
    id: string,
    options: { follow?: boolean; tail?: boolean; executionId?: string } = {},
  ): Promise<{ stdout: string; stderr: string }> {
    await this.#login()
    const query = new URLSearchParams({
      ...(options.executionId !== undefined && { execution_id: options.executionId }),
      ...(options.follow === true && { follow: 'true' }),
      ...(options.tail === true && { tail: 'true' }),
    })
    const path = `/api/v1/orchestrator/jobs/${id}/logs?${query}`
    this.requests.push(`WS ${path}`)
    const output = { stdout: '', stderr: '' }
    const { 'content-type': _none, ...headers } = this.#headers(undefined)
    const socket = new WebSocket(`ws://${this.#url.host}${path}`, { headers, perMessageDeflate: false })
    const failures: Error[] = []
    socket.on('message', (data: Buffer, isBinary) => {
      try {
        if (isBinary) throw new Error('a binary frame')
        const frame = goDecode(data.toString('utf8'), this.structs.logFrame) as Decoded
        if (frame.error !== '') throw new Error(frame.error as string)
        if (frame.value.Type === 1) output.stdout += frame.value.Line
        else output.stderr += frame.value.Line
      } catch (error) {
        failures.push(error as Error)
      }
    })
    const code = await new Promise<number>((resolve, reject) => {
      socket.once('error', reject)
      socket.once('close', resolve)
    })
    if (failures[0] !== undefined) throw failures[0]
    if (code !== 1000) throw new Error(`the stream was closed with code ${code}`)
    return output
  }

  /* ---- Requests ---- */

  get(path: string, type: GoType): Promise<Decoded> {
    return this.send('GET', path, undefined, type)
  }

  async send(method: string, path: string, body: unknown, type: GoType): Promise<Decoded> {
    await this.#login()
    const answer = await this.raw(method, `/api/v1${path}`, body)
    if (answer.status !== 200) {
      throw new GoApiError(answer.status, goDecode(answer.text, this.structs.apiError) as Decoded)
    }
    if (answer.text.trim() === '') throw new Error('EOF: a 200 without a body')
    return goDecode(answer.text, type) as Decoded
  }

  /** One request with the headers of the client. */
  raw(method: string, path: string, body?: unknown, more: Record<string, string> = {}): Promise<RawAnswer> {
    this.requests.push(`${method} ${path}`)
    const payload = body === undefined ? undefined : `${JSON.stringify(body)}\n`
    return exchange(this.#url, method, path, { ...this.#headers(payload), ...more }, payload)
  }

  #headers(payload: string | undefined): Record<string, string> {
    return {
      'user-agent': 'Go-http-client/1.1',
      ...(payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }),
      'x-bacalhau-arch': 'amd64',
      'x-bacalhau-build-date': '2024-11-29 10:11:12 +0000 UTC',
      'x-bacalhau-build-os': 'linux',
      'x-bacalhau-git-commit': 'a1b2c3d4e5f60718293a4b5c6d7e8f9012345678',
      'x-bacalhau-git-version': this.#version,
      'x-bacalhau-instanceid': '0f7c4b6e-0000-4000-8000-000000000001',
      'x-bacalhau-installationid': '0f7c4b6e-0000-4000-8000-000000000002',
      'accept-encoding': 'gzip',
      ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
    }
  }

  /** Runs before the first call while there is no token: methods, one challenge, one answer. */
  async #login(): Promise<void> {
    if (!this.#needsLogin) return
    this.#needsLogin = false
    const { Methods: methods } = (await this.get('/auth', this.structs.listAuth)) as {
      Methods: Record<string, { type: string; params: Record<string, unknown> }> | null
    }
    const known = Object.entries(methods ?? {}).filter(([, { type }]) => ['challenge', 'ask'].includes(type))
    const [method] = known
    if (method === undefined) throw new Error('no common authentication method')
    if (known.length > 1) throw new Error('the client would ask a human which method to use')
    const [name, { params }] = method
    const phrase = Buffer.from(String(params.InputPhrase), 'base64')
    const answer = await this.raw('POST', `/api/v1/auth/${name}`, authBody(name, challengeAnswer(phrase)))
    const { Authentication: outcome } = goDecode(answer.text, this.structs.authenticate) as Decoded
    if (answer.status !== 200 || outcome.success !== true) throw new Error(`login: ${outcome.reason}`)
    this.#token = outcome.token as string
  }
}

/** The body of a login; `data` becomes base64 as Go writes bytes. */
export function authBody(name: string, data: object): object {
  return {
    Namespace: '',
    Credential: null,
    Name: name,
    MethodData: Buffer.from(JSON.stringify(data)).toString('base64'),
  }
}

/** The signature over a phrase with an RSA key of this process. */
export function challengeAnswer(phrase: Uint8Array): { PhraseSignature: string; PublicKey: string } {
  keys ??= generateKeyPairSync('rsa', { modulusLength: 2048 })
  return {
    PhraseSignature: sign('sha256', phrase, keys.privateKey).toString('base64'),
    PublicKey: keys.publicKey.export({ type: 'pkcs1', format: 'der' }).toString('base64'),
  }
}

let keys: { privateKey: KeyObject; publicKey: KeyObject } | undefined

/** A job as Go marshals its struct: fields that are not `omitempty` are there with their zero values. */
export function goJob(job: object): object {
  return {
    ID: '',
    Name: '',
    Namespace: 'default',
    Priority: 0,
    Count: 1,
    Constraints: null,
    Meta: null,
    Labels: null,
    State: { StateType: 'Undefined' },
    Version: 0,
    Revision: 0,
    CreateTime: 0,
    ModifyTime: 0,
    ...job,
  }
}

/** A docker task as the CLI builds it. */
export function goTask(command: readonly string[], change: object = {}): object {
  return {
    Name: 'main',
    Engine: {
      Type: 'docker',
      Params: {
        Entrypoint: null,
        EnvironmentVariables: null,
        Image: 'busybox',
        Parameters: command,
        WorkingDirectory: '',
      },
    },
    Publisher: { Type: '' },
    Resources: {},
    Network: { Type: 'None' },
    Timeouts: {},
    ...change,
  }
}

/** One request over a fresh connection. */
export function exchange(
  url: URL,
  method: string,
  path: string,
  headers: Record<string, string>,
  payload?: string | Uint8Array,
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: url.hostname, port: url.port, method, path, headers, agent: false })
    request.on('error', reject)
    request.on('response', (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('error', reject)
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: Buffer.concat(parts).toString('utf8'),
        }),
      )
    })
    request.end(payload)
  })
}
