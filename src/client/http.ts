import {
  Agent as HttpAgent,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
} from 'node:http'
import type { RequestOptions } from 'node:https'
import type { Socket } from 'node:net'
import { pipeline, type Readable } from 'node:stream'
import { WeirError } from '../errors.js'
import { VERSION } from '../version.js'
import { formatServerAddress, type ServerAddress } from './address.js'
import { connectPinned, PinnedAgent, type PinnedTarget } from './pinned-connection.js'
import { serverError } from './server-error.js'

export interface ConnectionOptions {
  /** Default 5,000. */
  connectTimeoutMs?: number
  /** Until a whole answer must be there; streams excepted. Default 60,000. */
  timeoutMs?: number
  /** Default 256 MiB. */
  answerBytesMax?: number
  /** Sent as `Authorization: Bearer …`. */
  token?: string
  /** More headers for every request. */
  headers?: Readonly<Record<string, string>>
  /**
   * For https: PEM of the authority to trust instead of the usual ones; the one key that the server may show
   * (`SHA256:…`), which settles everything else; or no verification at all.
   */
  tls?: { ca?: string; fingerprint?: string; insecure?: boolean }
}

export interface Call {
  method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  /** With query. */
  path: string
  /** Sent as JSON. */
  body?: unknown
  /** Sent as it is, instead of `body`; read once. */
  content?: { stream: Readable; bytes: number }
  /** Until the whole answer must be there; default the connection's. */
  timeoutMs?: number
  /** What fails when it fails, after "Cannot". */
  what: string
  signal?: AbortSignal
}

const CONNECT_TIMEOUT_MS = 5_000
const TIMEOUT_MS = 60_000
const ANSWER_BYTES_MAX = 256 * 1024 * 1024
const LINE_CHARACTERS_MAX = 1024 * 1024

/** Requests to one server over kept connections. */
export class HttpConnection {
  readonly address: ServerAddress
  readonly #options: ConnectionOptions
  #agent: HttpAgent | undefined

  constructor(address: ServerAddress, options: ConnectionOptions) {
    this.address = address
    this.#options = options
  }

  /** Headers of every request, also of websocket handshakes. */
  get headers(): Record<string, string> {
    const { token, headers } = this.#options
    return {
      ...(this.address.kind === 'unix' ? { host: 'localhost' } : {}),
      'x-weir-version': VERSION,
      ...headers,
      ...(token === undefined || token === '' ? {} : { authorization: `Bearer ${token}` }),
    }
  }

  get tls(): { ca?: string; rejectUnauthorized?: boolean; minVersion: 'TLSv1.2' } {
    const { ca, insecure } = this.#options.tls ?? {}
    return {
      ...(ca === undefined ? {} : { ca }),
      ...(insecure === true ? { rejectUnauthorized: false } : {}),
      minVersion: 'TLSv1.2',
    }
  }

  get connectTimeoutMs(): number {
    return this.#options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS
  }

  /**
   * The JSON of a successful answer. Rejects with the server's error, `api.unreachable`, `api.failed` for answers that
   * are not JSON, or the signal's reason.
   */
  async json(call: Call): Promise<unknown> {
    const text = await this.text(call)
    try {
      return JSON.parse(text)
    } catch (error) {
      throw new WeirError('api.failed', `Cannot ${call.what}: the answer is not JSON`, {
        hint: `Check that ${formatServerAddress(this.address)} is a weir server.`,
        cause: error,
      })
    }
  }

  async text(call: Call): Promise<string> {
    return (await this.bytes(call)).toString('utf8')
  }

