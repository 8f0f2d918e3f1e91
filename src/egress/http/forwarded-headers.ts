import { hostInUrl, SCHEME_PORTS } from '../../model/index.js'
import { type HeaderLine, listMembers } from './head.js'
import type { ProxyRequest } from './request.js'
import type { OriginResponse } from './response.js'

/** Our name in `Via`. A request that carries it already has been here: a loop. */
export const VIA_PSEUDONYM = 'weir'

/**
 * The head that goes to the origin. Framing and Host are written by us from what was decided on; everything that
 * belongs to the hop, to us, or tries to name another host is left out. `persists`: the connection may be used again.
 */
export function requestHeadForOrigin(request: ProxyRequest, persists = false): string {
  const lines = [`${request.method} ${request.path} HTTP/1.1`]
  const isUsual = request.kind !== 'connect' && request.port === SCHEME_PORTS[request.kind]
  const port = isUsual ? '' : `:${request.port}`
  lines.push(`Host: ${hostInUrl(request.host)}${port}`)
  lines.push(...kept(request.headers, isDroppedFromRequest))
  if (request.maxForwards !== undefined) lines.push(`Max-Forwards: ${Math.max(0, request.maxForwards - 1)}`)
  if (request.expectsContinue) lines.push('Expect: 100-continue')
  if (request.body.kind === 'length') lines.push(`Content-Length: ${request.body.bytes}`)
  if (request.body.kind === 'chunked') lines.push('Transfer-Encoding: chunked')
  lines.push(`Via: 1.${request.minor} ${VIA_PSEUDONYM}`)
  if (request.upgradesToWebSocket) lines.push('Connection: Upgrade', 'Upgrade: websocket')
  else if (!persists) lines.push('Connection: close')
  return `${lines.join('\r\n')}\r\n\r\n`
}

/** The head that goes back to the client; `keepAlive` says whether the connection stays open afterwards. */
export function responseHeadForClient(
  response: OriginResponse,
  framing: 'none' | 'chunked' | 'close' | number,
  keepAlive: boolean,
): string {
  const lines = [`HTTP/1.1 ${response.status} ${response.reason}`]
  lines.push(...kept(response.headers, isDroppedFromResponse))
  if (typeof framing === 'number') lines.push(`Content-Length: ${framing}`)
  if (framing === 'chunked') lines.push('Transfer-Encoding: chunked')
  lines.push(`Via: 1.1 ${VIA_PSEUDONYM}`)
  if (response.status === 101) lines.push('Connection: Upgrade', 'Upgrade: websocket')
  else if (response.status >= 200) lines.push(`Connection: ${keepAlive ? 'keep-alive' : 'close'}`)
  return `${lines.join('\r\n')}\r\n\r\n`
}

/** True when the request went through a gateway of this kind before. */
export function hasOurVia(headers: readonly HeaderLine[]): boolean {
  return listMembers(headers, 'via').some((hop) => hop.split(/\s+/)[1] === VIA_PSEUDONYM)
}

/** Trailers that may travel on; the others could change how the message before them is read. */
export function trailersToForward(trailers: readonly HeaderLine[]): string[] {
  return trailers
    .filter(
      ({ lower }) =>
        !isDroppedFromRequest(lower) && !isDroppedFromResponse(lower) && !NO_TRAILER.has(spelled(lower)),
    )
    .map(({ name, value }) => `${name}: ${value}`)
}

function kept(headers: readonly HeaderLine[], isDropped: (lower: string) => boolean): string[] {
  const hop = new Set(listMembers(headers, 'connection').map(spelled))
  return headers
    .filter(({ lower }) => !hop.has(spelled(lower)) && !isDropped(lower))
    .map(({ name, value }) => `${name}: ${value}`)
}

/** Some origins read `_` as `-`, so both spellings are the same header here. */
function spelled(lower: string): string {
  return lower.replaceAll('_', '-')
}

function isDroppedFromRequest(lower: string): boolean {
  const name = spelled(lower)
  return HOP_BY_HOP.has(name) || FRAMING.has(name) || ROUTING.has(name) || isOurs(name) || PREFIXES.test(name)
}

function isDroppedFromResponse(lower: string): boolean {
  const name = spelled(lower)
  // Alt-Svc over plain HTTP would send the client to a protocol that has no way out.
  return (
    HOP_BY_HOP.has(name) ||
    FRAMING.has(name) ||
    isOurs(name) ||
    name === 'alt-svc' ||
    name === 'proxy-authenticate'
  )
}

/** Names that only we may write. */
function isOurs(name: string): boolean {
  return name.startsWith('weir-') || name.startsWith('x-weir-') || name === 'weir' || name === 'x-weir'
}

/** RFC 9110 §7.6.1 and what clients of proxies send besides. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'upgrade',
  'http2-settings',
])

const FRAMING: ReadonlySet<string> = new Set(['content-length', 'transfer-encoding'])

/** Headers by which some origins choose another host or path than the request says. */
const ROUTING: ReadonlySet<string> = new Set([
  'host',
  'expect',
  'max-forwards',
  'forwarded',
  'x-host',
  'x-original-host',
  'x-original-url',
  'x-rewrite-url',
  'x-http-host-override',
  'x-http-method-override',
  'x-method-override',
  'x-http-method',
  'x-real-ip',
  'x-client-ip',
  'true-client-ip',
  'x-cluster-client-ip',
])

const PREFIXES = /^(?:proxy-|x-forwarded-|x-proxy-)/

const NO_TRAILER: ReadonlySet<string> = new Set([
  'authorization',
  'cookie',
  'set-cookie',
  'cache-control',
  'content-encoding',
  'content-type',
  'content-range',
  'trailer',
  'date',
  'location',
  'vary',
  'www-authenticate',
  'via',
])
