import { WeirError } from '../errors.js'
import { isFullId } from '../model/index.js'
import type { Execution, Job, NodeRecord } from '../model/index.js'
import type { JobStore } from '../ports/index.js'

/** A job by its id or any unique prefix. Rejects with `job.not_found` or `job.ambiguous`. */
export async function findJob(store: JobStore, idOrPrefix: string): Promise<Job> {
  const snapshot = await store.snapshot()
  const exact = snapshot.job(idOrPrefix)
  if (exact !== undefined) return exact
  const ids = idOrPrefix === '' || isFullId(idOrPrefix) ? [] : await store.jobIdsWithPrefix(idOrPrefix, 2)
  const id = pickOne(ids, {
    none: () =>
      new WeirError('job.not_found', `Cannot find job ${quote(idOrPrefix)}`, {
        hint: 'List the jobs with "weir job list".',
      }),
    several: () =>
      new WeirError(
        'job.ambiguous',
        `Cannot tell which job ${quote(idOrPrefix)} means: several ids begin with it`,
        {
          hint: 'Use more characters of the id, or all of it.',
        },
      ),
  })
  const job = (await store.snapshot()).job(id)
  if (job === undefined) throw new WeirError('job.not_found', `Cannot find job ${quote(id)}`)
  return job
}

/** One of a job's executions by id or unique prefix. Throws `execution.not_found` or `execution.ambiguous`. */
export function findExecution(executions: readonly Execution[], idOrPrefix: string): Execution {
  const exact = executions.find((execution) => execution.id === idOrPrefix)
  if (exact !== undefined) return exact
  const found = executions.filter((execution) => idOrPrefix !== '' && execution.id.startsWith(idOrPrefix))
  return pickOne(found, {
    none: () =>
      new WeirError('execution.not_found', `Cannot find execution ${quote(idOrPrefix)} of this job`, {
        hint: 'List the executions with "weir job executions".',
      }),
    several: () =>
      new WeirError('execution.ambiguous', `Cannot tell which execution ${quote(idOrPrefix)} means`, {
        hint: 'Use more characters of the id, or all of it.',
      }),
  })
}

/** A node by id or unique prefix. Throws `node.not_found` or `node.ambiguous`. */
export function findNode(nodes: readonly NodeRecord[], idOrPrefix: string): NodeRecord {
  const exact = nodes.find((node) => node.info.nodeId === idOrPrefix)
  if (exact !== undefined) return exact
  const found = nodes.filter((node) => idOrPrefix !== '' && node.info.nodeId.startsWith(idOrPrefix))
  return pickOne(found, {
    none: () =>
      new WeirError('node.not_found', `Cannot find node ${quote(idOrPrefix)}`, {
        hint: 'List the nodes with "weir node list".',
      }),
    several: () =>
      new WeirError(
        'node.ambiguous',
        `Cannot tell which node ${quote(idOrPrefix)} means: several ids begin with it`,
        {
          hint: 'Use more characters of the id, or all of it.',
        },
      ),
  })
}

function pickOne<T>(found: readonly T[], errors: { none: () => WeirError; several: () => WeirError }): T {
  const [first, ...others] = found
  if (first === undefined) throw errors.none()
  if (others.length > 0) throw errors.several()
  return first
}

function quote(id: string): string {
  return JSON.stringify(id.length > 80 ? `${id.slice(0, 79)}…` : id)
}
