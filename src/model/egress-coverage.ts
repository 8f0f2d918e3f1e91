import type { ErrorCode } from '../errors.js'
import type { RuleOwner } from './audit.js'
import type { HostPatternSet } from './host-pattern-set.js'
import type { HostPattern } from './host-pattern.js'

/** What a node lets jobs reach: its own lists and those of the network. */
export interface EgressOffering {
  /** Everything with mode `all`; the private exceptions count as allowed. */
  readonly allow: HostPatternSet
  readonly deny: HostPatternSet
  /** Absent: the network restricts nothing. */
  readonly network?: HostPatternSet | undefined
  /** Absent: the network denies nothing. */
  readonly networkDeny?: HostPatternSet | undefined
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
 * out; a deny rule for a part of a pattern leaves the rest, and the gateway refuses that part.
 */
export function uncoveredPatterns(
  asked: Iterable<HostPattern>,
  offering: EgressOffering,
): UncoveredPattern[] {
  const found: UncoveredPattern[] = []
  for (const pattern of asked) {
    const uncovered = reasonFor(pattern, offering)
    if (uncovered !== undefined) found.push(uncovered)
  }
  return found
}

function reasonFor(
  pattern: HostPattern,
  { allow, deny, network, networkDeny }: EgressOffering,
): UncoveredPattern | undefined {
  if (deny.covers(pattern)) return denied(pattern, 'node', deny)
  if (networkDeny?.covers(pattern) === true) return denied(pattern, 'network', networkDeny)
  if (!allow.covers(pattern)) return { pattern, owner: 'node', code: 'egress.not_in_node_list', rule: '' }
  if (network?.covers(pattern) === false)
    return { pattern, owner: 'network', code: 'egress.not_in_network_list', rule: '' }
  return undefined
}

function denied(pattern: HostPattern, owner: 'node' | 'network', by: HostPatternSet): UncoveredPattern {
  const rule = by.matchHost(pattern.host)?.text ?? ''
  return { pattern, owner, code: 'egress.denied_by_operator', rule }
}
