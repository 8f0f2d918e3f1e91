import type { ErrorCode } from '../errors.js'
import { HostPatternSet } from '../model/host-pattern-set.js'
import type { HostPattern } from '../model/host-pattern.js'
import type { NetworkSpec } from '../model/job-spec.js'
import type { ComputePolicy } from './options.js'

/** One reason why the node does not take an execution. */
export interface Refusal {
  code: ErrorCode
  message: string
  hint: string
  /** True when trying later can succeed without any change of the job. */
  retryable?: boolean
}

/** The operator's rules about networks, parsed once. */
export interface NetworkRules {
  readonly acceptNetworkedJobs: boolean
  readonly acceptFullNetwork: boolean
  readonly allow: HostPatternSet
  readonly deny: HostPatternSet
}

/** What an engine can give its runs on this node. */
export interface NetworkAbilities {
  engine: string
  http: boolean
  full: boolean
  /** Why something is missing. */
  problems: readonly string[]
  /** The node has a gateway. */
  gateway: boolean
}

/** Throws `pattern.invalid`: a list that cannot be read is never half used. */
export function networkRules(policy: ComputePolicy): NetworkRules {
  // An operator's own lists may hold what a job's may not: public suffixes and private hosts.
  const operators = { allowPublicSuffix: true, allowPrivate: true }
  return {
    acceptNetworkedJobs: policy.acceptNetworkedJobs === true,
    acceptFullNetwork: policy.acceptFullNetwork === true,
    allow: HostPatternSet.parse([...(policy.allow ?? []), ...(policy.privateExceptions ?? [])], operators),
    deny: HostPatternSet.parse([...(policy.deny ?? [])], operators),
  }
}

/**
 * Judges what the job asks for, in this order: no network is always fine · networked jobs are accepted · the mode is
 * accepted · the engine can provide it · (http) there are hosts, none denied, all covered. All reasons are given.
 */
export function admitNetwork(
  network: NetworkSpec,
  rules: NetworkRules,
  abilities: NetworkAbilities,
): Refusal[] {
  if (network.Type === 'None') return []
  const refusals: Refusal[] = []
  if (!rules.acceptNetworkedJobs) {
    refusals.push({
      code: 'compute.network',
      message: 'This node does not accept networked jobs',
      hint: 'Choose a node whose operator accepts them, or run without network',
    })
  }
  if (network.Type === 'Full') return [...refusals, ...refuseFull(rules, abilities)]
  return [...refusals, ...refuseHttp(abilities), ...refuseHosts(network.Domains, rules)]
}

function refuseFull(rules: NetworkRules, abilities: NetworkAbilities): Refusal[] {
  const refusals: Refusal[] = []
  if (!rules.acceptFullNetwork) {
    refusals.push({
      code: 'compute.network',
      message: 'This node does not accept jobs with full network access',
      hint: 'List the hosts that the job needs: --network http --domain …',
    })
  }
  if (!abilities.full) refusals.push(missingMode('full', abilities))
  return refusals
}

function refuseHttp(abilities: NetworkAbilities): Refusal[] {
  if (!abilities.gateway) {
    return [
      {
        code: 'egress.unavailable',
        message: 'This node has no egress gateway, so it cannot offer http network access',
        hint: 'Choose another node, or ask the operator to start the gateway',
      },
    ]
  }
  return abilities.http ? [] : [missingMode('http', abilities)]
}

function missingMode(mode: string, { engine, problems }: NetworkAbilities): Refusal {
  const why = problems.length === 0 ? '' : `: ${problems.join('; ')}`
  return {
    code: 'compute.network',
    message: `This node cannot give ${engine} jobs ${mode} network access${why}`,
    hint: 'Choose another node or another engine',
  }
}

function refuseHosts(domains: readonly string[], rules: NetworkRules): Refusal[] {
  if (domains.length === 0) {
    return [
      {
        code: 'compute.network',
        message: 'The job asks for http network access without any host',
        hint: 'Name the hosts: --domain example.com',
      },
    ]
  }
  let asked: HostPatternSet
  try {
    asked = HostPatternSet.parse([...domains], { allowPublicSuffix: true, allowPrivate: true })
  } catch (error) {
    return [
      {
        code: 'compute.network',
        message: error instanceof Error ? error.message : String(error),
        hint: 'Name hosts as example.com, .example.com or *.example.com',
      },
    ]
  }
  const denied = asked.patterns.filter((pattern) => rules.deny.covers(pattern))
  const missing = rules.allow.uncovered(asked).filter((pattern) => !denied.includes(pattern))
  return [
    ...(denied.length === 0
      ? []
      : [
          {
            code: 'egress.denied_by_operator' as const,
            message: `This node denies ${listed(denied)}`,
            hint: 'Leave the host out, or choose another node',
          },
        ]),
    ...(missing.length === 0
      ? []
      : [
          {
            code: 'egress.not_in_node_list' as const,
            message: `This node lacks domain ${listed(missing)}`,
            hint: 'Ask the operator to allow it, or choose another node',
          },
        ]),
  ]
}

function listed(patterns: readonly HostPattern[]): string {
  const shown = patterns.slice(0, 10).map(({ text }) => text)
  return `${shown.join(', ')}${patterns.length > 10 ? ` and ${patterns.length - 10} more` : ''}`
}
