import type { ErrorCode } from '../../errors.js'
import {
  classifyIpAddress,
  embeddedIpv4,
  type Host,
  type HostPattern,
  HostPatternSet,
  type IpAddress,
  isSpecialUseName,
  type OfferedKey,
  type RuleOwner,
  SCHEME_PORTS,
  type WebScheme,
} from '../../model/index.js'
import type { EgressRules } from './egress-policy.js'

/** What is to be decided on: canonical, from the request line and nothing else. */
export interface EgressRequest {
  /** `https`: of a sandbox, for which the gateway speaks TLS. */
  readonly kind: 'http' | 'connect' | 'https'
  readonly host: Host
  readonly port: number
}

/** A decision always has a reason. `rule` is the pattern that decided, empty when none did. */
export type EgressDecision =
  | { readonly allowed: true; readonly rule: string; readonly owner: RuleOwner }
  | EgressRefusal

export interface EgressRefusal {
  readonly allowed: false
  readonly code: ErrorCode
  readonly rule: string
  readonly owner: RuleOwner
}

/**
 * Decides by name, before anything is looked up. Precedence:
 *
 * 1. mode `none`: nothing is allowed
 * 2. self: names and addresses of the network itself; no list can change it
 * 3. special-use names and addresses that are not public, unless the operator made an exact exception for host and port
 * 4. the deny lists of the node's operator and of the network
 * 5. the job's list
 * 6. the node's list (an exception counts as listed), and those of the keys that vouch for the job
 * 7. the network's list, when there is one
 * 8. schemes and ports: 80 is for plain HTTP, 443 for TLS, others only where each list names them; 25 never
 *
 * A learning execution asks for every host on the ports of the web, and gets what the operator excepts without naming it;
 * where the node lets it, the node's list holds every host. Nothing else of the above changes for it.
 *
 * Pure and synchronous.
 */
export function decideHost(request: EgressRequest, rules: EgressRules): EgressDecision {
  for (const refusal of refusals(request, rules)) return refusal
  const rule = firstMatch(askedFor(rules), request)
  return byKey(request, rules) ?? { allowed: true, rule: rule?.text ?? '', owner: 'job' }
}

/** Names the key whose list was needed; undefined when the node's own would have done. */
function byKey(request: EgressRequest, rules: EgressRules): EgressDecision | undefined {
  const { keys = NO_KEYS, node } = rules
  if (keys.length === 0) return undefined
  const { host, port } = request
  const scheme = schemeOf(request)
  const own = [openHere(rules), node.privateExceptions]
  if (own.some((list) => list.match(host.text, port, scheme) !== undefined)) return undefined
  for (const { name, allow } of keys) {
    const rule = allow.match(host.text, port, scheme)
    if (rule !== undefined) return { allowed: true, rule: rule.text, owner: `key ${name}` }
  }
  return undefined
}

/**
 * Everything that stands against a request, in order of precedence; the first is the decision, and empty means allowed.
 * Whoever explains a decision asks here as well, so that nobody explains something else than what is done.
 */
export function* refusals(request: EgressRequest, rules: EgressRules): Iterable<EgressRefusal> {
  const { host, port } = request
  const { node } = rules
  if (rules.mode === 'none') yield deny('egress.mode_none', 'job')
  if (isSelf(host, rules)) yield deny('egress.self', 'gateway')

  const exception = node.privateExceptions.match(host.text, port)
  const special = host.kind === 'name' ? isSpecialUseName(host.text) : !isPublic(host.address)
  if (special && exception === undefined) yield deny('egress.private_address', 'gateway')

  const denied = denial(host.text, port, rules)
  if (denied !== undefined) yield denied

  // Each list that holds the host has to hold the very triple of scheme, host and port. That is asked first: where all of
  // them do, nothing else needs to be.
  const scheme = schemeOf(request)
  const holds = (list: HostPatternSet) => list.match(host.text, port, scheme) !== undefined
  const asked = askedFor(rules)
  const heldByJob = port !== 25 && firstMatch(asked, request) !== undefined
  const opened = openedTo(rules)
  const heldByNode = opened.some(holds) || holds(node.privateExceptions)
  const heldByNetwork = node.network === undefined || holds(node.network)
  if (heldByJob && heldByNode && heldByNetwork) return

  const unlisted = host.kind === 'address' && !special
  const byJob = firstHolding(asked, host)
  if (byJob === undefined) yield deny(unlisted ? 'egress.ip_literal' : 'egress.not_in_job_list', 'job')
  const byNode = exception ?? firstHolding(opened, host)
  if (byNode === undefined) {
    const { expiredKeys = NO_KEYS } = rules
    if (expiredKeys.some(({ allow }) => allow.matchHost(host.text) !== undefined))
      yield deny('egress.signature_expired', 'node')
    else yield deny(unlisted ? 'egress.ip_literal' : 'egress.not_in_node_list', 'node')
  }
  const byNetwork = node.network?.matchHost(host.text)
  if (node.network !== undefined && byNetwork === undefined)
    yield deny('egress.not_in_network_list', 'network')

  if (byJob !== undefined && !heldByJob) yield deny('egress.port', 'job', byJob.text)
  if (byNode !== undefined && !heldByNode) yield deny('egress.port', 'node')
  if (byNetwork !== undefined && !heldByNetwork) yield deny('egress.port', 'network')
}

