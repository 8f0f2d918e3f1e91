import { Failure } from '../component/faults.js'
import type { Variant } from '../component/value-types.js'
import type { HttpClient, HttpExchange } from '../http/http-client.js'
import { HttpFailure } from '../http/http-failure.js'
import type { ResponseHead } from '../http/response-reader.js'
import { type HostFunction, NONE, type Option, some } from './host-interface.js'
import { errorCode } from './http-errors.js'
import { Fields } from './http-fields.js'
import type { RequestOptions } from './http-requests.js'
import { type InputStream, InputStreamHandle, Pollable } from './streams.js'

/** An exchange that goes from hand to hand; whoever lets go of it without passing it on ends it. */
class Held {
  readonly #exchange: HttpExchange
  #isPassedOn = false

  constructor(exchange: HttpExchange) {
    this.#exchange = exchange
  }

  /** To look at, and to use while it is held. */
  get exchange(): HttpExchange {
    return this.#exchange
  }

  get isPassedOn(): boolean {
    return this.#isPassedOn
  }

  pass(): HttpExchange {
    this.#isPassedOn = true
    return this.#exchange
  }

  drop(): void {
    if (!this.#isPassedOn) this.#exchange.close()
  }
}

/** A response that is waited for. */
export class FutureResponse {
  readonly #held: Held
  readonly #options: RequestOptions | undefined
  readonly #deadlineNs: bigint | undefined
  readonly #client: HttpClient

  constructor(exchange: HttpExchange, options: RequestOptions | undefined, client: HttpClient) {
    this.#held = new Held(exchange)
    this.#options = options
    this.#client = client
    const wait = durationNs(options?.firstByte)
    this.#deadlineNs = wait === undefined ? undefined : process.hrtime.bigint() + wait
  }

  get #isReady(): boolean {
    const { isPassedOn, exchange } = this.#held
    return isPassedOn || exchange.isReady || exchange.isLost
  }

  subscribe(): Pollable {
    return new Pollable(this.#deadlineNs, () => this.#isReady)
  }

  /** None: not yet. Its result fails once the response was taken. */
  get(): Option {
    if (this.#held.isPassedOn) return some({ tag: 'err' })
    const { exchange } = this.#held
    if (!this.subscribe().isReadyNow(this.#client)) return NONE
    if (!this.#isReady) {
      this.#held.drop()
      this.#held.pass()
      return some({ tag: 'ok', value: { tag: 'err', value: { tag: 'connection-read-timeout' } } })
    }
    return some({ tag: 'ok', value: this.#take(exchange) })
  }

  drop(): void {
    this.#held.drop()
  }

  #take(exchange: HttpExchange): Variant {
    try {
      const head = exchange.head()
      return { tag: 'ok', value: new Response(head, this.#held.pass(), this.#options, this.#client) }
    } catch (error) {
      if (!(error instanceof HttpFailure)) throw error
      this.#held.drop()
      this.#held.pass()
      return { tag: 'err', value: errorCode(error) }
    }
  }
}

class Response {
  readonly head: ResponseHead
  readonly #held: Held
  readonly #options: RequestOptions | undefined
  readonly #client: HttpClient

  constructor(
    head: ResponseHead,
    exchange: HttpExchange,
    options: RequestOptions | undefined,
    client: HttpClient,
  ) {
    this.head = head
    this.#held = new Held(exchange)
    this.#options = options
    this.#client = client
  }

  consume(): ResponseBody {
    if (this.#held.isPassedOn) throw new Failure(undefined)
    return new ResponseBody(this.#held.pass(), this.#options, this.#client)
  }

  drop(): void {
    this.#held.drop()
  }
}

class ResponseBody implements InputStream {
  readonly #held: Held
  readonly #betweenMs: number | undefined
  readonly #client: HttpClient
  #isRead = false
  #hasEnded = false

  constructor(exchange: HttpExchange, options: RequestOptions | undefined, client: HttpClient) {
    this.#held = new Held(exchange)
    this.#client = client
    const wait = durationNs(options?.betweenBytes)
    this.#betweenMs = wait === undefined ? undefined : Math.ceil(Number(wait) / 1e6)
  }

  /** The one stream that it has. */
  stream(): InputStreamHandle {
    if (this.#isRead) throw new Failure(undefined)
    this.#isRead = true
    return new InputStreamHandle(this)
  }

  isReady(): boolean {
    const { isPassedOn, exchange } = this.#held
    return this.#hasEnded || isPassedOn || exchange.isReady || exchange.isLost
  }

  read(length: number): Uint8Array | undefined {
    // A stream that outlived its body has nothing left.
    if (this.#held.isPassedOn || this.#hasEnded) return undefined
    if (this.#betweenMs !== undefined && !this.#client.waitUntil(() => this.isReady(), this.#betweenMs)) {
      this.#held.exchange.close()
      this.#hasEnded = true
      throw new HttpFailure('cut')
    }
    const bytes = this.#held.exchange.read(length)
    this.#hasEnded = bytes === undefined
    return bytes
  }

  /** What came behind a body that was read to its end. The rest of another is given up. */
  finish(): Trailers {
    const { exchange } = this.#held
    const pairs = this.#hasEnded ? exchange.trailers : []
    this.drop()
    this.#held.pass()
    return new Trailers(pairs)
  }

  drop(): void {
    this.#held.drop()
  }
}

class Trailers {
  #pairs: ResponseHead['headers'] | undefined

  constructor(pairs: ResponseHead['headers']) {
    this.#pairs = pairs
  }

  get(): Option {
    const pairs = this.#pairs
    this.#pairs = undefined
    if (pairs === undefined) return some({ tag: 'err' })
    const trailers = pairs.length === 0 ? NONE : some(new Fields([...pairs], true))
    return some({ tag: 'ok', value: { tag: 'ok', value: trailers } })
  }
}

export function responseFunctions(): Record<string, HostFunction> {
  return {
    '[method]future-incoming-response.subscribe': (future: FutureResponse) => future.subscribe(),
    '[method]future-incoming-response.get': (future: FutureResponse) => future.get(),
    '[method]incoming-response.status': ({ head }: Response) => head.status,
    '[method]incoming-response.headers': ({ head }: Response) => new Fields([...head.headers], true),
    '[method]incoming-response.consume': (response: Response) => response.consume(),
    '[method]incoming-body.stream': (body: ResponseBody) => body.stream(),
    '[static]incoming-body.finish': (body: ResponseBody) => body.finish(),
    '[method]future-trailers.subscribe': (trailers: Trailers) => {
      void trailers
      return new Pollable()
    },
    '[method]future-trailers.get': (trailers: Trailers) => trailers.get(),
  }
}

function durationNs(duration: Option | undefined): bigint | undefined {
  return duration?.tag === 'some' ? (duration.value as bigint) : undefined
}
