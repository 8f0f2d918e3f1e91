import {
  classifyIpAddress,
  type Host,
  hostInUrl,
  readHost,
  SCHEME_PORTS,
  type WebScheme,
} from '../../model/index.js'
import { WeirError } from '../../errors.js'
import type { EgressObjection, EgressQuestion, EgressVerdict } from '../../ports/index.js'
import { decideHost, type EgressRefusal, type EgressRequest, refusals } from './decide.js'
import type { EgressRules } from './egress-policy.js'

/**
 * What would become of requests of a job, before anything is looked up: the decision of {@link decideHost} itself, and
 * beside it everything that stands against the request, with what would change it. Rejects with `host.invalid` for a host
 * that is not canonical.
 */
export function explainRequests({ host, services }: EgressQuestion, rules: EgressRules): EgressVerdict[] {
  const reading = readHost(hostInUrl(host))
  if (!reading.ok)
    throw new WeirError('host.invalid', `Cannot use host ${JSON.stringify(host)}: ${reading.reason}`)
  return services.map(({ scheme, port }) => {
    const request: EgressRequest = {
      kind: scheme === 'http' ? 'http' : 'connect',
      host: reading.host,
      port,
    }
    const decision = decideHost(request, rules)
    const only = services.length === 1 && port === SCHEME_PORTS[scheme] ? scheme : undefined
    const objections = decision.allowed ? [] : objectionsTo(request, rules, only)
    const { allowed, rule, owner } = decision
    return { scheme, port, allowed, rule, owner, code: decision.allowed ? '' : decision.code, objections }
  })
}

function objectionsTo(
  request: EgressRequest,
  rules: EgressRules,
  scheme: WebScheme | undefined,
): EgressObjection[] {
  const all = [...refusals(request, rules)]
  // A private exception counts as listed by the node, so that it needs no second entry.
  const isPrivate = all.some(({ code }) => code === 'egress.private_address')
  return all
    .filter(({ code, owner }) => !isPrivate || owner !== 'node' || code === 'egress.denied_by_operator')
    .map((refusal) => {
      const { code, owner, rule } = refusal
      return { code, owner, rule, change: changeFor(refusal, request, { scheme, rules }) }
    })
}

/**
 * What would have to change, and by whom; empty when nothing can. Where only one scheme was asked for, what is proposed
 * opens only that one: a list that holds `https://host` does not cover a job that asks for `host`.
 */
function changeFor(
  { code, owner, rule }: EgressRefusal,
  { kind, host, port }: EgressRequest,
  { scheme, rules }: { scheme: WebScheme | undefined; rules: EgressRules },
): string {
  const { text } = host
  const isWeb = port === SCHEME_PORTS.http || port === SCHEME_PORTS.https
  const plain = isWeb ? text : `${hostInUrl(text)}:${port}`
  const pattern = scheme === undefined ? plain : `${scheme}://${hostInUrl(text)}`
  // Mail never leaves, and the node's own loopback is the node itself, however it is listed.
  if (port === 25 || isHere(host)) return ''
  switch (code) {
    case 'egress.self':
      return ''
    case 'egress.private_address':
      return `the operator of the node adds ${hostInUrl(text)}:${port} to Egress.PrivateExceptions`
    case 'egress.denied_by_operator':
      return owner === 'network'
        ? `whoever runs the network takes ${rule} out of Orchestrator.Egress.Deny`
        : `the operator of the node takes ${rule} out of Egress.Deny`
    default:
      break
  }
  if (owner === 'node') {
    const opening = rules.node.keys.filter(
      ({ allow }) => allow.match(text, port, kind === 'http' ? 'http' : 'https') !== undefined,
    )
    const names = opening.slice(0, KEYS_NAMED_MAX).map(({ name }) => name)
    const signed = names.length === 0 ? '' : `, or the job is signed with key ${names.join(' or ')}`
    return `the operator of the node adds ${pattern} to Egress.Allow${signed}`
  }
  if (owner === 'network') return `whoever runs the network adds ${pattern} to Orchestrator.Egress.Allow`
  const network = code === 'egress.mode_none' ? '--network http ' : ''
  return `the job is submitted with ${network}--domain ${pattern}`
}

const KEYS_NAMED_MAX = 3

function isHere(host: Host): boolean {
  if (host.kind === 'name') return /(?:^|\.)localhost$/.test(host.text)
  return ['loopback', 'unspecified'].includes(classifyIpAddress(host.address).kind)
}
