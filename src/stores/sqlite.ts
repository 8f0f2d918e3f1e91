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
import { setImmediate as nextTurn } from 'node:timers/promises'
import { ActiveState, type Archive, type Prepared } from './active-state.js'
import { ChangeFeed, type CommittedChange } from './change-feed.js'
import { JobList } from './job-list.js'
import { HISTORY_PER_JOB_MAX } from './query-bounds.js'
import { checkRevision } from './revision-check.js'
import { openDatabase, storeError, type Database } from './sqlite-driver.js'
import { SqliteRecords } from './sqlite-records.js'
import { migrate } from './sqlite-schema.js'
import { WriteBatch } from './write-batch.js'

/**
 * While commits come faster than flushes, one waits for so many times what the last one took, at most so long: others
 * join it meanwhile. Who commits alone is not held up.
 */
const PAUSE_PER_FLUSH = 2
const PAUSE_MS_MAX = 5
/** Pages of the write-ahead log after which it is carried over: 16 MiB. */
const LOG_PAGES = 4_096
/** KiB of pages that are kept in memory. */
const CACHE_KIB = 8_192

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
 * shared: all commits of one turn of the event loop become durable by one write to the disk, and under load those of a few
 * milliseconds, each record once.
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
    database.pragma(`wal_autocheckpoint = ${LOG_PAGES}`)
    database.pragma(`cache_size = -${CACHE_KIB}`)
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
  /** Decided and seen by whoever reads, durable with the next flush. */
  #waiting: Waiting[] = []
  /** The part of these that is not in the open transaction yet. */
  #batch = new WriteBatch()
  #flushedMs = 0
  #flushTookMs = 0
  #flushedCommits = 0
  #closed = false

  constructor(database: Database, path: string, historyPerJobMax: number) {
    this.#database = database
    this.#path = path
    this.#records = new SqliteRecords(database, path, historyPerJobMax)
    this.#state = new ActiveState(this.#archive(), this.#records.loadActive())
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
    const state = this.#state
    try {
      const prepared = state.prepare(change)
      if (WriteBatch.isOwn(change)) this.#writeOwn(change, prepared)
      else this.#batch.add(change, prepared)
    } catch (error) {
      state.abandon(change)
      throw storeError(error, `Cannot write to the database "${this.#path}"`)
    }
    state.apply(change, revision)
    return new Promise((resolve, reject) => {
      if (this.#waiting.push({ revision, change, resolve, reject }) === 1) this.#flushSoon()
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
    const list = new JobList(query)
    while (!this.#read(() => this.#records.readOn(list))) await nextTurn()
    return list.page
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

  /** At the end of this turn of the event loop, or a little later when flushes follow each other. */
  #flushSoon(): void {
    const pauseMs = this.#flushedCommits > 1 ? Math.min(PAUSE_MS_MAX, PAUSE_PER_FLUSH * this.#flushTookMs) : 0
    const waitMs = this.#flushedMs + pauseMs - performance.now()
    if (waitMs <= 0) setImmediate(() => this.#flush())
    else setTimeout(() => this.#flush(), waitMs)
  }

  /** Makes everything that waits durable at once. */
  #flush(): void {
    if (this.#waiting.length === 0) return
    const startedMs = performance.now()
    try {
      this.#settle()
      this.#begin()
      this.#records.putRevision(this.#state.revision)
      this.#database.exec('COMMIT')
    } catch (error) {
      this.#giveUp(storeError(error, `Cannot write to the database "${this.#path}"`))
      return
    }
    this.#flushedMs = performance.now()
    this.#flushTookMs = this.#flushedMs - startedMs
    this.#flushedCommits = this.#waiting.length
    const waiting = this.#waiting.splice(0)
    for (const { revision, change, resolve } of waiting) {
      this.#feed.publish(revision, change)
      resolve(revision)
    }
  }

  #begin(): void {
    if (!this.#database.inTransaction) this.#database.exec('BEGIN IMMEDIATE')
  }

  /** Puts what was decided into the open transaction, so that queries see it. Throws what SQLite throws. */
  #settle(): void {
    if (this.#batch.isEmpty) return
    const batch = this.#batch
    this.#batch = new WriteBatch()
    this.#begin()
    this.#records.write(batch)
  }

  /** A change of which the order against others matters. When it fails, so does what waits: all are one transaction. */
  #writeOwn(change: Change, prepared: Prepared): void {
    try {
      this.#settle()
      this.#batch.add(change, prepared)
      this.#settle()
      this.#records.writeDeletions(change)
    } catch (error) {
      this.#giveUp(storeError(error, `Cannot write to the database "${this.#path}"`))
      throw error
    }
  }

  /** Ended jobs, from the disk and from what is on its way there. */
  #archive(): Archive {
    return {
      job: (id) => this.#batch.jobs.get(id) ?? this.#records.job(id),
      execution: (id) => this.#batch.executions.get(id) ?? this.#records.execution(id),
      executionsOfJob: (id) => {
        if (this.#batch.hasExecutionsOf(id)) this.#settleOrGiveUp()
        return this.#records.executionsOfJob(id)
      },
    }
  }

  #settleOrGiveUp(): void {
    try {
      this.#settle()
    } catch (error) {
      const reason = storeError(error, `Cannot write to the database "${this.#path}"`)
      this.#giveUp(reason)
      throw reason
    }
  }

  /** Forgets what did not become durable. */
  #giveUp(reason: WeirError): void {
    this.#isLost = true
    this.#batch = new WriteBatch()
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
    this.#records.forgetPlaces()
    this.#state = new ActiveState(this.#archive(), { ...this.#records.loadActive(), revision })
    this.#isLost = false
  }

  #read<T>(query: () => T): T {
    this.#assertOpen()
    this.#settleOrGiveUp()
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
