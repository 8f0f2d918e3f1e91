import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'
import { jobVersionOf, type Job } from '../../src/model/index.js'
import type { Change } from '../../src/ports/index.js'
import { ActiveState } from '../../src/stores/active-state.js'
import { entryPoint } from '../../src/package-root.js'
import { lockDataDir, openMemoryStore, openSqliteStore } from '../../src/stores/index.js'
import { openDatabase } from '../../src/stores/sqlite-driver.js'
import { describeJobStore } from '../conformance/job-store.js'
import { sampleExecution, sampleJob } from '../orchestrator/samples.js'

const hasSqlite = await import('better-sqlite3').then(
  () => true,
  () => false,
)
/** As the first released program made them. */
const SCHEMA_BEFORE_VERSIONS = `
  CREATE TABLE store (revision INTEGER NOT NULL);
  INSERT INTO store VALUES (7);
  CREATE TABLE jobs (
    id TEXT PRIMARY KEY, namespace TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL,
    modified INTEGER NOT NULL, token TEXT, active INTEGER NOT NULL, body TEXT NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX jobs_created ON jobs (created, id);
  CREATE INDEX jobs_modified ON jobs (modified, id);
  CREATE INDEX jobs_active ON jobs (id) WHERE active = 1;
  CREATE INDEX jobs_token ON jobs (token) WHERE token IS NOT NULL;
  CREATE TABLE executions (
    ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, job TEXT NOT NULL, body TEXT NOT NULL
  );
  CREATE INDEX executions_job ON executions (job, ordinal);
  CREATE TABLE evaluations (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE nodes (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE history (
    job TEXT NOT NULL, sequence INTEGER NOT NULL, execution TEXT, time INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (job, sequence)
  ) WITHOUT ROWID;
  CREATE INDEX jobs_ended ON jobs (modified, id, active) WHERE state IN ('Completed', 'Failed', 'Stopped');`

const onSqlite = describe.skipIf(!hasSqlite)
const reason = hasSqlite ? '' : ' (skipped: better-sqlite3 is not installed)'

describeJobStore('in memory', async (options) => ({ store: openMemoryStore(options) }))

if (hasSqlite) {
  describeJobStore('on SQLite', async (options) => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-store-'))
    const path = join(dir, 'jobs.db')
    return {
      store: await openSqliteStore(path, options),
      reopen: () => openSqliteStore(path),
      cleanUp: async () => rmSync(dir, { recursive: true, force: true }),
    }
  })
}

describe('the memory store', () => {
  it('forgets the oldest ended jobs beyond its bound, never active ones', async () => {
    const store = openMemoryStore({ endedJobsMax: 2 })
    await store.commit({ jobs: [sampleJob({ id: 'j-active' })] })
    for (const id of ['j-1', 'j-2', 'j-3'])
      await store.commit({ jobs: [sampleJob({ id, state: 'Completed' })] })
    const snapshot = await store.snapshot()
    expect(['j-active', 'j-1', 'j-2', 'j-3'].map((id) => snapshot.job(id) !== undefined)).toEqual([
      true,
      false,
      true,
      true,
    ])
  })
})

