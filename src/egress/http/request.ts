import type { Host, IpAddress } from '../../model/index.js'
import { hostInUrl, readHost, SCHEME_PORTS } from '../../model/index.js'
import {
  type HeadProblem,
  headerValues,
  type HeaderLine,
  isToken,
  listMembers,
  REQUEST_HEAD_LIMITS,
  splitHead,
} from './head.js'

/** How many bytes of body follow the head. */
export type BodyFraming = { kind: 'none' } | { kind: 'length'; bytes: number } | { kind: 'chunked' }

/** A request that was understood: whom it is for and what to send there. */
export interface ProxyRequest {
  /** `https` is `http` to a host with which the gateway speaks TLS. */
  readonly kind: 'http' | 'connect' | 'https'
  readonly method: string
  /** 0 for HTTP/1.0, 1 for HTTP/1.1. */
  readonly minor: 0 | 1
  readonly host: Host
  readonly port: number
  /** Origin form, bytes unchanged; `*` for OPTIONS without a path. Empty for CONNECT. */
  readonly path: string
  readonly headers: readonly HeaderLine[]
  readonly body: BodyFraming
  /** The client waits for `100 Continue` before it sends the body. */
  readonly expectsContinue: boolean
  /** A WebSocket handshake, spelled exactly. */
  readonly upgradesToWebSocket: boolean
  /** The client wants to send another request on this connection. */
  readonly keepAlive: boolean
  /** Host as sent, for the record. */
  readonly hostAsSent: string
  readonly maxForwards: number | undefined
  /** The Host header names another host than the target: to be refused once the target itself was judged. */
  readonly hostContradiction: string | undefined
}

/** What is known of a request that was refused while it was read. */
export interface RequestProblem extends Omit<HeadProblem, 'status' | 'code'> {
  readonly code: HeadProblem['code'] | 'egress.method'
  readonly status: 400 | 405 | 414 | 417 | 431
  readonly method: string
  readonly hostAsSent: string
}

export type RequestReading =
  | { state: 'more' }
  | { state: 'bad'; problem: RequestProblem }
  | { state: 'ok'; request: ProxyRequest; consumed: number }

/**
 * Reads the head of a request to a forward proxy from raw bytes.
 *
 * Only two forms are served: `METHOD http://host[:port]/path HTTP/1.x` and `CONNECT host:port HTTP/1.x`
 * (RFC 9112 §3.2.2 and §3.2.3). Anything that two parsers could read differently is refused: see the numbered checks
 * in {@link readRequest}'s helpers and the attack corpus.
 *
 * With `arrival` the client believes that it talks to the server itself: the Host header names the host, the target is a
 * path (RFC 9112 §3.2.1), and CONNECT is refused. With `https` targets of that scheme are read as well.
 */
export function readRequest(
  bytes: Buffer,
  arrival?: Arrival,
  { https = false }: { https?: boolean } = {},
): RequestReading {
  const early = refuseEarly(bytes)
  if (early !== undefined) return early
  const head = splitHead(bytes, REQUEST_HEAD_LIMITS)
  if (head.state === 'more') return head
  if (head.state === 'bad') return problem(head.problem, '', '')
  const start = readRequestLine(head.start, (method, target) => {
    if (arrival !== undefined) return readServerTarget(method, target, head.headers, arrival)
    return method === 'CONNECT' ? readAuthorityForm(target) : readAbsoluteForm(method, target, https)
  })
  if ('reason' in start) return problem(start, start.method ?? '', start.hostAsSent ?? '')
  const reading = completeRequest(start, head.headers)
  return 'reason' in reading
    ? problem(reading, start.method, start.hostAsSent)
    : { state: 'ok', request: reading, consumed: head.consumed }
}

/** How a connection came that was not made to the proxy. */
export interface Arrival {
  /** The address the client connected to; counts only for a listed address. */
  readonly address: IpAddress
  readonly port: number
  /** The name that address was given for. */
  readonly name?: string
}

