import { readFileSync } from 'node:fs'
import { WeirError } from '../../errors.js'
import type { IpAddress } from '../../model/index.js'
import { parseIpAddress } from '../../model/index.js'
import { createDnsQuery, type DnsQuery, type DnsServer } from './client.js'
import type { DnsType } from './message.js'

/** Everything one lookup found. */
export interface Resolution {
  /** At least one. IPv4 first. */
  readonly addresses: readonly IpAddress[]
  /** Names the asked one is an alias of, in order. */
  readonly aliases: readonly string[]
}

/**
 * Resolves a canonical name once. Rejects with `egress.dns_failed` (`details.reason`: `nxdomain`, `servfail`,
 * `refused`, `empty`, `loop`, `timeout`, `unreachable`) or with the signal's reason.
 */
export type Resolve = (name: string, signal: AbortSignal) => Promise<Resolution>

export interface ResolverOptions {
  /** `address` or `address:port`; empty or absent: those of /etc/resolv.conf. */
  servers?: readonly string[]
  /**
   * The operator's own names → addresses; they are not looked up, but judged like any answer. The files and search
   * domains of the machine are never read.
   */
  hosts?: Readonly<Record<string, string | readonly string[]>>
  /** One lookup takes at most this long. Default 5 s. */
  timeoutMs?: number
  /** For tests. */
  query?: DnsQuery
}

/** Aliases followed in one lookup. */
const ALIASES_MAX = 16

/**
 * A resolver that asks for A and AAAA, follows aliases, and keeps no cache: an answer is used for one connection, so
 * nobody can leave one behind for somebody else. HTTPS and SVCB records are never asked for.
 */
export function createResolver(options: ResolverOptions = {}): Resolve {
  const query = options.query ?? createDnsQuery(dnsServers(options.servers))
  const hosts = staticHosts(options.hosts ?? {})
  const timeoutMs = options.timeoutMs ?? 5_000
  return async (name, signal) => {
    const own = hosts.get(name)
    if (own !== undefined) return { addresses: own, aliases: [] }
    const deadline = AbortSignal.timeout(timeoutMs)
    const bounded = AbortSignal.any([signal, deadline])
    try {
      const [four, six] = await Promise.all([
        lookup(query, name, 'A', bounded),
        lookup(query, name, 'AAAA', bounded),
      ])
      return combine(name, four, six)
    } catch (error) {
      if (error instanceof WeirError) throw error
      signal.throwIfAborted()
      // The last server may have been silent for shorter than the whole deadline.
      const isSilent = deadline.aborted || (error instanceof Error && error.name === 'TimeoutError')
      throw failed(name, isSilent ? 'timeout' : 'unreachable', error)
    }
  }
}

interface Found {
  addresses: IpAddress[]
  aliases: string[]
  /** Why there are none. */
  reason?: string
}

/** Follows aliases inside the answer, and asks again where the answer stops at an alias. */
async function lookup(query: DnsQuery, name: string, type: DnsType, signal: AbortSignal): Promise<Found> {
  const aliases: string[] = []
  const seen = new Set([name])
  let current = name
  while (aliases.length <= ALIASES_MAX) {
    const answer = await query(current, type, signal)
    let next = answer.aliases.get(current)
    while (next !== undefined && aliases.length <= ALIASES_MAX) {
      aliases.push(next)
      if (seen.has(next)) return { addresses: [], aliases, reason: 'loop' }
      seen.add(next)
      current = next
      next = answer.aliases.get(current)
    }
    const owner = current
    const addresses = answer.addresses.filter((entry) => entry.name === owner).map((entry) => entry.address)
    if (addresses.length > 0) return { addresses, aliases }
    if (answer.responseCode !== 0)
      return { addresses, aliases, reason: REASONS[answer.responseCode] ?? 'servfail' }
    // Aliases were followed and there is no address: ask for the last one, unless it is what was asked.
    if (!answer.aliases.size) return { addresses, aliases, reason: 'empty' }
  }
  return { addresses: [], aliases: aliases.slice(0, ALIASES_MAX), reason: 'loop' }
}

const REASONS: Readonly<Record<number, string>> = { 2: 'servfail', 3: 'nxdomain', 5: 'refused' }

function combine(name: string, four: Found, six: Found): Resolution {
  const addresses = [...four.addresses, ...six.addresses]
  const aliases = [...new Set([...four.aliases, ...six.aliases])]
  if (addresses.length === 0) throw failed(name, four.reason ?? six.reason ?? 'empty')
  // A name that resolves in one family and fails in the other is usable; which one failed is not a policy matter.
  return { addresses, aliases }
}

const TEXTS: Readonly<Record<string, string>> = {
  nxdomain: 'the name does not exist (NXDOMAIN)',
  servfail: 'the DNS server failed (SERVFAIL)',
  refused: 'the DNS server refused (REFUSED)',
  empty: 'the name has no address',
  loop: 'the aliases of the name lead in a circle or are too many',
  timeout: 'the DNS server did not answer in time',
  unreachable: 'no DNS server can be reached',
}

function failed(name: string, reason: string, cause?: unknown): WeirError {
  return new WeirError('egress.dns_failed', `Cannot resolve "${name}": ${TEXTS[reason] ?? reason}`, {
    retryable: reason !== 'nxdomain' && reason !== 'empty',
    details: { reason },
    cause,
  })
}

function staticHosts(hosts: Readonly<Record<string, string | readonly string[]>>): Map<string, IpAddress[]> {
  const table = new Map<string, IpAddress[]>()
  for (const [name, texts] of Object.entries(hosts)) {
    const addresses = [texts].flat().map((text) => {
      const address = parseIpAddress(text)
      if (address !== undefined) return address
      throw new WeirError('config.invalid', `Cannot use "${text}" as address of "${name}"`, {
        hint: 'Write one IPv4 or IPv6 address in its canonical spelling',
      })
    })
    table.set(name.toLowerCase().replace(/\.$/, ''), addresses)
  }
  return table
}

/** `10.0.0.1`, `10.0.0.1:5353`, `2001:db8::1`, `[2001:db8::1]:5353`. */
function dnsServers(configured: readonly string[] | undefined): DnsServer[] {
  const texts = configured === undefined || configured.length === 0 ? systemDnsServers() : configured
  return texts.map((text) => {
    const bare = parseIpAddress(text)
    if (bare !== undefined) return { address: bare.text, port: 53 }
    const match = /^\[?([^\]]+?)\]?:([0-9]{1,5})$/.exec(text)
    const address = parseIpAddress(match?.[1] ?? '')
    if (match !== null && address !== undefined) return { address: address.text, port: Number(match[2]) }
    throw new WeirError('config.invalid', `Cannot use "${text}" as a DNS server`, {
      hint: 'Write an IP address with an optional port, for example "9.9.9.9" or "[2620:fe::fe]:53"',
    })
  })
}

function systemDnsServers(): string[] {
  try {
    const text = readFileSync('/etc/resolv.conf', 'utf8')
    const found = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] ?? '')
    return found.filter((address) => parseIpAddress(address) !== undefined).slice(0, 3)
  } catch {
    // No file: no servers, so every lookup fails with a reason.
    return []
  }
}