/** What the node's operator opens to it, whoever signed it. */
function openHere({ learning, node }: EgressRules): HostPatternSet {
  return learning === true && node.learning ? EVERY_HOST : node.allow
}

/** The lists of the node of which one has to hold it: its own, and those of the keys that vouch for the job. */
function openedTo(rules: EgressRules): readonly HostPatternSet[] {
  const { keys = NO_KEYS } = rules
  const own = openHere(rules)
  return keys.length === 0 ? [own] : [own, ...keys.map(({ allow }) => allow)]
}

/** What the execution asks for, the most specific first. */
function askedFor({ learning, job, node }: EgressRules): readonly HostPatternSet[] {
  return learning === true ? [job, node.privateExceptions, EVERY_HOST] : [job]
}

/** The pattern that holds the very triple of scheme, host and port. */
function firstMatch(lists: readonly HostPatternSet[], request: EgressRequest): HostPattern | undefined {
  const { host, port } = request
  const scheme = schemeOf(request)
  for (const list of lists) {
    if (list === EVERY_HOST && port !== SCHEME_PORTS[scheme]) continue
    const found = list.match(host.text, port, scheme)
    if (found !== undefined) return found
  }
  return undefined
}

function firstHolding(lists: readonly HostPatternSet[], { text }: Host): HostPattern | undefined {
  for (const list of lists) {
    const found = list.matchHost(text)
    if (found !== undefined) return found
  }
  return undefined
}

const NO_KEYS: readonly OfferedKey[] = []
const EVERY_HOST = HostPatternSet.everything()

/**
 * Decides whether a job may know that a name exists: whether there is a port among `ports` at which it may be reached.
 * The reason of a refusal is the name's, not a port's, where there is one.
 */
export function decideName(host: Host, ports: Iterable<number>, rules: EgressRules): EgressDecision {
  let refusal: (EgressDecision & { allowed: false }) | undefined
  for (const port of ports) {
    for (const kind of ['connect', 'http'] as const) {
      const decision = decideHost({ kind, host, port }, rules)
      if (decision.allowed) return decision
      if (refusal === undefined || refusal.code === 'egress.port') refusal = decision
    }
  }
  return refusal ?? deny('egress.not_in_job_list', 'job')
}

/**
 * Decides by address, after the lookup, on everything it returned at once: one bad answer refuses them all.
 *
 * 1. aliases that are self, special-use names or denied
 * 2. the network's own addresses, also hidden inside IPv6 ones; no exception can change it
 * 3. addresses that the operator denies
 * 4. addresses that are not public, unless the operator made an exact exception for name or address and port
 */
export function decideAddresses(
  request: EgressRequest,
  found: { readonly addresses: readonly IpAddress[]; readonly aliases: readonly string[] },
  rules: EgressRules,
): EgressDecision {
  const { node } = rules
  const byName = node.privateExceptions.match(request.host.text, request.port)
  for (const alias of found.aliases) {
    if (node.selfNames.has(alias)) return deny('egress.self', 'gateway')
    if (isSpecialUseName(alias) && byName === undefined) return deny('egress.private_address', 'gateway')
    const denied = denial(alias, request.port, rules)
    if (denied !== undefined) return denied
  }
  if (found.addresses.some((address) => isOwnAddress(address, rules))) return deny('egress.self', 'gateway')
  for (const address of found.addresses) {
    const denied = denial(address.text, request.port, rules)
    if (denied !== undefined) return denied
    if (isPublic(address)) continue
    const exception = byName ?? node.privateExceptions.match(address.text, request.port)
    if (exception === undefined) return deny('egress.private_address', 'gateway')
    // The node's own loopback is the node itself, however it is listed.
    if (isHere(address)) return deny('egress.self', 'gateway')
  }
  return { allowed: true, rule: '', owner: 'gateway' }
}

/** True for names and addresses that are the network itself. */
export function isSelf(host: Host, rules: EgressRules): boolean {
  return host.kind === 'name' ? rules.node.selfNames.has(host.text) : isOwnAddress(host.address, rules)
}

function isOwnAddress(address: IpAddress, { node, ownAddresses }: EgressRules): boolean {
  const hidden = embeddedIpv4(address)
  return [address.text, hidden?.text].some(
    (text) => text !== undefined && (ownAddresses.has(text) || node.selfAddresses.has(text)),
  )
}

function isHere(address: IpAddress): boolean {
  const { kind } = classifyIpAddress(embeddedIpv4(address) ?? address)
  return kind === 'loopback' || kind === 'unspecified'
}

/** CONNECT is for TLS only: the tunnel ends when its first bytes are no TLS hello. */
function schemeOf({ kind }: EgressRequest): WebScheme {
  return kind === 'http' ? 'http' : 'https'
}

/** Who denies a name or an address; undefined when nobody does. */
export function denial(host: string, port: number, { node }: EgressRules): EgressRefusal | undefined {
  const byNode = node.deny.match(host, port)
  if (byNode !== undefined) return deny('egress.denied_by_operator', 'node', byNode.text)
  const byNetwork = node.networkDeny.match(host, port)
  if (byNetwork !== undefined) return deny('egress.denied_by_operator', 'network', byNetwork.text)
  return undefined
}

function isPublic(address: IpAddress): boolean {
  return classifyIpAddress(address).kind === 'public'
}

function deny(code: ErrorCode, owner: RuleOwner, rule = ''): EgressRefusal {
  return { allowed: false, code, rule, owner }
}
