import type { Socket } from 'node:net'
import { isWeirError, WeirError } from '../../errors.js'
import type { EgressEnd } from '../../model/index.js'
import { ChunkedDecoder, ChunkedSyntaxError, encodeChunk, encodeLastChunk } from '../http/chunked.js'
import { RESPONSE_HEAD_LIMITS } from '../http/head.js'
import {
  hasOurVia,
  requestHeadForOrigin,
  responseHeadForClient,
  trailersToForward,
} from '../http/forwarded-headers.js'
import type { Resolution } from '../dns/resolver.js'
import type { ProxyRequest } from '../http/request.js'
import { acceptsWebSocket, keepsConnection, type OriginResponse, readResponse } from '../http/response.js'
import type { Attempt } from './attempt.js'
import { closeAfter, endOf } from './closing.js'
import type { ClientConnection } from './connection.js'
import { hostContradictionOf } from './contradiction.js'
import { ORIGIN_ALPN } from './origin-tls.js'
import { KEPT_MS, type OriginConnection } from './origin-pool.js'
import { relay } from './relay.js'
import { BodyPace } from './body-pace.js'
import { RequestBody } from './request-body.js'
import { SocketGone, SocketReader, writeMetered } from './socket-stream.js'

/**
 * Forwards one plain HTTP request over a connection of its own: client → judge → origin → client. Resolves with true
 * when the client's connection can carry another request. Records exactly once.
 */
export async function forwardPlain(client: ClientConnection, request: ProxyRequest): Promise<boolean> {
  const attempt = client.attempt(request)
  const exchange = new Exchange(client, request, attempt)
  try {
    return await exchange.run()
  } catch (error) {
    await exchange.failed(error)
    return false
  } finally {
    exchange.close()
  }
}

/** The origin stopped reading: not the client's fault, and not yet a failure. */
class OriginDeaf extends Error {
  override readonly name = 'OriginDeaf'
}

/** The origin closed the connection before the head of its answer was complete. */
class NoAnswer extends WeirError {
  constructor() {
    super('egress.upstream_failed', 'the host closed the connection before it answered')
  }
}

/** Copied behind the head rather than written by themselves. */
const SHORT_BYTES = 16 * 1024

const NOTHING = Buffer.alloc(0)

/**
 * Only what repeats without harm and has no body: an origin that overlooks a body would take it for the next request. Not
 * where connections to a host are counted, and not for a client that says it asks only once; a sandbox says so of its stream,
 * which costs it nothing.
 */
function persists({ method, body, keepAlive }: ProxyRequest, { lease, isGuest }: ClientConnection): boolean {
  const isPlain = (method === 'GET' || method === 'HEAD') && body.kind === 'none'
  return isPlain && (keepAlive || isGuest) && lease.limits.hostConnectionsMax === 0
}

const LINE_END = Buffer.from('\n')

/** Interim answers an origin may give before the real one. */
const INTERIM_MAX = 16

class Exchange {
  readonly #client: ClientConnection
  readonly #request: ProxyRequest
  readonly #attempt: Attempt
  readonly #body: RequestBody
  /** The connection may serve another request of this execution afterwards, if the origin agrees. */
  readonly #persists: boolean
  #origin: Socket | undefined
  #reader: SocketReader | undefined
  #kept: OriginConnection | undefined
  #originKeeps = false
  /** A byte of its answer came. */
  #originSpoke = false
  #status = 0
  #answerBegan = false

  constructor(client: ClientConnection, request: ProxyRequest, attempt: Attempt) {
    this.#client = client
    this.#request = request
    this.#attempt = attempt
    this.#body = new RequestBody(client.reader, request)
    this.#persists = persists(request, client)
  }

