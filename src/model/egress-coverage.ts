import type { ErrorCode } from '../errors.js'
import type { RuleOwner } from './audit.js'
import { HostPatternSet } from './host-pattern-set.js'
import type { HostPattern } from './host-pattern.js'
import type { KeyGrant } from './trusted-key.js'

/** What a node lets jobs reach: its own lists and those of the network. */
export interface EgressOffering {
  /** Everything with mode `all`; the private exceptions count as allowed. */
  readonly allow: HostPatternSet
  readonly deny: HostPatternSet
  /** Absent: the network restricts nothing. */
  readonly network?: HostPatternSet | undefined
  /** Absent: the network denies nothing. */
  readonly networkDeny?: HostPatternSet | undefined
  /** What is open beyond `allow` to jobs that were signed. Absent: nothing. */
  readonly keys?: readonly OfferedKey[] | undefined
}

/** The list of a trusted key, to be asked. */
export interface OfferedKey {
  readonly name: string
  readonly key: string
  readonly allow: HostPatternSet
}

/** An operator's own lists may hold what a job's may not. Throws `pattern.invalid`. */
export function offeredKeys(grants: readonly KeyGrant[]): OfferedKey[] {
  const options = { allowPublicSuffix: true, allowPrivate: true }
  return grants.map(({ name, key, allow }) => ({ name, key, allow: HostPatternSet.parse(allow, options) }))
}

/** Which of the keys that signed a job are trusted there. */
export function trustedAmong(
  signedBy: readonly string[],
  { keys = [] }: Pick<EgressOffering, 'keys'>,
): OfferedKey[] {
  return signedBy.length === 0 ? [] : keys.filter(({ key }) => signedBy.includes(key))
}

/** A pattern that a job asks for and a node does not let it have. */
export interface UncoveredPattern {
  readonly pattern: HostPattern
  /** Whose list prevents it. */
  readonly owner: Extract<RuleOwner, 'node' | 'network'>
  readonly code: Extract<
    ErrorCode,
    'egress.denied_by_operator' | 'egress.not_in_node_list' | 'egress.not_in_network_list'
  >
  /** The denying pattern; empty when the pattern merely is not listed. */
  readonly rule: string
}

/**
 * Which of the patterns that a job asks for a node does not offer as a whole, with the first reason for each: denied by the
 * node, denied by the network, not covered by the node's list, not covered by the network's. Empty: the job's list is a
 * subset of what the node allows, so that it may be placed there. That is proved by the algebra of patterns and not tried
 * out; a deny rule for a part of a pattern leaves the rest, and the gateway refuses that part. `signedBy`: keys that signed
 * the job; the lists of those that are trusted count as the node's.
 */
export function uncoveredPatterns(
  asked: Iterable<HostPattern>,
  offering: EgressOffering,
  signedBy: readonly string[] = [],
): UncoveredPattern[] {
  const found: UncoveredPattern[] = []
  const isOpen = opened(offering.allow, trustedAmong(signedBy, offering))
  for (const pattern of asked) {
    const uncovered = reasonFor(pattern, offering, isOpen)
    if (uncovered !== undefined) found.push(uncovered)
  }
  return found
}

/** Several lists may hold a pattern only together; all of them are put together only where that could matter. */
function opened(allow: HostPatternSet, keys: readonly OfferedKey[]): (pattern: HostPattern) => boolean {
  let together: HostPatternSet | undefined
  return (pattern) => {
    if (allow.covers(pattern)) return true
    if (keys.length === 0) return false
    if (keys.some((one) => one.allow.covers(pattern))) return true
    together ??= new HostPatternSet(
      [allow, ...keys.map((one) => one.allow)].flatMap(({ patterns }) => patterns),
    )
    return together.covers(pattern)
  }
}

function reasonFor(
  pattern: HostPattern,
  { deny, network, networkDeny }: EgressOffering,
  isOpen: (pattern: HostPattern) => boolean,
): UncoveredPattern | undefined {
  if (deny.covers(pattern)) return denied(pattern, 'node', deny)
  if (networkDeny?.covers(pattern) === true) return denied(pattern, 'network', networkDeny)
  if (!isOpen(pattern)) return { pattern, owner: 'node', code: 'egress.not_in_node_list', rule: '' }
  if (network?.covers(pattern) === false)
    return { pattern, owner: 'network', code: 'egress.not_in_network_list', rule: '' }
  return undefined
}

function denied(pattern: HostPattern, owner: 'node' | 'network', by: HostPatternSet): UncoveredPattern {
  const rule = by.matchHost(pattern.host)?.text ?? ''
  return { pattern, owner, code: 'egress.denied_by_operator', rule }
}