interface Fault {
  code: RequestProblem['code']
  status: RequestProblem['status']
  reason: string
  method?: string
  hostAsSent?: string
}

const SSH_GREETING = Buffer.from('SSH-')

interface RequestLine {
  method: string
  minor: 0 | 1
  kind: 'http' | 'connect' | 'https'
  host: Host
  port: number
  path: string
  hostAsSent: string
  /** What else in the request contradicts the host. */
  contradiction?: string
}

/** SSH, SOCKS, TLS, HTTP/2 and lower-case methods are recognised by their first bytes, not after a timeout. */
function refuseEarly(bytes: Buffer): RequestReading | undefined {
  const at = bytes[0] === 13 ? (bytes[1] === 10 || bytes.length === 1 ? 2 : 0) : 0
  const first = bytes[at]
  const isSsh = bytes.subarray(0, 4).equals(SSH_GREETING)
  if (!isSsh && (first === undefined || (first >= 0x41 && first <= 0x5a))) return undefined
  // A second empty line or anything that cannot begin a method.
  return problem(
    { code: 'request.malformed', status: 400, reason: 'the request does not start with a method' },
    '',
    '',
  )
}

function readRequestLine(
  line: string,
  readTarget: (method: string, target: string) => Target | Fault,
): RequestLine | Fault {
  const parts = line.split(' ')
  const [method = '', target = '', version = ''] = parts
  if (parts.length !== 3) return malformed('the request line does not have three parts')
  if (!isToken(method) || method.length > 32)
    return malformed('the method is not a token of at most 32 bytes')
  const shown = target.slice(0, 300)
  if (version !== 'HTTP/1.1' && version !== 'HTTP/1.0')
    return { ...malformed('the version is neither HTTP/1.0 nor HTTP/1.1'), method, hostAsSent: shown }
  if (!/^[A-Z][A-Z0-9_-]*$/.test(method)) return { ...malformed('methods are written in capitals'), method }
  if (!/^[\x21-\x7e]+$/.test(target))
    return { ...hostFault('the target has characters that must be escaped'), method, hostAsSent: shown }
  if (REFUSED_METHODS.has(method)) {
    return {
      code: 'egress.method',
      status: 405,
      reason: `the method ${method} is not allowed`,
      method,
      hostAsSent: shown,
    }
  }
  const form = readTarget(method, target)
  if ('reason' in form) return { ...form, method, hostAsSent: form.hostAsSent ?? shown }
  return { method, minor: version === 'HTTP/1.1' ? 1 : 0, ...form }
}

/** They echo or debug; no client of the web needs them. */
const REFUSED_METHODS: ReadonlySet<string> = new Set(['TRACE', 'TRACK', 'DEBUG'])

type Target = Pick<RequestLine, 'kind' | 'host' | 'port' | 'path' | 'hostAsSent' | 'contradiction'>

function readAuthorityForm(target: string): Target | Fault {
  const authority = splitAuthority(target)
  if (authority === undefined || authority.port === undefined)
    return { ...hostFault('CONNECT needs host and port'), hostAsSent: target }
  const host = readHost(authority.host)
  if (!host.ok) return { ...hostFault(host.reason), hostAsSent: authority.host }
  return { kind: 'connect', host: host.host, port: authority.port, path: '', hostAsSent: authority.host }
}