  async run(): Promise<boolean> {
    const client = this.#client
    if (hasOurVia(this.#request.headers)) {
      await client.refuse(this.#attempt, {
        status: 403,
        code: 'egress.self',
        owner: 'gateway',
        text: 'the request went through a gateway of this kind already',
      })
      return false
    }
    const found = await client.locate(this.#attempt, hostContradictionOf(this.#request))
    if (found === undefined) return false
    if (this.#request.method === 'OPTIONS' && this.#request.maxForwards === 0)
      return await this.#answerOptions()
    await this.#readFirstOfBody()
    const origin = await this.#connect(found)
    try {
      return await this.#exchange(origin)
    } catch (error) {
      const { request } = this.#attempt
      if (request === undefined || !this.#mayRepeat(error)) throw error
      origin.destroy()
      return await this.#exchange(
        this.#use(await client.connectAnew(this.#attempt, request, found, this.#secured)),
      )
    }
  }

  /**
   * Servers close connections that nobody uses whenever they like: a request that meets one which ends without a byte of the
   * answer goes out once more, on a connection of its own (RFC 9110 §9.2.2).
   */
  #mayRepeat(error: unknown): boolean {
    const isClosed = error instanceof SocketGone || error instanceof NoAnswer
    const { signal, socket } = this.#client
    const isAwaited = !signal.aborted && !socket.destroyed
    return isClosed && isAwaited && this.#kept?.isReused === true && !this.#originSpoke
  }

  #use(connection: OriginConnection): Socket {
    this.#kept = connection
    this.#reader = connection.reader
    this.#origin = connection.socket
    return connection.socket
  }

  async #connect(found: Resolution): Promise<Socket> {
    const client = this.#client
    const { kind, host } = this.#request
    const { request } = this.#attempt
    if (kind === 'https') {
      if (host.kind === 'name') this.#attempt.sni = host.text
      this.#attempt.alpn = ORIGIN_ALPN
    }
    if (this.#persists && request !== undefined)
      return this.#use(await client.connectOrReuse(this.#attempt, request, found, this.#secured))
    return await this.#secured(await client.connect(this.#attempt, found))
  }

