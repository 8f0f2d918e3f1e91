import { WeirError } from '../errors.js'
import { isTerminalJobState, matchConstraints } from '../model/index.js'
import type { Execution, ExecutionId, HistoryEvent, Job, JobId } from '../model/index.js'
import type {
  Change,
  EndedJobsQuery,
  HistoryQuery,
  JobQuery,
  JobStore,
  Revision,
  Snapshot,
} from '../ports/index.js'
import { VERSIONS_MAX } from '../ports/index.js'
import { ActiveState, isActiveJob, type Archive } from './active-state.js'
import { ChangeFeed, type CommittedChange } from './change-feed.js'
import { nameOf } from './job-name.js'
import { HISTORY_PER_JOB_MAX, boundedLimit, boundedOffset } from './query-bounds.js'
import { checkRevision } from './revision-check.js'

export interface MemoryStoreOptions {
  /** Ended jobs that are remembered; the one that was created first goes first. Default 10,000. */
  endedJobsMax?: number
  /** Lines of history that are kept for one job; the oldest go first. Default 10,000. */
  historyPerJobMax?: number
}

/** A {@link JobStore} that forgets everything with its process: for the embedded shape and for tests. */
export function openMemoryStore(options: MemoryStoreOptions = {}): JobStore {
  return new MemoryStore(options.endedJobsMax ?? 10_000, options.historyPerJobMax ?? HISTORY_PER_JOB_MAX)
}

class MemoryStore implements JobStore {
  readonly #records: MemoryArchive
  readonly #state: ActiveState
  readonly #feed = new ChangeFeed(0)
  #closed = false

  constructor(endedJobsMax: number, historyPerJobMax: number) {
    this.#records = new MemoryArchive(endedJobsMax, historyPerJobMax)
    this.#state = new ActiveState(this.#records)
  }

  async snapshot(): Promise<Snapshot> {
    this.#assertOpen()
    return this.#state.snapshot()
  }

