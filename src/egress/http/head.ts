import type { ErrorCode } from '../../errors.js'

/** One header line; bytes as latin1 characters. */
export interface HeaderLine {
  /** As sent. */
  readonly name: string
  /** Lower case, for comparing. */
  readonly lower: string
  /** Without the white space around it. */
  readonly value: string
  /** True when white space followed the value: legal, but not where a number or keyword decides the framing. */
  readonly paddedEnd: boolean
}

/** Why a message was not understood. */
export interface HeadProblem {
  readonly code: Extract<ErrorCode, `request.${string}`>
  readonly status: 400 | 414 | 431
  readonly reason: string
}

export type HeadLines =
  | { state: 'more' }
  | { state: 'bad'; problem: HeadProblem }
  /** `consumed` counts the bytes up to and with the empty line. */
  | { state: 'ok'; start: string; headers: HeaderLine[]; consumed: number }

export interface HeadLimits {
  headBytesMax: number
  lineBytesMax: number
  headersMax: number
}

/** What a request may send before its body. */
export const REQUEST_HEAD_LIMITS: HeadLimits = {
  headBytesMax: 16 * 1024,
  lineBytesMax: 8 * 1024,
  headersMax: 100,
}

/** What an origin may send before its body: real sites set large cookies and policies. */
export const RESPONSE_HEAD_LIMITS: HeadLimits = {
  headBytesMax: 64 * 1024,
  lineBytesMax: 32 * 1024,
  headersMax: 200,
}

/**
 * Splits the head of an HTTP/1 message (RFC 9112 §2) into start line and header lines, repairing nothing: lines end in
 * CR LF and neither byte stands alone, names are tokens directly followed by a colon, no folding, no control characters
 * in values. One empty line before a request is tolerated. Call again with more bytes after `more`; a head that cannot
 * become legal is refused as soon as that is visible.
 */
export function splitHead(bytes: Buffer, limits: HeadLimits): HeadLines {
  let at = bytes.length >= 2 && bytes[0] === CR && bytes[1] === LF ? 2 : 0
  const first = bytes[at]
  if (first !== undefined && first !== CR && (first < 0x21 || first > 0x7e))
    return bad('the first byte is not HTTP')
  const lines: string[] = []
  for (;;) {
    const line = readLine(bytes, at)
    if (line.state === 'bad') return bad(line.reason)
    if (line.end - at > limits.lineBytesMax)
      return tooLarge(lines.length === 0 ? 414 : 431, 'a line is too long')
    if (line.end > limits.headBytesMax) return tooLarge(431, 'the head is too large')
    if (line.state === 'more') return { state: 'more' }
    if (line.end === at) {
      if (lines.length === 0) return bad('the start line is empty')
      return readHeaders(lines, line.end + 2)
    }
    if (lines.length > limits.headersMax) return tooLarge(431, 'there are too many headers')
    lines.push(bytes.toString('latin1', at, line.end))
    at = line.end + 2
  }
}

/** All values of a header, in order. `lower` is its name in lower case. */
export function headerValues(headers: readonly HeaderLine[], lower: string): string[] {
  return headers.filter((header) => header.lower === lower).map((header) => header.value)
}

/** The members of a comma-separated list header, lower case, without empty ones. */
export function listMembers(headers: readonly HeaderLine[], lower: string): string[] {
  return headerValues(headers, lower)
    .flatMap((value) => value.split(','))
    .map((member) => member.trim().toLowerCase())
    .filter((member) => member !== '')
}

/** RFC 9110 §5.6.2. */
export function isToken(text: string): boolean {
  return /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(text)
}

const CR = 13
const LF = 10

type Line =
  | { state: 'ok'; end: number }
  | { state: 'more'; end: number }
  | { state: 'bad'; reason: string; end: number }

function readLine(bytes: Buffer, from: number): Line {
  for (let index = from; index < bytes.length; index++) {
    const byte = bytes[index]
    if (byte === LF) return { state: 'bad', reason: 'a line ends without CR', end: index }
    if (byte !== CR) continue
    if (index + 1 === bytes.length) return { state: 'more', end: index }
    return bytes[index + 1] === LF
      ? { state: 'ok', end: index }
      : { state: 'bad', reason: 'CR stands alone', end: index }
  }
  return { state: 'more', end: bytes.length }
}

function readHeaders(lines: string[], consumed: number): HeadLines {
  const [start = '', ...rest] = lines
  const headers: HeaderLine[] = []
  for (const line of rest) {
    const header = readHeaderLine(line)
    if (header === undefined) return bad('a header line is malformed')
    headers.push(header)
  }
  return { state: 'ok', start, headers, consumed }
}

/** One header or trailer line without its CR LF; undefined when malformed. */
export function readHeaderLine(line: string): HeaderLine | undefined {
  const colon = line.indexOf(':')
  if (colon < 1) return undefined
  const name = line.slice(0, colon)
  if (!isToken(name)) return undefined
  const rest = line.slice(colon + 1)
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(rest)) return undefined
  const value = rest.replace(/^[ \t]+|[ \t]+$/g, '')
  return { name, lower: name.toLowerCase(), value, paddedEnd: /[^ \t][ \t]+$/.test(rest) }
}

function bad(reason: string): HeadLines {
  return { state: 'bad', problem: { code: 'request.malformed', status: 400, reason } }
}

function tooLarge(status: 414 | 431, reason: string): HeadLines {
  return { state: 'bad', problem: { code: 'request.too_large', status, reason } }
}
