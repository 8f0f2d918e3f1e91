import { WeirError } from '../errors.js'
import { PATTERNS_MAX } from '../model/host-pattern.js'
import { SERVICES_MAX } from '../model/destination.js'
import { SIGNATURES_MAX } from '../model/job-signature.js'
import type { EgressExplanation, EgressGateway, EgressQuestion } from '../ports/index.js'

/**
 * Answers what would become of requests: the gateway's own words. Rejects with `api.bad_request`, and with
 * `egress.unavailable` on a node that has no gateway because it takes no networked jobs.
 */
export async function explainEgress(
  body: unknown,
  gateway: EgressGateway | undefined,
): Promise<EgressExplanation> {
  if (!isQuestion(body))
    throw new WeirError('api.bad_request', 'Cannot read the question: it names no host, services and domains')
  if (gateway?.explain === undefined)
    throw new WeirError(
      'egress.unavailable',
      'The node has no egress gateway: it accepts no networked jobs',
      {
        hint: 'Its operator can set JobAdmissionControl.AcceptNetworkedJobs=true',
      },
    )
  return gateway.explain(body)
}

function isQuestion(body: unknown): body is EgressQuestion {
  if (typeof body !== 'object' || body === null) return false
  const { host, services, domains, signedBy = [] } = body as Record<string, unknown>
  if (typeof host !== 'string' || host.length > 255) return false
  if (!Array.isArray(services) || services.length > SERVICES_MAX || !services.every(isService)) return false
  if (!Array.isArray(domains) || domains.length > PATTERNS_MAX) return false
  if (!Array.isArray(signedBy) || signedBy.length > SIGNATURES_MAX) return false
  return [...(domains as unknown[]), ...(signedBy as unknown[])].every((text) => typeof text === 'string')
}

function isService(service: unknown): boolean {
  if (typeof service !== 'object' || service === null) return false
  const { scheme, port } = service as Record<string, unknown>
  const isPort = Number.isInteger(port) && (port as number) > 0 && (port as number) <= 65_535
  return (scheme === 'http' || scheme === 'https') && isPort
}
