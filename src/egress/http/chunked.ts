import { type HeaderLine, readHeaderLine } from './head.js'

/** What one call of {@link ChunkedDecoder.decode} found. */
export interface ChunkedPiece {
  /** Body bytes, without their framing. */
  data: Buffer[]
  /** Set when the body is complete: what follows it in the input, untouched. */
  rest?: Buffer
  /** Set when the body is complete. */
  trailers?: HeaderLine[]
}

/** Raised for a body that is not chunked strictly. */
export class ChunkedSyntaxError extends Error {
  override readonly name = 'ChunkedSyntaxError'
}

/**
 * Decodes a chunked body (RFC 9112 §7.1) strictly: sizes of 1 to 8 hexadecimal digits, lines end in CR LF, extensions
 * are short, printable and dropped, trailers are bounded. Throws {@link ChunkedSyntaxError}; use one per body.
 */
export class ChunkedDecoder {
  #state: 'size' | 'data' | 'data-end' | 'trailers' | 'done' = 'size'
  #line = ''
  #left = 0
  #trailerBytes = 0
  readonly #trailers: HeaderLine[] = []

  /** True once a chunk size was read: the body is well-formed so far. */
  get started(): boolean {
    return this.#state !== 'size' || this.#seenChunk
  }
  #seenChunk = false

  decode(input: Buffer): ChunkedPiece {
    const piece: ChunkedPiece = { data: [] }
    let at = 0
    while (at < input.length && this.#state !== 'done') {
      if (this.#state === 'data') {
        const end = Math.min(input.length, at + this.#left)
        piece.data.push(input.subarray(at, end))
        this.#left -= end - at
        at = end
        if (this.#left === 0) this.#state = 'data-end'
      } else {
        at = this.#readLine(input, at)
      }
    }
    if (this.#state === 'done') {
      piece.rest = input.subarray(at)
      piece.trailers = this.#trailers
    }
    return piece
  }

  /** Takes bytes of the current line; a line without its LF stays in `#line` until more comes. */
  #readLine(input: Buffer, from: number): number {
    const lf = input.indexOf(10, from)
    const end = lf < 0 ? input.length : lf + 1
    this.#line += input.toString('latin1', from, end)
    const limit = this.#state === 'trailers' ? 8192 : 300
    if (this.#line.length > limit) throw new ChunkedSyntaxError('a line of the chunked body is too long')
    if (lf >= 0) {
      if (!this.#line.endsWith('\r\n'))
        throw new ChunkedSyntaxError('a line of the chunked body ends without CR')
      const line = this.#line.slice(0, -2)
      this.#line = ''
      this.#takeLine(line)
    } else if (this.#state !== 'trailers') {
      this.#checkUnfinished()
    }
    return end
  }

  /** A malformed size is refused before its line ends: nobody should wait for more of it. */
  #checkUnfinished(): void {
    const legal = this.#state === 'data-end' ? /^\r?$/ : /^[0-9a-fA-F]{0,8}(?:\r|;[\t\x20-\x7e]*\r?)?$/
    if (!legal.test(this.#line)) throw new ChunkedSyntaxError('a chunk is malformed')
  }

  #takeLine(line: string): void {
    if (this.#state === 'data-end') {
      if (line !== '') throw new ChunkedSyntaxError('a chunk is longer than its size')
      this.#state = 'size'
    } else if (this.#state === 'size') {
      const size = /^([0-9a-fA-F]{1,8})(?:;[\t\x20-\x7e]*)?$/.exec(line)
      if (size === null) throw new ChunkedSyntaxError('a chunk size is malformed')
      this.#seenChunk = true
      this.#left = Number.parseInt(size[1] ?? '', 16)
      this.#state = this.#left === 0 ? 'trailers' : 'data'
    } else {
      this.#takeTrailer(line)
    }
  }

  #takeTrailer(line: string): void {
    if (line === '') {
      this.#state = 'done'
      return
    }
    this.#trailerBytes += line.length
    const trailer = readHeaderLine(line)
    if (trailer === undefined || this.#trailerBytes > 16_384 || this.#trailers.length >= 100)
      throw new ChunkedSyntaxError('a trailer is malformed or too large')
    this.#trailers.push(trailer)
  }
}

/** One chunk with its framing. Empty data gives nothing, since an empty chunk would end the body. */
export function encodeChunk(data: Buffer): Buffer[] {
  return data.length === 0 ? [] : [Buffer.from(`${data.length.toString(16)}\r\n`), data, CRLF]
}

/** The end of a chunked body. */
export function encodeLastChunk(trailers: readonly string[]): Buffer {
  return Buffer.from(`0\r\n${trailers.map((line) => `${line}\r\n`).join('')}\r\n`, 'latin1')
}

const CRLF = Buffer.from('\r\n')
