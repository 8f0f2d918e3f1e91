import type { Static } from 'typebox'
import type { JobService } from '../../ports/index.js'
import { readJobView } from '../job-view.js'
import type { ExecutionsQuery } from '../schemas.js'
import { executionToWire, type WireObject } from '../wire/index.js'

/** Executions of a job in the order asked for; oldest first by default. */
export async function listExecutions(
  jobs: JobService,
  id: string,
  query: Static<typeof ExecutionsQuery>,
): Promise<WireObject[]> {
  const view = readJobView(query)
  const job = await jobs.job(id, view)
  const executions = [...(await jobs.executions(job.id, view))]
  if (query.order_by?.startsWith('modif') === true) {
    executions.sort((a, b) => a.modifyTimeMs - b.modifyTimeMs)
  }
  if (query.reverse === true) executions.reverse()
  const shown = query.limit === undefined || query.limit === 0 ? executions : executions.slice(0, query.limit)
  return shown.map((execution) => executionToWire(execution, job))
}
