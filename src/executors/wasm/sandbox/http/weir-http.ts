import { WEIR_HTTP_RESULT as RESULT } from '../../../../model/weir-http.js'
import { type GuestMemory, WasiError } from '../wasi/index.js'
import { HttpFailure, type HttpProblem } from './http-failure.js'
import { type HttpClient, type HttpExchange, type OutgoingRequest, WAIT_MS_MAX } from './http-client.js'

const RESULTS: Readonly<Record<HttpProblem, number>> = {
  denied: RESULT.DENIED,
  unavailable: RESULT.UNAVAILABLE,
  invalid: RESULT.INVALID,
  too_large: RESULT.TOO_LARGE,
  too_many: RESULT.TOO_MANY,
  order: RESULT.ORDER,
  cut: RESULT.CUT,
}

/** More is too large for any head. */
const TEXT_BYTES_MAX = 64 * 1024
/** More handles than there can be. */
const WAIT_HANDLES_MAX = 256
const STREAMED = -1n

/** The import module `weir_http_v1` of one program: its requests, whichever of its modules made them. */
export class WeirHttp {
  readonly #client: HttpClient
  readonly #exchanges = new Map<number, HttpExchange>()
  #lastHandle = 0

  constructor(client: HttpClient) {
    this.#client = client
  }

  /** The functions for one instance, whose memory they use. Pointers and lengths arrive signed, 64-bit numbers as BigInt. */
  functions(memory: GuestMemory): Record<string, (...args: never[]) => number> {
    const functions = {
      request_open: (
        method: number,
        methodLength: number,
        url: number,
        urlLength: number,
        headers: number,
        headersLength: number,
        bodyBytes: bigint,
        handleOut: number,
      ) => {
        memory.check(handleOut, 4)
        const request: OutgoingRequest = {
          method: text(memory, method, methodLength),
          url: text(memory, url, urlLength),
          headers: headerPairs(text(memory, headers, headersLength)),
          body: bodyOf(bodyBytes),
        }
        const exchange = this.#client.open(request)
        const handle = ++this.#lastHandle
        this.#exchanges.set(handle, exchange)
        memory.setU32(handleOut, handle)
      },
      request_write: (handle: number, data: number, length: number) => {
        this.#get(handle).write(memory.bytes(data, length))
      },
      request_finish: (handle: number) => this.#get(handle).finish(),
      response_head: (
        handle: number,
        buffer: number,
        length: number,
        statusOut: number,
        lengthOut: number,
      ) => {
        memory.check(statusOut, 4)
        memory.check(lengthOut, 4)
        const { status, headers } = this.#get(handle).head()
        const lines = Buffer.from(headers.map(([name, value]) => `${name}: ${value}\r\n`).join(''), 'latin1')
        memory.setU32(statusOut, status)
        memory.setU32(lengthOut, lines.length)
        if (lines.length > length >>> 0) return RESULT.SMALL
        memory.bytes(buffer, lines.length).set(lines)
        return RESULT.OK
      },
      response_read: (handle: number, buffer: number, length: number, lengthOut: number) => {
        memory.check(lengthOut, 4)
        const exchange = this.#get(handle)
        const room = memory.bytes(buffer, length)
        const bytes = room.length === 0 ? undefined : exchange.read(room.length)
        if (bytes !== undefined) room.set(bytes)
        memory.setU32(lengthOut, bytes?.length ?? 0)
      },
      wait: (handles: number, count: number, timeoutMs: bigint, indexOut: number) => {
        if (count >>> 0 > WAIT_HANDLES_MAX) return RESULT.TOO_MANY
        memory.check(indexOut, 4)
        const base = memory.check(handles, (count >>> 0) * 4)
        const exchanges = Array.from({ length: count >>> 0 }, (_none, index) =>
          this.#get(memory.getU32(base + index * 4)),
        )
        const isInTime = this.#client.wait(exchanges, millisecondsOf(timeoutMs))
        if (!isInTime) return RESULT.TIMEOUT
        memory.setU32(
          indexOut,
          exchanges.findIndex((one) => one.isReady),
        )
        return RESULT.OK
      },
      close: (handle: number) => {
        this.#get(handle).close()
        this.#exchanges.delete(handle >>> 0)
      },
    }
    const all = Object.create(null) as Record<string, (...args: never[]) => number>
    for (const [name, call] of Object.entries(functions)) all[name] = answering(call as Call)
    return all
  }

  #get(handle: number): HttpExchange {
    const exchange = this.#exchanges.get(handle >>> 0)
    if (exchange === undefined) throw new UnknownHandle()
    return exchange
  }
}

class UnknownHandle extends Error {}

type Call = (...args: never[]) => number | void

/** Turns what a call throws into a result; what is not meant for the program goes on. */
function answering(call: Call): (...args: never[]) => number {
  return (...args) => {
    try {
      return call(...args) ?? RESULT.OK
    } catch (error) {
      if (error instanceof HttpFailure) return RESULTS[error.problem]
      if (error instanceof UnknownHandle) return RESULT.HANDLE
      if (error instanceof WasiError) return RESULT.FAULT
      throw error
    }
  }
}

function text(memory: GuestMemory, pointer: number, length: number): string {
  if (length >>> 0 > TEXT_BYTES_MAX) throw new HttpFailure('too_large')
  return memory.text(pointer, length)
}

/** `Name: value` lines, each ended by CR LF or LF; the last may lack it. */
function headerPairs(lines: string): [string, string][] {
  const all = lines.split(/\r?\n/)
  if (all.at(-1) === '') all.pop()
  return all.map((line) => {
    const colon = line.indexOf(':')
    if (colon < 1) throw new HttpFailure('invalid')
    return [line.slice(0, colon), line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')]
  })
}

function bodyOf(bytes: bigint): OutgoingRequest['body'] {
  if (bytes === STREAMED) return 'streamed'
  if (bytes === 0n) return 'none'
  return bytes > 0n && bytes <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(bytes) : -1
}

/** Negative: for ever. */
function millisecondsOf(timeout: bigint): number | undefined {
  return timeout < 0n ? undefined : Number(timeout < BigInt(WAIT_MS_MAX) ? timeout : WAIT_MS_MAX)
}