  /** The body of a successful answer. */
  async bytes(call: Call): Promise<Buffer> {
    const timeoutMs = call.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS
    const timeout = AbortSignal.timeout(timeoutMs)
    const signal = call.signal === undefined ? timeout : AbortSignal.any([call.signal, timeout])
    try {
      const response = await this.#send({ ...call, signal })
      const body = await readAll(response, this.#options.answerBytesMax ?? ANSWER_BYTES_MAX, call.what)
      if (response.statusCode === 200) return body
      throw this.refusal(response.statusCode ?? 0, body.toString('utf8'), call.what)
    } catch (error) {
      if (timeout.aborted && call.signal?.aborted !== true) throw this.#tooSlow(timeoutMs, error)
      throw this.explain(error, call.signal)
    }
  }

  /** Lines of a streamed answer as they come; blank lines are left out. */
  async *lines(call: Call): AsyncIterable<string> {
    try {
      const response = await this.#send(call)
      if (response.statusCode !== 200) {
        const body = await readAll(response, ANSWER_BYTES_MAX, call.what)
        throw this.refusal(response.statusCode ?? 0, body.toString('utf8'), call.what)
      }
      yield* splitLines(response)
    } catch (error) {
      throw this.explain(error, call.signal)
    }
  }

  /** The server's error; where it wants to know who is calling, with what to do about it. */
  refusal(status: number, text: string, what: string): WeirError {
    const error = serverError(status, text, what)
    if (error.code !== 'api.unauthorized' && error.code !== 'api.forbidden') return error
    const server = formatServerAddress(this.address)
    const { reason } = error.details
    const why = typeof reason === 'string' ? reason : error.message
    const isUnknown = error.code === 'api.unauthorized'
    return new WeirError(
      error.code,
      `Cannot ${what}: ${isUnknown ? `${server} wants to know who you are` : `${server} does not allow it`} (${why})`,
      {
        hint: isUnknown
          ? `Log in with \`weir auth login ${server}\`, or put a token into the variable WEIR_API_KEY.`
          : error.hint,
        details: error.details,
        cause: error,
      },
    )
  }

  /** A new connection to a pinned server, for websockets; undefined when the server is not pinned. */
  connectPinned(): Promise<Socket> | undefined {
    const pinned = this.#pinned
    return pinned === undefined ? undefined : connectPinned(pinned.target, pinned.fingerprint)
  }

  close(): void {
    this.#agent?.destroy()
    this.#agent = undefined
  }

  /** Turns what the network threw into an error that says what to do. */
  explain(error: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted === true) return signal.reason
    if (error instanceof WeirError) return error
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    const reason = REASONS[code] ?? (error instanceof Error ? error.message : String(error))
    return new WeirError('api.unreachable', `Cannot reach ${formatServerAddress(this.address)}: ${reason}`, {
      hint: /CERT|SSL|TLS|EPROTO/.test(code)
        ? UNTRUSTED
        : code === 'ECONNRESET' && !this.#isTls
          ? CUT
          : ABSENT,
      retryable: true,
      details: { reason: code },
      cause: error,
    })
  }

