import { createRequire } from 'node:module'
import { WeirError } from '../errors.js'
import { canonicalName, isSpecialUseName } from './host.js'
import { isPublicAddress, parseIpAddress } from './ip-address.js'

/** How a request goes out: in plain text, or inside TLS. WebSockets are the same on the wire: `ws` is http, `wss` https. */
export type WebScheme = 'http' | 'https'

/**
 * One host pattern: a set of (scheme, host, port) triples.
 *
 * | Written | Hosts |
 * | --- | --- |
 * | `example.com` | exactly this name |
 * | `.example.com` | the name and everything below it |
 * | `*.example.com` | everything below, not the name itself |
 * | `93.184.216.34`, `2606:2800::10` | exactly this public address |
 *
 * Each with an optional `:port` (IPv6 then in brackets), and with an optional scheme before it, which makes it an outbound
 * URL: `https://ipfs.io` is TLS to port 443 and nothing else, `http://api.test:8080` plain HTTP to port 8080. A port
 * without scheme means both; without either a pattern means the web: plain HTTP to 80 and TLS to 443. Plain HTTP
 * never goes to 443 nor TLS to 80, whatever is listed.
 */
export interface HostPattern {
  /** The canonical text. Equal texts are equal patterns; `a.test:443` and `https://a.test` are two texts of one set. */
  readonly text: string
  readonly reach: 'exact' | 'apex-and-below' | 'below'
  /** Canonical name or address, without the leading `.` or `*.` and without brackets. */
  readonly host: string
  readonly isAddress: boolean
  /** Absent: 80 and 443. Always there with a scheme. */
  readonly port?: number
  /** Absent: both. */
  readonly scheme?: WebScheme
}

export interface HostPatternOptions {
  /** Accept `.com`, `.co.uk`, `.github.io`: one rule that opens everybody's tenants. Default false. */
  allowPublicSuffix?: boolean
  /** Accept special-use names (`.internal`) and addresses that are not public: for an operator's own rules. Default false. */
  allowPrivate?: boolean
}

/** The most patterns one list may hold. */
export const PATTERNS_MAX = 10_000

/** No legal pattern is longer: scheme, wildcard, 253 bytes, port; room for names not yet in ASCII. */
const PATTERN_LENGTH_MAX = 1024

/**
 * Reads a pattern as a person wrote it and returns its canonical form.
 * Rejects anything outside the grammar with `pattern.invalid`; the hint proposes the spelling that was probably meant.
 */
export function parseHostPattern(text: string, options: HostPatternOptions = {}): HostPattern {
  if (typeof text !== 'string') throw invalid(String(text), 'it is not text', 'Write a host name')
  if (text.length > PATTERN_LENGTH_MAX) {
    throw invalid(text, `it is longer than ${PATTERN_LENGTH_MAX} characters`, 'Write one host per entry')
  }
  const plain = readPlain(text, options)
  if (plain !== undefined) return plain
  const reading = read(text, options)
  if (reading.ok) return reading.pattern
  throw invalid(text, reading.reason, reading.hint ?? suggest(text, options))
}

/**
 * Reads a whole list. Rejects with one `pattern.invalid` that holds every mistake (`details.mistakes`: index, text,
 * message, hint; at most 100). Duplicates are dropped; order stays. Bounded: 10,000 entries.
 */
export function parseHostPatterns(texts: readonly string[], options: HostPatternOptions = {}): HostPattern[] {
  if (texts.length > PATTERNS_MAX) {
    throw new WeirError('pattern.invalid', `A list of ${texts.length} host patterns is too long`, {
      hint: `Use at most ${PATTERNS_MAX} patterns; ".example.com" covers a name and everything below it`,
    })
  }
  const patterns = new Map<string, HostPattern>()
  const mistakes: { index: number; text: string; message: string; hint: string | undefined }[] = []
  for (const [index, text] of texts.entries()) {
    try {
      const pattern = parseHostPattern(text, options)
      patterns.set(pattern.text, pattern)
    } catch (error) {
      if (!(error instanceof WeirError)) throw error
      if (mistakes.length < 100)
        mistakes.push({ index, text: quoted(text), message: error.message, hint: error.hint })
    }
  }
  const first = mistakes[0]
  if (first === undefined) return [...patterns.values()]
  const details = { mistakes }
  if (mistakes.length === 1)
    throw new WeirError('pattern.invalid', first.message, { hint: first.hint, details })
  const lines = mistakes
    .slice(0, MISTAKES_TOLD)
    .map(({ message, hint }) => message.replace(PREFIX, '') + (hint === undefined ? '' : ` (${hint})`))
  const rest = mistakes.length - lines.length
  if (rest > 0) lines.push(`and ${rest} more`)
  throw new WeirError(
    'pattern.invalid',
    [`Cannot use ${mistakes.length} host patterns:`, ...lines].join('\n  '),
    { details },
  )
}

const MISTAKES_TOLD = 20
const PREFIX = 'Cannot use host pattern '

/** What a pattern holds of a host beside its name. A scheme needs its port. */
export interface PatternService {
  readonly port?: number
  readonly scheme?: WebScheme
}

