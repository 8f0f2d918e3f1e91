import { parseHostPattern } from './host-pattern.js'
import type { AuditRecord } from './audit.js'

/** One exact host that a job tried to reach and that its own list would have to name. */
export interface SuggestedDomain {
  /** What `--domain` takes: an exact host, with its port where that is not 80 or 443. */
  domain: string
  attempts: number
}

/** The smallest addition to a job's list that would let what it refused pass. */
export interface DomainSuggestion {
  domains: SuggestedDomain[]
  /** Sentences about what no list of the job changes, or what would be tempting and wide. */
  warnings: string[]
}

/**
 * Reads refusals: exact names only, never a suffix, however many names of one domain there are; the warnings say what a
 * suffix would open beyond them. What somebody else refused is told, not suggested.
 */
export function suggestDomains(records: Iterable<AuditRecord>): DomainSuggestion {
  const wanted = new Map<string, number>()
  const beyond = new Map<string, number>()
  for (const { decision, code, host, port } of records) {
    if (decision !== 'deny' || host === '') continue
    const domain = domainOf(host, port)
    if (OF_THE_JOB.has(code) && domain !== undefined) wanted.set(domain, (wanted.get(domain) ?? 0) + 1)
    else if (OF_OTHERS[code] !== undefined) beyond.set(`${host}: ${OF_OTHERS[code]}`, 1)
  }
  const domains = [...wanted].map(([domain, attempts]) => ({ domain, attempts }))
  domains.sort((a, b) => b.attempts - a.attempts || (a.domain < b.domain ? -1 : 1))
  return { domains, warnings: [...wideSuffixes(domains), ...beyond.keys()] }
}

/** Undefined for what no list may hold, for example a name that is not public. */
function domainOf(host: string, port: number): string | undefined {
  const shown = host.includes(':') ? `[${host}]` : host
  // Port 0: a question for the name, of a program that knows nothing of proxies.
  const text = port === 0 || port === 80 || port === 443 ? host : `${shown}:${port}`
  try {
    return parseHostPattern(text).text
  } catch {
    return undefined
  }
}

/** Parents under which several of the names lie. */
function wideSuffixes(domains: readonly SuggestedDomain[]): string[] {
  const below = new Map<string, number>()
  for (const { domain } of domains) {
    const parent = domain.replace(/:\d+$/, '').split('.').slice(1).join('.')
    if (parent.includes('.')) below.set(parent, (below.get(parent) ?? 0) + 1)
  }
  return [...below]
    .filter(([, count]) => count > 1)
    .map(
      ([parent, count]) =>
        `.${parent} would cover ${count} of these, and every other name below ${parent} as well`,
    )
}

const OF_THE_JOB: ReadonlySet<string> = new Set([
  'egress.not_in_job_list',
  'egress.ip_literal',
  'egress.port',
])

const OF_OTHERS: Readonly<Record<string, string>> = {
  'egress.not_in_node_list': "not in the node's list: only its operator can allow it",
  'egress.not_in_network_list': "not in the network's list",
  'egress.denied_by_operator': 'denied by the operator',
  'egress.private_address': 'not on the public internet',
  'egress.self': 'the network itself, which jobs never reach',
}
