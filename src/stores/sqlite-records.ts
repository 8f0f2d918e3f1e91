import { WeirError } from '../errors.js'
import { FAVOUR_PREFIX } from '../model/index.js'
import type {
  Constraint,
  Evaluation,
  Execution,
  ExecutionId,
  HistoryEvent,
  Job,
  JobId,
  NewHistoryEvent,
  NodeRecord,
} from '../model/index.js'
import type { Change, EndedJobsQuery, HistoryQuery, Revision } from '../ports/index.js'
import { VERSIONS_MAX } from '../ports/index.js'
import type { ActiveRecords, Archive } from './active-state.js'
import { nameOf } from './job-name.js'
import type { JobList } from './job-list.js'
import { boundedLimit } from './query-bounds.js'
import { ENDED } from './sqlite-schema.js'
import { storeError, type Database, type Statement } from './sqlite-driver.js'
import type { WriteBatch } from './write-batch.js'

/** Every statement of the store, prepared once. Reads and writes are synchronous. */
export class SqliteRecords implements Archive {
  readonly #database: Database
  readonly #path: string
  readonly #historyPerJobMax: number
  readonly #statements: ReturnType<typeof prepare>
  /** Jobs that were written to lately. */
  readonly #places = new Map<JobId, JobPlace>()

  constructor(database: Database, path: string, historyPerJobMax: number) {
    this.#database = database
    this.#path = path
    this.#historyPerJobMax = historyPerJobMax
    this.#statements = prepare(database)
  }

  job(id: JobId): Job | undefined {
    return this.#reading(() => body<Job>(this.#statements.job.get(id)))
  }

  execution(id: ExecutionId): Execution | undefined {
    return this.#reading(() => body<Execution>(this.#statements.execution.get(id)))
  }

  executionsOfJob(id: JobId): Execution[] {
    return this.#reading(() => bodies<Execution>(this.#statements.executionsOfJob.all(id)))
  }

  jobByToken(token: string): JobId | undefined {
    const { jobByToken, versionByToken } = this.#statements
    return idOf(jobByToken.get(token)) ?? idOf(versionByToken.get(token))
  }

