import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { WeirError } from '../../errors.js'
import { JOB_STATES, parseLabelSelector, type JobState } from '../../model/index.js'
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
  ResultsQuery,
  StopJobAnswer,
  StopJobQuery,
  SubmitJobAnswer,
  SubmitJobQuery,
} from '../schemas.js'
import { readJobView } from '../job-view.js'
import { knowsNames, readSubmission, submissionBody, submissionWarnings } from '../submission.js'
import {
  executionToWire,
  historyToWire,
  jobToWire,
  readJobsToken,
  writeJobsToken,
  type WireObject,
} from '../wire/index.js'
import { answers } from './answers.js'
import { listExecutions } from './executions.js'
import { readHistory } from './history.js'
import { jobVersionRoutes } from './job-versions.js'

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
        context,
      )
      const updatesByName = knowsNames(request.headers, request.clientVersion)
      const stored = await jobs.submit({ ...submission.request, updatesByName })
      const { jobId, jobVersion, evaluationId, warnings } = stored
      return {
        JobID: jobId,
        JobVersion: jobVersion,
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
    (request) => describeJob(jobs, request.params.id, request.query, request.clientVersion),
  )

  app.delete<JobParams & { Querystring: Static<typeof StopJobQuery> }>(
    '/api/v1/orchestrator/jobs/:id',
    { schema: { tags, params: JobPath, querystring: StopJobQuery, ...answers(StopJobAnswer) } },
    async (request) => {
      const reason = bodyText(request.body, 'reason', 1024) || request.query.reason
      const { namespace } = request.query
      const stopped = await jobs.stop(request.params.id, reason ?? 'Stopped at user request', { namespace })
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

  app.get<JobParams & { Querystring: Static<typeof ResultsQuery> }>(
    '/api/v1/orchestrator/jobs/:id/results',
    { schema: { tags, params: JobPath, querystring: ResultsQuery, ...answers(ResultsAnswer) } },
    async ({ params, query }) => ({
      NextToken: '',
      Items: await jobs.results(params.id, readJobView(query)),
    }),
  )

  jobVersionRoutes(app, context, jobs)
}

/** A token's own order, direction and limit replace those of the query. */
async function listJobs(jobs: JobService, query: Static<typeof ListJobsQuery>): Promise<WireObject> {
  const page =
    query.next_token === undefined
      ? {
          orderBy: query.order_by ?? 'created_at',
          reverse: query.reverse ?? false,
          limit: query.limit ?? 0,
        }
      : readJobsToken(query.next_token)
  const orderBy = page.orderBy === 'modified_at' ? 'modified_at' : 'created_at'
  const selector = query.labels === undefined ? undefined : parseLabelSelector(query.labels)
  const found = await jobs.jobs({
    namespace: query.namespace,
    states: readStates(query.state),
    orderBy,
    reverse: page.reverse,
    limit: page.limit,
    offset: 'offset' in page ? page.offset : 0,
    after: 'after' in page ? page.after : undefined,
    labels: selector?.constraints,
  })
  const last = found.jobs.at(-1)
  if (!found.more || last === undefined) return { NextToken: '', Items: found.jobs.map(jobToWire) }
  const timeMs = orderBy === 'created_at' ? last.createTimeMs : last.modifyTimeMs
  const next = { orderBy, reverse: page.reverse, limit: page.limit, after: { timeMs, id: last.id } }
  return { NextToken: writeJobsToken(next), Items: found.jobs.map(jobToWire) }
}

/** Absent and empty mean all. Throws `api.bad_request` for a word that is no state. */
function readStates(texts: readonly string[] | undefined): JobState[] | undefined {
  const words = (texts ?? []).flatMap((text) => text.split(',')).map((word) => word.trim())
  const states = words.filter((word) => word !== '').map(readState)
  return states.length === 0 ? undefined : [...new Set(states)]
}

function readState(word: string): JobState {
  const state = JOB_STATES.find((candidate) => candidate.toLowerCase() === word.toLowerCase())
  if (state !== undefined) return state
  throw new WeirError('api.bad_request', `invalid state: ${JSON.stringify(word.slice(0, 80))}`, {
    hint: `Use one of: ${JOB_STATES.join(', ')}.`,
  })
}

const INCLUDED_EVENTS_MAX = 100

async function describeJob(
  jobs: JobService,
  id: string,
  { include = '', ...viewQuery }: Static<typeof GetJobQuery>,
  client: ClientVersion | undefined,
): Promise<WireObject> {
  const view = readJobView(viewQuery)
  const job = await jobs.job(id, view)
  const words = new Set(include.split(',').map((word) => word.trim().toLowerCase()))
  const answer: WireObject = { Job: jobToWire(job) }
  if (words.has('history')) {
    const query = { level: 'all', afterSequence: 0, limit: INCLUDED_EVENTS_MAX } as const
    const { events } = await jobs.history(job.id, query, view)
    const withEmptyStates = readsStates(client)
    answer.History = { NextToken: '', Items: events.map((event) => historyToWire(event, withEmptyStates)) }
  }
  if (words.has('executions')) {
    const executions = await jobs.executions(job.id, view)
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
