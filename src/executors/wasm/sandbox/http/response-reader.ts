import type { GatewayStream } from './channel.js'
import { HttpFailure } from './http-failure.js'

export interface ResponseHead {
  readonly status: number
  /** Pairs of name and value in the order in which they came, one character per byte. */
  readonly headers: readonly (readonly [string, string])[]
}

/** More than the gateway lets through. */
const LINE_BYTES_MAX = 40 * 1024
const HEAD_BYTES_MAX = 80 * 1024
const PIECE_BYTES = 64 * 1024

/**
 * Reads the answer in a stream. It comes from the gateway, which has judged its framing: what does not fit is damage, and
 * told as `cut`.
 */
export class ResponseReader {
  readonly #stream: GatewayStream
  readonly #method: string
  #head: ResponseHead | undefined
  /** Bytes that are left of the body, or of the chunk; infinite until the end of the stream. */
  #left = 0
  #isChunked = false
  /** A chunk was read: its line end follows. */
  #insideChunks = false
  #hasEnded = false
  #trailers: ResponseHead['headers'] = []

  constructor(stream: GatewayStream, method: string) {
    this.#stream = stream
    this.#method = method
  }

  get trailers(): ResponseHead['headers'] {
    return this.#trailers
  }

  /** True when all of it was read. */
  get hasEnded(): boolean {
    return this.#hasEnded || (this.#head !== undefined && this.#left === 0 && !this.#isChunked)
  }

  head(): ResponseHead {
    while (this.#head === undefined) {
      const head = this.#readHead()
      // Interim answers are for whoever waits for a leave to send, and nobody does.
      if (head.status >= 200) this.#begin(head)
    }
    return this.#head
  }

  read(most: number): Uint8Array | undefined {
    this.head()
    if (this.#isChunked && this.#left === 0 && !this.#hasEnded) this.#nextChunk()
    if (this.#left === 0) this.#hasEnded = true
    if (this.#hasEnded) return undefined
    const bytes = this.#stream.read(Math.min(most, this.#left))
    if (bytes !== undefined) {
      this.#left -= bytes.length
      return bytes
    }
    if (this.#left !== Number.POSITIVE_INFINITY) throw new HttpFailure('cut')
    this.#hasEnded = true
    return undefined
  }

  #begin(head: ResponseHead): void {
    this.#head = head
    const value = (name: string) => head.headers.find(([one]) => one.toLowerCase() === name)?.[1]
    const length = value('content-length')
    if (this.#method === 'HEAD' || head.status === 204 || head.status === 304) return
    this.#isChunked = value('transfer-encoding') !== undefined
    if (!this.#isChunked) this.#left = length === undefined ? Number.POSITIVE_INFINITY : Number(length)
  }

  #readHead(): ResponseHead {
    const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(this.#line())?.[1]
    if (status === undefined) throw new HttpFailure('cut')
    return { status: Number(status), headers: this.#headerLines() }
  }

  #headerLines(): [string, string][] {
    const headers: [string, string][] = []
    for (let bytes = 0, line = this.#line(); line !== ''; line = this.#line()) {
      bytes += line.length
      const colon = line.indexOf(':')
      if (colon < 1 || bytes > HEAD_BYTES_MAX) throw new HttpFailure('cut')
      headers.push([line.slice(0, colon), line.slice(colon + 1).trim()])
    }
    return headers
  }

  #nextChunk(): void {
    if (this.#insideChunks && this.#line() !== '') throw new HttpFailure('cut')
    const size = /^([0-9a-f]{1,8})$/i.exec(this.#line())?.[1]
    if (size === undefined) throw new HttpFailure('cut')
    this.#insideChunks = true
    this.#left = Number.parseInt(size, 16)
    if (this.#left === 0) this.#trailers = this.#headerLines()
  }

  /** Without its line end. */
  #line(): string {
    let line = ''
    for (;;) {
      const bytes = this.#stream.read(PIECE_BYTES)
      if (bytes === undefined) throw new HttpFailure('cut')
      const end = bytes.indexOf(10)
      const part = end < 0 ? bytes : bytes.subarray(0, end + 1)
      line += Buffer.from(part.buffer, part.byteOffset, part.length).toString('latin1')
      if (line.length > LINE_BYTES_MAX) throw new HttpFailure('cut')
      if (end < 0) continue
      this.#stream.unread(bytes.subarray(end + 1))
      return line.replace(/\r?\n$/, '')
    }
  }
}