/** Builds a pattern from parts that are canonical already, for example the result of an intersection. */
export function makeHostPattern(
  reach: HostPattern['reach'],
  host: string,
  { port, scheme }: PatternService = {},
): HostPattern {
  // Names never end in a digit-only label, and never hold a colon.
  const isAddress = /^[0-9.]+$|:/.test(host)
  const prefix = reach === 'exact' ? '' : reach === 'below' ? '*.' : '.'
  const shown = port !== undefined && host.includes(':') ? `[${host}]` : host
  const isImplied = port === undefined || (scheme !== undefined && port === SCHEME_PORTS[scheme])
  const text = `${scheme === undefined ? '' : `${scheme}://`}${prefix}${shown}${isImplied ? '' : `:${port}`}`
  return {
    text,
    reach,
    host,
    isAddress,
    ...(port === undefined ? {} : { port }),
    ...(scheme === undefined ? {} : { scheme }),
  }
}

export const SCHEME_PORTS: Readonly<Record<WebScheme, number>> = { http: 80, https: 443 }

type Reading = { ok: true; pattern: HostPattern } | { ok: false; reason: string; hint?: string }

/**
 * The short way for what nearly every list holds: names in canonical form that raise no question. Undefined for everything
 * else; a property test compares both ways. Long lists are read several times: 10,000 patterns should cost milliseconds.
 */
function readPlain(text: string, options: HostPatternOptions): HostPattern | undefined {
  const match = PLAIN.exec(text)
  if (match === null || text.includes('xn--')) return undefined
  const [, word, prefix, host = '', digits] = match
  if (host.length > 253 || isSpecialUseName(host) || LAST_LABEL_IS_NUMBER.test(host)) return undefined
  const reach = prefix === undefined ? 'exact' : prefix === '.' ? 'apex-and-below' : 'below'
  if (reach !== 'exact' && options.allowPublicSuffix !== true && isPublicSuffix(host)) return undefined
  if (word === undefined && digits === undefined) return { text, reach, host, isAddress: false }
  const scheme = word as WebScheme | undefined
  const port = digits === undefined ? SCHEME_PORTS[scheme ?? 'http'] : Number(digits)
  // A port that goes without saying, or that the scheme never uses.
  if (port > 65_535 || (scheme !== undefined && digits !== undefined && (port === 80 || port === 443)))
    return undefined
  return { text, reach, host, isAddress: false, port, ...(scheme === undefined ? {} : { scheme }) }
}