  /** For `https`, which only a sandbox asks for, with TLS of our own. */
  readonly #secured = async (socket: Socket): Promise<Socket> => {
    const client = this.#client
    this.#origin = socket
    socket.on('error', () => {})
    const { request } = this.#attempt
    const { startTls } = client.parts
    if (request?.kind !== 'https' || startTls === undefined) return socket
    const session = client.lease.origins.session(request)
    const disarm = client.deadline(client.lease.limits.helloTimeoutMs, TLS_TIMEOUT)
    try {
      const secure = await startTls(socket, request.host, session, client.signal)
      this.#origin = secure
      secure.on('error', () => {})
      return secure
    } finally {
      disarm()
    }
  }

  /** A body that is malformed in its first bytes is refused before anybody is contacted. */
  async #readFirstOfBody(): Promise<void> {
    if (this.#request.body.kind !== 'chunked') return
    const disarm = this.#client.deadline(this.#client.lease.limits.headTimeoutMs, BODY_TIMEOUT)
    try {
      await this.#body.prefetch(this.#client.signal)
    } finally {
      disarm()
    }
  }

  async #exchange(origin: Socket): Promise<boolean> {
    const { signal, active } = this.#client
    const up = async (bytes: Buffer) => {
      await writeMetered(origin, bytes, this.#attempt.up, signal)
      active()
    }
    await up(Buffer.from(requestHeadForOrigin(this.#request, this.#persists), 'latin1'))
    // An origin may answer and close without reading the body: then its answer counts, not the failed upload.
    const uploaded = this.#sendBody(up).catch(() => {})
    const keep = await this.#relayAnswer(this.#reader ?? new SocketReader(origin))
    const keepOpen = keep && this.#keepsOpen
    if (keepOpen) await uploaded
    if ((keepOpen || this.#client.isGuest) && this.#originKeeps && this.#kept !== undefined) {
      this.#origin = undefined
      this.#client.lease.origins.keep(this.#kept)
    } else {
      origin.destroy()
    }
    await this.#attempt.end({ code: '', status: this.#status, end: 'origin' })
    if (!keepOpen) closeAfter(this.#client.socket, Buffer.alloc(0))
    return keepOpen
  }

  async #sendBody(up: (bytes: Buffer) => Promise<void>): Promise<void> {
    const pace = new BodyPace(this.#client.lease.limits)
    try {
      for (;;) {
        const piece = await this.#nextOfBody(pace)
        if (piece === undefined) return
        await up(piece).catch((error: unknown) => {
          if (isWeirError(error)) throw error
          throw new OriginDeaf('the host does not read the body', { cause: error })
        })
      }
    } catch (error) {
      // What the client did wrong ends the exchange; what the origin did is told by its answer.
      if (!(error instanceof OriginDeaf)) this.#client.cut(error as Error)
      throw error
    }
  }

  /** A client that sends too slowly is cut, unless the answer has begun: then it may be talking with the host. */
  async #nextOfBody(pace: BodyPace): Promise<Buffer | undefined> {
    const client = this.#client
    const timer = setTimeout(() => {
      if (!this.#answerBegan) client.cut(BODY_TIMEOUT)
    }, pace.patienceMs)
    const startedAt = performance.now()
    try {
      const piece = await this.#body.next(client.signal)
      pace.waited(performance.now() - startedAt, piece?.length ?? 0)
      return piece
    } finally {
      clearTimeout(timer)
    }
  }

  /** Reads interim answers and the final one, and relays them. True when the client's connection can go on. */
  async #relayAnswer(reader: SocketReader): Promise<boolean> {
    let received = Buffer.alloc(0)
    let newest: Buffer = LINE_END
    for (let interim = 0; interim <= INTERIM_MAX; ) {
      const worthwhile = newest.includes(LINE_END) || received.length > RESPONSE_HEAD_LIMITS.headBytesMax
      const reading = worthwhile ? readResponse(received, this.#request.method) : ({ state: 'more' } as const)
      if (reading.state === 'bad') throw badAnswer(reading.reason)
      if (reading.state === 'more') {
        const bytes = await this.#readOrigin(reader)
        if (bytes === undefined) throw new NoAnswer()
        received = Buffer.concat([received, bytes])
        newest = bytes
        continue
      }
      const { response, consumed } = reading
      received = received.subarray(consumed)
      newest = LINE_END
      if (response.status === 101) return await this.#relayUpgrade(reader, response, received)
      if (response.status >= 200) return await this.#relayFinal(reader, response, received)
      interim++
      // HTTP/1.0 clients do not know interim answers (RFC 9110 §15.2).
      if (this.#request.minor === 1) await this.#down(responseHeadForClient(response, 'none', true))
    }
    throw badAnswer('the host sends interim answers without end')
  }

  async #relayFinal(reader: SocketReader, response: OriginResponse, first: Buffer): Promise<boolean> {
    if (response.status === 407) throw badAnswer('the host answers as if it were a proxy (407)')
    this.#status = response.status
    this.#originKeeps = this.#persists && keepsConnection(response, KEPT_MS)
    const { body } = response
    if (body.kind === 'chunked') return await this.#relayChunked(reader, response, first)
    if (body.kind === 'close') {
      await this.#begin(responseHeadForClient(response, 'close', false))
      await this.#pass(reader, first, Number.POSITIVE_INFINITY)
      return false
    }
    const bytes = body.kind === 'length' ? body.bytes : 0
    if (first.length > bytes) throw badAnswer('the host sent more than one answer')
    const announced = body.kind === 'length' ? bytes : response.announcedLength
    const head = responseHeadForClient(response, announced ?? 'none', this.#keepsOpen)
    // Most answers are short: they go out in one piece.
    const isShort = first.length <= SHORT_BYTES
    await this.#begin(head, isShort ? first : undefined)
    if (!isShort || first.length < bytes)
      await this.#pass(reader, isShort ? NOTHING : first, isShort ? bytes - first.length : bytes)
    return this.#keepsOpen
  }

  async #relayChunked(reader: SocketReader, response: OriginResponse, first: Buffer): Promise<boolean> {
    const decoder = new ChunkedDecoder()
    const old = this.#request.minor === 0
    let piece = decodeAnswer(decoder, first)
    if (piece.rest !== undefined && piece.rest.length > 0)
      throw badAnswer('the host sent more than one answer')
    await this.#begin(responseHeadForClient(response, old ? 'close' : 'chunked', this.#keepsOpen && !old))
    for (;;) {
      for (const data of piece.data)
        for (const bytes of old ? [data] : encodeChunk(data)) await this.#down(bytes)
      if (piece.trailers !== undefined) break
      const bytes = await this.#readOrigin(reader)
      if (bytes === undefined) throw new SocketGone('the host closed the connection inside its answer')
      piece = decodeAnswer(decoder, bytes)
    }
    if (piece.rest !== undefined && piece.rest.length > 0) this.#originKeeps = false
    if (!old) await this.#down(encodeLastChunk(trailersToForward(piece.trailers)))
    return this.#keepsOpen && !old
  }

  async #relayUpgrade(reader: SocketReader, response: OriginResponse, rest: Buffer): Promise<boolean> {
    if (!this.#request.upgradesToWebSocket || !acceptsWebSocket(response))
      throw badAnswer('the host switches protocols without being asked')
    this.#status = 101
    await this.#begin(responseHeadForClient(response, 'none', true))
    reader.unread(rest)
    if (this.#origin !== undefined) await relay(this.#client, this.#attempt, this.#origin, reader.detach())
    return false
  }

  /** Passes exactly `left` bytes on, or everything until the end. */
  async #pass(reader: SocketReader, first: Buffer, left: number): Promise<void> {
    let bytes: Buffer | undefined = first
    let missing = left
    for (;;) {
      const part: Buffer = bytes.subarray(0, Math.min(bytes.length, missing))
      missing -= part.length
      await this.#down(part)
      if (part.length < bytes.length) this.#originKeeps = false
      if (missing === 0) return
      bytes = await this.#readOrigin(reader)
      if (bytes === undefined) {
        if (missing === Number.POSITIVE_INFINITY) return
        throw new SocketGone('the host closed the connection inside its answer')
      }
    }
  }

  async #readOrigin(reader: SocketReader): Promise<Buffer | undefined> {
    const bytes = await reader.read(this.#client.signal)
    this.#client.active()
    if (bytes === undefined) return undefined
    this.#originSpoke = true
    this.#attempt.originAnswered()
    return bytes
  }

  async #begin(head: string, first: Buffer = NOTHING): Promise<void> {
    this.#answerBegan = true
    await this.#down(first.length === 0 ? head : Buffer.concat([Buffer.from(head, 'latin1'), first]))
  }

  async #down(bytes: Buffer | string): Promise<void> {
    const { socket, signal } = this.#client
    const data = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes
    await writeMetered(socket, data, this.#attempt.down, signal)
  }

  get #keepsOpen(): boolean {
    return this.#request.keepAlive && this.#body.complete
  }

  /** RFC 9110 §7.6.2: the last recipient answers itself. */
  async #answerOptions(): Promise<boolean> {
    this.#status = 200
    await this.#attempt.end({ code: '', status: 200, end: 'client' })
    await this.#down('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
    closeAfter(this.#client.socket, Buffer.alloc(0))
    return false
  }

  /** Before the answer began the client is told; afterwards its connection is cut, so that it sees the damage. */
  async failed(error: unknown): Promise<void> {
    if (this.#attempt.ended) {
      this.#client.socket.destroy()
      return
    }
    const { signal, socket } = this.#client
    const cause: unknown = signal.aborted ? signal.reason : error
    if (!this.#answerBegan) return await this.#client.fail(this.#attempt, cause)
    const end: EgressEnd =
      cause instanceof SocketGone ? (socket.destroyed ? 'client' : 'origin') : endOf(cause)
    const code = cause instanceof WeirError ? cause.code : socket.destroyed ? '' : 'egress.upstream_failed'
    await this.#attempt.end({ code: code === 'egress.unavailable' ? '' : code, status: this.#status, end })
    socket.destroy()
  }

  close(): void {
    this.#origin?.destroy()
  }
}

function decodeAnswer(decoder: ChunkedDecoder, bytes: Buffer): ReturnType<ChunkedDecoder['decode']> {
  try {
    return decoder.decode(bytes)
  } catch (error) {
    if (error instanceof ChunkedSyntaxError) throw badAnswer(error.message)
    throw error
  }
}

function badAnswer(reason: string): WeirError {
  return new WeirError('egress.upstream_failed', reason)
}

const TLS_TIMEOUT = new WeirError('egress.timeout', 'The host did not complete the TLS handshake in time')
const BODY_TIMEOUT = new WeirError('request.timeout', 'The request body did not arrive in time')
