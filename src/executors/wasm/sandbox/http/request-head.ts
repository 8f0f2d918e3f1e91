import type { OutgoingRequest } from './http-client.js'
import { HttpFailure } from './http-failure.js'

/** What the gateway takes: see docs/wasm-http.md. Its own check is the one that counts. */
const HEAD_BYTES_MAX = 16 * 1024
const LINE_BYTES_MAX = 8 * 1024
const HEADERS_MAX = 90

/** Written for the program, from method, URL and body. */
const OURS: ReadonlySet<string> = new Set([
  'host',
  'connection',
  'proxy-connection',
  'keep-alive',
  'content-length',
  'transfer-encoding',
  'te',
  'trailer',
  'expect',
  'upgrade',
  'proxy-authorization',
])

/** Hosts want to be told that nothing follows. */
const WITH_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH'])

/** The bytes of a request's head. @throws HttpFailure `invalid`, `too_large`. */
export function requestHead({ method, url, headers, body }: OutgoingRequest): Uint8Array {
  const [, authority] = /^https?:\/\/([^/?#]+)(?:[/?][^#]*)?$/i.exec(url) ?? []
  const isTarget = /^[\x21-\x7e]+$/.test(url)
  if (!/^[A-Z][A-Z0-9_-]{0,31}$/.test(method) || method === 'CONNECT') throw new HttpFailure('invalid')
  if (authority === undefined || authority.includes('@') || !isTarget) throw new HttpFailure('invalid')
  if (typeof body === 'number' && !(Number.isSafeInteger(body) && body >= 0)) throw new HttpFailure('invalid')
  const lines = [`${method} ${url} HTTP/1.1`, `Host: ${authority}`]
  for (const [name, value] of headers) {
    if (!isHeader(name, value) || OURS.has(name.toLowerCase())) throw new HttpFailure('invalid')
    lines.push(`${name}: ${value}`)
  }
  const length = body === 'none' && WITH_BODY.has(method) ? 0 : body
  if (typeof length === 'number') lines.push(`Content-Length: ${length}`)
  if (body === 'streamed') lines.push('Transfer-Encoding: chunked')
  lines.push('Connection: close')
  const text = `${lines.join('\r\n')}\r\n\r\n`
  const isTooLarge =
    text.length > HEAD_BYTES_MAX ||
    headers.length > HEADERS_MAX ||
    lines.some((line) => line.length > LINE_BYTES_MAX)
  if (isTooLarge) throw new HttpFailure('too_large')
  return Buffer.from(text, 'latin1')
}

/** Whether the header is written for the program, which cannot set it. */
export function isWrittenForProgram(name: string): boolean {
  return OURS.has(name.toLowerCase())
}

/** Whether a header can have this name and value; values have one character per byte. */
export function isHeader(name: string, value: string): boolean {
  return /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name) && /^[\t\x20-\x7e\x80-\xff]*$/.test(value)
}
