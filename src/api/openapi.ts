import swagger from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
import { ERROR_CODES, WeirError, type ErrorCode } from '../errors.js'
import { errorBody } from './error-body.js'
import { EXAMPLES } from './examples.js'
import { COMMON_ERRORS, OPERATIONS } from './operations.js'
import { writeJson } from './wire/index.js'

/** Must be called before the routes: it collects them as they are added. Serves `/api/v1/openapi.json`. */
export async function serveOpenApi(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'weir',
        version,
        description:
          'Bacalhau’s API v1, with additions. Object keys of requests match without regard to case; unknown keys are ignored.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      tags: [
        { name: 'jobs', description: 'Jobs, their executions, history, results, output and egress' },
        { name: 'blobs', description: 'Content by its hash, for the programs of jobs' },
        { name: 'nodes', description: 'Nodes of the network' },
        { name: 'agent', description: 'The node that answers' },
        { name: 'auth', description: 'How to obtain a token, and what tokens there are' },
      ],
    },
  })
  let document: string | undefined
  app.get('/api/v1/openapi.json', { schema: { hide: true } }, (_request, reply) => {
    document ??= writeJson(explained(app.swagger() as unknown as OpenApiDocument), 2)
    return reply.type('application/json; charset=utf-8').send(document)
  })
}

interface OpenApiDocument {
  paths: Record<string, Record<string, OpenApiOperation>>
}

interface OpenApiOperation {
  operationId?: string
  summary?: string
  requestBody?: { content: Record<string, OpenApiContent> }
  responses: Record<string, OpenApiResponse>
}

interface OpenApiResponse {
  description: string
  content?: Record<string, OpenApiContent>
}

interface OpenApiContent {
  schema?: unknown
  examples?: Record<string, { summary?: string; value: unknown }>
}

/** The document with what schemas cannot say: summaries, examples, and which errors to expect. */
function explained(document: OpenApiDocument): OpenApiDocument {
  const paths = Object.entries(document.paths).map(([path, operations]) => [
    path,
    Object.fromEntries(
      Object.entries(operations).map(([method, operation]) => [
        method,
        explainedOperation(`${method.toUpperCase()} ${path}`, operation),
      ]),
    ),
  ])
  return { ...document, paths: Object.fromEntries(paths) as OpenApiDocument['paths'] }
}

function explainedOperation(name: string, operation: OpenApiOperation): OpenApiOperation {
  const text = OPERATIONS[name]
  const example = EXAMPLES[name]
  if (text === undefined || example === undefined) return operation
  const { 200: success, default: anyError, ...others } = operation.responses
  if (success === undefined || anyError === undefined) return operation
  return {
    operationId: text.id,
    summary: text.summary,
    ...operation,
    ...(operation.requestBody === undefined
      ? {}
      : {
          requestBody: {
            ...operation.requestBody,
            content: shown(operation.requestBody.content, example.body),
          },
        }),
    responses: {
      200: { ...success, content: shown(success.content ?? {}, example.answer) },
      ...others,
      ...errorResponses([...text.errors, ...COMMON_ERRORS], anyError),
      default: anyError,
    },
  }
}

function shown(content: Record<string, OpenApiContent>, value: unknown): Record<string, OpenApiContent> {
  return Object.fromEntries(
    Object.entries(content).map(([type, one]) => [type, { ...one, examples: { example: { value } } }]),
  )
}

/** One response per status, with an example for each code that has this status. */
function errorResponses(
  codes: readonly ErrorCode[],
  anyError: OpenApiResponse,
): Record<string, OpenApiResponse> {
  const schema = anyError.content?.['application/json']?.schema
  const byStatus: Record<string, OpenApiResponse> = {}
  for (const code of codes) {
    const body = errorBody(new WeirError(code, `Example: ${ERROR_CODES[code]}`), '')
    const response = (byStatus[body.Status] ??= {
      description: body.Code,
      content: { 'application/json': { schema, examples: {} } },
    })
    const examples = response.content?.['application/json']?.examples
    if (examples !== undefined) examples[code] = { summary: ERROR_CODES[code], value: body }
  }
  return byStatus
}
