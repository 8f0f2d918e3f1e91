import type { IncomingHttpHeaders } from 'node:http'
import { Type } from 'typebox'
import { jobJsonSchema, parseJobSpec } from '../model/index.js'
import type { SubmitRequest } from '../ports/index.js'
import type { ApiContext } from './context.js'
import { bodyField, bodyFlag, bodyText } from './guards/json-body.js'
import { isOlderThan, type ClientVersion } from './guards/client-version.js'
import type { Schema } from './schemas.js'

const TOKEN_CHARACTERS_MAX = 256

/** The body of a submission, for the OpenAPI document; the job itself is read by `parseJobSpec`. */
export function submissionBody(): Schema {
  return Type.Object({
    Job: Type.Unsafe(jobJsonSchema()),
    Force: Type.Optional(
      Type.Boolean({ description: 'Make a new version although nothing changed since the last one' }),
    ),
    IdempotencyToken: Type.Optional(
      Type.String({
        maxLength: TOKEN_CHARACTERS_MAX,
        description: 'Submitting again with the same token returns the job that exists',
      }),
    ),
  })
}

/**
 * Reads a submission. Other clients send keys that only the server sets and keys of later versions: those are ignored
 * with a warning. Every other mistake is reported at once (`spec.invalid`).
 */
export function readSubmission(
  body: unknown,
  tokenFromQuery: string | undefined,
  headers: IncomingHttpHeaders,
  { jobDefaults: defaults, presets }: Pick<ApiContext, 'jobDefaults' | 'presets'>,
): { request: SubmitRequest; warnings: string[] } {
  const force = bodyFlag(body, 'Force')
  const {
    spec,
    warnings,
    presets: used,
  } = parseJobSpec(bodyField(body, 'Job'), {
    unknownFields: 'warn',
    serverFields: 'warn',
    defaults,
    presets,
  })
  const token = bodyText(body, 'IdempotencyToken', TOKEN_CHARACTERS_MAX) || tokenFromQuery
  return {
    request: {
      spec,
      idempotencyToken: token || undefined,
      force,
      clientMeta: clientMeta(headers),
      presets: used,
    },
    warnings,
  }
}

/**
 * Whether the client takes names for what they are since Bacalhau 1.8: a job submitted again under its name is a new
 * version of it. Earlier clients, and those that say no version, expect another job each time.
 */
export function knowsNames(headers: IncomingHttpHeaders, client: ClientVersion | undefined): boolean {
  return headers['x-weir-version'] !== undefined || (client !== undefined && !isOlderThan(client, 1, 8))
}

/** Each warning once, whoever gave it. */
export function submissionWarnings(...lists: readonly (readonly string[])[]): string[] {
  return [...new Set(lists.flat())]
}

/** What clients tell about themselves, as Bacalhau keeps it. Values that are not plain and short are dropped. */
function clientMeta(headers: IncomingHttpHeaders): Record<string, string> {
  const meta: Record<string, string> = {}
  for (const [header, key] of CLIENT_META) {
    const value = headers[header]
    if (typeof value === 'string' && /^[\x21-\x7e]{1,128}$/.test(value)) meta[key] = value
  }
  return meta
}

const CLIENT_META = [
  ['x-bacalhau-instanceid', 'bacalhau.org/client.instance.id'],
  ['x-bacalhau-installationid', 'bacalhau.org/client.installation.id'],
] as const
