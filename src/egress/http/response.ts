import { type HeaderLine, headerValues, RESPONSE_HEAD_LIMITS, splitHead } from './head.js'

/** The head of an origin's answer. */
export interface OriginResponse {
  readonly status: number
  readonly reason: string
  readonly minor: 0 | 1
  readonly headers: readonly HeaderLine[]
  /** How the body ends; `close` means with the connection. */
  readonly body:
    | { kind: 'none' }
    | { kind: 'length'; bytes: number }
    | { kind: 'chunked' }
    | { kind: 'close' }
  /** For a length that is announced but not sent (HEAD, 304). */
  readonly announcedLength: number | undefined
}

export type ResponseReading =
  | { state: 'more' }
  | { state: 'bad'; reason: string }
  | { state: 'ok'; response: OriginResponse; consumed: number }

/** Reads the head of a response to `method`. Ambiguous framing is refused, whatever RFC 9112 would repair. */
export function readResponse(bytes: Buffer, method: string): ResponseReading {
  const head = splitHead(bytes, RESPONSE_HEAD_LIMITS)
  if (head.state === 'more') return head
  if (head.state === 'bad') return { state: 'bad', reason: head.problem.reason }
  const start = /^HTTP\/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?$/.exec(head.start)
  if (start === null) return { state: 'bad', reason: 'the status line is malformed' }
  const minor = start[1] === '1' ? 1 : 0
  const status = Number(start[2])
  const framing = readFraming(head.headers, method, status, minor)
  if ('reason' in framing) return { state: 'bad', reason: framing.reason }
  const response = { status, reason: start[3] ?? '', minor, headers: head.headers, ...framing } as const
  return { state: 'ok', response, consumed: head.consumed }
}

/** True when the origin agreed to a WebSocket, spelled exactly. */
export function acceptsWebSocket(response: OriginResponse): boolean {
  const upgrade = headerValues(response.headers, 'upgrade')
  return response.status === 101 && upgrade.length === 1 && upgrade[0]?.toLowerCase() === 'websocket'
}

/**
 * True when the origin keeps its connection after this answer for longer than `ms`, and the answer itself says where it ends. An
 * answer without body does not count: some servers send one nevertheless.
 */
export function keepsConnection({ minor, body, headers }: OriginResponse, ms: number): boolean {
  if (minor === 0 || (body.kind !== 'length' && body.kind !== 'chunked')) return false
  if (headerValues(headers, 'connection').some((value) => value.toLowerCase() !== 'keep-alive')) return false
  const promised = headerValues(headers, 'keep-alive')
    .join()
    .match(/timeout=([0-9]{1,6})/i)
  return promised === null || Number(promised[1]) * 1_000 > ms
}

type Framing = Pick<OriginResponse, 'body' | 'announcedLength'>

function readFraming(
  headers: readonly HeaderLine[],
  method: string,
  status: number,
  minor: 0 | 1,
): Framing | { reason: string } {
  const lengths = headerValues(headers, 'content-length')
  const codings = headerValues(headers, 'transfer-encoding')
  if (lengths.length + codings.length > 1)
    return { reason: 'the length of the body is stated more than once' }
  const [length] = lengths
  const [coding] = codings
  if (length !== undefined && !/^[0-9]{1,15}$/.test(length))
    return { reason: 'Content-Length is not a number' }
  if (coding !== undefined && (minor === 0 || coding.toLowerCase() !== 'chunked'))
    return { reason: 'the transfer coding is not understood' }
  const bytes = length === undefined ? undefined : Number(length)
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD') {
    const announced = status < 200 || status === 204 ? undefined : bytes
    return { body: { kind: 'none' }, announcedLength: announced }
  }
  if (coding !== undefined) return { body: { kind: 'chunked' }, announcedLength: undefined }
  if (bytes !== undefined) return { body: { kind: 'length', bytes }, announcedLength: bytes }
  return { body: { kind: 'close' }, announcedLength: undefined }
}
