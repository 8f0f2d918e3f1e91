import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { Type } from 'typebox'
import type { JobService } from '../../ports/index.js'
import type { ApiContext } from '../context.js'
import { bodyCount, bodyText } from '../guards/json-body.js'
import {
  DiffAnswer,
  JobPath,
  JobVersionsQuery,
  ListJobsAnswer,
  RerunBody,
  SubmitJobAnswer,
  SubmitJobQuery,
} from '../schemas.js'
import { readSubmission, submissionBody, submissionWarnings } from '../submission.js'
import { jobToWire } from '../wire/index.js'
import { answers } from './answers.js'

const TOKEN_CHARACTERS_MAX = 256

/** Versions of jobs, as Bacalhau has them since 1.8: what an update would change, running again, all versions. */
export function jobVersionRoutes(app: FastifyInstance, context: ApiContext, jobs: JobService): void {
  const tags = ['jobs']

  app.route({
    method: ['PUT', 'POST'],
    url: '/api/v1/orchestrator/jobs/diff',
    schema: { tags, body: submissionBody(), ...answers(DiffAnswer) },
    handler: async (request) => {
      const submission = readSubmission(request.body, undefined, request.headers, context)
      const { diff, warnings } = await jobs.diff(submission.request)
      return { Diff: diff, Warnings: submissionWarnings(submission.warnings, warnings) }
    },
  })

  app.route<{ Params: { id: string }; Querystring: Static<typeof RerunQuery> }>({
    method: ['PUT', 'POST'],
    url: '/api/v1/orchestrator/jobs/:id/rerun',
    schema: {
      tags,
      params: JobPath,
      querystring: RerunQuery,
      body: RerunBody,
      ...answers(SubmitJobAnswer),
    },
    handler: async ({ body, params, query }) => {
      const token = bodyText(body, 'IdempotencyToken', TOKEN_CHARACTERS_MAX) || query.idempotency_token
      const stored = await jobs.rerun(params.id, {
        namespace: bodyText(body, 'Namespace', 256) || query.namespace,
        jobVersion: bodyCount(body, 'JobVersion'),
        reason: bodyText(body, 'Reason', 1024),
        idempotencyToken: token || undefined,
      })
      return {
        JobID: stored.jobId,
        JobVersion: stored.jobVersion,
        EvaluationID: stored.evaluationId,
        Warnings: stored.warnings,
      }
    },
  })

  app.get<{ Params: { id: string }; Querystring: Static<typeof JobVersionsQuery> }>(
    '/api/v1/orchestrator/jobs/:id/versions',
    { schema: { tags, params: JobPath, querystring: JobVersionsQuery, ...answers(ListJobsAnswer) } },
    async ({ params, query }) => ({
      NextToken: '',
      Items: (await jobs.versions(params.id, query)).map(jobToWire),
    }),
  )
}

const RerunQuery = Type.Object({
  ...SubmitJobQuery.properties,
  ...JobVersionsQuery.properties,
})
