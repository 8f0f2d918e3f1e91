import { WeirError } from '../../errors.js'
import { ChunkedDecoder, ChunkedSyntaxError, encodeChunk, encodeLastChunk } from '../http/chunked.js'
import { trailersToForward } from '../http/forwarded-headers.js'
import type { ProxyRequest } from '../http/request.js'
import { SocketGone, type SocketReader } from './socket-stream.js'

/** Read ahead at most this much before the origin is contacted. */
const PREFETCH_BYTES_MAX = 64 * 1024

/** The body of one request, taken from the client's connection and framed anew for the origin. */
export class RequestBody {
  readonly #reader: SocketReader
  readonly #request: ProxyRequest
  readonly #decoder = new ChunkedDecoder()
  #left: number
  #complete: boolean
  #ready: Buffer[] = []

  constructor(reader: SocketReader, request: ProxyRequest) {
    this.#reader = reader
    this.#request = request
    const { body } = request
    this.#left = body.kind === 'length' ? body.bytes : 0
    this.#complete = body.kind === 'none' || (body.kind === 'length' && body.bytes === 0)
  }

  /** True when all of it was taken from the connection. */
  get complete(): boolean {
    return this.#complete
  }

  /**
   * Reads what there is of a chunked body, at least its first size, so that nonsense is seen before anybody is
   * contacted. A client that waits for `100 Continue` has sent nothing yet: then only what is there is read.
   */
  async prefetch(signal: AbortSignal): Promise<void> {
    if (this.#request.body.kind !== 'chunked') return
    let held = 0
    while (!this.#complete && held < PREFETCH_BYTES_MAX) {
      const mustWait = !this.#decoder.started && !this.#request.expectsContinue
      if (!this.#reader.hasBuffered && !mustWait) return
      held += await this.#pull(signal)
    }
  }

  /** The next framed bytes for the origin; undefined at the end. Rejects with `request.framing`. */
  async next(signal: AbortSignal): Promise<Buffer | undefined> {
    while (this.#ready.length === 0) {
      if (this.#complete) return undefined
      await this.#pull(signal)
    }
    const bytes = Buffer.concat(this.#ready)
    this.#ready = []
    return bytes
  }

  async #pull(signal: AbortSignal): Promise<number> {
    const bytes = await this.#reader.read(signal)
    if (bytes === undefined) throw new SocketGone('the client ended inside its body')
    if (this.#request.body.kind === 'chunked') this.#decode(bytes)
    else this.#take(bytes)
    return bytes.length
  }

  #take(bytes: Buffer): void {
    const part = bytes.subarray(0, this.#left)
    this.#left -= part.length
    this.#ready.push(part)
    if (this.#left > 0) return
    this.#complete = true
    this.#reader.unread(bytes.subarray(part.length))
  }

  #decode(bytes: Buffer): void {
    try {
      const piece = this.#decoder.decode(bytes)
      for (const data of piece.data) this.#ready.push(...encodeChunk(data))
      if (piece.trailers === undefined) return
      this.#ready.push(encodeLastChunk(trailersToForward(piece.trailers)))
      this.#complete = true
      this.#reader.unread(piece.rest ?? Buffer.alloc(0))
    } catch (error) {
      if (!(error instanceof ChunkedSyntaxError)) throw error
      throw new WeirError('request.framing', error.message, { cause: error })
    }
  }
}