onSqlite(`the SQLite store${reason}`, () => {
  const dirs: string[] = []
  afterEach(() => {
    for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true })
  })
  function tempDir(): string {
    const dir = mkdtempSync(join(tmpdir(), 'weir-store-'))
    dirs.push(dir)
    return dir
  }

  it('has everything that was acknowledged after the process was killed in the middle of commits', async () => {
    const path = join(tempDir(), 'jobs.db')
    const program = `
      import { openSqliteStore } from ${JSON.stringify(entryPoint('stores/sqlite.js'))}
      const store = await openSqliteStore(process.argv[1])
      const job = JSON.parse(process.argv[2])
      for (let i = 0; ; i++) {
        await Promise.all([0, 1, 2].map(async (part) => {
          const id = 'j-' + i + '-' + part
          await store.commit({ jobs: [{ ...job, id }], history: [{ jobId: id, topic: 't', message: 'm', details: {}, timeMs: 1, jobVersion: 0 }] })
          process.stdout.write(id + '\\n')
        }))
      }`
    const child = spawn(
      process.execPath,
      ['--input-type=module', '-e', program, path, JSON.stringify(sampleJob())],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    const acknowledged: string[] = []
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged.push(line)
      if (acknowledged.length === 300) child.kill('SIGKILL')
    }
    expect(acknowledged.length).toBeGreaterThanOrEqual(300)
    const store = await openSqliteStore(path)
    const snapshot = await store.snapshot()
    expect(acknowledged.filter((id) => snapshot.job(id) === undefined)).toEqual([])
    for (const job of snapshot.activeJobs()) {
      const { events } = await store.history(job.id, { level: 'all', afterSequence: 0, limit: 0 })
      expect(events).toHaveLength(1)
    }
    await store.close()
  })

  it('opens a database from before job versions: its jobs are version 1 and are found by name', async () => {
    const path = join(tempDir(), 'jobs.db')
    const database = await openDatabase(path)
    database.exec(SCHEMA_BEFORE_VERSIONS)
    const put = database.prepare('INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)')
    for (const [id, Name] of [
      ['j-1', 'web'],
      ['j-2', 'j-2'],
    ] as const) {
      const job = sampleJob({ id, version: 0 }, { Name })
      put.run(id, 'default', 'Pending', 1_000, 1_000, null, 1, JSON.stringify(job))
      const event = {
        jobId: id,
        sequence: 1,
        topic: 't',
        message: 'm',
        details: {},
        timeMs: 1,
        jobVersion: 0,
      }
      database
        .prepare('INSERT INTO history VALUES (?, ?, ?, ?, ?)')
        .run(id, 1, null, 1, JSON.stringify(event))
    }
    const execution = sampleExecution({ jobId: 'j-1' })
    database
      .prepare('INSERT INTO executions (id, job, body) VALUES (?, ?, ?)')
      .run(execution.id, 'j-1', JSON.stringify(execution))
    database.pragma('user_version = 2')
    database.close()

    const store = await openSqliteStore(path)
    const snapshot = await store.snapshot()
    expect([...snapshot.activeJobs()].map(({ id, version }) => [id, version])).toEqual([
      ['j-1', 1],
      ['j-2', 1],
    ])
    expect(snapshot.executionsOfJob('j-1').map(jobVersionOf)).toEqual([1])
    expect(await store.jobIdsByName('default', 'web', 5)).toEqual(['j-1'])
    expect(await store.jobIdsByName('default', 'j-2', 5)).toEqual([])
    const { events } = await store.history('j-1', {
      level: 'all',
      afterSequence: 0,
      limit: 0,
      jobVersion: 1,
    })
    expect(events.map(({ jobVersion }) => jobVersion)).toEqual([1])
    await store.close()
    await (await openSqliteStore(path)).close()
  })

  it('refuses a database of a newer program', async () => {
    const path = join(tempDir(), 'jobs.db')
    await (await openSqliteStore(path)).close()
    const database = await openDatabase(path)
    database.pragma('user_version = 99')
    database.close()
    await expect(openSqliteStore(path)).rejects.toMatchObject({
      code: 'store.unavailable',
      message: expect.stringContaining('schema version 99') as string,
      hint: expect.stringContaining('newer weir') as string,
    })
  })

  it('refuses a file that is no database, and one that is damaged', async () => {
    const path = join(tempDir(), 'jobs.db')
    writeFileSync(path, 'this is not a database, whatever its name says')
    await expect(openSqliteStore(path)).rejects.toMatchObject({
      code: 'store.unavailable',
      message: expect.stringContaining('damaged or not a database') as string,
    })
    const other = join(tempDir(), 'jobs.db')
    const store = await openSqliteStore(other)
    for (let i = 0; i < 50; i++)
      await store.commit({ jobs: [sampleJob({ id: `j-${i}`, message: 'x'.repeat(2_000) })] })
    await store.close()
    const bytes = readFileSync(other)
    writeFileSync(other, bytes.fill(0xff, 4_096 * 3, bytes.length))
    await expect(openSqliteStore(other)).rejects.toMatchObject({
      code: 'store.unavailable',
      message: expect.stringContaining('damaged') as string,
    })
  })

  it('says what to do when the directory does not exist', async () => {
    await expect(openSqliteStore('/nonexistent/weir/jobs.db')).rejects.toMatchObject({
      code: 'store.unavailable',
    })
  })

  it('can be read by its owner only', async () => {
    const path = join(tempDir(), 'jobs.db')
    const store = await openSqliteStore(path)
    await store.commit({ jobs: [sampleJob()] })
    expect(statSync(path).mode & 0o077).toBe(0)
    expect(statSync(`${path}-wal`).mode & 0o077).toBe(0)
    await store.close()
  })
})

describe('the memory of a store', () => {
  it('does not grow with jobs that have ended, also when they are touched again', () => {
    const jobs = new Map<string, Job>()
    const state = new ActiveState({
      job: (id) => jobs.get(id),
      executionsOfJob: () => [],
      execution: () => undefined,
    })
    const commit = (change: Change): void => {
      state.prepare(change)
      for (const job of change.jobs ?? []) jobs.set(job.id, job)
      state.apply(change, state.revision + 1)
    }
    for (let index = 0; index < 1_000; index++) {
      commit({ jobs: [sampleJob({ id: `j-${index}` })] })
      expect(state.size).toBe(1)
      commit({ jobs: [sampleJob({ id: `j-${index}`, state: 'Completed' })] })
      expect(state.size).toBe(0)
    }
    commit({ jobs: [sampleJob({ id: 'j-7', state: 'Completed', version: 1 })] })
    expect(state.size).toBe(0)
    expect(state.snapshot().job('j-7')?.version).toBe(1)
  })
})

onSqlite(`the lock of a data directory${reason}`, () => {
  it('keeps a second server out and names the first', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-lock-'))
    const lock = await lockDataDir(dir)
    await expect(lockDataDir(dir)).rejects.toMatchObject({
      code: 'store.locked',
      message: expect.stringContaining(`pid ${process.pid}`) as string,
      details: { pid: process.pid },
    })
    lock.release()
    lock.release()
    const again = await lockDataDir(dir)
    again.release()
    rmSync(dir, { recursive: true })
  })

  it('is free again when its holder was killed', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-lock-'))
    const program = `
      import { lockDataDir } from ${JSON.stringify(entryPoint('stores/data-dir-lock.js'))}
      await lockDataDir(process.argv[1])
      console.log('locked')
      setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', program, dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await new Promise((resolve) => child.stdout.once('data', resolve))
    await expect(lockDataDir(dir)).rejects.toMatchObject({
      code: 'store.locked',
      details: { pid: child.pid },
    })
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await exited
    const lock = await lockDataDir(dir)
    lock.release()
    rmSync(dir, { recursive: true })
  })
})
