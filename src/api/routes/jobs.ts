import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { parseLabelSelector } from '../../model/index.js'
import type { JobService } from '../../ports/index.js'
import type { ApiContext } from '../context.js'
import { bodyText } from '../guards/json-body.js'
import { isOlderThan, type ClientVersion } from '../guards/client-version.js'
import {
  ExecutionsAnswer,
  ExecutionsQuery,
  GetJobAnswer,
  GetJobQuery,
  HistoryAnswer,
  HistoryQueryParameters,
  JobPath,
  ListJobsAnswer,
  ListJobsQuery,
  ResultsAnswer,
  StopJobAnswer,
  StopJobQuery,
  SubmitJobAnswer,
  SubmitJobQuery,
} from '../schemas.js'
import { readSubmission, submissionBody, submissionWarnings } from '../submission.js'
import {
  executionToWire,
  historyToWire,
  jobToWire,
  readPageToken,
  writePageToken,
  type WireObject,
} from '../wire/index.js'
import { answers } from './answers.js'
import { listExecutions } from './executions.js'
import { readHistory } from './history.js'

interface JobParams {
  Params: { id: string }
}

/** Jobs: submit, list, describe, stop, and what became of them. */
export function jobRoutes(app: FastifyInstance, context: ApiContext, jobs: JobService): void {
  const tags = ['jobs']

  app.route<{ Querystring: Static<typeof SubmitJobQuery> }>({
    method: ['PUT', 'POST'],
    url: '/api/v1/orchestrator/jobs',
    schema: { tags, body: submissionBody(), querystring: SubmitJobQuery, ...answers(SubmitJobAnswer) },
    handler: async (request) => {
      const submission = readSubmission(
        request.body,
        request.query.idempotency_token,
        request.headers,
        context.jobDefaults,
      )
      const { jobId, evaluationId, warnings } = await jobs.submit(submission.request)
      return {
        JobID: jobId,
        EvaluationID: evaluationId,
        Warnings: submissionWarnings(submission.warnings, warnings),
      }
    },
  })

  app.get<{ Querystring: Static<typeof ListJobsQuery> }>(
    '/api/v1/orchestrator/jobs',
    { schema: { tags, querystring: ListJobsQuery, ...answers(ListJobsAnswer) } },
    (request) => listJobs(jobs, request.query),
  )

  app.get<JobParams & { Querystring: Static<typeof GetJobQuery> }>(
    '/api/v1/orchestrator/jobs/:id',
    { schema: { tags, params: JobPath, querystring: GetJobQuery, ...answers(GetJobAnswer) } },
    (request) => describeJob(jobs, request.params.id, request.query.include ?? '', request.clientVersion),
  )

  app.delete<JobParams & { Querystring: Static<typeof StopJobQuery> }>(
    '/api/v1/orchestrator/jobs/:id',
    { schema: { tags, params: JobPath, querystring: StopJobQuery, ...answers(StopJobAnswer) } },
    async (request) => {
      const reason = bodyText(request.body, 'reason', 1024) || request.query.reason
      const stopped = await jobs.stop(request.params.id, reason ?? 'Stopped at user request')
      return { EvaluationID: stopped.evaluationId }
    },
  )

  app.get<JobParams & { Querystring: Static<typeof HistoryQueryParameters> }>(
    '/api/v1/orchestrator/jobs/:id/history',
    { schema: { tags, params: JobPath, querystring: HistoryQueryParameters, ...answers(HistoryAnswer) } },
    async (request, reply) => {
      const isInVain = (): boolean => reply.raw.destroyed || context.streams.isClosed
      const page = await readHistory(jobs, request.params.id, request.query, isInVain)
      const withEmptyStates = readsStates(request.clientVersion)
      return {
        NextToken: page.nextToken,
        Items: page.events.map((event) => historyToWire(event, withEmptyStates)),
      }
    },
  )

  app.get<JobParams & { Querystring: Static<typeof ExecutionsQuery> }>(
    '/api/v1/orchestrator/jobs/:id/executions',
    { schema: { tags, params: JobPath, querystring: ExecutionsQuery, ...answers(ExecutionsAnswer) } },
    async (request) => ({
      NextToken: '',
      Items: await listExecutions(jobs, request.params.id, request.query),
    }),
  )

  app.get<JobParams>(
    '/api/v1/orchestrator/jobs/:id/results',
    { schema: { tags, params: JobPath, ...answers(ResultsAnswer) } },
    async (request) => ({ NextToken: '', Items: await jobs.results(request.params.id) }),
  )
}

/** A token's own order, direction and limit replace those of the query. */
async function listJobs(jobs: JobService, query: Static<typeof ListJobsQuery>): Promise<WireObject> {
  const page =
    query.next_token === undefined
      ? {
          orderBy: query.order_by ?? 'created_at',
          reverse: query.reverse ?? false,
          limit: query.limit ?? 0,
          offset: 0,
        }
      : readPageToken(query.next_token)
  const selector = query.labels === undefined ? undefined : parseLabelSelector(query.labels)
  const found = await jobs.jobs({
    namespace: query.namespace,
    orderBy: page.orderBy === 'modified_at' ? 'modified_at' : 'created_at',
    reverse: page.reverse,
    limit: page.limit,
    offset: page.offset,
    accept: selector === undefined ? undefined : (job) => selector.matches(job.spec.Labels),
  })
  const next = { ...page, offset: page.offset + found.jobs.length }
  return { NextToken: found.more ? writePageToken(next) : '', Items: found.jobs.map(jobToWire) }
}

const INCLUDED_EVENTS_MAX = 100

async function describeJob(
  jobs: JobService,
  id: string,
  include: string,
  client: ClientVersion | undefined,
): Promise<WireObject> {
  const job = await jobs.job(id)
  const words = new Set(include.split(',').map((word) => word.trim().toLowerCase()))
  const answer: WireObject = { Job: jobToWire(job) }
  if (words.has('history')) {
    const query = { level: 'all', afterSequence: 0, limit: INCLUDED_EVENTS_MAX } as const
    const { events } = await jobs.history(job.id, query)
    const withEmptyStates = readsStates(client)
    answer.History = { NextToken: '', Items: events.map((event) => historyToWire(event, withEmptyStates)) }
  }
  if (words.has('executions')) {
    const executions = await jobs.executions(job.id)
    answer.Executions = {
      NextToken: '',
      Items: executions.map((execution) => executionToWire(execution, job)),
    }
  }
  return answer
}

/** Clients of version 1.4 dereference state objects that later versions dropped. */
function readsStates(client: ClientVersion | undefined): boolean {
  return client !== undefined && isOlderThan(client, 1, 5)
}
