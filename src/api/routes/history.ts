import { setTimeout as sleep } from 'node:timers/promises'
import type { Static } from 'typebox'
import type { HistoryEvent } from '../../model/index.js'
import type { HistoryQuery, JobService } from '../../ports/index.js'
import { readJobView } from '../job-view.js'
import type { HistoryQueryParameters } from '../schemas.js'
import { readPageToken, writePageToken } from '../wire/index.js'

const EVENTS_DEFAULT = 100
const EVENTS_MAX = 10_000
const FIRST_WAIT_MS = 5
const WAIT_MS_MAX = 200

/** A page of history. The token is empty only when the job has ended and everything was delivered. */
export interface HistoryPage {
  events: HistoryEvent[]
  nextToken: string
}

/**
 * Reads a page. With `wait_ms`, an empty page of a job that still runs is asked for again, at growing intervals, until
 * something is new, the time is over or `isInVain` says that nobody waits any more.
 */
export async function readHistory(
  jobs: JobService,
  id: string,
  parameters: Static<typeof HistoryQueryParameters>,
  isInVain: () => boolean,
): Promise<HistoryPage> {
  const query = historyQuery(parameters)
  const view = readJobView(parameters)
  const deadline = Date.now() + (parameters.wait_ms ?? 0)
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 1.5, WAIT_MS_MAX)) {
    const { events, finished } = await jobs.history(id, query, view)
    if (events.length > 0 || finished || Date.now() >= deadline || isInVain()) {
      return { events, nextToken: finished ? '' : tokenAfter(events, query) }
    }
    await sleep(Math.min(waitMs, deadline - Date.now()))
  }
}

function historyQuery(parameters: Static<typeof HistoryQueryParameters>): HistoryQuery {
  const token = parameters.next_token === undefined ? undefined : readPageToken(parameters.next_token)
  return {
    level: parameters.event_type ?? 'all',
    executionId: parameters.execution_id,
    sinceMs: parameters.since === undefined ? undefined : parameters.since * 1000,
    afterSequence: token?.offset ?? 0,
    limit: Math.min(token?.limit || parameters.limit || EVENTS_DEFAULT, EVENTS_MAX),
  }
}

function tokenAfter(events: readonly HistoryEvent[], query: HistoryQuery): string {
  const offset = events.at(-1)?.sequence ?? query.afterSequence
  return writePageToken({ orderBy: 'seq_num', reverse: false, limit: query.limit, offset })
}
