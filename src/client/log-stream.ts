import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import type { ClientOptions, RawData, WebSocket } from 'ws'
import { ERROR_CODES, WeirError, type ErrorCode } from '../errors.js'
import type { HttpConnection } from './http.js'
import type { LogChunk } from './wire.js'

/** Characters of frames that may wait for the reader before the connection is paused. */
const WAITING_MAX = 1024 * 1024

/**
 * The output of a job as it comes. Ends when the server says so; leaving the loop closes the connection. Rejects with
 * the server's error, `api.unreachable`, `api.failed` when the stream breaks off, or the signal's reason.
 */
export async function* readLogStream(
  connection: HttpConnection,
  path: string,
  signal: AbortSignal | undefined,
): AsyncIterable<LogChunk> {
  signal?.throwIfAborted()
  const socket = await openSocket(connection, path)
  const frames = new FrameQueue(socket, connection, signal)
  try {
    for (;;) {
      const text = await frames.next()
      if (text === undefined) return
      yield readFrame(text)
    }
  } finally {
    frames.stop()
  }
}

/** Frames between the socket and the reader; a reader that is slow makes the socket wait. */
class FrameQueue {
  readonly #socket: WebSocket
  readonly #signal: AbortSignal | undefined
  readonly #waiting: string[] = []
  #waitingCharacters = 0
  #end: { error?: unknown } | undefined
  #wake: () => void = () => {}

  constructor(socket: WebSocket, connection: HttpConnection, signal: AbortSignal | undefined) {
    this.#socket = socket
    this.#signal = signal
    socket.on('message', (data: RawData) => {
      const text = textOf(data)
      this.#waiting.push(text)
      this.#waitingCharacters += text.length
      if (this.#waitingCharacters >= WAITING_MAX) socket.pause()
      this.#wake()
    })
    socket.on('unexpected-response', (_request, response) => {
      readRefusal(response, connection).then(
        (error) => this.#finish({ error }),
        (error: unknown) => this.#finish({ error }),
      )
    })
    socket.on('error', (error) => this.#finish({ error: connection.explain(error, signal) }))
    socket.on('close', (code) => this.#finish(code === 1000 ? {} : { error: brokenOff(code) }))
    signal?.addEventListener('abort', this.#abort, { once: true })
  }

  /** Undefined at the end. */
  async next(): Promise<string | undefined> {
    for (;;) {
      this.#signal?.throwIfAborted()
      const text = this.#waiting.shift()
      if (text !== undefined) {
        this.#waitingCharacters -= text.length
        if (this.#waitingCharacters < WAITING_MAX / 2 && this.#socket.isPaused) this.#socket.resume()
        return text
      }
      if (this.#end !== undefined) {
        if ('error' in this.#end) throw this.#end.error
        return undefined
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  stop(): void {
    this.#signal?.removeEventListener('abort', this.#abort)
    this.#socket.terminate()
  }

  readonly #abort = (): void => this.#finish({ error: this.#signal?.reason })

  /** The first end counts. */
  #finish(end: { error?: unknown }): void {
    this.#end ??= end
    this.#wake()
  }
}

async function openSocket(connection: HttpConnection, path: string): Promise<WebSocket> {
  // Here and not above: most commands need no websocket.
  const { WebSocket: Socket } = await import('ws')
  const { address } = connection
  const options: ClientOptions = {
    headers: connection.headers,
    handshakeTimeout: connection.connectTimeoutMs,
    maxPayload: 8 * 1024 * 1024,
    perMessageDeflate: false,
    ...connection.tls,
  }
  if (address.kind === 'unix') {
    const overSocket = { ...options, createConnection: () => connect(address.socketPath) }
    return new Socket(`ws://localhost${path}`, overSocket)
  }
  const pinned = await connection.connectPinned()
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  if (pinned !== undefined)
    return new Socket(`ws://${host}:${address.port}${path}`, { ...options, createConnection: () => pinned })
  const scheme = address.scheme === 'https' ? 'wss' : 'ws'
  return new Socket(`${scheme}://${host}:${address.port}${path}`, options)
}

function readFrame(text: string): LogChunk {
  const frame = parseFrame(text)
  if (frame.error !== undefined && frame.error !== '') {
    const isKnown = frame.code !== undefined && Object.hasOwn(ERROR_CODES, frame.code)
    // What stands before it is for clients that know no codes.
    const message = isKnown
      ? frame.error.replace(/^failed to open log stream for job \S+: /, '')
      : frame.error
    throw new WeirError(isKnown ? (frame.code as ErrorCode) : 'api.failed', message, { hint: frame.hint })
  }
  const value = frame.value ?? {}
  return {
    stream: value.Type === 2 ? 'stderr' : 'stdout',
    data: Buffer.from(value.Data ?? value.Line ?? '', value.Data === undefined ? 'utf8' : 'base64'),
    executionId: value.ExecutionID ?? '',
    time: value.Time ?? '',
    ...(frame.notice === undefined ? {} : { notice: frame.notice }),
  }
}

interface Frame {
  error?: string
  code?: string
  hint?: string
  notice?: string
  value?: { Type?: number; Line?: string; Data?: string; ExecutionID?: string; Time?: string }
}

function parseFrame(text: string): Frame {
  try {
    return JSON.parse(text) as Frame
  } catch (error) {
    throw new WeirError('api.failed', 'Cannot read the log stream: a frame is not JSON', { cause: error })
  }
}

function textOf(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString('utf8')
  return Buffer.isBuffer(data) ? data.toString('utf8') : Buffer.from(data).toString('utf8')
}

async function readRefusal(response: IncomingMessage, connection: HttpConnection): Promise<WeirError> {
  let text = ''
  response.setEncoding('utf8')
  for await (const part of response as AsyncIterable<string>) text = (text + part).slice(0, 65_536)
  return connection.refusal(response.statusCode ?? 0, text, 'open the log stream')
}

function brokenOff(code: number): WeirError {
  const reason = code === 1001 ? 'the server is shutting down' : 'the server closed the connection'
  return new WeirError('api.failed', `Cannot read the log stream to its end: ${reason}`, {
    hint: 'Read the output again with `weir job logs`.',
    retryable: true,
    details: { closeCode: code },
  })
}
