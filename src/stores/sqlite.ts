import { chmodSync, existsSync, statSync } from 'node:fs'
import { WeirError } from '../errors.js'
import type { ExecutionId, HistoryEvent, Job, JobId } from '../model/index.js'
import type {
  Change,
  EndedJobsQuery,
  HistoryQuery,
  JobQuery,
  JobStore,
  Revision,
  Snapshot,
} from '../ports/index.js'
import { ActiveState } from './active-state.js'
import { ChangeFeed, type CommittedChange } from './change-feed.js'
import { HISTORY_PER_JOB_MAX } from './query-bounds.js'
import { checkRevision } from './revision-check.js'
import { openDatabase, storeError, type Database } from './sqlite-driver.js'
import { SqliteRecords } from './sqlite-records.js'
import { migrate } from './sqlite-schema.js'

/** Larger databases are not read through at each start. */
const CHECKED_BYTES_MAX = 64 * 1024 * 1024

export interface SqliteStoreOptions {
  /** Lines of history that are kept for one job; the oldest go first. Default 10,000. */
  historyPerJobMax?: number
}

/**
 * A {@link JobStore} in one SQLite file. Active jobs are held in memory, ended ones are read when asked for.
 *
 * Write-ahead log with `synchronous=FULL`: a commit that resolved survives a crash of the machine. What that costs is
 * shared: all commits of one turn of the event loop become durable by one write to the disk.
 *
 * Rejects with `store.unavailable`: better-sqlite3 missing, file damaged, or written by a newer program. Two servers on
 * one file are kept apart by `lockDataDir`, not here.
 */
export async function openSqliteStore(path: string, options: SqliteStoreOptions = {}): Promise<JobStore> {
  const isNew = !existsSync(path)
  const database = await openDatabase(path)
  try {
    database.pragma('journal_mode = WAL')
    database.pragma('synchronous = FULL')
    if (isNew) chmodSync(path, 0o600)
    checkIntegrity(database, path)
    migrate(database, path)
    return new SqliteStore(database, path, options.historyPerJobMax ?? HISTORY_PER_JOB_MAX)
  } catch (error) {
    database.close()
    throw storeError(error, `Cannot open the database "${path}"`)
  }
}

interface Waiting {
  revision: Revision
  change: Change
  resolve: (revision: Revision) => void
  reject: (error: WeirError) => void
}

class SqliteStore implements JobStore {
  readonly #database: Database
  readonly #path: string
  readonly #records: SqliteRecords
  readonly #feed: ChangeFeed
  #state: ActiveState
  /** Set when the memory could not be brought back in step with the disk: tried again before anything else. */
  #isLost = false
  /** Written inside the open transaction, durable with the next flush. */
  #waiting: Waiting[] = []
  #closed = false

  constructor(database: Database, path: string, historyPerJobMax: number) {
    this.#database = database
    this.#path = path
    this.#records = new SqliteRecords(database, path, historyPerJobMax)
    this.#state = new ActiveState(this.#records, this.#records.loadActive())
    this.#feed = new ChangeFeed(this.#state.revision)
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
      const active = this.#state.prepare(change)
      if (!this.#database.inTransaction) this.#database.exec('BEGIN IMMEDIATE')
      this.#records.write(change, revision, active)
    } catch (error) {
      const reason = storeError(error, `Cannot write to the database "${this.#path}"`)
      this.#recover(change, reason)
      throw reason
    }
    this.#state.apply(change, revision)
    return new Promise((resolve, reject) => {
      if (this.#waiting.push({ revision, change, resolve, reject }) === 1) setImmediate(() => this.#flush())
    })
  }

  watch(since: Revision, signal: AbortSignal): AsyncIterable<CommittedChange> {
    return this.#feed.watch(since, signal)
  }

  async jobIdsWithPrefix(prefix: string, limit: number): Promise<JobId[]> {
    return this.#read(() => this.#records.idsWithPrefix('jobs', prefix, limit))
  }

  async executionIdsWithPrefix(prefix: string, limit: number): Promise<ExecutionId[]> {
    return this.#read(() => this.#records.idsWithPrefix('executions', prefix, limit))
  }

  async jobByIdempotencyToken(token: string): Promise<JobId | undefined> {
    return this.#read(() => this.#records.jobByToken(token))
  }

  async jobIdsByName(namespace: string, name: string, limit: number): Promise<JobId[]> {
    return this.#read(() => this.#records.jobsByName(namespace, name, limit))
  }

  async replacedVersions(id: JobId): Promise<Job[]> {
    return this.#read(() => this.#records.replacedVersions(id))
  }

  async listJobs(query: JobQuery): Promise<{ jobs: Job[]; more: boolean }> {
    return this.#read(() => this.#records.listJobs(query))
  }

  async endedJobs(query: EndedJobsQuery): Promise<JobId[]> {
    return this.#read(() => this.#records.endedJobs(query))
  }

  async history(jobId: JobId, query: HistoryQuery): Promise<{ events: HistoryEvent[]; more: boolean }> {
    return this.#read(() => this.#records.history(jobId, query))
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#flush()
    this.#closed = true
    this.#feed.close()
    this.#database.close()
  }

  /** Makes everything written in this turn of the event loop durable at once. */
  #flush(): void {
    if (this.#waiting.length === 0) return
    try {
      this.#database.exec('COMMIT')
    } catch (error) {
      this.#giveUp(storeError(error, `Cannot write to the database "${this.#path}"`))
      return
    }
    const waiting = this.#waiting.splice(0)
    for (const { revision, change, resolve } of waiting) {
      this.#feed.publish(revision, change)
      resolve(revision)
    }
  }

  /** After a failed write: SQLite may have ended the whole transaction, and with it the commits that wait. */
  #recover(change: Change, reason: WeirError): void {
    if (this.#database.inTransaction === this.#waiting.length > 0) this.#state.abandon(change)
    else this.#giveUp(reason)
  }

  /** Forgets what did not become durable. */
  #giveUp(reason: WeirError): void {
    this.#isLost = true
    try {
      this.#reload()
    } catch {
      // Nothing is answered until it succeeds; whoever asks next is told why it does not.
    }
    for (const { reject } of this.#waiting.splice(0)) reject(reason)
  }

  /** Brings the memory in step with the disk. What was seen of the lost commits is stale: numbers are not used twice. */
  #reload(): void {
    if (this.#database.inTransaction) this.#database.exec('ROLLBACK')
    const revision = this.#state.revision + 1
    this.#state = new ActiveState(this.#records, { ...this.#records.loadActive(), revision })
    this.#isLost = false
  }

  #read<T>(query: () => T): T {
    this.#assertOpen()
    try {
      return query()
    } catch (error) {
      throw storeError(error, `Cannot read the database "${this.#path}"`)
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw new WeirError('store.unavailable', 'Cannot use the job store: it is closed')
    if (!this.#isLost) return
    try {
      this.#reload()
    } catch (error) {
      throw storeError(error, `Cannot read the database "${this.#path}"`)
    }
  }
}

function checkIntegrity(database: Database, path: string): void {
  if (statSync(path).size > CHECKED_BYTES_MAX) return
  const verdict = String(database.pragma('quick_check(1)', { simple: true }))
  if (verdict === 'ok') return
  throw new WeirError('store.unavailable', `Cannot open the database "${path}": it is damaged (${verdict})`, {
    hint: 'Restore it from a backup, or move it away to start with an empty one.',
  })
}
