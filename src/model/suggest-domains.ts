import { makeHostPattern, parseHostPattern } from './host-pattern.js'
import { type AuditRecord, isAttempt } from './audit.js'

/** One exact host that a job needs in its own list. */
export interface SuggestedDomain {
  /** What `--domain` takes: an exact host with its port, without one where both ports of the web are wanted. */
  domain: string
  /** How often it was tried to reach it, and how often that was refused. */
  attempts: number
  refused: number
  bytesUp: number
  bytesDown: number
}

/** The smallest list that a job needs, by what it did. */
export interface DomainSuggestion {
  domains: SuggestedDomain[]
  /** Names that the program asked for and never connected to. Only known of learning executions. */
  onlyAsked: string[]
  /** Names that it tried to reach and that do not exist. Only known of learning executions. */
  unknown: string[]
  /** Sentences about what no list of the job changes, or what would be tempting and wide. */
  warnings: string[]
}

/**
 * Reads records. Of learning executions everything that was contacted becomes part of the list, of others what their own list
 * refused. Exact names only, never a suffix, however many names of one domain there are, and nothing that was not tried; the
 * warnings say what a suffix would open beyond them. What somebody else refused is told, not suggested.
 */
export function suggestDomains(records: Iterable<AuditRecord>): DomainSuggestion {
  const wanted = new Map<string, SuggestedDomain>()
  const named = new Set<string>()
  const asked = new Set<string>()
  const unknown = new Set<string>()
  const beyond = new Set<string>()
  for (const record of records) {
    const { host, learning } = record
    if (host === '') continue
    const domain = domainOf(record)
    const isLearnt = learning === true && record.decision === 'allow'
    if (isLearnt && !isAttempt(record)) asked.add(host)
    else if (isLearnt && record.code === 'egress.dns_failed') unknown.add(host)
    else if (isLearnt || isRefusedByJob(record)) {
      if (domain === undefined) {
        if (isLearnt) beyond.add(`${host}: no list of a job can hold it`)
        continue
      }
      named.add(host)
      count(wanted, domain, record)
    } else if (record.decision === 'deny') {
      const why = OF_OTHERS[record.code] ?? (learning === true ? ofLearning(record) : undefined)
      if (why !== undefined) beyond.add(`${host}: ${why}`)
    }
  }
  mergePortsOfWeb(wanted)
  const domains = [...wanted.values()].toSorted(
    (a, b) => b.attempts - a.attempts || (a.domain < b.domain ? -1 : 1),
  )
  return {
    domains,
    onlyAsked: [...asked].filter((host) => !named.has(host) && !unknown.has(host)).toSorted(),
    unknown: [...unknown].filter((host) => !named.has(host)).toSorted(),
    warnings: [...wideSuffixes(domains), ...beyond],
  }
}

/**
 * The same list shorter and wider: two or more names directly below one parent, or one and the parent itself, become one
 * pattern with a leading dot, which holds every other name below the parent as well. Never one of a public suffix.
 */
export function groupDomains(domains: readonly string[]): string[] {
  const groups = new Map<string, string[]>()
  for (const domain of domains) {
    for (const pattern of suffixesOf(domain)) groups.set(pattern, [...(groups.get(pattern) ?? []), domain])
  }
  const taken = new Map<string, string>()
  for (const [pattern, members] of groups) {
    const free = members.filter((member) => !taken.has(member))
    if (free.length > 1) for (const member of free) taken.set(member, pattern)
  }
  return [...new Set(domains.map((domain) => taken.get(domain) ?? domain))]
}

/** The pattern of this host and port alone. Port 0 is a question for the name, before any port is known: those of the web. */
export function narrowestDomain(host: string, port: number): string {
  return makeHostPattern('exact', host, port === 0 ? {} : { port }).text
}

function count(
  wanted: Map<string, SuggestedDomain>,
  domain: string,
  { decision, bytesUp, bytesDown, count: times = 1 }: AuditRecord,
): void {
  const known = wanted.get(domain) ?? { domain, attempts: 0, refused: 0, bytesUp: 0, bytesDown: 0 }
  known.attempts += times
  known.refused += decision === 'deny' ? times : 0
  known.bytesUp += bytesUp
  known.bytesDown += bytesDown
  wanted.set(domain, known)
}

