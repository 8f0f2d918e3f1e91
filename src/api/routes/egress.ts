import { once } from 'node:events'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Static } from 'typebox'
import type { AuditRecord } from '../../model/index.js'
import type { JobService } from '../../ports/index.js'
import type { ApiContext } from '../context.js'
import { errorBody, isDefect } from '../error-body.js'
import { readJobView } from '../job-view.js'
import { EgressAnswer, EgressQuery, JobPath } from '../schemas.js'
import { readEgressToken, writeEgressToken, writeJson, type WireObject } from '../wire/index.js'
import { answers } from './answers.js'

type Query = Static<typeof EgressQuery>

const RECORDS_DEFAULT = 1000
const BLANK_LINE_MS = 15_000

/**
 * What a job tried to reach: every attempt is one audit record, in the form over which its hash was made.
 *
 * Without `follow` a page of JSON. With it, newline-delimited JSON until the job ends: one record per line, blank lines
 * while nothing happens, and `{"Error":…}` as last line if it breaks off.
 */
export function egressRoutes(app: FastifyInstance, context: ApiContext, jobs: JobService): void {
  app.get<{ Params: { id: string }; Querystring: Query }>(
    '/api/v1/orchestrator/jobs/:id/egress',
    {
      schema: { tags: ['jobs'], params: JobPath, querystring: EgressQuery, ...answers(EgressAnswer) },
      config: { isStream: true },
      exposeHeadRoute: false,
    },
    async (request, reply) => {
      const { query } = request
      const job = await jobs.job(request.params.id, readJobView(query))
      if (query.follow === true) return followEgress(job.id, query, context, jobs, reply)
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort())
      return egressPage(job.id, query, jobs, gone.signal)
    },
  )
}

/**
 * Execution by execution, so that a page begins exactly where the one before ended, however their records interleave in
 * time. What an execution does after its last page was read is found by following only.
 */
async function egressPage(
  id: string,
  query: Query,
  jobs: JobService,
  signal: AbortSignal,
): Promise<WireObject> {
  const token = query.next_token === undefined ? undefined : readEgressToken(query.next_token)
  const limit = query.limit || RECORDS_DEFAULT
  const items: AuditRecord[] = []
  for (const executionId of await executionsFrom(jobs, id, query, token?.executionId)) {
    const after = executionId === token?.executionId ? token.sequence : 0
    for await (const record of jobs.egress(id, { executionId, follow: false }, signal)) {
      if (record.sequence <= after || !isWanted(record, query)) continue
      const last = items.at(-1)
      if (last !== undefined && items.length === limit)
        return { NextToken: writeEgressToken(last), Items: items }
      items.push(record)
    }
  }
  return { NextToken: '', Items: items }
}

/** Ids of the executions to read, oldest first, from the one where the last page ended. */
async function executionsFrom(
  jobs: JobService,
  id: string,
  query: Query,
  start: string | undefined,
): Promise<string[]> {
  const { execution_id: wanted } = query
  const view = wanted === undefined ? readJobView(query) : { allVersions: true }
  const ids = (await jobs.executions(id, view))
    .filter((execution) => execution.observed.state !== 'Rejected')
    .map((execution) => execution.id)
    .filter((executionId) => wanted === undefined || executionId.startsWith(wanted))
  // Let the service say what is wrong with an id that fits nothing.
  if (ids.length === 0 && wanted !== undefined) return [wanted]
  return start === undefined ? ids : ids.slice(Math.max(0, ids.indexOf(start)))
}

function isWanted(record: AuditRecord, query: Query): boolean {
  return query.denied !== true || record.decision === 'deny'
}

async function followEgress(
  id: string,
  query: Query,
  context: ApiContext,
  jobs: JobService,
  reply: FastifyReply,
): Promise<void> {
  const { signal, release } = context.streams.open()
  const response = reply.raw
  response.once('close', release)
  startLines(reply)
  const blankLines = setInterval(() => response.write('\n'), BLANK_LINE_MS)
  blankLines.unref()
  try {
    const wanted = { ...readJobView(query), executionId: query.execution_id, follow: true }
    for await (const record of jobs.egress(id, wanted, signal)) {
      if (!isWanted(record, query)) continue
      if (!response.write(writeJson(record))) await once(response, 'drain', { signal })
    }
  } catch (error) {
    if (!signal.aborted) {
      if (isDefect(error)) context.logger.error({ err: error, job: id }, 'egress stream failed')
      response.write(writeJson({ Error: errorBody(error, '') }))
    }
  } finally {
    clearInterval(blankLines)
    // A stream that the server cuts must not look like one that is complete.
    if (signal.aborted) response.destroy()
    else response.end()
    release()
  }
}

/**
 * Sends the head now: the first record may be hours away. The server's idle timeout stays: blank lines keep a reader's
 * connection alive, and a reader that takes nothing any more is cut.
 */
function startLines(reply: FastifyReply): void {
  reply.hijack()
  const response = reply.raw
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) response.setHeader(name, value)
  }
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
  response.flushHeaders()
}
