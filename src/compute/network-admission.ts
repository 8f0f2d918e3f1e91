import type { ErrorCode } from '../errors.js'
import { HostPatternSet } from '../model/host-pattern-set.js'
import {
  type EgressOffering,
  offeredKeys,
  trustedAmong,
  type UncoveredPattern,
  uncoveredPatterns,
} from '../model/egress-coverage.js'
import type { EgressMode } from '../model/egress-lists.js'
import type { HostPattern } from '../model/host-pattern.js'
import {
  LEARNING_HINT,
  type LearningOffer,
  learningObjection,
  learningWish,
  type LearningWish,
} from '../model/learning.js'
import { judgeSignatures, signatureError } from '../model/job-signature.js'
import type { JobSpec, NetworkSpec } from '../model/job-spec.js'
import type { TimeMs } from '../model/state.js'
import { task } from '../model/task-accessors.js'
import type { ComputePolicy } from './options.js'
import { type ToldLists, tellLists } from './told-lists.js'

/** One reason why the node does not take an execution. */
export interface Refusal {
  code: ErrorCode
  message: string
  hint: string
  /** True when trying later can succeed without any change of the job. */
  retryable?: boolean
}

/** The operator's rules about networks, parsed once, with those of the network. */
export interface NetworkRules extends EgressOffering {
  readonly acceptNetworkedJobs: boolean
  readonly acceptFullNetwork: boolean
  readonly mode: EgressMode
  /** Whose jobs may learn. Absent: nobody's. */
  readonly learning?: LearningOffer | undefined
  /** What the node tells of `allow` and `deny`. */
  readonly told: ToldLists
  readonly networkVersion: number | undefined
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

/** Throws `pattern.invalid`: a list that cannot be read is never half used. An unknown mode opens nothing. */
export function networkRules(policy: ComputePolicy): NetworkRules {
  const { mode = 'list', deny = [], privateExceptions = [], network, networkDeny = [] } = policy
  // Who opens nothing opens nothing to keys either.
  const keys = mode === 'none' ? [] : (policy.keys ?? [])
  const allow = [...(mode === 'list' ? (policy.allow ?? []) : []), ...privateExceptions]
  const allowed = HostPatternSet.parse(allow, OPERATORS)
  const denied = HostPatternSet.parse(deny, { ...OPERATORS, portlessMeans: 'any' })
  return {
    acceptNetworkedJobs: policy.acceptNetworkedJobs === true,
    acceptFullNetwork: policy.acceptFullNetwork === true,
    mode,
    learning: policy.acceptNetworkedJobs === true && mode !== 'none' ? policy.learning : undefined,
    allow: mode === 'all' ? HostPatternSet.everything() : allowed,
    deny: denied,
    keys: offeredKeys(keys),
    network: network === undefined ? undefined : HostPatternSet.parse(network, OPERATORS),
    networkDeny: HostPatternSet.parse(networkDeny, { ...OPERATORS, portlessMeans: 'any' }),
    networkVersion: policy.networkVersion,
    told: tellLists(texts(allowed), texts(denied), keys),
  }
}

/** An operator's own lists may hold what a job's may not: public suffixes and private hosts. */
const OPERATORS = { allowPublicSuffix: true, allowPrivate: true } as const

function texts({ patterns }: HostPatternSet): string[] {
  return patterns.map(({ text }) => text)
}

/**
 * Judges what the job asks for, in this order: no network is always fine · networked jobs are accepted · the mode is
 * accepted · the engine can provide it · (http) every signature is genuine and in force, and one of a trusted key · there
 * are hosts, none denied, all covered; or, for a job that learns, that it may. All reasons are given. Who sent the job has
 * judged its signatures as well, and is not trusted.
 */
export function admitNetwork(
  spec: JobSpec,
  rules: NetworkRules,
  abilities: NetworkAbilities,
  nowMs: TimeMs,
): Refusal[] {
  const network = task(spec).Network
  if (network.Type === 'None') return []
  if (network.Type === 'Full')
    return [...refuseFullByRules(rules), ...(abilities.full ? [] : [missingMode('full', abilities)])]
  const wish = learningWish(spec)
  const { signedBy, refusals } = admitSignatures(spec, rules, nowMs)
  // What a signature that does not count might have opened says nothing.
  const unlisted = refusals.length > 0 ? [] : refuseHosts(network.Domains, rules, signedBy)
  const hosts = wish === undefined ? unlisted : refuseLearning(wish, rules)
  return [...refuseNetworked(rules), ...refuseHttp(abilities), ...refusals, ...hosts]
}

/** Who submitted is what the orchestrator says; whose jobs learn here is the operator's own word. */
function refuseLearning(wish: LearningWish, { learning }: NetworkRules): Refusal[] {
  const objection = learningObjection(wish, learning)
  if (objection === undefined) return []
  return [{ code: 'compute.network', message: `This node does not ${objection}`, hint: LEARNING_HINT }]
}

function refuseNetworked({ acceptNetworkedJobs }: NetworkRules): Refusal[] {
  if (acceptNetworkedJobs) return []
  return [
    {
      code: 'compute.network',
      message: 'This node does not accept networked jobs',
      hint: 'Choose a node whose operator accepts them, or run without network',
    },
  ]
}

function admitSignatures(
  spec: JobSpec,
  rules: NetworkRules,
  nowMs: TimeMs,
): { signedBy: string[]; refusals: Refusal[] } {
  const verdicts = judgeSignatures(spec, nowMs)
  const signedBy = verdicts.map(({ key }) => key)
  const fault = signatureError(verdicts)
  if (fault !== undefined) {
    const { code, message, hint = '' } = fault
    return { signedBy, refusals: [{ code, message, hint }] }
  }
  if (signedBy.length === 0 || trustedAmong(signedBy, rules).length > 0) return { signedBy, refusals: [] }
  const untrusted: Refusal = {
    code: 'signature.untrusted',
    message: `This node does not trust the key that signed the job: ${signedBy.join(', ')}`,
    hint: 'Ask the operator to trust it (weir key trust), or submit the job without signature',
  }
  return { signedBy, refusals: [untrusted] }
}

/** Full access knows no lists, so it is for nodes that no list but their own is to limit. */
export function offersFull(rules: NetworkRules, isLimited = isLimitedByNetwork(rules)): boolean {
  return rules.acceptFullNetwork && rules.mode !== 'none' && !isLimited
}

export function isLimitedByNetwork({ network, networkDeny }: NetworkRules): boolean {
  return network !== undefined || networkDeny?.isEmpty === false
}

/** Why the rules admit no full access; empty = they do. */
export function refuseFullByRules(rules: NetworkRules, isLimited = isLimitedByNetwork(rules)): Refusal[] {
  const refusals = refuseNetworked(rules)
  if (offersFull(rules, isLimited)) return refusals
  const why = isLimited ? ': the network has a list of hosts' : ''
  refusals.push({
    code: 'compute.network',
    message: `This node does not accept jobs with full network access${rules.acceptFullNetwork ? why : ''}`,
    hint: 'List the hosts that the job needs: --network http --domain …',
  })
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

function refuseHosts(
  domains: NetworkSpec['Domains'],
  rules: NetworkRules,
  signedBy: readonly string[],
): Refusal[] {
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
  const uncovered = uncoveredPatterns(asked.patterns, rules, signedBy)
  const about = (code: UncoveredPattern['code'], owner: UncoveredPattern['owner']): HostPattern[] =>
    uncovered.filter((one) => one.code === code && one.owner === owner).map(({ pattern }) => pattern)
  return [
    refuseAbout(about('egress.denied_by_operator', 'node'), 'egress.denied_by_operator', {
      what: 'This node denies',
      hint: 'Leave the host out, or choose another node',
    }),
    refuseAbout(about('egress.denied_by_operator', 'network'), 'egress.denied_by_operator', {
      what: 'The network denies',
      hint: 'Leave the host out: no node of this network allows it',
    }),
    refuseAbout(about('egress.not_in_node_list', 'node'), 'egress.not_in_node_list', {
      what: 'This node lacks domain',
      hint: 'Ask the operator to allow it, or choose another node',
    }),
    refuseAbout(about('egress.not_in_network_list', 'network'), 'egress.not_in_network_list', {
      what: 'The list of the network lacks domain',
      hint: 'Ask whoever runs the network to list it',
    }),
  ].flat()
}

function refuseAbout(
  patterns: readonly HostPattern[],
  code: UncoveredPattern['code'],
  { what, hint }: { what: string; hint: string },
): Refusal[] {
  return patterns.length === 0 ? [] : [{ code, message: `${what} ${listed(patterns)}`, hint }]
}

function listed(patterns: readonly HostPattern[]): string {
  const shown = patterns.slice(0, 10).map(({ text }) => text)
  return `${shown.join(', ')}${patterns.length > 10 ? ` and ${patterns.length - 10} more` : ''}`
}