  async commit(change: Change, ifRevision?: Revision): Promise<Revision> {
    this.#assertOpen()
    checkRevision(ifRevision, this.#state.revision)
    const revision = this.#state.revision + 1
    try {
      this.#state.prepare(change)
    } catch (error) {
      this.#state.abandon(change)
      throw error
    }
    this.#records.write(change)
    this.#state.apply(change, revision)
    this.#feed.publish(revision, change)
    return revision
  }

  watch(since: Revision, signal: AbortSignal): AsyncIterable<CommittedChange> {
    return this.#feed.watch(since, signal)
  }

  async jobIdsWithPrefix(prefix: string, limit: number): Promise<JobId[]> {
    return withPrefix(this.#records.jobs.keys(), prefix, limit)
  }

  async executionIdsWithPrefix(prefix: string, limit: number): Promise<ExecutionId[]> {
    return withPrefix(this.#records.executions.keys(), prefix, limit)
  }

  async jobByIdempotencyToken(token: string): Promise<JobId | undefined> {
    return this.#records.tokens.get(token)
  }

  async jobIdsByName(namespace: string, name: string, limit: number): Promise<JobId[]> {
    const rank = (job: Job): number => (isTerminalJobState(job.state) ? 1 : 0)
    return [...this.#records.jobs.values()]
      .filter((job) => nameOf(job) === name && job.spec.Namespace === namespace)
      .toSorted((a, b) => rank(a) - rank(b) || b.createTimeMs - a.createTimeMs || (a.id < b.id ? 1 : -1))
      .slice(0, Math.max(0, limit))
      .map((job) => job.id)
  }

  async replacedVersions(id: JobId): Promise<Job[]> {
    return [...(this.#records.versions.get(id) ?? [])]
  }

  async listJobs(query: JobQuery): Promise<{ jobs: Job[]; more: boolean }> {
    const [offset, limit] = [boundedOffset(query.offset), boundedLimit(query.limit)]
    const time = (job: Job): number => (query.orderBy === 'created_at' ? job.createTimeMs : job.modifyTimeMs)
    const found = [...this.#records.jobs.values()]
      .filter((job) => isWanted(job, query))
      .toSorted((a, b) => time(a) - time(b) || (a.id < b.id ? -1 : 1))
    if (query.reverse) found.reverse()
    const { after } = query
    if (after !== undefined) {
      const isPast = (job: Job): boolean => {
        const difference = time(job) - after.timeMs
        const isLater = difference > 0 || (difference === 0 && job.id > after.id)
        const isSame = difference === 0 && job.id === after.id
        return query.reverse ? !isLater && !isSame : isLater
      }
      const first = found.findIndex(isPast)
      found.splice(0, first < 0 ? found.length : first)
    }
    return { jobs: found.slice(offset, offset + limit), more: found.length > offset + limit }
  }

  async endedJobs({ beforeMs, keepMax, limit }: EndedJobsQuery): Promise<JobId[]> {
    const ended = [...this.#records.jobs.values()]
      .filter((job) => isTerminalJobState(job.state))
      .toSorted((a, b) => a.modifyTimeMs - b.modifyTimeMs || (a.id < b.id ? -1 : 1))
    const settled = ended.filter((job) => !isActiveJob(job, this.#records.executionsOfJob(job.id)))
    const surplus = new Set(settled.slice(0, Math.max(0, settled.length - keepMax)))
    const found = ended.filter((job) => job.modifyTimeMs < beforeMs || surplus.has(job))
    return found.slice(0, limit).map((job) => job.id)
  }

  async history(jobId: JobId, query: HistoryQuery): Promise<{ events: HistoryEvent[]; more: boolean }> {
    const limit = boundedLimit(query.limit)
    const found = (this.#records.events.get(jobId) ?? []).filter(
      (event) =>
        event.sequence > query.afterSequence &&
        event.timeMs >= (query.sinceMs ?? -Infinity) &&
        (query.level === 'all' || (query.level === 'execution') === (event.executionId !== undefined)) &&
        (query.jobVersion === undefined || event.jobVersion === query.jobVersion) &&
        (query.executionId === undefined || (event.executionId ?? '').startsWith(query.executionId)),
    )
    return { events: found.slice(0, limit), more: found.length > limit }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#feed.close()
  }

  #assertOpen(): void {
    if (this.#closed) throw new WeirError('store.unavailable', 'Cannot use the job store: it is closed')
  }
}

class MemoryArchive implements Archive {
  readonly jobs = new Map<JobId, Job>()
  readonly executions = new Map<ExecutionId, Execution>()
  readonly events = new Map<JobId, HistoryEvent[]>()
  readonly tokens = new Map<string, JobId>()
  /** Replaced ones, oldest first. */
  readonly versions = new Map<JobId, readonly Job[]>()
  readonly #byJob = new Map<JobId, ExecutionId[]>()
  readonly #endedJobsMax: number
  readonly #historyPerJobMax: number
  readonly #ended = new Set<JobId>()

  constructor(endedJobsMax: number, historyPerJobMax: number) {
    this.#endedJobsMax = endedJobsMax
    this.#historyPerJobMax = historyPerJobMax
  }

  job(id: JobId): Job | undefined {
    return this.jobs.get(id)
  }

  execution(id: ExecutionId): Execution | undefined {
    return this.executions.get(id)
  }

  executionsOfJob(id: JobId): Execution[] {
    return (this.#byJob.get(id) ?? []).flatMap((executionId) => this.executions.get(executionId) ?? [])
  }

  write(change: Change): void {
    const touched = new Set<JobId>()
    for (const job of change.jobs ?? []) {
      this.jobs.set(job.id, job)
      if (job.idempotencyToken !== undefined) this.tokens.set(job.idempotencyToken, job.id)
      touched.add(job.id)
    }
    for (const execution of change.executions ?? []) {
      if (!this.executions.has(execution.id)) this.#ids(execution.jobId).push(execution.id)
      this.executions.set(execution.id, execution)
      touched.add(execution.jobId)
    }
    for (const event of change.history ?? []) this.#append(event)
    for (const job of change.replacedJobs ?? []) this.#keepVersion(job)
    for (const id of change.deleteExecutions ?? []) this.#forgetExecution(id)
    for (const id of change.deleteJobs ?? []) this.#forget(id)
    for (const id of touched) this.#noteEnded(id)
    for (const id of this.#ended) {
      if (this.#ended.size <= this.#endedJobsMax) break
      this.#forget(id)
    }
  }

  #append(event: Omit<HistoryEvent, 'sequence'>): void {
    const events = this.events.get(event.jobId) ?? []
    this.events.set(event.jobId, events)
    events.push(Object.freeze({ ...event, sequence: (events.at(-1)?.sequence ?? 0) + 1 }))
    // Not one by one: that would move the whole list each time.
    if (events.length > this.#historyPerJobMax * TRIM_FACTOR) {
      events.splice(0, events.length - this.#historyPerJobMax)
    }
  }

  #keepVersion(job: Job): void {
    const others = (this.versions.get(job.id) ?? []).filter((one) => one.version !== job.version)
    const all = [...others, job].toSorted((a, b) => a.version - b.version)
    const kept = all.filter((one) => one.version > job.version - VERSIONS_MAX)
    for (const one of all) {
      if (one.idempotencyToken === undefined) continue
      if (kept.includes(one)) this.tokens.set(one.idempotencyToken, one.id)
      else this.tokens.delete(one.idempotencyToken)
    }
    this.versions.set(job.id, kept)
  }

  #ids(jobId: JobId): ExecutionId[] {
    const ids = this.#byJob.get(jobId) ?? []
    this.#byJob.set(jobId, ids)
    return ids
  }

  #noteEnded(id: JobId): void {
    const job = this.jobs.get(id)
    if (job !== undefined && !isActiveJob(job, this.executionsOfJob(id))) this.#ended.add(id)
    else this.#ended.delete(id)
  }

  #forgetExecution(id: ExecutionId): void {
    const jobId = this.executions.get(id)?.jobId
    if (jobId === undefined) return
    this.executions.delete(id)
    this.#byJob.set(
      jobId,
      this.#ids(jobId).filter((other) => other !== id),
    )
  }

  #forget(id: JobId): void {
    const job = this.jobs.get(id)
    for (const { idempotencyToken: token } of [...(this.versions.get(id) ?? []), ...(job ? [job] : [])]) {
      if (token !== undefined) this.tokens.delete(token)
    }
    this.versions.delete(id)
    for (const executionId of this.#byJob.get(id) ?? []) this.executions.delete(executionId)
    this.#byJob.delete(id)
    this.jobs.delete(id)
    this.events.delete(id)
    this.#ended.delete(id)
  }
}

/** How far the history of a job may grow beyond its bound before it is cut. */
const TRIM_FACTOR = 1.25

function isWanted(job: Job, query: JobQuery): boolean {
  const { namespace, states, labels, accept } = query
  if (namespace !== undefined && namespace !== '*' && job.spec.Namespace !== namespace) return false
  if (states !== undefined && !states.includes(job.state)) return false
  if (labels !== undefined && !matchConstraints(labels, job.spec.Labels).matches) return false
  return accept === undefined || accept(job)
}

function withPrefix(ids: Iterable<string>, prefix: string, limit: number): string[] {
  return [...ids]
    .filter((id) => id.startsWith(prefix))
    .toSorted()
    .slice(0, Math.max(0, limit))
}
