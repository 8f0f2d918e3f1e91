import { createRequire } from 'node:module'
import { WeirError } from '../errors.js'
import { canonicalName, isSpecialUseName } from './host.js'
import { isPublicAddress, parseIpAddress } from './ip-address.js'

/**
 * One host pattern: a set of (host, port) pairs.
 *
 * | Written | Hosts |
 * | --- | --- |
 * | `example.com` | exactly this name |
 * | `.example.com` | the name and everything below it |
 * | `*.example.com` | everything below, not the name itself |
 * | `93.184.216.34`, `2606:2800::10` | exactly this public address |
 *
 * Each with an optional `:port` (IPv6 then in brackets). Without a port a pattern means the ports of the web: 80 for
 * plain HTTP and 443 for TLS.
 */
export interface HostPattern {
  /** The canonical text; equal patterns have equal texts. */
  readonly text: string
  readonly reach: 'exact' | 'apex-and-below' | 'below'
  /** Canonical name or address, without the leading `.` or `*.` and without brackets. */
  readonly host: string
  readonly isAddress: boolean
  /** Absent: 80 and 443. */
  readonly port?: number
  /** Only with `allowScheme`. */
  readonly scheme?: 'http' | 'https'
}

export interface HostPatternOptions {
  /** Accept `.com`, `.co.uk`, `.github.io`: one rule that opens everybody's tenants. Default false. */
  allowPublicSuffix?: boolean
  /** Accept special-use names (`.internal`) and addresses that are not public: for an operator's own rules. Default false. */
  allowPrivate?: boolean
  /** Accept `http://host` and `https://host`; the port of the scheme is then part of the pattern. Default false. */
  allowScheme?: boolean
}

/** The ports a pattern without port means. */
export const WEB_PORTS: readonly number[] = [80, 443]

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
  const more = mistakes.length > 1 ? ` (and ${mistakes.length - 1} more)` : ''
  throw new WeirError('pattern.invalid', `${first.message}${more}`, {
    hint: first.hint,
    details: { mistakes },
  })
}

/** Builds a pattern from parts that are canonical already, for example the result of an intersection. */
export function makeHostPattern(reach: HostPattern['reach'], host: string, port?: number): HostPattern {
  const isAddress = parseIpAddress(host) !== undefined
  const prefix = reach === 'exact' ? '' : reach === 'below' ? '*.' : '.'
  const shown = port !== undefined && host.includes(':') ? `[${host}]` : host
  const text = `${prefix}${shown}${port === undefined ? '' : `:${port}`}`
  return port === undefined ? { text, reach, host, isAddress } : { text, reach, host, isAddress, port }
}

type Reading = { ok: true; pattern: HostPattern } | { ok: false; reason: string; hint?: string }

function read(text: string, options: HostPatternOptions): Reading {
  if (text === '') return no('it is empty', 'Write a host name such as "example.com"')
  if (/[\x00-\x20\x7f]/.test(text)) return no('it has spaces or control characters')
  const schemed = /^(https?):\/\/(.*)$/i.exec(text)
  if (schemed !== null && options.allowScheme !== true) return no('it has a scheme')
  const scheme = schemed?.[1]?.toLowerCase() as 'http' | 'https' | undefined
  const rest = schemed?.[2] ?? text
  if (/[/?#@\\]/.test(rest)) return no('only a host and a port can stand here')
  const parts = splitPort(rest)
  if (parts === undefined) return no('the port is not a number from 1 to 65535')
  const port = parts.port ?? (scheme === undefined ? undefined : scheme === 'http' ? 80 : 443)
  const reading = parts.bracketed
    ? readAddress(parts.host, port, options)
    : readName(parts.host, port, options)
  if (!reading.ok || scheme === undefined) return reading
  return { ok: true, pattern: { ...reading.pattern, scheme, text: `${scheme}://${reading.pattern.text}` } }
}

/** `host`, `host:port`, `[v6]`, `[v6]:port`, bare `v6`. Undefined when the port is malformed. */
function splitPort(text: string): { host: string; port?: number; bracketed: boolean } | undefined {
  const bracket = /^\[([^\]]*)\](?::(.*))?$/s.exec(text)
  const colons = text.split(':').length - 1
  const bare = bracket === null && colons > 1 && parseIpAddress(text.toLowerCase()) !== undefined
  if (bare) return { host: text, bracketed: true }
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

function readName(text: string, port: number | undefined, options: HostPatternOptions): Reading {
  if (parseIpAddress(text) !== undefined) return readAddress(text, port, options)
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
  return { ok: true, pattern: makeHostPattern(reach, name, port) }
}

function readAddress(text: string, port: number | undefined, options: HostPatternOptions): Reading {
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
  return { ok: true, pattern: makeHostPattern('exact', address.text, port) }
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
  const bare = trimmed
    .replace(/^[a-z][a-z0-9+.-]*:\/\//i, '')
    .replace(/^[^/?#]*@/, '')
    .replace(/[/?#\\].*$/s, '')
  const tidy = bare.replace(/^\.{2,}/, '.').replace(/\.{2,}/g, '.')
  const star = tidy.replace(/^\*+\.?/, '*.')
  const belowLastStar = tidy.replace(/^.*\*[^.]*\./, '*.')
  return [bare, tidy, star, belowLastStar, bare.replace(/:[^:]*$/, '')]
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
