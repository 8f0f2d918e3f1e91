import { domainToASCII, domainToUnicode } from 'node:url'
import { classifyIpAddress, type IpAddress, parseIpAddress } from './ip-address.js'

/** A host in canonical form: lower-case ASCII name without root dot, or an IP address in its one spelling. */
export type Host =
  | { readonly kind: 'name'; readonly text: string }
  | { readonly kind: 'address'; readonly text: string; readonly address: IpAddress }

export type HostReading = { ok: true; host: Host } | { ok: false; reason: string }

/**
 * Reads the host part of a request target, a Host header or a server name, strictly and without repairing anything.
 *
 * `text` holds one character per byte as received (latin1), without port; IPv6 stands in brackets. Accepted: names
 * of `[a-z0-9._-]` in any case, labels of 1 to 63 bytes not starting or ending in `-`, at most 253 bytes, one root dot
 * (RFC 9110 §4.2, RFC 1123 §2.1 and underscores); strict IPv4; bracketed IPv6. Refused: everything else, a last label
 * that is a number (it would be an address to others), A-labels that do not decode, and public addresses in any but
 * their canonical spelling. An address that is not public is returned in any legal spelling, so that the refusal can
 * say what it is.
 */
export function readHost(text: string): HostReading {
  if (text === '') return bad('the host is empty')
  if (text.startsWith('[')) return readBracketed(text)
  const lower = lowerAscii(text)
  if (!/^[a-z0-9._-]*$/.test(lower)) return bad('the host has characters outside a-z, 0-9, ".", "-" and "_"')
  const address = parseIpAddress(lower)
  if (address !== undefined) return { ok: true, host: { kind: 'address', text: address.text, address } }
  const name = lower.endsWith('.') ? lower.slice(0, -1) : lower
  const problem = nameProblem(name)
  return problem === undefined ? { ok: true, host: { kind: 'name', text: name } } : bad(problem)
}

/** The host as it stands in a Host header or a URL: IPv6 in brackets. */
export function hostInUrl(host: Host | string): string {
  const text = typeof host === 'string' ? host : host.text
  return text.includes(':') ? `[${text}]` : text
}

/**
 * Turns a name a person wrote into canonical form: lower case, non-transitional IDNA (UTS 46), no root dot.
 * `bücher.test` → `xn--bcher-kva.test`, `faß.test` → `xn--fa-hia.test`. Look-alikes that the mapping would turn into
 * plain ASCII (`ⓔxample.com`, soft hyphens, full-width dots) are refused with what they would have become.
 */
export function canonicalName(
  text: string,
): { ok: true; name: string } | { ok: false; reason: string; meant?: string } {
  const lower = text.toLowerCase().normalize('NFC')
  const trimmed = lower.endsWith('.') ? lower.slice(0, -1) : lower
  if (/^[\x00-\x7f]*$/.test(trimmed)) {
    const problem = /^[a-z0-9._-]*$/.test(trimmed)
      ? nameProblem(trimmed)
      : 'only letters, digits, ".", "-" and "_" can stand in a host name'
    return problem === undefined ? { ok: true, name: trimmed } : { ok: false, reason: problem }
  }
  const ascii = domainToASCII(trimmed)
  // The mapping lets signs such as `*` and `!` through, in a label that nobody could ask for.
  if (!/^[a-z0-9._-]+$/.test(ascii) || nameProblem(ascii) !== undefined)
    return { ok: false, reason: 'it is not a valid international name' }
  if (domainToUnicode(ascii) !== trimmed)
    return { ok: false, reason: 'it has look-alike or invisible characters', meant: ascii }
  return { ok: true, name: ascii }
}

/**
 * Names that mean "here" or "this site" by RFC 6761, 6762, 7686, 8375, 9476 and common use. A job never reaches them
 * through a list, whatever they resolve to.
 */
export function isSpecialUseName(name: string): boolean {
  const last = name.slice(name.lastIndexOf('.') + 1)
  return SPECIAL_TOP_LABELS.has(last) || name === 'home.arpa' || name.endsWith('.home.arpa')
}

const SPECIAL_TOP_LABELS: ReadonlySet<string> = new Set([
  'localhost',
  'localdomain',
  'local',
  'internal',
  'intranet',
  'private',
  'corp',
  'home',
  'lan',
  'invalid',
  'onion',
  'alt',
])

/** Escapes bytes from outside for logs and records: printable ASCII stays, the rest becomes `\u00xx`; at most 256 characters. */
export function escapeForRecord(text: string): string {
  let escaped = ''
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    const printable = code >= 0x20 && code < 0x7f && code !== 0x5c && code !== 0x22
    const piece = printable ? text.charAt(index) : `\\u${code.toString(16).padStart(4, '0')}`
    if (escaped.length + piece.length > 253) return `${escaped}...`
    escaped += piece
  }
  return escaped
}

/** Why a lower-case ASCII name is not a legal host name; undefined when it is one. */
export function nameProblem(name: string): string | undefined {
  if (name === '') return 'the name is empty'
  if (name.length > 253) return 'the name is longer than 253 bytes'
  const labels = name.split('.')
  for (const label of labels) {
    if (label === '') return 'a label is empty'
    if (label.length > 63) return 'a label is longer than 63 bytes'
    if (label.startsWith('-') || label.endsWith('-')) return 'a label starts or ends with "-"'
  }
  if (/^(?:[0-9]+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '')) return 'the last label is a number'
  if (labels.some((label) => label.startsWith('xn--')) && domainToASCII(name) !== name) {
    return 'a label starting with "xn--" does not decode'
  }
  return undefined
}

function readBracketed(text: string): HostReading {
  if (!text.endsWith(']')) return bad('a bracket is not closed')
  const inner = lowerAscii(text.slice(1, -1))
  const address = inner.includes(':') ? parseIpAddress(inner) : undefined
  if (address === undefined) return bad('only an IPv6 address without zone may stand in brackets')
  const { kind } = classifyIpAddress(address)
  // One spelling only, or a listed address could be written in a way that other parsers read differently.
  if (kind === 'public' && address.text !== inner) return bad('the address is not in canonical form')
  if (address.text.startsWith('::ffff:') && address.text.includes('.') && isMappedPublic(address))
    return bad('the address is not in canonical form')
  return { ok: true, host: { kind: 'address', text: address.text, address } }
}

function isMappedPublic(address: IpAddress): boolean {
  const four = parseIpAddress(address.bytes.slice(12).join('.'))
  return four !== undefined && classifyIpAddress(four).kind === 'public'
}

function lowerAscii(text: string): string {
  // Not toLowerCase: it maps characters outside ASCII (K → k).
  return text.replace(/[A-Z]/g, (letter) => String.fromCharCode(letter.charCodeAt(0) + 32))
}

function bad(reason: string): HostReading {
  return { ok: false, reason }
}
