import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createOrchestrator } from '../../src/orchestrator/index.js'
import type { NewHistoryEvent } from '../../src/model/index.js'
import type { JobStore } from '../../src/ports/index.js'
import { openSqliteStore } from '../../src/stores/index.js'
import { openDatabase } from '../../src/stores/sqlite-driver.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleExecution, sampleJob, sampleSpec } from '../orchestrator/samples.js'
import { SimulatedNode } from '../orchestrator/simulated-node.js'
import { VirtualClock, seededChance } from '../orchestrator/virtual-time.js'

const hasSqlite = await import('better-sqlite3').then(
  () => true,
  () => false,
)
const PAGE = 4_096
const HISTORY = { level: 'all', afterSequence: 0, limit: 0 } as const

describe.skipIf(!hasSqlite)(
  `a damaged database${hasSqlite ? '' : ' (skipped: better-sqlite3 is not installed)'}`,
  () => {
    const dirs: string[] = []
    afterEach(() => {
      for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true })
    })
    function tempDir(): string {
      const dir = mkdtempSync(join(tmpdir(), 'weir-store-'))
      dirs.push(dir)
      return dir
    }
    async function filled(jobs = 300): Promise<string> {
      const path = join(tempDir(), 'jobs.db')
      const store = await openSqliteStore(path)
      const ids = Array.from({ length: jobs }, (_, index) => `j-${index}`)
      await store.commit({ jobs: ids.map((id) => sampleJob({ id, message: 'x'.repeat(1_000) })) })
      await store.close()
      return path
    }

    it.each([
      ['a page of noise in the middle', (bytes: Buffer): Buffer => noise(bytes, PAGE * 20, PAGE)],
      [
        'a page of zeros in the middle',
        (bytes: Buffer): Buffer => Buffer.from(bytes).fill(0, PAGE * 20, PAGE * 21),
      ],
      ['a damaged head', (bytes: Buffer): Buffer => noise(bytes, 0, 100)],
      [
        'half of it cut off',
        (bytes: Buffer): Buffer => bytes.subarray(0, Math.floor(bytes.length / 2 / PAGE) * PAGE),
      ],
      ['an end in the middle of a page', (bytes: Buffer): Buffer => bytes.subarray(0, bytes.length / 2 + 17)],
    ])('with %s is refused at the start, says what to do, and is left as it was', async (_, damage) => {
      const path = await filled()
      const damaged = damage(readFileSync(path))
      writeFileSync(path, damaged)
      await expect(openSqliteStore(path)).rejects.toMatchObject({
        code: 'store.unavailable',
        message: expect.stringContaining('damaged') as string,
        hint: expect.stringContaining('Restore it from a backup') as string,
      })
      expect(readFileSync(path).equals(damaged)).toBe(true)
    })

    it('of which the record of one job is no JSON fails the question for it with a clear error', async () => {
      const path = await filled(3)
      const database = await openDatabase(path)
      database.exec(`UPDATE jobs SET body = '{"id":', state = 'Completed', active = 0 WHERE id = 'j-1'`)
      database.close()
      const store = await openSqliteStore(path)
      const snapshot = await store.snapshot()
      expect(() => snapshot.job('j-1')).toThrow(
        expect.objectContaining({
          code: 'store.unavailable',
          message: expect.stringContaining('damaged') as string,
        }),
      )
      expect(snapshot.job('j-2')?.id).toBe('j-2')
      await store.close()
    })

    it('whose log of commits was torn anywhere holds the commits before the tear, each whole, and no other', async () => {
      const dir = tempDir()
      const path = join(dir, 'jobs.db')
      const store = await openSqliteStore(path)
      const lengths: number[] = [statSync(`${path}-wal`).size]
      const count = 12
      for (let index = 0; index < count; index++) {
        await store.commit({
          jobs: [
            sampleJob({ id: `j-${index}`, message: 'x'.repeat(3_000) }, { Labels: { index: String(index) } }),
          ],
          executions: [sampleExecution({ id: `e-${index}`, jobId: `j-${index}` })],
          history: [line(`j-${index}`), line(`j-${index}`)],
        })
        lengths.push(statSync(`${path}-wal`).size)
      }
      const [whole, log] = [readFileSync(path), readFileSync(`${path}-wal`)]
      await store.close()
      const cuts = Array.from({ length: 40 }, (_, index) => Math.floor((log.length * (index + 1)) / 41))
      for (const [at, length] of cuts.entries()) {
        const copy = join(dir, `torn-${at}.db`)
        writeFileSync(copy, whole)
        // Cut off, or what the disk had there before.
        writeFileSync(`${copy}-wal`, at % 2 === 0 ? log.subarray(0, length) : noise(log, length, log.length))
        const complete = lengths.filter((size) => size <= length).length - 1
        await expectFirst(copy, Math.max(0, complete), count)
      }
    })

    async function expectFirst(path: string, complete: number, count: number): Promise<void> {
      const store = await openSqliteStore(path)
      const snapshot = await store.snapshot()
      for (let index = 0; index < count; index++) {
        const id = `j-${index}`
        const { events } = await store.history(id, HISTORY)
        const labelled = await store.listJobs({
          orderBy: 'created_at',
          reverse: false,
          limit: 0,
          offset: 0,
          labels: [{ Key: 'index', Operator: '=', Values: [String(index)] }],
        })
        const there = [snapshot.job(id) !== undefined, snapshot.executionsOfJob(id).length, events.length]
        expect([...there, labelled.jobs.length]).toEqual(
          index < complete ? [true, 1, 2, 1] : [false, 0, 0, 0],
        )
      }
      await store.close()
    }

    it('of an older schema that cannot be brought up to date is left as it was', async () => {
      const path = join(tempDir(), 'jobs.db')
      const database = await openDatabase(path)
      database.exec(SCHEMA_3)
      database.exec(`INSERT INTO jobs (id, namespace, state, created, modified, active, body)
                     VALUES ('j-1', 'default', 'Completed', 1, 1, 0, 'no JSON')`)
      database.pragma('user_version = 3')
      database.close()
      await expect(openSqliteStore(path)).rejects.toMatchObject({ code: 'store.unavailable' })
      const after = await openDatabase(path)
      expect(after.pragma('user_version', { simple: true })).toBe(3)
      expect(after.prepare("SELECT name FROM sqlite_master WHERE name = 'job_labels'").all()).toEqual([])
      expect(after.prepare('SELECT body FROM jobs').all()).toEqual([{ body: 'no JSON' }])
      after.close()
    })

    it('of the schema before labels gets them: jobs are found by labels, in both orders, and pages go on', async () => {
      const path = join(tempDir(), 'jobs.db')
      const database = await openDatabase(path)
      database.exec(SCHEMA_3)
      const put = database.prepare(
        'INSERT INTO jobs (id, namespace, name, state, created, modified, active, body) VALUES (?, ?, NULL, ?, ?, ?, ?, ?)',
      )
      for (let index = 0; index < 30; index++) {
        const job = sampleJob(
          { id: `j-${index}`, state: 'Completed', createTimeMs: index, modifyTimeMs: 100 - index },
          { Labels: { parity: index % 2 === 0 ? 'even' : 'odd', 'odd key."x': 'y z' } },
        )
        put.run(job.id, 'default', job.state, job.createTimeMs, job.modifyTimeMs, 0, JSON.stringify(job))
      }
      database.pragma('user_version = 3')
      database.close()
      const store = await openSqliteStore(path)
      const labels = [{ Key: 'parity', Operator: '=' as const, Values: ['even'] }]
      const list = { orderBy: 'created_at', reverse: true, limit: 5, offset: 0, labels } as const
      const page = await store.listJobs(list)
      expect(page.jobs.map((job) => job.id)).toEqual(['j-28', 'j-26', 'j-24', 'j-22', 'j-20'])
      expect(page.more).toBe(true)
      const byChange = await store.listJobs({ ...list, orderBy: 'modified_at', reverse: false, limit: 2 })
      expect(byChange.jobs.map((job) => job.id)).toEqual(['j-28', 'j-26'])
      expect(
        (await store.listJobs({ ...list, labels: [{ Key: 'odd key."x', Operator: 'exists', Values: [] }] }))
          .more,
      ).toBe(true)
      await store.close()
      await (await openSqliteStore(path)).close()
    })
  },
)

