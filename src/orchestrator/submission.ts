import { WeirError } from '../errors.js'
import {
  applyJobDefaults,
  judgeSignatures,
  newEvaluationId,
  newJobId,
  signatureError,
} from '../model/index.js'
import type { Evaluation, Job, JobSpec, NewHistoryEvent, TimeMs } from '../model/index.js'
import type { SubmitRequest } from '../ports/index.js'
import { makeEvaluation } from './evaluations.js'
import type { OrchestratorOptions } from './options.js'
import { RESERVED_META_PREFIX as RESERVED_PREFIX } from './spec-diff.js'
import { clip } from './wording.js'

/** Leaves room in a message of 1 MiB, in which a node must receive the job. */
const SPEC_BYTES_MAX = 700 * 1024
const TOKEN_LENGTH_MAX = 256

/** What one commit stores of a submission. */
export interface Submission {
  job: Job
  evaluation: Evaluation
  event: NewHistoryEvent
}

/** The idempotency token, if any. Throws `spec.invalid` for one that is too long. */
export function readToken(token: string | undefined): string | undefined {
  if (token === undefined || token === '') return undefined
  if (token.length <= TOKEN_LENGTH_MAX) return token
  throw new WeirError('spec.invalid', `Cannot use an idempotency token of ${token.length} characters`, {
    hint: `Use at most ${TOKEN_LENGTH_MAX} characters, for example a UUID.`,
  })
}

/**
 * Nobody runs with less than what was signed for: a signature that is not genuine, or not in force, is an error whether it is
 * needed or not. Throws `signature.invalid` or `signature.expired`. Nodes judge again.
 */
export function requireSignatures(spec: JobSpec, now: TimeMs): void {
  const fault = signatureError(judgeSignatures(spec, now))
  if (fault !== undefined) throw fault
}

/** Adds what only the server knows: id, name, meta data and defaults. Throws `spec.too_large`. */
export function prepareSubmission(
  request: SubmitRequest,
  options: OrchestratorOptions,
  now: TimeMs,
): Submission {
  const id = newJobId(options.chance)
  const spec = completeSpec(request, options, id)
  const job: Job = {
    id,
    spec,
    state: 'Pending',
    message: '',
    details: {},
    version: 1,
    revision: 1,
    createTimeMs: now,
    modifyTimeMs: now,
    ...(request.idempotencyToken ? { idempotencyToken: request.idempotencyToken } : {}),
  }
  return {
    job,
    evaluation: makeEvaluation(newEvaluationId(options.chance), job, 'job-register', now, 0),
    event: {
      jobId: id,
      topic: 'Submission',
      message: 'Job submitted',
      details: presetDetails(request),
      timeMs: now,
      jobVersion: job.version,
    },
  }
}

/** The specification as it is stored for the job `id`. Throws `spec.too_large`. */
export function completeSpec(request: SubmitRequest, options: OrchestratorOptions, id: string): JobSpec {
  const spec = filledSpec(request, options, id)
  const bytes = Buffer.byteLength(JSON.stringify(spec))
  if (bytes <= SPEC_BYTES_MAX) return spec
  throw new WeirError('spec.too_large', `Cannot take a job specification of ${bytes} bytes`, {
    hint: `Keep it below ${SPEC_BYTES_MAX} bytes; larger inputs go by URL or directory.`,
    details: { bytes, max: SPEC_BYTES_MAX },
  })
}

function filledSpec(request: SubmitRequest, options: OrchestratorOptions, id: string): JobSpec {
  const spec = applyJobDefaults(request.spec, options.defaults ?? {})
  const { nodeId, installationId, instanceId } = options
  const own = (meta: Record<string, string>, keep: (key: string) => boolean): Record<string, string> =>
    Object.fromEntries(Object.entries(meta).filter(([key]) => keep(key)))
  return {
    ...spec,
    Name: spec.Name === '' ? id : spec.Name,
    Namespace: spec.Namespace === '' ? 'default' : spec.Namespace,
    Meta: {
      ...own(spec.Meta, (key) => !key.startsWith(RESERVED_PREFIX)),
      ...own(request.clientMeta, (key) => key.startsWith(`${RESERVED_PREFIX}client.`)),
      'bacalhau.org/orchestrator.id': nodeId,
      'bacalhau.org/requester.id': nodeId,
      ...presetMeta(request),
      ...(installationId === undefined ? {} : { 'bacalhau.org/server.installation.id': installationId }),
      ...(instanceId === undefined ? {} : { 'bacalhau.org/server.instance.id': instanceId }),
    },
  }
}

const PRESETS_KEY = `${RESERVED_PREFIX}network.presets`
const PRESETS_TEXT_MAX = 2_000

/** Where the hosts of a job came from; which they are stands in its domains. */
function presetMeta({ presets = [] }: SubmitRequest): Record<string, string> {
  return presets.length === 0 ? {} : { [PRESETS_KEY]: presetText(presets) }
}

/** The same for the history: `@name digest`, one after the other. */
export function presetDetails({ presets = [] }: Pick<SubmitRequest, 'presets'>): Record<string, string> {
  return presets.length === 0 ? {} : { Presets: presetText(presets) }
}

function presetText(presets: NonNullable<SubmitRequest['presets']>): string {
  const text = presets.map(({ name, digest }) => `@${name} ${digest}`).join(', ')
  return clip(text, PRESETS_TEXT_MAX)
}