  async #send(call: Call): Promise<IncomingMessage> {
    const payload = call.body === undefined ? undefined : JSON.stringify(call.body)
    const options = await this.#requestOptions(call, payload)
    const start = await this.#starter()
    const attempt = (mayRetry: boolean): Promise<IncomingMessage> =>
      new Promise((resolve, reject) => {
        const request = start(options)
        boundConnecting(request, this.connectTimeoutMs)
        request.on('error', (error) => {
          // The server may close a kept connection just when it is used again.
          const isStale = request.reusedSocket && 'code' in error && error.code === 'ECONNRESET'
          if (isStale && mayRetry) resolve(attempt(false))
          else reject(error)
        })
        request.on('response', resolve)
        if (call.content === undefined) request.end(payload)
        // The request tells of its own errors; those of the stream end it.
        else pipeline(call.content.stream, request, () => undefined)
      })
    return attempt(call.method === 'GET')
  }

  async #requestOptions(call: Call, payload: string | undefined): Promise<RequestOptions> {
    const { address } = this
    this.#agent ??= await this.#newAgent()
    const { content } = call
    const body =
      content !== undefined
        ? { 'content-type': 'application/octet-stream', 'content-length': String(content.bytes) }
        : payload === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }
    return {
      method: call.method,
      path: call.path,
      headers: { accept: 'application/json', ...body, ...this.headers },
      agent: this.#agent,
      ...(address.kind === 'unix'
        ? { socketPath: address.socketPath }
        : { host: address.host, port: address.port, ...this.tls }),
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    }
  }

  async #newAgent(): Promise<HttpAgent> {
    const keep = { keepAlive: true, maxSockets: 32, maxFreeSockets: 4 }
    const pinned = this.#pinned
    if (pinned !== undefined) return new PinnedAgent(keep, pinned.target, pinned.fingerprint)
    if (!this.#isTls) return new HttpAgent(keep)
    const { Agent } = await import('node:https')
    return new Agent({ ...keep, ...this.tls })
  }

  async #starter(): Promise<(options: RequestOptions) => ClientRequest> {
    // A pinned connection is secure already when the request is written to it.
    return this.#isTls && this.#pinned === undefined ? (await import('node:https')).request : httpRequest
  }

  get #isTls(): boolean {
    return this.address.kind === 'tcp' && this.address.scheme === 'https'
  }

  get #pinned(): { target: PinnedTarget; fingerprint: string } | undefined {
    const { address } = this
    const fingerprint = this.#options.tls?.fingerprint
    if (!this.#isTls || address.kind !== 'tcp' || fingerprint === undefined) return undefined
    const { host, port } = address
    return { target: { host, port, timeoutMs: this.connectTimeoutMs }, fingerprint }
  }

  #tooSlow(timeoutMs: number, cause: unknown): WeirError {
    return new WeirError(
      'api.unreachable',
      `Cannot wait for ${formatServerAddress(this.address)}: no answer within ${timeoutMs} ms`,
      { hint: 'Look at the log of the server.', retryable: true, details: { reason: 'timeout' }, cause },
    )
  }
}

/** Only connecting is bounded here: an answer may rightly take longer. */
function boundConnecting(request: ClientRequest, timeoutMs: number): void {
  request.once('socket', (socket: Socket) => {
    if (!socket.connecting) return
    const timer = setTimeout(() => {
      request.destroy(Object.assign(new Error('connecting took too long'), { code: 'ETIMEDOUT' }))
    }, timeoutMs)
    const stop = (): void => clearTimeout(timer)
    socket.once('connect', stop)
    socket.once('close', stop)
  })
}

async function readAll(response: IncomingMessage, bytesMax: number, what: string): Promise<Buffer> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of response as AsyncIterable<Buffer>) {
    bytes += part.length
    if (bytes > bytesMax) {
      throw new WeirError('api.failed', `Cannot ${what}: the answer is larger than ${bytesMax} bytes`, {
        hint: 'Ask for less, for example with a limit.',
      })
    }
    parts.push(part)
  }
  return Buffer.concat(parts)
}

async function* splitLines(response: IncomingMessage): AsyncIterable<string> {
  response.setEncoding('utf8')
  let rest = ''
  for await (const part of response as AsyncIterable<string>) {
    const lines = (rest + part).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LINE_CHARACTERS_MAX) {
      throw new WeirError('api.failed', `Cannot read a line longer than ${LINE_CHARACTERS_MAX} characters`)
    }
    yield* lines.filter((line) => line !== '')
  }
  if (rest !== '') yield rest
}

const ABSENT = 'Start a server with `weir serve`, or say where it is with --api-host and --api-port.'
const CUT = 'If the server speaks TLS, say so: --api-host https://HOST. Otherwise look at its log.'
const UNTRUSTED =
  'Check that this is the right server, and that it speaks TLS. Accept its key with `weir auth login https://HOST:PORT --fingerprint SHA256:…`, or name the authority of its certificate in API.TLS.CAFile.'

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there',
  ENOENT: 'the socket does not exist',
  ENOTFOUND: 'the host name is unknown',
  EAI_AGAIN: 'the host name cannot be looked up now',
  ETIMEDOUT: 'connecting took too long',
  EHOSTUNREACH: 'there is no way to the host',
  ENETUNREACH: 'there is no way to the network',
  EACCES: 'the socket may not be used',
  ECONNRESET: 'the connection was cut',
}