const problem = await diskProblem()

describe.skipIf(problem !== undefined)(
  `a disk that does not take any more${problem === undefined ? '' : ` (skipped: ${problem})`}`,
  () => {
    const disks: string[] = []
    afterEach(() => {
      for (const disk of disks.splice(0)) unmount(disk)
    })
    function disk(size: string): string {
      const dir = mount(size)
      disks.push(dir)
      return dir
    }

    it('that is read-only says so with advice; the database is there when it may be written again', async () => {
      const dir = disk('16m')
      const path = join(dir, 'jobs.db')
      const store = await openSqliteStore(path)
      await store.commit({ jobs: [sampleJob({ id: 'j-before', state: 'Completed' })] })
      await store.close()
      mountAgain(dir, 'ro')
      await expect(openSqliteStore(path)).rejects.toMatchObject({
        code: 'store.unavailable',
        hint: expect.stringMatching(/may write/) as string,
      })
      mountAgain(dir, 'rw')
      const again = await openSqliteStore(path)
      expect((await again.snapshot()).job('j-before')?.id).toBe('j-before')
      await again.close()
    })

    it('makes the orchestrator refuse submissions and keep its word, and it goes on by itself when there is room', async () => {
      const dir = disk('3m')
      const store = await openSqliteStore(join(dir, 'jobs.db'))
      const clock = new VirtualClock()
      const transport = createInProcessTransport({ clock, chance: seededChance(2) })
      const orchestrator = createOrchestrator({
        store,
        transport,
        clock,
        chance: seededChance(1),
        nodeId: 'n',
      })
      await orchestrator.start()
      const node = new SimulatedNode({ nodeId: 'n-1', transport, clock, behave: () => ({ runMs: 100 }) })
      await node.start()
      await flowOn(clock, 10)
      const acknowledged: string[] = []
      let refusals = 0
      for (let round = 0; round < 400 && refusals < 5; round++) {
        const spec = sampleSpec({ Meta: { padding: 'x'.repeat(20_000) } })
        const submitting = orchestrator.submit({ spec, clientMeta: {} }).then(
          ({ jobId }) => acknowledged.push(jobId),
          (error: unknown) => {
            expect(error).toMatchObject({ code: 'store.unavailable', retryable: true })
            refusals += 1
          },
        )
        await flowOn(clock, 3)
        await submitting
      }
      expect(refusals).toBe(5)
      expect(acknowledged.length).toBeGreaterThan(5)
      for (const id of acknowledged) expect((await orchestrator.job(id)).id).toBe(id)

      mountAgain(dir, 'size=64m')
      await flowOn(clock, 5)
      const { jobId } = await orchestrator.submit({ spec: sampleSpec(), clientMeta: {} })
      for (let turn = 0; turn < 400; turn++) {
        await flowOn(clock, 1)
        const states = await Promise.all(
          [...acknowledged, jobId].map(async (id) => (await orchestrator.job(id)).state),
        )
        if (states.every((state) => state === 'Completed')) break
      }
      for (const id of [...acknowledged, jobId]) expect((await orchestrator.job(id)).state).toBe('Completed')
      for (const count of node.starts.values()) expect(count).toBe(1)
      await node.kill()
      await orchestrator.close()
      await transport.close()
      await store.close()
      await expectSame(join(dir, 'jobs.db'), [...acknowledged, jobId])
    })

    async function expectSame(path: string, ids: readonly string[]): Promise<void> {
      const store: JobStore = await openSqliteStore(path)
      const listed = await store.listJobs({ orderBy: 'created_at', reverse: false, limit: 0, offset: 0 })
      expect(listed.jobs.map((job) => job.id).toSorted()).toEqual(ids.toSorted())
      await store.close()
    }
  },
)

