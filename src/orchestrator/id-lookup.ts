import { WeirError } from '../errors.js'
import { isFullId, isTerminalJobState } from '../model/index.js'
import type { Execution, Job, NodeId, NodeRecord } from '../model/index.js'
import type { JobStore } from '../ports/index.js'

/** Where jobs are that name no namespace. */
export const DEFAULT_NAMESPACE = 'default'

/**
 * A job by its id, by its name, or by any unique prefix of its id, in this order. Rejects with `job.not_found` or
 * `job.ambiguous`. `namespace` is where a name is looked up; absent, empty and `*` mean `default`.
 */
export async function findJob(store: JobStore, idOrPrefix: string, namespace?: string): Promise<Job> {
  const snapshot = await store.snapshot()
  const exact = snapshot.job(idOrPrefix)
  if (exact !== undefined) return exact
  const named = await findNamedJob(store, idOrPrefix, namespace)
  if (named !== undefined) return named
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

/**
 * The job that a name means: the one that has not ended; when all have, the newest. Clients that know no names make
 * several of one name. Undefined without any; rejects with `job.ambiguous` when several have not ended.
 */
export async function findNamedJob(
  store: JobStore,
  name: string,
  namespace = DEFAULT_NAMESPACE,
): Promise<Job | undefined> {
  if (name === '') return undefined
  const where = namespace === '' || namespace === '*' ? DEFAULT_NAMESPACE : namespace
  const ids = await store.jobIdsByName(where, name, 2)
  const snapshot = await store.snapshot()
  const [first, second] = ids.map((id) => snapshot.job(id))
  if (second === undefined || isTerminalJobState(second.state)) return first
  throw new WeirError(
    'job.ambiguous',
    `Cannot tell which job ${quote(name)} means: several of this name have not ended`,
    { hint: 'Use the id of the job; "weir job list" shows it.', details: { jobs: ids } },
  )
}

/**
 * One version of a job: as it is, or as it was when it was replaced; absent and 0 mean the latest. Rejects with
 * `job.not_found`.
 */
export async function findVersion(store: JobStore, job: Job, version = 0): Promise<Job> {
  if (version === 0 || version === job.version) return job
  const replaced = await store.replacedVersions(job.id)
  const found = replaced.find((one) => one.version === version)
  if (found !== undefined) return found
  const oldest = replaced[0]?.version ?? job.version
  const known = oldest === job.version ? `only version ${oldest}` : `versions ${oldest} to ${job.version}`
  throw new WeirError('job.not_found', `Cannot find version ${version} of job ${quote(job.id)}`, {
    hint: `It has ${known}; see "weir job versions".`,
  })
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

/**
 * The node that an operator decides about: its id, or what lists show of an id that nobody chose. The beginning of a name will
 * not do: `rack-1` must never mean `rack-10` because `rack-1` is gone.
 */
export function meantNode(nodes: readonly NodeRecord[], idOrPrefix: string): NodeId {
  return MADE_UP_ID.test(idOrPrefix) ? findNode(nodes, idOrPrefix).info.nodeId : idOrPrefix
}

const MADE_UP_ID = /^n-[0-9a-f]{8}/

function pickOne<T>(found: readonly T[], errors: { none: () => WeirError; several: () => WeirError }): T {
  const [first, ...others] = found
  if (first === undefined) throw errors.none()
  if (others.length > 0) throw errors.several()
  return first
}

function quote(id: string): string {
  return JSON.stringify(id.length > 80 ? `${id.slice(0, 79)}…` : id)
}
