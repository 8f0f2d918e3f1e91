import { TextDecoder } from 'node:util'
import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import type { WebSocket } from 'ws'
import { isWeirError, WeirError } from '../../errors.js'
import type { JobService, JobView, LogItem } from '../../ports/index.js'
import type { ApiContext } from '../context.js'
import type { OpenStream } from '../open-streams.js'
import { readQuery } from '../guards/request-schema.js'
import { readJobView } from '../job-view.js'
import { JobPath, LogsQuery, PlainText } from '../schemas.js'
import { rfc3339, writeJson } from '../wire/index.js'
import { answers } from './answers.js'

const PING_MS = 20_000

/**
 * Output of a job over a websocket: one JSON object per text frame, then close 1000.
 *
 *     {"value":{"Type":1,"Line":"text","ExecutionID":"e-…","Time":"…"}}     Type 1 = stdout, 2 = stderr
 *     {"notice":"…","value":{"Type":0,"Line":"","ExecutionID":"e-…"}}       with all_executions only
 *     {"error":"…","value":{"Type":0,"Line":""}}
 *
 * Close 1001 means that the server stops. Every problem, bad parameters included, is an error frame after the upgrade; clients expect no HTTP status here.
 */
export function logRoutes(app: FastifyInstance, context: ApiContext, jobs: JobService): void {
  app.route<{ Params: { id: string } }>({
    method: 'GET',
    url: '/api/v1/orchestrator/jobs/:id/logs',
    schema: {
      tags: ['jobs'],
      description:
        'A websocket. Each text frame is one JSON object: {"value":{"Type":1|2,"Line":…}} or {"error":…}; close code 1000 ends it.',
      params: JobPath,
      querystring: LogsQuery,
      ...answers(PlainText, 'text/plain'),
    },
    config: { isStream: true, isWebsocket: true },
    exposeHeadRoute: false,
    // Query parameters are read after the upgrade.
    attachValidation: true,
    handler: (_request, reply) =>
      reply
        .code(400)
        .type('text/plain; charset=utf-8')
        .send('Bad Request: the log stream is a websocket; connect with an Upgrade header'),
    wsHandler: (socket, request) =>
      streamLogs(socket, request.params.id, rawQuery(request.url), context, jobs),
  })
}

async function streamLogs(
  socket: WebSocket,
  id: string,
  query: unknown,
  context: ApiContext,
  jobs: JobService,
): Promise<void> {
  const stopPings = keepAlive(socket)
  let stream: OpenStream | undefined
  try {
    stream = context.streams.open()
    socket.once('close', stream.release)
    const parameters = readQuery(LogsQuery, query) as Static<typeof LogsQuery>
    const view = readJobView(parameters)
    const items = jobs.logs(
      id,
      {
        executionId: parameters.execution_id,
        follow: parameters.follow ?? false,
        fromEnd: parameters.tail ?? false,
        tailLines: parameters.tail_lines,
        sinceMs: parameters.since === undefined ? undefined : readSince(parameters.since),
        allExecutions: parameters.all_executions,
        ...view,
      },
      stream.signal,
    )
    const frames = new LogFrames(parameters.encoding ?? 'utf8')
    let isSilent = true
    for await (const item of items) {
      isSilent = false
      for (const frame of frames.of(item)) await send(socket, frame)
    }
    if (isSilent && parameters.follow !== true) await requireExecution(jobs, id, view)
    for (const frame of frames.rest()) await send(socket, frame)
  } catch (error) {
    if (stream?.signal.aborted === true) return
    if (!isWeirError(error)) context.logger.error({ err: error, job: id }, 'log stream failed')
    await send(socket, errorFrame(id, error)).catch(() => {
      /* The client is gone; there is nobody to tell. */
    })
  } finally {
    stopPings()
    socket.close(stream?.signal.aborted === true ? 1001 : 1000)
    stream?.release()
  }
}

/** Silence of a program is an answer; a job that nobody runs has none. Rejects with `execution.not_found`. */
async function requireExecution(jobs: JobService, id: string, view: JobView): Promise<void> {
  const executions = await jobs.executions(id, view)
  if (executions.some((execution) => execution.observed.state !== 'Rejected')) return
  throw new WeirError('execution.not_found', `Job ${JSON.stringify(id)} has no execution`, {
    hint: 'Ask again with follow=true to wait for one, or look at the history of the job.',
  })
}