/** Virtual time and the real disk side by side: flushes of the store need real turns. */
async function flowOn(clock: VirtualClock, steps: number): Promise<void> {
  for (let step = 0; step < steps; step++) {
    await clock.pass(500)
    await new Promise((resolve) => setTimeout(resolve, 6))
  }
}

function line(jobId: string): NewHistoryEvent {
  return { jobId, topic: 't', message: 'm', details: {}, timeMs: 1, jobVersion: 1 }
}

/** The same bytes with noise from there on, for so long. */
function noise(bytes: Buffer, from: number, length: number): Buffer {
  const damaged = Buffer.from(bytes)
  for (let at = from; at < Math.min(damaged.length, from + length); at++) {
    damaged[at] = ((damaged[at] ?? 0) ^ (at * 31 + 0x5a)) & 0xff
  }
  return damaged
}

/** What the program before labels made, word for word. */
const SCHEMA_3 = `
  CREATE TABLE store (revision INTEGER NOT NULL);
  INSERT INTO store VALUES (0);
  CREATE TABLE jobs (
    id TEXT PRIMARY KEY, namespace TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL,
    modified INTEGER NOT NULL, token TEXT, active INTEGER NOT NULL, body TEXT NOT NULL, name TEXT
  ) WITHOUT ROWID;
  CREATE INDEX jobs_created ON jobs (created, id);
  CREATE INDEX jobs_modified ON jobs (modified, id);
  CREATE INDEX jobs_active ON jobs (id) WHERE active = 1;
  CREATE INDEX jobs_token ON jobs (token) WHERE token IS NOT NULL;
  CREATE INDEX jobs_ended ON jobs (modified, id, active) WHERE state IN ('Completed', 'Failed', 'Stopped');
  CREATE INDEX jobs_name ON jobs (name, namespace, created) WHERE name IS NOT NULL;
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
  CREATE TABLE job_versions (
    job TEXT NOT NULL, version INTEGER NOT NULL, token TEXT, body TEXT NOT NULL, PRIMARY KEY (job, version)
  ) WITHOUT ROWID;
  CREATE INDEX job_versions_token ON job_versions (token) WHERE token IS NOT NULL;
`

function mount(size: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'weir-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'weir-test', dir], { stdio: 'pipe' })
  } catch (error) {
    rmSync(dir, { recursive: true, force: true })
    throw error
  }
  return dir
}

function mountAgain(dir: string, options: string): void {
  execFileSync('mount', ['-o', `remount,${options}`, dir], { stdio: 'pipe' })
}

function unmount(dir: string): void {
  execFileSync('umount', ['-l', dir], { stdio: 'pipe' })
  rmSync(dir, { recursive: true, force: true })
}

async function diskProblem(): Promise<string | undefined> {
  if (!hasSqlite) return 'better-sqlite3 is not installed'
  if (process.getuid?.() !== 0) return 'needs root'
  try {
    unmount(mount('2m'))
    return undefined
  } catch {
    return 'a file system in memory cannot be mounted here'
  }
}
