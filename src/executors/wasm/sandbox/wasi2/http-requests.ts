import { Failure } from '../component/faults.js'
import type { Variant } from '../component/value-types.js'
import type { HttpExchange, OutgoingRequest } from '../http/http-client.js'
import { HttpFailure } from '../http/http-failure.js'
import { type HostFunction, NONE, type Option } from './host-interface.js'
import { internalError } from './http-errors.js'
import type { Fields } from './http-fields.js'
import { type OutputStream, OutputStreamHandle, closed } from './streams.js'

/** What a program may write of a body before it sends the request. */
const EARLY_BYTES_MAX = 1024 * 1024

/** A request that is being put together. */
export class RequestDraft {
  readonly #headers: Fields
  method: Variant = { tag: 'get' }
  scheme: Option = NONE
  authority: Option = NONE
  path: Option = NONE
  /** Undefined: it has none. */
  body: RequestBody | undefined

  constructor(headers: Fields) {
    this.#headers = headers
  }

  get headers(): Fields {
    return this.#headers
  }

  /** What is sent. @throws HttpFailure `invalid`. */
  get outgoing(): OutgoingRequest {
    const scheme = this.scheme.tag === 'none' ? 'https' : schemeText(this.scheme.value as Variant)
    if (this.authority.tag === 'none') throw new HttpFailure('invalid')
    const path = this.path.tag === 'none' ? '/' : String(this.path.value)
    const url = `${scheme}://${String(this.authority.value)}${path}`
    const headers = this.#headers.pairs.filter(([name]) => name.toLowerCase() !== 'content-length')
    return { method: methodText(this.method), url, headers, body: this.#bodyLength() }
  }

  #bodyLength(): OutgoingRequest['body'] {
    if (this.body === undefined) return 'none'
    if (this.body.isFinished) return this.body.earlyBytes
    const announced = new Set(this.#headers.values('content-length'))
    if (announced.size === 0) return 'streamed'
    const [length = ''] = announced
    if (announced.size > 1 || !/^[0-9]{1,15}$/.test(length)) throw new HttpFailure('invalid')
    return Number(length)
  }
}

/** A request's body: kept until the request is sent, then passed on as it is written. */
export class RequestBody implements OutputStream {
  #early: Uint8Array[] = []
  #exchange: HttpExchange | undefined
  #isWritten = false
  isFinished = false
  earlyBytes = 0

