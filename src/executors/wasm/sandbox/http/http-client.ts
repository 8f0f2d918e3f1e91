import { ChannelGone, type GatewayChannel, type GatewayStream } from './channel.js'
import { HttpFailure } from './http-failure.js'
import { requestHead } from './request-head.js'
import { type ResponseHead, ResponseReader } from './response-reader.js'

/** Requests that one program may have open; others must be closed first. */
export const REQUESTS_MAX = 64

export interface OutgoingRequest {
  readonly method: string
  /** `http://…` or `https://…`. The gateway is the one that reads and judges it. */
  readonly url: string
  /** Pairs of name and value, one character per byte. Not those that frame or route the message: they are written for the program. */
  readonly headers: readonly (readonly [string, string])[]
  /** How much body follows: so many bytes, none, or as many as come until `finish`. */
  readonly body: number | 'none' | 'streamed'
}

/**
 * HTTP for a program in the sandbox, which has no socket: each request is a conversation with the egress gateway, which
 * judges it, connects to the host (for `https` with TLS of its own) and hands the answer back. Every call blocks, and
 * throws only {@link HttpFailure}. A refusal is an answer: status 403 (or 400, 405, 429, 502 …) with a `Weir-Egress-Code` header.
 * Redirects are answers as well, and nobody follows them.
 */
export class HttpClient {
  readonly #channel: GatewayChannel | undefined

  /** Without a channel every request fails with `denied`. */
  constructor(channel: GatewayChannel | undefined) {
    this.#channel = channel
  }

  get hasNetwork(): boolean {
    return this.#channel !== undefined
  }

  /** Sends the head of a request. @throws HttpFailure `denied`, `unavailable`, `invalid`, `too_large`, `too_many`. */
  open(request: OutgoingRequest): HttpExchange {
    if (this.#channel === undefined) throw new HttpFailure('denied')
    const head = requestHead(request)
    if (this.#channel.openStreams >= REQUESTS_MAX) throw new HttpFailure('too_many')
    const channel = this.#channel
    return translated(() => {
      const stream = channel.open()
      stream.write(head)
      return new HttpExchange(stream, request)
    })
  }

  /**
   * Blocks until `isReady` of one of them, for at most `timeoutMs` (absent: for ever). False when the time is over first. May be
   * called without any exchange, only to wait. @throws HttpFailure `denied`, `unavailable`.
   */
  wait(exchanges: readonly HttpExchange[], timeoutMs?: number): boolean {
    return this.waitUntil(() => exchanges.some((one) => one.isReady), timeoutMs)
  }

  /** The same for anything that changes when the gateway says something. */
  waitUntil(holds: () => boolean, timeoutMs?: number): boolean {
    const channel = this.#channel
    if (channel === undefined) throw new HttpFailure('denied')
    return translated(() => {
      if (timeoutMs !== undefined) return channel.waitAtMost(Math.min(timeoutMs, WAIT_MS_MAX), holds)
      channel.waitUntil(holds)
      return true
    })
  }
}

/** The longest wait with a bound; whoever waits longer asks again. */
export const WAIT_MS_MAX = 0xff_ffff

/** One request and its response. */
export class HttpExchange {
  readonly #stream: GatewayStream
  readonly #response: ResponseReader
  readonly #isChunked: boolean
  /** What is still to be written of a body whose length was announced. */
  #left: number
  #isFinished: boolean
  #isOver = false

  constructor(stream: GatewayStream, { method, body }: OutgoingRequest) {
    this.#stream = stream
    this.#response = new ResponseReader(stream, method)
    this.#isChunked = body === 'streamed'
    this.#left = typeof body === 'number' ? body : 0
    this.#isFinished = body === 'none' || body === 0
  }

  /** Bytes of body that `write` takes without blocking; 0 also when no more is read. */
  get writableBytes(): number {
    return Math.max(0, this.#stream.maySend - CHUNK_OVERHEAD)
  }

  /** True when no more of the body is read; there may be a response all the same. */
  get isCut(): boolean {
    return this.#stream.isClosed
  }

  /** True once it was noticed that the gateway is gone. */
  get isLost(): boolean {
    return this.#stream.isLost
  }

  /** True when something of the response can be taken without blocking, or nothing ever. */
  get isReady(): boolean {
    return this.#isOver || this.#stream.isReadable
  }

  /** Sends a piece of the body. @throws HttpFailure `order`, `cut` (there may be a response all the same), `unavailable`. */
  write(bytes: Uint8Array): void {
    if (this.#isFinished || (!this.#isChunked && bytes.length > this.#left)) throw new HttpFailure('order')
    if (bytes.length === 0) return
    this.#send(this.#isChunked ? chunk(bytes) : bytes)
    if (!this.#isChunked) this.#left -= bytes.length
  }

  /** Says that the body is complete. @throws HttpFailure `order` when less was written than announced, `cut`, `unavailable`. */
  finish(): void {
    if (this.#isFinished) return
    if (this.#left > 0) throw new HttpFailure('order')
    this.#isFinished = true
    if (this.#isChunked) this.#send('0\r\n\r\n')
  }

  /** The head of the final response, as often as one likes. @throws HttpFailure `cut`, `unavailable`. */
  head(): ResponseHead {
    if (this.#isOver) throw new HttpFailure('cut')
    return translated(() => this.#response.head())
  }

  /** The next bytes of the response's body, at most `most`; undefined at its end. @throws HttpFailure `cut`, `unavailable`. */
  read(most: number): Uint8Array | undefined {
    if (this.#isOver) throw new HttpFailure('cut')
    return translated(() => this.#response.read(most))
  }

  /** Trailers, once the body was read to its end. */
  get trailers(): ResponseHead['headers'] {
    return this.#response.trailers
  }

  /** Lets go of it, at any time: what is under way is given up. Never throws. */
  close(): void {
    this.#isOver = true
    this.#stream.close(this.#isFinished && this.#response.hasEnded)
  }

  #send(bytes: Uint8Array | string): void {
    const data = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes
    if (!translated(() => this.#stream.write(data))) throw new HttpFailure('cut')
  }
}

/** Size, line ends. */
const CHUNK_OVERHEAD = 16

/** In one piece. */
function chunk(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, CHUNK_END])
}

const CHUNK_END = Buffer.from('\r\n')

function translated<T>(act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw error instanceof ChannelGone ? new HttpFailure('unavailable') : error
  }
}