  jobsByName(namespace: string, name: string, limit: number): JobId[] {
    return ids(this.#statements.jobsByName.all(name, namespace, Math.max(0, limit)))
  }

  replacedVersions(id: JobId): Job[] {
    return bodies<Job>(this.#statements.versions.all(id))
  }

  /** What the memory of the store holds. */
  loadActive(): ActiveRecords {
    return {
      revision: (this.#statements.revision.get() as { revision: number }).revision,
      jobs: bodies<Job>(this.#statements.activeJobs.all()),
      executions: bodies<Execution>(this.#statements.activeExecutions.all()),
      evaluations: bodies<Evaluation>(this.#statements.evaluations.all()),
      nodes: bodies<NodeRecord>(this.#statements.nodes.all()),
    }
  }

  /** Inside the transaction that is open; what an error leaves of it is for the caller to roll back. */
  write({ jobs, executions, evaluations, nodes, history, active, relabelled }: WriteBatch): void {
    const statements = this.#statements
    for (const job of jobs.values()) this.#putJob(job, active.get(job.id) ?? true, relabelled.has(job.id))
    for (const execution of executions.values()) {
      const { number } = this.#place(execution.jobId)
      statements.putExecution.run(execution.id, number, JSON.stringify(execution))
    }
    for (const id of relabelled) this.#putLabels(id, jobs.get(id)?.spec.Labels ?? {})
    for (const [id, isActive] of active) if (!jobs.has(id)) statements.markActive.run(isActive ? 1 : 0, id)
    for (const [id, evaluation] of evaluations) {
      if (evaluation === undefined) statements.deleteEvaluation.run(id)
      else statements.putEvaluation.run(id, JSON.stringify(evaluation))
    }
    for (const [id, node] of nodes) {
      if (node === undefined) statements.deleteNode.run(id)
      else statements.putNode.run(id, JSON.stringify(node))
    }
    for (const event of history) this.#append(event)
    for (const [id, isActive] of active) if (!isActive) this.#places.delete(id)
  }

  /** What a change takes away, and the versions of jobs that it replaced; inside the transaction that is open. */
  writeDeletions(change: Change): void {
    const statements = this.#statements
    for (const job of change.replacedJobs ?? []) {
      statements.putVersion.run(job.id, job.version, job.idempotencyToken ?? null, JSON.stringify(job))
      statements.deleteVersions.run(job.id, job.version - VERSIONS_MAX)
    }
    for (const id of change.deleteExecutions ?? []) statements.deleteExecution.run(id)
    for (const id of change.deleteJobs ?? []) {
      const found = statements.numberOf.get(id) as { number: number } | undefined
      if (found === undefined) continue
      statements.deleteHistory.run(found.number, Number.MAX_SAFE_INTEGER)
      statements.deleteExecutions.run(found.number)
      statements.deleteVersions.run(id, Number.MAX_SAFE_INTEGER)
      statements.deleteLabels.run(found.number)
      statements.deleteJob.run(id)
      this.#places.delete(id)
    }
  }

  putRevision(revision: Revision): void {
    this.#statements.putRevision.run(revision)
  }

  /** After something was rolled back. */
  forgetPlaces(): void {
    this.#places.clear()
  }

  idsWithPrefix(table: 'jobs' | 'executions', prefix: string, limit: number): string[] {
    // U+10FFFF sorts after every other character, in UTF-8 as well.
    const rows = this.#statements.prefix[table].all(prefix, `${prefix}\u{10FFFF}`, Math.max(0, limit))
    return ids(rows)
  }

  /** Reads a bounded part of a list; true when it is complete. */
  readOn(list: JobList): boolean {
    if (list.isPaged) return list.take(this.#page(list), true)
    const few = list.isFresh ? this.#fewLabelled(list.query.labels ?? []) : undefined
    if (few !== undefined)
      return list.takeUnordered(few.flatMap((id) => body<Job>(this.#statements.job.get(id)) ?? []))
    const jobs = this.#page(list)
    return list.take(jobs, jobs.length < list.size)
  }

  /** By the index alone, then the jobs on the page. */
  #page(list: JobList): Job[] {
    const { where, values } = list.conditions()
    const { column, direction } = list
    return bodies<Job>(
      this.#database
        .prepare(
          `SELECT jobs.body FROM (
             SELECT number, id, ${column} AS time FROM jobs ${where}
             ORDER BY ${column} ${direction}, id ${direction} LIMIT ${list.size} OFFSET ${list.offset}
           ) AS page JOIN jobs ON jobs.number = page.number ORDER BY page.time ${direction}, page.id ${direction}`,
        )
        .all(...values),
    )
  }

  /** All jobs that can match, where some label tells that they are few. */
  #fewLabelled(labels: readonly Constraint[]): JobId[] | undefined {
    for (const { Key, Operator, Values } of labels) {
      if (Key.startsWith(FAVOUR_PREFIX)) continue
      const isNamed = Operator === '=' || Operator === '==' || Operator === 'in'
      if (!isNamed && Operator !== 'exists' && Operator !== 'gt' && Operator !== 'lt') continue
      const values = isNamed ? `AND value IN (${Values.map(() => '?').join(', ')})` : ''
      const found = ids(
        this.#database
          .prepare(
            `SELECT jobs.id FROM (SELECT job FROM job_labels WHERE key = ? ${values} LIMIT ${FEW + 1}) AS few
             JOIN jobs ON jobs.number = few.job`,
          )
          .all(Key, ...(isNamed ? Values : [])),
      )
      if (found.length <= FEW) return found
    }
    return undefined
  }

  /** By age first; only when none is too old are those counted that are too many. */
  endedJobs({ beforeMs, keepMax, limit }: EndedJobsQuery): JobId[] {
    const old = ids(this.#statements.endedBefore.all(beforeMs, limit))
    if (old.length > 0) return old
    const { count } = this.#statements.endedCount.get() as { count: number }
    return count <= keepMax ? [] : ids(this.#statements.endedOldest.all(Math.min(limit, count - keepMax)))
  }

  history(jobId: JobId, query: HistoryQuery): { events: HistoryEvent[]; more: boolean } {
    const limit = boundedLimit(query.limit)
    const prefix = query.executionId ?? ''
    const level = { all: '', job: 'AND execution IS NULL', execution: 'AND execution IS NOT NULL' }[
      query.level
    ]
    const events = bodies<HistoryEvent>(
      this.#database
        .prepare(
          `SELECT body FROM history WHERE job = (SELECT number FROM jobs WHERE id = ?) AND sequence > ? AND time >= ? ${level}
           AND (? = '' OR substr(execution, 1, length(?)) = ?)
           AND (? IS NULL OR json_extract(body, '$.jobVersion') = ?) ORDER BY sequence LIMIT ?`,
        )
        .all(
          jobId,
          query.afterSequence,
          query.sinceMs ?? 0,
          prefix,
          prefix,
          prefix,
          query.jobVersion ?? null,
          query.jobVersion ?? null,
          limit + 1,
        ),
    )
    return { events: events.slice(0, limit), more: events.length > limit }
  }

  /** Snapshots read here without anybody between who would turn SQLite's errors into ours. */
  #reading<T>(query: () => T): T {
    try {
      return query()
    } catch (error) {
      throw storeError(error, `Cannot read the database "${this.#path}"`)
    }
  }

  /** Indexes are written for each column that a statement names, so those that stay as they are are not named. */
  #putJob(job: Job, isActive: boolean, isNew: boolean): void {
    const { id, spec, state, createTimeMs, modifyTimeMs, idempotencyToken } = job
    const text = JSON.stringify(job)
    const now = [state, modifyTimeMs, isActive ? 1 : 0, text]
    const fixed = [id, spec.Namespace, nameOf(job), createTimeMs, idempotencyToken ?? null]
    if (!isNew && this.#statements.updateJob.run(...now, ...fixed).changes > 0) return
    this.#statements.putJob.run(
      id,
      spec.Namespace,
      nameOf(job),
      state,
      createTimeMs,
      modifyTimeMs,
      idempotencyToken ?? null,
      isActive ? 1 : 0,
      text,
    )
  }

  #putLabels(id: JobId, labels: Record<string, string>): void {
    const { deleteLabels, putLabel } = this.#statements
    const { number } = this.#place(id)
    deleteLabels.run(number)
    for (const [key, value] of Object.entries(labels)) putLabel.run(key, value, number)
  }

  #append(event: NewHistoryEvent): void {
    const place = this.#place(event.jobId)
    const sequence = (place.lastLine ?? this.#lastLine(place)) + 1
    place.lastLine = sequence
    const text = JSON.stringify({ ...event, sequence } satisfies HistoryEvent)
    this.#statements.putEvent.run(place.number, sequence, event.executionId ?? null, event.timeMs, text)
    const surplus = sequence - this.#historyPerJobMax
    if (surplus > 0 && sequence % TRIM_EVERY === 0) this.#statements.deleteHistory.run(place.number, surplus)
  }

  #lastLine({ number }: JobPlace): number {
    return (this.#statements.lastLine.get(number) as { last: number | null }).last ?? 0
  }

  /** Throws `internal` when there is no such job. */
  #place(id: JobId): JobPlace {
    const known = this.#places.get(id)
    if (known !== undefined) return known
    const found = this.#statements.numberOf.get(id) as JobPlace | undefined
    if (found === undefined) throw new WeirError('internal', `Cannot store anything of unknown job "${id}"`)
    if (this.#places.size >= PLACES_MAX) this.#places.clear()
    this.#places.set(id, found)
    return found
  }
}

/** Where a job is in the tables. */
interface JobPlace {
  readonly number: number
  /** Number of its last line of history; absent until it is needed. */
  lastLine?: number
}

/** Jobs with a label that are read one by one, rather than all jobs in order. */
const FEW = 1_000

/** Jobs of which the place is remembered. */
const PLACES_MAX = 20_000

/** Surplus history is removed with every so-manieth line of a job. */
const TRIM_EVERY = 64

function prepare(database: Database) {
  const sql = (text: string): Statement => database.prepare(text)
  return {
    revision: sql('SELECT revision FROM store'),
    putRevision: sql('UPDATE store SET revision = ?'),
    job: sql('SELECT body FROM jobs WHERE id = ?'),
    jobByToken: sql('SELECT id FROM jobs WHERE token = ? LIMIT 1'),
    versionByToken: sql('SELECT job AS id FROM job_versions WHERE token = ? LIMIT 1'),
    jobsByName: sql(
      `SELECT id FROM jobs WHERE name = ? AND namespace = ? ORDER BY ${ENDED}, created DESC, id DESC LIMIT ?`,
    ),
    versions: sql('SELECT body FROM job_versions WHERE job = ? ORDER BY version'),
    putVersion: sql('INSERT OR REPLACE INTO job_versions (job, version, token, body) VALUES (?, ?, ?, ?)'),
    deleteVersions: sql('DELETE FROM job_versions WHERE job = ? AND version <= ?'),
    activeJobs: sql('SELECT body FROM jobs WHERE active = 1'),
    putJob: sql(
      `INSERT INTO jobs (id, namespace, name, state, created, modified, token, active, body)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET namespace = excluded.namespace, name = excluded.name, state = excluded.state,
       created = excluded.created, modified = excluded.modified, token = excluded.token, active = excluded.active,
       body = excluded.body`,
    ),
    updateJob: sql(
      `UPDATE jobs SET state = ?, modified = ?, active = ?, body = ?
       WHERE id = ? AND namespace = ? AND name IS ? AND created = ? AND token IS ?`,
    ),
    markActive: sql('UPDATE jobs SET active = ? WHERE id = ?'),
    execution: sql('SELECT body FROM executions WHERE id = ?'),
    executionsOfJob: sql(
      'SELECT body FROM executions WHERE job = (SELECT number FROM jobs WHERE id = ?) ORDER BY ordinal',
    ),
    activeExecutions: sql(
      'SELECT e.body FROM jobs j JOIN executions e ON e.job = j.number WHERE j.active = 1 ORDER BY e.ordinal',
    ),
    putExecution: sql(
      `INSERT INTO executions (id, job, body) VALUES (?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
    ),
    evaluations: sql('SELECT body FROM evaluations'),
    putEvaluation: sql('INSERT OR REPLACE INTO evaluations (id, body) VALUES (?, ?)'),
    deleteEvaluation: sql('DELETE FROM evaluations WHERE id = ?'),
    nodes: sql('SELECT body FROM nodes'),
    putNode: sql('INSERT OR REPLACE INTO nodes (id, body) VALUES (?, ?)'),
    deleteNode: sql('DELETE FROM nodes WHERE id = ?'),
    numberOf: sql('SELECT number FROM jobs WHERE id = ?'),
    lastLine: sql('SELECT MAX(sequence) AS last FROM history WHERE job = ?'),
    putEvent: sql('INSERT INTO history (job, sequence, execution, time, body) VALUES (?, ?, ?, ?, ?)'),
    // The condition is that of the index, word for word: otherwise it is not used.
    endedBefore: sql(`SELECT id FROM jobs WHERE ${ENDED} AND modified < ? ORDER BY modified, id LIMIT ?`),
    endedCount: sql(`SELECT COUNT(*) AS count FROM jobs WHERE ${ENDED} AND active = 0`),
    endedOldest: sql(`SELECT id FROM jobs WHERE ${ENDED} AND active = 0 ORDER BY modified, id LIMIT ?`),
    putLabel: sql('INSERT OR REPLACE INTO job_labels (key, value, job) VALUES (?, ?, ?)'),
    deleteLabels: sql('DELETE FROM job_labels WHERE job = ?'),
    deleteJob: sql('DELETE FROM jobs WHERE id = ?'),
    deleteExecution: sql('DELETE FROM executions WHERE id = ?'),
    deleteExecutions: sql('DELETE FROM executions WHERE job = ?'),
    deleteHistory: sql('DELETE FROM history WHERE job = ? AND sequence <= ?'),
    prefix: {
      jobs: sql('SELECT id FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT ?'),
      executions: sql('SELECT id FROM executions WHERE id >= ? AND id < ? ORDER BY id LIMIT ?'),
    },
  }
}

function body<T>(row: unknown): T | undefined {
  return row === undefined ? undefined : (JSON.parse((row as { body: string }).body) as T)
}

function bodies<T>(rows: unknown[]): T[] {
  return rows.map((row) => JSON.parse((row as { body: string }).body) as T)
}

function ids(rows: unknown[]): string[] {
  return rows.map((row) => (row as { id: string }).id)
}

function idOf(row: unknown): string | undefined {
  return row === undefined ? undefined : (row as { id: string }).id
}