  /** What is written from now on belongs to the exchange. @throws HttpFailure */
  sendTo(exchange: HttpExchange): void {
    this.#exchange = exchange
    for (const bytes of this.#early) exchange.write(bytes)
    this.#early = []
    if (this.isFinished) exchange.finish()
  }

  /** The one stream that it has. */
  stream(): OutputStreamHandle {
    if (this.#isWritten) throw new Failure(undefined)
    this.#isWritten = true
    return new OutputStreamHandle(this)
  }

  write(bytes: Uint8Array): void {
    if (this.isFinished) throw closed()
    if (this.#exchange === undefined) {
      if (this.earlyBytes + bytes.length > EARLY_BYTES_MAX) throw new HttpFailure('order')
      this.#early.push(bytes)
      this.earlyBytes += bytes.length
      return
    }
    try {
      this.#exchange.write(bytes)
    } catch (error) {
      // Nobody reads on; what there is to say is in the response.
      if (error instanceof HttpFailure && error.problem === 'cut') throw closed()
      throw error
    }
  }

  room(): number {
    if (this.isFinished || this.#exchange?.isCut === true || this.#exchange?.isLost === true) throw closed()
    return this.#exchange === undefined ? EARLY_BYTES_MAX - this.earlyBytes : this.#exchange.writableBytes
  }

  /** @throws HttpFailure `order`, `cut`, `unavailable`. */
  finish(): void {
    if (this.isFinished) return
    this.isFinished = true
    try {
      this.#exchange?.finish()
    } catch (error) {
      this.#giveUp()
      throw error
    }
  }

  /** Let go without an end: the host must not take it for whole. */
  drop(): void {
    if (this.isFinished) return
    this.isFinished = true
    this.#giveUp()
  }

  /** A body that is not whole is no request, unless the gateway has answered and reads no more of it. */
  #giveUp(): void {
    if (this.#exchange?.isCut === false) this.#exchange.close()
  }
}

export function requestFunctions(): Record<string, HostFunction> {
  return {
    '[constructor]outgoing-request': (headers: Fields) => new RequestDraft(headers),
    '[method]outgoing-request.body': (request: RequestDraft) => {
      if (request.body !== undefined) throw new Failure(undefined)
      request.body = new RequestBody()
      return request.body
    },
    '[method]outgoing-request.method': ({ method }: RequestDraft) => method,
    '[method]outgoing-request.set-method': (request: RequestDraft, method: Variant) => {
      if (!/^[A-Z][A-Z0-9_-]{0,31}$/.test(methodText(method))) throw new Failure(undefined)
      request.method = method
    },
    '[method]outgoing-request.path-with-query': ({ path }: RequestDraft) => path,
    '[method]outgoing-request.set-path-with-query': (request: RequestDraft, path: Option) => {
      if (path.tag === 'some' && !/^[/?][\x21-\x22\x24-\x7e]*$/.test(String(path.value)))
        throw new Failure(undefined)
      request.path = path
    },
    '[method]outgoing-request.scheme': ({ scheme }: RequestDraft) => scheme,
    '[method]outgoing-request.set-scheme': (request: RequestDraft, scheme: Option) => {
      if (scheme.tag === 'some' && !/^https?$/.test(schemeText(scheme.value as Variant)))
        throw new Failure(undefined)
      request.scheme = scheme
    },
    '[method]outgoing-request.authority': ({ authority }: RequestDraft) => authority,
    '[method]outgoing-request.set-authority': (request: RequestDraft, authority: Option) => {
      if (authority.tag === 'some' && !/^[^/?#@\x00-\x20\x7f-\uffff]+$/.test(String(authority.value)))
        throw new Failure(undefined)
      request.authority = authority
    },
    '[method]outgoing-request.headers': ({ headers }: RequestDraft) => headers.view,
    '[method]outgoing-body.write': (body: RequestBody) => body.stream(),
    '[static]outgoing-body.finish': (body: RequestBody, trailers: Option) => {
      if (trailers.tag === 'some' && (trailers.value as Fields).pairs.length > 0) {
        body.drop()
        throw new Failure(internalError('trailers of requests are not sent'))
      }
      body.finish()
    },
    ...optionsFunctions(),
  }
}

/**
 * Nanoseconds to wait at most; none waits as long as the gateway does. No class: one that holds nothing but fields ends the
 * process when V8 makes the first of it in a sandbox that came out of a start-up snapshot.
 */
export interface RequestOptions {
  firstByte: Option
  betweenBytes: Option
}

function optionsFunctions(): Record<string, HostFunction> {
  return {
    '[constructor]request-options': (): RequestOptions => ({ firstByte: NONE, betweenBytes: NONE }),
    '[method]request-options.connect-timeout': (options: RequestOptions) => {
      void options
      return NONE
    },
    // The gateway connects, and tells when there is a response. An error says that such a timeout is not supported.
    '[method]request-options.set-connect-timeout': (options: RequestOptions, duration: Option) => {
      void options
      if (duration.tag === 'some') throw new Failure(undefined)
    },
    '[method]request-options.first-byte-timeout': ({ firstByte }: RequestOptions) => firstByte,
    '[method]request-options.set-first-byte-timeout': (options: RequestOptions, duration: Option) => {
      options.firstByte = duration
    },
    '[method]request-options.between-bytes-timeout': ({ betweenBytes }: RequestOptions) => betweenBytes,
    '[method]request-options.set-between-bytes-timeout': (options: RequestOptions, duration: Option) => {
      options.betweenBytes = duration
    },
  }
}

function methodText({ tag, value }: Variant): string {
  return tag === 'other' ? String(value) : tag.toUpperCase()
}

function schemeText({ tag, value }: Variant): string {
  return (tag === 'other' ? String(value) : tag).toLowerCase()
}