function readAbsoluteForm(method: string, target: string, servesHttps = false): Target | Fault {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(target)
  if (scheme === null)
    return malformed('the target is not a whole URL: this is a forward proxy, not a server')
  const kind = scheme[1]?.toLowerCase()
  if (kind !== 'http' && !(kind === 'https' && servesHttps))
    return malformed('only http:// targets are served; https goes through CONNECT')
  const rest = target.slice(scheme[0].length)
  const end = rest.search(/[/?#]/)
  const authorityText = end < 0 ? rest : rest.slice(0, end)
  const tail = end < 0 ? '' : rest.slice(end)
  if (tail.includes('#')) return { ...malformed('the target has a fragment'), hostAsSent: authorityText }
  const authority = splitAuthority(authorityText)
  if (authority === undefined)
    return { ...hostFault('the host or port is malformed'), hostAsSent: authorityText }
  const host = readHost(authority.host)
  if (!host.ok) return { ...hostFault(host.reason), hostAsSent: authority.host }
  const path = tail === '' ? (method === 'OPTIONS' ? '*' : '/') : tail.startsWith('?') ? `/${tail}` : tail
  const port = authority.port ?? SCHEME_PORTS[kind]
  return { kind, host: host.host, port, path, hostAsSent: authority.host }
}

/**
 * The target of a request to what the client takes for the server. The name that was dialled must be the one that is
 * asked for; an HTTP/1.0 request without Host is for the name, or else the address, that was dialled.
 */
function readServerTarget(
  method: string,
  target: string,
  headers: readonly HeaderLine[],
  arrival: Arrival,
): Target | Fault {
  if (method === 'CONNECT') return malformed('CONNECT is for the proxy, and this is none')
  const whole = target.startsWith('/') || target === '*' ? undefined : readAbsoluteForm(method, target)
  if (whole !== undefined && 'reason' in whole) return whole
  if (target === '*' && method !== 'OPTIONS') return malformed('only OPTIONS has the target "*"')
  if (target.includes('#')) return malformed('the target has a fragment')
  const [sent = arrival.name ?? hostInUrl(arrival.address.text), second] = headerValues(headers, 'host')
  if (second !== undefined) return malformed('there are several Host headers')
  const authority = splitAuthority(sent)
  const host = authority === undefined ? undefined : readHost(authority.host)
  if (authority === undefined || host === undefined || !host.ok)
    return { ...hostFault('the Host header is malformed'), hostAsSent: sent.slice(0, 300) }
  const named = host.host.kind === 'name' ? arrival.name : arrival.address.text
  const differs =
    (named !== undefined && named !== host.host.text) ||
    (whole !== undefined && (whole.host.text !== host.host.text || whole.port !== arrival.port))
  return {
    kind: 'http',
    host: host.host,
    port: arrival.port,
    path: whole?.path ?? target,
    hostAsSent: authority.host,
    ...(differs ? { contradiction: 'the host that was dialled is not the one in the request' } : {}),
  }
}

/** `host`, `host:port`, `[v6]`, `[v6]:port`; undefined when there is anything else. */
function splitAuthority(text: string): { host: string; port: number | undefined } | undefined {
  const match = /^(\[[^\]]*\]|[^:[\]]*)(?::(.*))?$/s.exec(text)
  if (match === null) return undefined
  const [, host = '', portText] = match
  if (portText === undefined) return { host, port: undefined }
  if (!/^[1-9][0-9]{0,4}$/.test(portText) || Number(portText) > 65_535) return undefined
  return { host, port: Number(portText) }
}

function completeRequest(start: RequestLine, headers: HeaderLine[]): ProxyRequest | Fault {
  const hostFault = checkHostHeader(start, headers)
  if (hostFault !== undefined && hostFault.code !== 'request.host_mismatch') return hostFault
  const connection = listMembers(headers, 'connection')
  if (connection.some((name) => NEVER_HOP_BY_HOP.has(name)))
    return framing('Connection names a header that frames or routes the message')
  const body = readFraming(start, headers)
  if ('reason' in body) return body
  const expect = headerValues(headers, 'expect')
  if (expect.length > 1 || (expect[0] !== undefined && expect[0].toLowerCase() !== '100-continue'))
    return { code: 'request.malformed', status: 417, reason: 'only "Expect: 100-continue" is understood' }
  const proxyConnection = listMembers(headers, 'proxy-connection')
  const { contradiction: _contradiction, ...known } = start
  const closes = connection.includes('close') || proxyConnection.includes('close')
  return {
    ...known,
    headers,
    body,
    expectsContinue: expect.length === 1 && start.minor === 1 && body.kind !== 'none',
    upgradesToWebSocket: isWebSocketHandshake(start, headers, connection, body),
    keepAlive: start.minor === 1 && !closes,
    maxForwards: readMaxForwards(headers),
    hostContradiction: hostFault?.reason ?? start.contradiction,
  }
}

/** RFC 9112 §3.2: exactly one Host in HTTP/1.1, and for us it must say what the target says. */
function checkHostHeader(start: RequestLine, headers: readonly HeaderLine[]): Fault | undefined {
  const hosts = headerValues(headers, 'host')
  if (hosts.length > 1) return malformed('there are several Host headers')
  const [value] = hosts
  if (value === undefined) return start.minor === 0 ? undefined : malformed('the Host header is missing')
  const authority = splitAuthority(value)
  const host = authority === undefined ? undefined : readHost(authority.host)
  if (authority === undefined || host === undefined || !host.ok)
    return hostFault('the Host header is malformed')
  // A CONNECT target always has a port, its Host header often has none.
  const port = authority.port ?? (start.kind === 'connect' ? start.port : SCHEME_PORTS[start.kind])
  if (host.host.text === start.host.text && port === start.port) return undefined
  return {
    code: 'request.host_mismatch',
    status: 400,
    reason: 'the Host header names another host than the target',
  }
}

/** RFC 9112 §6.3, without any of its tolerance. */
function readFraming(start: RequestLine, headers: readonly HeaderLine[]): BodyFraming | Fault {
  const lengths = headers.filter((header) => header.lower === 'content-length')
  const codings = headers.filter((header) => header.lower === 'transfer-encoding')
  if (lengths.length + codings.length > 1) return framing('the length of the body is stated more than once')
  const [length] = lengths
  const [coding] = codings
  if (coding !== undefined) {
    if (start.minor === 0) return framing('HTTP/1.0 has no transfer codings')
    if (start.kind === 'connect') return framing('CONNECT has no body')
    return coding.value.toLowerCase() === 'chunked' && !coding.paddedEnd
      ? { kind: 'chunked' }
      : framing('only "Transfer-Encoding: chunked" is understood')
  }
  if (length === undefined) return { kind: 'none' }
  if (length.paddedEnd || !/^(?:0|[1-9][0-9]{0,14})$/.test(length.value))
    return framing('Content-Length is not a plain number')
  const bytes = Number(length.value)
  if (start.kind === 'connect' && bytes > 0) return framing('CONNECT has no body')
  return start.kind === 'connect' ? { kind: 'none' } : { kind: 'length', bytes }
}

function isWebSocketHandshake(
  start: RequestLine,
  headers: readonly HeaderLine[],
  connection: readonly string[],
  body: BodyFraming,
): boolean {
  const upgrade = headerValues(headers, 'upgrade')
  const asked = upgrade.length === 1 && upgrade[0]?.toLowerCase() === 'websocket'
  return (
    asked &&
    start.method === 'GET' &&
    start.minor === 1 &&
    body.kind === 'none' &&
    connection.includes('upgrade')
  )
}

function readMaxForwards(headers: readonly HeaderLine[]): number | undefined {
  const [value] = headerValues(headers, 'max-forwards')
  return value !== undefined && /^[0-9]{1,9}$/.test(value) ? Number(value) : undefined
}

const NEVER_HOP_BY_HOP: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'expect',
])

function malformed(reason: string): Fault {
  return { code: 'request.malformed', status: 400, reason }
}

function hostFault(reason: string): Fault {
  return { code: 'request.host', status: 400, reason }
}

function framing(reason: string): Fault {
  return { code: 'request.framing', status: 400, reason }
}

function problem(fault: Fault, method: string, sent: string): RequestReading {
  return { state: 'bad', problem: { ...fault, method, hostAsSent: hostPartOf(sent) } }
}

/** Of a target that may be anything: the part that stands for the host. The rest may be a secret, and is not kept. */
function hostPartOf(sent: string): string {
  const authority = sent.replace(/^[a-z][a-z0-9+.-]*:\/\//i, '').replace(/[/?#].*$/s, '')
  return authority.replace(/^.*@/s, '***@')
}
