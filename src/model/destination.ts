import { WeirError } from '../errors.js'
import { hostInUrl, readHost } from './host.js'
import { type HostPattern, parseHostPattern, SCHEME_PORTS, type WebScheme } from './host-pattern.js'
import { quoted } from './printable.js'

/** How a host is reached: one way to ask for it. */
export interface DestinationService {
  readonly scheme: WebScheme
  readonly port: number
}

/** Where a program wants to go, as a person wrote it. */
export interface Destination {
  /** Canonical name or address, IPv6 without brackets. */
  readonly host: string
  /** What was meant: TLS and plain HTTP on their ports where nothing else was said. */
  readonly services: readonly DestinationService[]
  /** What is odd in the spelling, one sentence each; empty when it was canonical. */
  readonly oddities: readonly string[]
}

/** The most services of one destination. */
export const SERVICES_MAX = 2

/**
 * Reads `HOST`, `HOST:PORT` or a URL. What a rule cannot see (path, query, credentials) is left out and named. Throws
 * `host.invalid` for what is no host, wildcards among them; the hint proposes the spelling that was probably meant.
 */
export function readDestination(text: string): Destination {
  const oddities: string[] = []
  const authority = withoutRest(text.trim(), oddities)
  const pattern = readPattern(text, authority)
  const { host, isAddress } = pattern
  const [, sent = ''] = /^(?:[a-z]+:\/\/)?(.*?)(?::[0-9]+)?$/i.exec(authority) ?? []
  if (sent !== hostInUrl(host) && sent !== host) oddities.push(...spelling(sent, host, isAddress))
  return { host, services: servicesMeant(pattern), oddities }
}

/** Scheme, host and port, without what a rule cannot see. */
function withoutRest(text: string, oddities: string[]): string {
  const [, scheme = '', rest = ''] = /^([a-z][a-z0-9+.-]*:\/\/)?(.*)$/is.exec(text) ?? []
  const end = rest.search(/[/?#]/)
  const authority = end < 0 ? rest : rest.slice(0, end)
  if (end >= 0 && rest.slice(end) !== '/')
    oddities.push('Rules are for whole hosts: what stands behind the host in a URL is not looked at')
  const at = authority.lastIndexOf('@')
  if (at >= 0) oddities.push('The credentials before "@" are not part of the host')
  if (/^wss?:/i.test(scheme))
    oddities.push('A WebSocket is judged like the request that opens it: ws as http, wss as https')
  return `${scheme}${authority.slice(at + 1)}`
}

function readPattern(text: string, authority: string): HostPattern {
  let pattern: HostPattern
  try {
    pattern = parseHostPattern(authority, { allowPrivate: true, allowPublicSuffix: true })
  } catch (error) {
    if (!(error instanceof WeirError)) throw error
    const message = error.message.replace(/^Cannot use host pattern .*?": /s, '')
    throw new WeirError('host.invalid', `Cannot use host ${quoted(text)}: ${message}`, { hint: error.hint })
  }
  if (pattern.reach === 'exact') return pattern
  throw new WeirError('host.invalid', `Cannot use host ${quoted(text)}: it is a pattern, not one host`, {
    hint: `Name one host, for example "www.${pattern.host}"`,
  })
}

function servicesMeant({ scheme, port }: HostPattern): DestinationService[] {
  const schemes = scheme === undefined ? (['https', 'http'] as const) : [scheme]
  return schemes
    .map((one) => ({ scheme: one, port: port ?? SCHEME_PORTS[one] }))
    .filter((one) => one.port !== SCHEME_PORTS[one.scheme === 'http' ? 'https' : 'http'])
}

/** What a request that carries the spelling as it is comes to. */
function spelling(sent: string, host: string, isAddress: boolean): string[] {
  const reading = readHost(sent)
  if (!reading.ok)
    return [
      `${quoted(sent)} is read as ${quoted(host)}; a request that carries it as it is written is refused: ${reading.reason}`,
    ]
  if (isAddress) return []
  const dotted = sent.endsWith('.') ? 'without the dot at the end' : ''
  const lower = /[A-Z]/.test(sent) ? 'in small letters' : ''
  return [`${quoted(sent)} is ${quoted(host)} ${[lower, dotted].filter(Boolean).join(' and ')}`.trim()]
}
