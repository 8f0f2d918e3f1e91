import type {
  Evaluation,
  Execution,
  ExecutionId,
  HistoryEvent,
  Job,
  JobId,
  NewHistoryEvent,
  NodeRecord,
} from '../model/index.js'
import type { Change, HistoryQuery, JobQuery, Revision } from '../ports/index.js'
import type { ActiveRecords, Archive } from './active-state.js'
import { boundedLimit, boundedOffset } from './query-bounds.js'
import type { Database, Statement } from './sqlite-driver.js'

/** Every statement of the store, prepared once. Reads and writes are synchronous. */
export class SqliteRecords implements Archive {
  readonly #database: Database
  readonly #statements: ReturnType<typeof prepare>

  constructor(database: Database) {
    this.#database = database
    this.#statements = prepare(database)
  }

  job(id: JobId): Job | undefined {
    return body<Job>(this.#statements.job.get(id))
  }

  execution(id: ExecutionId): Execution | undefined {
    return body<Execution>(this.#statements.execution.get(id))
  }

  executionsOfJob(id: JobId): Execution[] {
    return bodies<Execution>(this.#statements.executionsOfJob.all(id))
  }

  jobByToken(token: string): JobId | undefined {
    return idOf(this.#statements.jobByToken.get(token))
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

  /** All or nothing, inside the transaction that is open. `active` tells of each touched job whether it still is. */
  write(change: Change, revision: Revision, active: ReadonlyMap<JobId, boolean>): void {
    const statements = this.#statements
    statements.savepoint.run()
    try {
      this.#writeRecords(change)
      for (const [id, isActive] of active) statements.markActive.run(isActive ? 1 : 0, id)
      statements.putRevision.run(revision)
      statements.release.run()
    } catch (error) {
      if (this.#database.inTransaction) {
        statements.rollbackToSavepoint.run()
        statements.release.run()
      }
      throw error
    }
  }

  idsWithPrefix(table: 'jobs' | 'executions', prefix: string, limit: number): string[] {
    // U+10FFFF sorts after every other character, in UTF-8 as well.
    const rows = this.#statements.prefix[table].all(prefix, `${prefix}\u{10FFFF}`, Math.max(0, limit))
    return rows.map((row) => (row as { id: string }).id)
  }

  listJobs(query: JobQuery): { jobs: Job[]; more: boolean } {
    const column = query.orderBy === 'created_at' ? 'created' : 'modified'
    const direction = query.reverse ? 'DESC' : 'ASC'
    const { where, values } = jobFilter(query)
    const [offset, limit] = [boundedOffset(query.offset), boundedLimit(query.limit)]
    // Without a callback SQL pages; with one the rows are counted here, after it has spoken.
    const page = query.accept === undefined ? `LIMIT ${limit + 1} OFFSET ${offset}` : ''
    const rows = this.#database
      .prepare(`SELECT body FROM jobs ${where} ORDER BY ${column} ${direction}, id ${direction} ${page}`)
      .iterate(...values)
    const jobs: Job[] = []
    let skip = query.accept === undefined ? 0 : offset
    for (const row of rows) {
      const job = body<Job>(row)
      if (job === undefined || query.accept?.(job) === false) continue
      if (skip-- > 0) continue
      if (jobs.length === limit) return { jobs, more: true }
      jobs.push(job)
    }
    return { jobs, more: false }
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
          `SELECT body FROM history WHERE job = ? AND sequence > ? AND time >= ? ${level}
           AND (? = '' OR substr(execution, 1, length(?)) = ?) ORDER BY sequence LIMIT ?`,
        )
        .all(jobId, query.afterSequence, query.sinceMs ?? 0, prefix, prefix, prefix, limit + 1),
    )
    return { events: events.slice(0, limit), more: events.length > limit }
  }

  #writeRecords(change: Change): void {
    const statements = this.#statements
    for (const execution of change.executions ?? []) {
      statements.putExecution.run(execution.id, execution.jobId, JSON.stringify(execution))
    }
    for (const job of change.jobs ?? []) {
      const { Namespace } = job.spec
      const token = job.idempotencyToken ?? null
      const text = JSON.stringify(job)
      statements.putJob.run(job.id, Namespace, job.state, job.createTimeMs, job.modifyTimeMs, token, text)
    }
    for (const evaluation of change.evaluations ?? []) {
      statements.putEvaluation.run(evaluation.id, JSON.stringify(evaluation))
    }
    for (const id of change.deleteEvaluations ?? []) statements.deleteEvaluation.run(id)
    for (const node of change.nodes ?? []) statements.putNode.run(node.info.nodeId, JSON.stringify(node))
    for (const id of change.deleteNodes ?? []) statements.deleteNode.run(id)
    for (const event of change.history ?? []) this.#append(event)
  }

  #append(event: NewHistoryEvent): void {
    const last = this.#statements.lastSequence.get(event.jobId) as { last: number | null }
    const sequence = (last.last ?? 0) + 1
    const text = JSON.stringify({ ...event, sequence } satisfies HistoryEvent)
    this.#statements.putEvent.run(event.jobId, sequence, event.executionId ?? null, event.timeMs, text)
  }
}

function prepare(database: Database) {
  const sql = (text: string): Statement => database.prepare(text)
  return {
    savepoint: sql('SAVEPOINT one_commit'),
    release: sql('RELEASE one_commit'),
    rollbackToSavepoint: sql('ROLLBACK TO one_commit'),
    revision: sql('SELECT revision FROM store'),
    putRevision: sql('UPDATE store SET revision = ?'),
    job: sql('SELECT body FROM jobs WHERE id = ?'),
    jobByToken: sql('SELECT id FROM jobs WHERE token = ? LIMIT 1'),
    activeJobs: sql('SELECT body FROM jobs WHERE active = 1'),
    putJob: sql(
      `INSERT INTO jobs (id, namespace, state, created, modified, token, active, body) VALUES (?, ?, ?, ?, ?, ?, 1, ?)
       ON CONFLICT (id) DO UPDATE SET namespace = excluded.namespace, state = excluded.state,
       created = excluded.created, modified = excluded.modified, token = excluded.token, body = excluded.body`,
    ),
    markActive: sql('UPDATE jobs SET active = ? WHERE id = ?'),
    execution: sql('SELECT body FROM executions WHERE id = ?'),
    executionsOfJob: sql('SELECT body FROM executions WHERE job = ? ORDER BY ordinal'),
    activeExecutions: sql(
      'SELECT e.body FROM jobs j JOIN executions e ON e.job = j.id WHERE j.active = 1 ORDER BY e.ordinal',
    ),
    putExecution: sql(
      `INSERT INTO executions (id, job, body) VALUES (?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET job = excluded.job, body = excluded.body`,
    ),
    evaluations: sql('SELECT body FROM evaluations'),
    putEvaluation: sql('INSERT OR REPLACE INTO evaluations (id, body) VALUES (?, ?)'),
    deleteEvaluation: sql('DELETE FROM evaluations WHERE id = ?'),
    nodes: sql('SELECT body FROM nodes'),
    putNode: sql('INSERT OR REPLACE INTO nodes (id, body) VALUES (?, ?)'),
    deleteNode: sql('DELETE FROM nodes WHERE id = ?'),
    lastSequence: sql('SELECT MAX(sequence) AS last FROM history WHERE job = ?'),
    putEvent: sql('INSERT INTO history (job, sequence, execution, time, body) VALUES (?, ?, ?, ?, ?)'),
    prefix: {
      jobs: sql('SELECT id FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT ?'),
      executions: sql('SELECT id FROM executions WHERE id >= ? AND id < ? ORDER BY id LIMIT ?'),
    },
  }
}

function jobFilter(query: JobQuery): { where: string; values: string[] } {
  const conditions: string[] = []
  const values: string[] = []
  if (query.namespace !== undefined && query.namespace !== '*') {
    conditions.push('namespace = ?')
    values.push(query.namespace)
  }
  if (query.states !== undefined) {
    conditions.push(`state IN (${query.states.map(() => '?').join(', ')})`)
    values.push(...query.states)
  }
  return { where: conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`, values }
}

function body<T>(row: unknown): T | undefined {
  return row === undefined ? undefined : (JSON.parse((row as { body: string }).body) as T)
}

function bodies<T>(rows: unknown[]): T[] {
  return rows.map((row) => JSON.parse((row as { body: string }).body) as T)
}

function idOf(row: unknown): string | undefined {
  return row === undefined ? undefined : (row as { id: string }).id
}
