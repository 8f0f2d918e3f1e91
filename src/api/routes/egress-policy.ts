import type { FastifyInstance } from 'fastify'
import { WeirError } from '../../errors.js'
import {
  type Destination,
  PATTERNS_MAX,
  expandPresets,
  isPublicKey,
  parseHostPatterns,
  parseJobSpec,
  quoted,
  readDestination,
} from '../../model/index.js'
import type { EgressCheck, JobService } from '../../ports/index.js'
import type { ApiContext } from '../context.js'
import { bodyField, bodyText } from '../guards/json-body.js'
import {
  CheckEgressAnswer,
  CheckEgressBody,
  ExplainEgressAnswer,
  ExplainEgressBody,
  NetworkEgressAnswer,
  PresetsAnswer,
} from '../egress-policy-schemas.js'
import { NodePath } from '../schemas.js'
import { egressVerdictToWire, type WireObject } from '../wire/index.js'
import { answers } from './answers.js'

/** What jobs may reach, asked before anything runs: the list of the network, which nodes would do, what a gateway says. */
export function egressPolicyRoutes(app: FastifyInstance, context: ApiContext, jobs: JobService): void {
  const tags = ['nodes']

  app.get('/api/v1/orchestrator/egress', { schema: { tags, ...answers(NetworkEgressAnswer) } }, async () => {
    const { version, allow, deny } = jobs.networkEgress()
    return { Version: version, Limited: allow !== undefined, Allow: allow ?? [], Deny: deny }
  })

  app.get('/api/v1/orchestrator/egress/presets', { schema: { tags, ...answers(PresetsAnswer) } }, () => ({
    Presets: [...context.presets.values()].map(({ name, digest, domains }) => ({
      Name: name,
      Digest: digest,
      Domains: domains,
    })),
  }))

  app.post(
    '/api/v1/orchestrator/egress/check',
    { schema: { tags, body: CheckEgressBody, ...answers(CheckEgressAnswer) } },
    async ({ body }) => {
      const job = bodyField(body, 'Job')
      const spec =
        job === undefined || job === null
          ? {}
          : {
              spec: parseJobSpec(job, {
                unknownFields: 'warn',
                serverFields: 'warn',
                defaults: context.jobDefaults,
                presets: context.presets,
              }).spec,
            }
      const engine = bodyText(body, 'Engine', 256)
      const domains = readDomains(body, context)
      if (job === undefined && domains.length === 0) throw nothingAsked()
      const signedBy = readKeys(body)
      const check = await jobs.checkEgress({
        domains,
        signedBy,
        ...(engine === '' ? {} : { engine }),
        ...spec,
      })
      return checkToWire(check)
    },
  )

  app.post<{ Params: { id: string } }>(
    '/api/v1/orchestrator/nodes/:id/explain',
    { schema: { tags, params: NodePath, body: ExplainEgressBody, ...answers(ExplainEgressAnswer) } },
    async ({ body, params }) => {
      const destination: Destination = readDestination(bodyText(body, 'Host', 4_096))
      const { host, services, oddities } = destination
      const question = { host, services, domains: readDomains(body, context), signedBy: readKeys(body) }
      const { nodeId, policyGeneration, verdicts } = await jobs.explainEgress(params.id, question)
      return {
        NodeID: nodeId,
        Host: host,
        Oddities: oddities,
        PolicyGeneration: policyGeneration,
        Verdicts: verdicts.map(egressVerdictToWire),
      }
    },
  )
}

/** The patterns of a job, canonical. Throws `pattern.invalid` or `preset.unknown` as a submission would. */
function readDomains(body: unknown, { presets }: Pick<ApiContext, 'presets'>): string[] {
  const texts = ['Domains', 'OutboundURLs'].flatMap((key) => {
    const value = bodyField(body, key) ?? []
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value as string[]
    throw new WeirError('api.bad_request', `Cannot read "${key}" of the body: it must be a list of strings`)
  })
  if (texts.length > PATTERNS_MAX)
    throw new WeirError('api.bad_request', `Cannot take ${texts.length} domains, at most ${PATTERNS_MAX}`)
  const { domains } = expandPresets(texts, presets)
  return parseHostPatterns(domains, { allowPrivate: true }).map(({ text }) => text)
}

/** Public keys. Throws `key.invalid`. */
function readKeys(body: unknown): string[] {
  const value = bodyField(body, 'SignedBy') ?? []
  if (!Array.isArray(value)) throw new WeirError('api.bad_request', 'Cannot read "SignedBy" of the body')
  const wrong: unknown = value.find((one) => !isPublicKey(one))
  if (wrong === undefined) return value as string[]
  throw new WeirError('key.invalid', `Cannot use ${quoted(JSON.stringify(wrong))} as a public key`, {
    hint: 'A public key is U and 55 letters and digits: weir key show FILE',
  })
}

function nothingAsked(): WeirError {
  return new WeirError('api.bad_request', 'Cannot check nothing: the body has neither domains nor a job', {
    hint: 'Send {"Domains": ["example.com"]} or {"Job": {…}}.',
  })
}

function checkToWire({ patterns, networkVersion, nodes, fitting }: EgressCheck): WireObject {
  return {
    NetworkVersion: networkVersion,
    Fitting: fitting,
    Domains: patterns.map(({ pattern, accepting, refusing, reason }) => ({
      Pattern: pattern,
      Accepting: accepting,
      Refusing: refusing,
      Reason: reason,
    })),
    Nodes: nodes.map(({ nodeId, fits, reasons, missing, missingCount, keys }) => ({
      NodeID: nodeId,
      Fits: fits,
      Reasons: reasons.map(({ code, message, hint }) => ({ Code: code, Message: message, Hint: hint })),
      Missing: missing.map(({ pattern, owner, code, rule }) => ({
        Pattern: pattern,
        Owner: owner,
        Code: code,
        Rule: rule,
      })),
      MissingCount: missingCount,
      Keys: keys,
    })),
  }
}
