import { once } from 'node:events'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Static } from 'typebox'
import type { AuditRecord } from '../../model/index.js'
import type { JobService } from '../../ports/index.js'
import type { ApiContext } from '../context.js'
import { errorBody, isDefect } from '../error-body.js'
import { EgressAnswer, EgressQuery, JobPath } from '../schemas.js'
import { readPageToken, writeJson, writePageToken, type WireObject } from '../wire/index.js'
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
      const job = await jobs.job(request.params.id)
      if (query.follow === true) return followEgress(job.id, query, context, jobs, reply)
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort())
      return egressPage(job.id, query, jobs, gone.signal)
    },
  )
}

/** Records that arrive between two pages can make a page repeat records, never skip them. */
async function egressPage(
  id: string,
  query: Query,
  jobs: JobService,
  signal: AbortSignal,
): Promise<WireObject> {
  const token = query.next_token === undefined ? undefined : readPageToken(query.next_token)
  const limit = token?.limit ?? (query.limit || RECORDS_DEFAULT)
  const offset = token?.offset ?? 0
  const items: AuditRecord[] = []
  let position = 0
  for await (const record of jobs.egress(id, { executionId: query.execution_id, follow: false }, signal)) {
    if (query.denied === true && record.decision !== 'deny') continue
    if (items.length === limit) {
      const next = writePageToken({ orderBy: 'sequence', reverse: false, limit, offset: offset + limit })
      return { NextToken: next, Items: items }
    }
    if (position++ >= offset) items.push(record)
  }
  return { NextToken: '', Items: items }
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
    for await (const record of jobs.egress(id, { executionId: query.execution_id, follow: true }, signal)) {
      if (query.denied === true && record.decision !== 'deny') continue
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

/** Sends the head now: the first record may be hours away. */
function startLines(reply: FastifyReply): void {
  reply.hijack()
  const response = reply.raw
  response.socket?.setTimeout(0)
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) response.setHeader(name, value)
  }
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
  response.flushHeaders()
}