/** Turns pieces of output into frames; characters that are cut between two pieces are put together again. */
class LogFrames {
  readonly #encoding: 'utf8' | 'base64'
  readonly #decoders = new Map<string, { decoder: TextDecoder; last: LogItem }>()

  constructor(encoding: 'utf8' | 'base64') {
    this.#encoding = encoding
  }

  *of(item: LogItem): Iterable<string> {
    if (item.notice !== undefined) {
      yield noticeFrame(item, item.notice)
      return
    }
    if (this.#encoding === 'base64') {
      yield frame(item, '', Buffer.from(item.data).toString('base64'))
      return
    }
    const line = this.#decoderOf(item).decode(item.data, { stream: true })
    if (line !== '') yield frame(item, line)
  }

  /** What an unfinished character at the very end leaves. */
  *rest(): Iterable<string> {
    for (const { decoder, last } of this.#decoders.values()) {
      const line = decoder.decode()
      if (line !== '') yield frame(last, line)
    }
  }

  #decoderOf(item: LogItem): TextDecoder {
    const key = `${item.executionId}/${item.stream}`
    const known = this.#decoders.get(key)
    const decoder = known?.decoder ?? new TextDecoder('utf-8', { ignoreBOM: true })
    this.#decoders.set(key, { decoder, last: item })
    return decoder
  }
}

function frame(item: LogItem, line: string, data?: string): string {
  return writeJson({
    value: {
      Type: item.stream === 'stdout' ? 1 : 2,
      Line: line,
      Data: data,
      ExecutionID: item.executionId,
      Time: rfc3339(item.timeMs),
    },
  }).trimEnd()
}

/** Clients that know no notices find an empty piece of output of no kind. */
function noticeFrame({ executionId }: LogItem, notice: string): string {
  return JSON.stringify({ value: { Type: 0, Line: '', ExecutionID: executionId }, notice })
}

/** Unix seconds, also with a fraction, or RFC 3339; in milliseconds. Throws `api.bad_request`. */
function readSince(text: string): number {
  const ms = /^\d{1,11}(?:\.\d{1,9})?$/.test(text) ? Number(text) * 1000 : readInstant(text)
  if (Number.isFinite(ms) && ms >= 0) return Math.floor(ms)
  throw new WeirError('api.bad_request', `invalid since: ${JSON.stringify(text.slice(0, 80))}`, {
    hint: 'Use Unix seconds, or a time such as 2024-11-29T08:46:40Z.',
  })
}

/** NaN for anything that is not RFC 3339 with its zone. */
function readInstant(text: string): number {
  return RFC_3339.test(text) ? Date.parse(text.replace(' ', 'T').toUpperCase()) : Number.NaN
}

const RFC_3339 = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})$/

function errorFrame(id: string, error: unknown): string {
  const reason = isWeirError(error) && error.code !== 'internal' ? error.message : 'internal server error'
  return JSON.stringify({
    error: `failed to open log stream for job ${id}: ${reason}`,
    value: { Type: 0, Line: '' },
    code: isWeirError(error) ? error.code : 'internal',
    hint: isWeirError(error) && error.code !== 'internal' ? error.hint : undefined,
  })
}

/** Resolves when the frame was handed to the kernel, so a slow reader slows the source instead of filling memory. */
function send(socket: WebSocket, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(text, (error) => (error ? reject(error) : resolve()))
  })
}

/** Cuts the connection of a client that no longer answers pings. */
function keepAlive(socket: WebSocket): () => void {
  let isAlive = true
  socket.on('pong', () => {
    isAlive = true
  })
  const timer = setInterval(() => {
    if (!isAlive) return socket.terminate()
    isAlive = false
    socket.ping()
  }, PING_MS)
  timer.unref()
  socket.once('close', () => clearInterval(timer))
  return () => clearInterval(timer)
}

/** The query as sent: schema-checked values of the request would already have lost what was wrong with them. */
function rawQuery(url: string): unknown {
  const start = url.indexOf('?')
  return start < 0 ? {} : Object.fromEntries(new URLSearchParams(url.slice(start + 1)))
}