/** A name without a port holds both ports of the web: where both are wanted, or it is needed anyway, one line is enough. */
function mergePortsOfWeb(wanted: Map<string, SuggestedDomain>): void {
  for (const { host } of [...wanted.keys()].map((domain) => parseHostPattern(domain))) {
    const ofPorts = [80, 443].flatMap((port) => wanted.get(narrowestDomain(host, port)) ?? [])
    const whole = wanted.get(host) ?? { domain: host, attempts: 0, refused: 0, bytesUp: 0, bytesDown: 0 }
    if (ofPorts.length === 0 || (ofPorts.length === 1 && !wanted.has(host))) continue
    wanted.set(host, whole)
    for (const one of ofPorts) {
      whole.attempts += one.attempts
      whole.refused += one.refused
      whole.bytesUp += one.bytesUp
      whole.bytesDown += one.bytesDown
      wanted.delete(one.domain)
    }
  }
}

function isRefusedByJob(record: AuditRecord): boolean {
  return record.decision === 'deny' && OF_THE_JOB.has(record.code) && !isNeverOpen(record)
}

/** Mail, TLS to the port of plain HTTP and the reverse: whatever is listed. */
function isNeverOpen({ code, kind, method, port, learning }: AuditRecord): boolean {
  if (code !== 'egress.port') return false
  if (port === 25) return true
  if (learning !== true) return false
  const isTls = kind === 'connect' || method === 'TLS'
  return port === (isTls ? 80 : 443)
}

function ofLearning(record: AuditRecord): string | undefined {
  if (isNeverOpen(record)) return `port ${record.port} is not open for this kind of request`
  return OF_LIMITS.test(record.code)
    ? `refused by a limit (${record.code}), so the list may lack what came after it`
    : undefined
}

/** Undefined for what no list may hold, for example a name that is not public. */
function domainOf({ host, port }: AuditRecord): string | undefined {
  try {
    return parseHostPattern(narrowestDomain(host, port)).text
  } catch {
    return undefined
  }
}

/** Parents under which several of the names lie. */
function wideSuffixes(domains: readonly SuggestedDomain[]): string[] {
  const below = new Map<string, number>()
  for (const host of new Set(domains.map(({ domain }) => parseHostPattern(domain).host))) {
    const [parent] = suffixesOf(host)
    if (parent !== undefined && parent !== `.${host}`) below.set(parent, (below.get(parent) ?? 0) + 1)
  }
  return [...below]
    .filter(([, names]) => names > 1)
    .map(
      ([parent, names]) =>
        `${parent} would cover ${names} of these, and every other name below ${parent.slice(1)} as well`,
    )
}

/** Patterns that hold this name and its neighbours; none for addresses and directly below public suffixes. */
function suffixesOf(domain: string): string[] {
  const { host, port, isAddress } = parseHostPattern(domain)
  if (isAddress) return []
  const behind = port === undefined ? '' : `:${port}`
  return [host.slice(host.indexOf('.') + 1), host].flatMap((parent) => {
    try {
      return [parseHostPattern(`.${parent}${behind}`).text]
    } catch {
      return []
    }
  })
}

const OF_THE_JOB: ReadonlySet<string> = new Set([
  'egress.not_in_job_list',
  'egress.ip_literal',
  'egress.port',
])

const OF_LIMITS = /^egress\.(?:names|rate|connections|quota_up|quota_down|overload)$/

const OF_OTHERS: Readonly<Record<string, string>> = {
  'egress.not_in_node_list': "not in the node's list: only its operator can allow it",
  'egress.signature_expired': 'open to the job until its signature expired: sign it again',
  'egress.not_in_network_list': "not in the network's list",
  'egress.denied_by_operator': 'denied by the operator',
  'egress.private_address': 'not on the public internet',
  'egress.self': 'the network itself, which jobs never reach',
}