const PLAIN =
  /^(?:(https?):\/\/)?(\.|\*\.)?((?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?::([1-9][0-9]{0,4}))?$/
const LAST_LABEL_IS_NUMBER = /(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$/

function read(text: string, options: HostPatternOptions): Reading {
  if (text === '') return no('it is empty', 'Write a host name such as "example.com"')
  if (/[\x00-\x20\x7f]/.test(text)) return no('it has spaces or control characters')
  const [, word, rest = ''] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/i.exec(text) ?? [undefined, undefined, text]
  const scheme = word === undefined ? undefined : SCHEMES.get(word.toLowerCase())
  if (word !== undefined && scheme === undefined)
    return no('the scheme is none of http, https, ws and wss; nothing else can leave')
  if (text.startsWith('@'))
    return no(
      'it is the name of a preset, and here hosts are named one by one',
      'Name the hosts; "weir network presets" lists those of a preset',
    )
  if (/[/?#@\\]/.test(rest)) return no(beyondHost(rest))
  const parts = splitPort(rest)
  if (parts === undefined) return no('the port is not a number from 1 to 65535')
  if (scheme !== undefined && parts.bare) return no('an IPv6 address stands in brackets in a URL')
  const port = parts.port ?? (scheme === undefined ? undefined : SCHEME_PORTS[scheme])
  if (scheme !== undefined && port === SCHEME_PORTS[scheme === 'http' ? 'https' : 'http'])
    return no(scheme === 'http' ? 'port 443 is for TLS only' : 'port 80 is for plain HTTP only')
  const service = { ...(port === undefined ? {} : { port }), ...(scheme === undefined ? {} : { scheme }) }
  return parts.bracketed ? readAddress(parts.host, service, options) : readName(parts.host, service, options)
}

const SCHEMES: ReadonlyMap<string, WebScheme> = new Map([
  ['http', 'http'],
  ['https', 'https'],
  ['ws', 'http'],
  ['wss', 'https'],
])

/** TLS is not opened, so that nobody could keep a promise about what stands behind the host. */
function beyondHost(rest: string): string {
  const authority = rest.replace(/[/?#\\].*$/s, '')
  if (authority.includes('@')) return 'it has credentials, which have no place in a list of hosts'
  if (rest.slice(authority.length) === '/') return 'it ends in "/", and a rule is for a whole host'
  if (rest.includes('\\')) return 'it has a backslash'
  const what = rest.charAt(authority.length)
  const name = what === '/' ? 'a path' : what === '?' ? 'a query' : 'a fragment'
  return `it has ${name}, and a rule is for a whole host: TLS is not opened to look inside`
}

/** `host`, `host:port`, `[v6]`, `[v6]:port`, bare `v6`. Undefined when the port is malformed. */
function splitPort(
  text: string,
): { host: string; port?: number; bracketed: boolean; bare?: boolean } | undefined {
  const bracket = /^\[([^\]]*)\](?::(.*))?$/s.exec(text)
  const colons = text.split(':').length - 1
  const bare = bracket === null && colons > 1 && parseIpAddress(text.toLowerCase()) !== undefined
  if (bare) return { host: text, bracketed: true, bare }
  const [host, portText] =
    bracket !== null
      ? [bracket[1] ?? '', bracket[2]]
      : colons === 0
        ? [text, undefined]
        : [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)]
  if (portText === undefined) return { host, bracketed: bracket !== null }
  if (!/^[1-9][0-9]{0,4}$/.test(portText) || Number(portText) > 65_535) return undefined
  return { host, port: Number(portText), bracketed: bracket !== null }
}

function readName(text: string, service: PatternService, options: HostPatternOptions): Reading {
  if (/^[0-9.]+$/.test(text) && parseIpAddress(text) !== undefined) return readAddress(text, service, options)
  const reach = text.startsWith('*.') ? 'below' : text.startsWith('.') ? 'apex-and-below' : 'exact'
  const bare = text.slice(reach === 'below' ? 2 : reach === 'apex-and-below' ? 1 : 0)
  if (bare === '' || bare === '*') return no('it names no host', 'List the hosts you need')
  if (bare.includes('*')) return no('a wildcard must stand alone before the first dot, as in "*.example.com"')
  const canonical = canonicalName(bare)
  if (!canonical.ok) {
    const meant = canonical.meant
    return no(
      canonical.reason,
      meant === undefined ? undefined : `Write "${meant}" if that is the host you mean`,
    )
  }
  const { name } = canonical
  if (isSpecialUseName(name) && options.allowPrivate !== true) {
    return no(
      `"${name}" is a special-use name, never a host on the internet`,
      'Remove it; an operator can list a private host under private exceptions',
    )
  }
  if (reach !== 'exact' && options.allowPublicSuffix !== true && isPublicSuffix(name)) {
    return no(
      `"${name}" is a public suffix: the rule would open every site below it`,
      `List the hosts you need, for example "www.example.${name}", or let the operator allow public suffixes`,
    )
  }
  return { ok: true, pattern: makeHostPattern(reach, name, service) }
}

function readAddress(text: string, service: PatternService, options: HostPatternOptions): Reading {
  const address = parseIpAddress(text.toLowerCase())
  if (address === undefined) return no('it is not an IP address')
  if (address.text !== text.toLowerCase()) {
    return no('the address is not in canonical form', `Write "${address.text}"`)
  }
  if (!isPublicAddress(address) && options.allowPrivate !== true) {
    return no(
      'the address is not public',
      'Remove it; an operator can list a private address under private exceptions',
    )
  }
  return { ok: true, pattern: makeHostPattern('exact', address.text, service) }
}

/** Public Suffix List, both sections. A single label is always one: a whole top-level domain. */
function isPublicSuffix(name: string): boolean {
  if (!name.includes('.')) return true
  const found = tldts().getPublicSuffix(name, { allowPrivateDomains: true, validateHostname: false })
  return found === name
}

/** Loaded on first use: 12 ms that most commands never need. */
function tldts(): typeof import('tldts') {
  return createRequire(import.meta.url)('tldts') as typeof import('tldts')
}

/** The spelling that was probably meant, as a sentence. */
function suggest(text: string, options: HostPatternOptions): string {
  for (const candidate of candidates(text)) {
    const reading = read(candidate, options)
    if (reading.ok) return `Write "${reading.pattern.text}"`
  }
  return 'Write "example.com" (exactly this host), ".example.com" (and everything below) or "*.example.com" (only below), with an optional ":port"'
}

function candidates(text: string): string[] {
  const trimmed = text.trim().split(/\s/)[0] ?? ''
  const [, word = '', rest = ''] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(.*)$/is.exec(trimmed) ?? []
  const bare = rest.replace(/^[^/?#]*@/, '').replace(/[/?#\\].*$/s, '')
  const tidy = bare.replace(/^\.{2,}/, '.').replace(/\.{2,}/g, '.')
  const star = tidy.replace(/^\*+\.?/, '*.')
  const belowLastStar = tidy.replace(/^.*\*[^.]*\./, '*.')
  const hosts = [bare, tidy, star, belowLastStar, bare.replace(/:[^:]*$/, ''), `[${bare}]`]
  const scheme = SCHEMES.get(word.toLowerCase())
  return scheme === undefined ? hosts : [...hosts.map((host) => `${scheme}://${host}`), ...hosts]
}

function no(reason: string, hint?: string): Reading {
  return hint === undefined ? { ok: false, reason } : { ok: false, reason, hint }
}

function invalid(text: string, reason: string, hint: string): WeirError {
  return new WeirError('pattern.invalid', `Cannot use host pattern ${quoted(text)}: ${reason}`, { hint })
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text)
}
