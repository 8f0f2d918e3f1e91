import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { matchConstraints, parseConstraints } from '../../src/model/index.js'
import type { Execution, Job, NodeRecord } from '../../src/model/index.js'
import type { Change, HistoryQuery, JobQuery, JobStore, Snapshot } from '../../src/ports/index.js'
import { sampleExecution, sampleJob, sampleNode } from '../orchestrator/samples.js'

const ALL: HistoryQuery = { level: 'all', afterSequence: 0, limit: 0 }
const LIST: JobQuery = { orderBy: 'created_at', reverse: false, limit: 0, offset: 0 }

/** What every job store promises. `reopen` is absent for stores that forget. */
export function describeJobStore(
  name: string,
  open: (options?: {
    historyPerJobMax?: number
  }) => Promise<{ store: JobStore; reopen?: () => Promise<JobStore>; cleanUp?: () => Promise<void> }>,
): void {
  describe(`the job store ${name}`, () => {
    const closing: (() => Promise<void>)[] = []
    afterEach(async () => {
      for (const close of closing.splice(0).reverse()) await close()
    })

    async function fresh(
      options?: Parameters<typeof open>[0],
    ): Promise<{ store: JobStore; reopen?: () => Promise<JobStore> }> {
      const opened = await open(options)
      closing.push(async () => {
        await opened.store.close()
        await opened.cleanUp?.()
      })
      return opened
    }

    it('shows a commit in the next snapshot and not in an earlier one', async () => {
      const { store } = await fresh()
      const before = await store.snapshot()
      await store.commit({ jobs: [sampleJob()], executions: [sampleExecution()] })
      const after = await store.snapshot()
      expect([...before.activeJobs()]).toEqual([])
      expect(before.job(sampleJob().id)).toBeUndefined()
      expect(before.executionsOfJob(sampleJob().id)).toEqual([])
      expect(before.activeExecutionsOnNode('n-1')).toEqual([])
      expect([...after.activeJobs()]).toEqual([sampleJob()])
      expect(after.executionsOfJob(sampleJob().id)).toEqual([sampleExecution()])
      expect(after.activeExecutionsOnNode('n-1')).toEqual([sampleExecution()])
      expect(after.revision).toBe(before.revision + 1)
    })

    it('keeps a snapshot frozen while jobs change, end and come back', async () => {
      const { store } = await fresh()
      const job = sampleJob()
      const ended = sampleExecution({
        desired: { state: 'Stopped', message: '', sinceMs: 2 },
        observed: { ...sampleExecution().observed, state: 'Completed', sequence: 1 },
      })
      await store.commit({ jobs: [job], executions: [sampleExecution()] })
      const running = await store.snapshot()
      await store.commit({ jobs: [{ ...job, state: 'Completed' }], executions: [ended] })
      const over = await store.snapshot()
      await store.commit({ jobs: [{ ...job, state: 'Running', version: 1 }] })
      expect([...running.activeJobs()]).toEqual([job])
      expect(running.execution(ended.id)).toEqual(sampleExecution())
      expect(running.activeExecutionsOnNode('n-1')).toHaveLength(1)
      expect([...over.activeJobs()]).toEqual([])
      expect(over.job(job.id)?.state).toBe('Completed')
      expect(over.executionsOfJob(job.id)).toEqual([ended])
      expect([...(await store.snapshot()).activeJobs()].map((one) => one.version)).toEqual([1])
    })

    it('refuses a commit on an old revision and changes nothing', async () => {
      const { store } = await fresh()
      const { revision } = await store.snapshot()
      await store.commit({ jobs: [sampleJob()] }, revision)
      await expect(store.commit({ jobs: [sampleJob({ id: 'j-2' })] }, revision)).rejects.toMatchObject({
        code: 'store.stale',
        retryable: true,
      })
      expect((await store.snapshot()).job('j-2')).toBeUndefined()
    })

    it('refuses an execution of a job that does not exist, as a whole', async () => {
      const { store } = await fresh()
      const change: Change = {
        jobs: [sampleJob({ id: 'j-2' })],
        executions: [sampleExecution({ jobId: 'j-none' })],
      }
      await expect(store.commit(change)).rejects.toMatchObject({ code: 'internal' })
      expect([...(await store.snapshot()).activeJobs()]).toEqual([])
      expect((await store.listJobs(LIST)).jobs).toEqual([])
      await store.commit({ jobs: [sampleJob()] })
      expect((await store.listJobs(LIST)).jobs).toHaveLength(1)
    })

    it('numbers the history of each job from 1 and reads it in pages', async () => {
      const { store } = await fresh()
      const event = (
        jobId: string,
        executionId?: string,
        timeMs = 5,
      ): NonNullable<Change['history']>[number] => ({
        jobId,
        ...(executionId === undefined ? {} : { executionId }),
        topic: 't',
        message: 'm',
        details: { a: '1' },
        timeMs,
        jobVersion: 0,
      })
      await expect(store.commit({ history: [event('j-1')] })).rejects.toMatchObject({ code: 'internal' })
      const jobs = [sampleJob({ id: 'j-1' }), sampleJob({ id: 'j-2' })]
      await store.commit({ jobs, history: [event('j-1'), event('j-2'), event('j-1', 'e-aa', 9)] })
      await store.commit({ history: [event('j-1', 'e-ab', 20)] })
      const sequences = async (query: Partial<HistoryQuery>): Promise<number[]> =>
        (await store.history('j-1', { ...ALL, ...query })).events.map((one) => one.sequence)
      expect(await sequences({})).toEqual([1, 2, 3])
      expect(await sequences({ afterSequence: 2 })).toEqual([3])
      expect(await sequences({ level: 'job' })).toEqual([1])
      expect(await sequences({ level: 'execution' })).toEqual([2, 3])
      expect(await sequences({ executionId: 'e-ab' })).toEqual([3])
      expect(await sequences({ executionId: 'e-' })).toEqual([2, 3])
      expect(await sequences({ executionId: 'e-%' })).toEqual([])
      expect(await sequences({ sinceMs: 9 })).toEqual([2, 3])
      expect(await store.history('j-1', { ...ALL, limit: 2 })).toMatchObject({ more: true })
      expect(await store.history('j-1', { ...ALL, limit: 3 })).toMatchObject({ more: false })
    })

    it('lists jobs by time, in both directions, filtered and in pages', async () => {
      const { store } = await fresh()
      for (const [index, Namespace] of ['a', 'b', 'a', 'a'].entries()) {
        const job = sampleJob(
          { id: `j-${index}`, createTimeMs: 100 - index, modifyTimeMs: index },
          { Namespace },
        )
        await store.commit({ jobs: [index === 3 ? { ...job, state: 'Failed' } : job] })
      }
      const ids = async (query: Partial<JobQuery>): Promise<string[]> =>
        (await store.listJobs({ ...LIST, ...query })).jobs.map((job) => job.id)
      expect(await ids({})).toEqual(['j-3', 'j-2', 'j-1', 'j-0'])
      expect(await ids({ reverse: true })).toEqual(['j-0', 'j-1', 'j-2', 'j-3'])
      expect(await ids({ orderBy: 'modified_at' })).toEqual(['j-0', 'j-1', 'j-2', 'j-3'])
      expect(await ids({ namespace: 'a', limit: 2 })).toEqual(['j-3', 'j-2'])
      expect(await ids({ namespace: 'a', limit: 2, offset: 2 })).toEqual(['j-0'])
      expect(await ids({ namespace: '*', states: ['Failed'] })).toEqual(['j-3'])
      expect(await ids({ accept: (job) => job.id !== 'j-3', limit: 2, offset: 1 })).toEqual(['j-1', 'j-0'])
      expect((await store.listJobs({ ...LIST, limit: 3 })).more).toBe(true)
      expect((await store.listJobs({ ...LIST, limit: 4 })).more).toBe(false)
    })

    it('finds jobs by their labels as a look at each job would, page by page', async () => {
      const { store } = await fresh()
      const all: Job[] = []
      for (let index = 0; index < 60; index++) {
        const Labels: Record<string, string> = { size: String(index % 7) }
        if (index % 5 === 0) Labels.team = index % 10 === 0 ? 'a' : 'b'
        const Namespace = index % 3 === 0 ? 'x' : 'default'
        const job = sampleJob(
          {
            id: `j-${String((index * 37) % 60).padStart(2, '0')}`,
            createTimeMs: 1_000 + (index % 20),
            modifyTimeMs: 5_000 - index,
            state: index % 4 === 0 ? 'Completed' : 'Running',
          },
          { Labels, Namespace },
        )
        all.push(job)
        // Some are written twice between two flushes, and some of these lose their labels.
        const first = store.commit({ jobs: [job] })
        if (index % 6 === 5) {
          const bare = { ...job, spec: { ...job.spec, Labels: {} }, revision: 2 }
          all[index] = bare
          await store.commit({ jobs: [bare] })
        }
        await first
      }
      const selectors = [
        'team=a',
        'team in (a,b),size>2',
        'team',
        '!team',
        'size!=3',
        'size=9',
        'size<4,team=b',
      ]
      for (const text of selectors) {
        const labels = parseConstraints(text)
        const accept = (job: Job): boolean => matchConstraints(labels, job.spec.Labels).matches
        for (const more of [{}, { namespace: 'x' }, { states: ['Completed' as const], reverse: true }]) {
          for (const orderBy of ['created_at', 'modified_at'] as const) {
            const query = { ...LIST, ...more, orderBy }
            const wanted = (await store.listJobs({ ...query, accept, limit: 100 })).jobs.map((job) => job.id)
            const known = new Set(all.filter(accept).map((job) => job.id))
            expect(wanted.every((id) => known.has(id))).toBe(true)
            if (Object.keys(more).length === 0) expect(wanted).toHaveLength(known.size)
            const found: string[] = []
            let after: JobQuery['after']
            for (;;) {
              const page = await store.listJobs({ ...query, labels, limit: 4, after })
              found.push(...page.jobs.map((job) => job.id))
              const last = page.jobs.at(-1)
              if (!page.more || last === undefined) break
              after = {
                timeMs: orderBy === 'created_at' ? last.createTimeMs : last.modifyTimeMs,
                id: last.id,
              }
            }
            expect(found).toEqual(wanted)
            const offset = await store.listJobs({ ...query, labels, limit: 3, offset: 2 })
            expect(offset.jobs.map((job) => job.id)).toEqual(wanted.slice(2, 5))
            expect(offset.more).toBe(wanted.length > 5)
          }
        }
      }
      await store.commit({ deleteJobs: all.map((job) => job.id) })
      expect((await store.listJobs({ ...LIST, labels: parseConstraints('team') })).jobs).toEqual([])
    })

    it('finds ids by prefix, without any wildcard', async () => {
      const { store } = await fresh()
      await store.commit({
        jobs: [sampleJob({ id: 'j-aa' }), sampleJob({ id: 'j-ab' }), sampleJob({ id: 'j-b' })],
        executions: [sampleExecution({ id: 'e-1', jobId: 'j-aa' })],
      })
      expect(await store.jobIdsWithPrefix('j-a', 10)).toEqual(['j-aa', 'j-ab'])
      expect(await store.jobIdsWithPrefix('j-', 2)).toEqual(['j-aa', 'j-ab'])
      expect(await store.jobIdsWithPrefix('j-%', 10)).toEqual([])
      expect(await store.jobIdsWithPrefix('j-_', 10)).toEqual([])
      expect(await store.executionIdsWithPrefix('e-', 10)).toEqual(['e-1'])
    })

    it('finds a job by its idempotency token', async () => {
      const { store } = await fresh()
      await store.commit({ jobs: [sampleJob({ idempotencyToken: 'x' })] })
      expect(await store.jobByIdempotencyToken('x')).toBe(sampleJob().id)
      expect(await store.jobByIdempotencyToken('y')).toBeUndefined()
    })

    it('finds jobs by name within a namespace: first those that have not ended, then the newest', async () => {
      const { store } = await fresh()
      const put = (id: string, Name: string, changes: Partial<Job> = {}, Namespace = 'default') =>
        store.commit({ jobs: [sampleJob({ id, ...changes }, { Name, Namespace })] })
      await put('j-1', 'web', { state: 'Completed', createTimeMs: 1 })
      await put('j-2', 'web', { state: 'Running', createTimeMs: 2 })
      await put('j-3', 'web', { state: 'Failed', createTimeMs: 3 })
      await put('j-4', 'web', {}, 'other')
      await put('j-5', 'j-5')
      expect(await store.jobIdsByName('default', 'web', 10)).toEqual(['j-2', 'j-3', 'j-1'])
      expect(await store.jobIdsByName('default', 'web', 2)).toEqual(['j-2', 'j-3'])
      expect(await store.jobIdsByName('other', 'web', 2)).toEqual(['j-4'])
      expect(await store.jobIdsByName('default', 'w%', 2)).toEqual([])
      expect(await store.jobIdsByName('default', 'j-5', 2)).toEqual([])
      await put('j-2', 'api', { state: 'Running', createTimeMs: 2 })
      expect(await store.jobIdsByName('default', 'web', 10)).toEqual(['j-3', 'j-1'])
      expect(await store.jobIdsByName('default', 'api', 10)).toEqual(['j-2'])
      // The same labels, not equal ones: nothing but the name is other than before.
      const renamed = (await store.snapshot()).job('j-2') as Job
      await store.commit({ jobs: [{ ...renamed, spec: { ...renamed.spec, Name: 'site' } }] })
      expect(await store.jobIdsByName('default', 'api', 10)).toEqual([])
      expect(await store.jobIdsByName('default', 'site', 10)).toEqual(['j-2'])
      await store.commit({ deleteJobs: ['j-2'] })
      expect(await store.jobIdsByName('default', 'site', 10)).toEqual([])
    })

    it('keeps the newest hundred replaced versions of a job, with their tokens, until the job is forgotten', async () => {
      const { store, reopen } = await fresh()
      const version = (number: number): Job =>
        sampleJob({ version: number, idempotencyToken: `t-${number}` }, { Priority: number })
      await store.commit({ jobs: [version(1)] })
      expect(await store.replacedVersions(version(1).id)).toEqual([])
      for (let number = 2; number <= 103; number++) {
        await store.commit({ jobs: [version(number)], replacedJobs: [version(number - 1)] })
      }
      const kept = await store.replacedVersions(version(1).id)
      expect(kept).toHaveLength(100)
      expect([kept[0], kept[99]]).toEqual([version(3), version(102)])
      expect(await store.jobByIdempotencyToken('t-103')).toBe(version(1).id)
      expect(await store.jobByIdempotencyToken('t-3')).toBe(version(1).id)
      expect(await store.jobByIdempotencyToken('t-2')).toBeUndefined()
      if (reopen !== undefined) {
        await store.close()
        const again = await reopen()
        closing.push(() => again.close())
        expect(await again.replacedVersions(version(1).id)).toEqual(kept)
        await again.commit({ deleteJobs: [version(1).id] })
        expect(await again.replacedVersions(version(1).id)).toEqual([])
        expect(await again.jobByIdempotencyToken('t-3')).toBeUndefined()
        return
      }
      await store.commit({ deleteJobs: [version(1).id] })
      expect(await store.replacedVersions(version(1).id)).toEqual([])
      expect(await store.jobByIdempotencyToken('t-3')).toBeUndefined()
    })

    it('reads the history of one version of a job', async () => {
      const { store } = await fresh()
      const event = (jobVersion: number) => ({
        jobId: 'j-1',
        topic: 't',
        message: 'm',
        details: {},
        timeMs: 1,
        jobVersion,
      })
      const jobs = [sampleJob({ id: 'j-1' })]
      await store.commit({ jobs, history: [event(1), event(2), event(1), event(2)] })
      const read = async (query: Partial<HistoryQuery>): Promise<number[]> =>
        (await store.history('j-1', { ...ALL, ...query })).events.map((one) => one.sequence)
      expect(await read({ jobVersion: 1 })).toEqual([1, 3])
      expect(await read({ jobVersion: 2, afterSequence: 2 })).toEqual([4])
      expect(await read({ jobVersion: 3 })).toEqual([])
      expect(await store.history('j-1', { ...ALL, jobVersion: 2, limit: 1 })).toMatchObject({ more: true })
    })

    it('pages through jobs so that none is missing and none comes twice while others are added', async () => {
      const added = fc.record({
        timeMs: fc.integer({ min: 0, max: 6 }),
        id: fc.integer({ min: 0, max: 60 }),
        isEarly: fc.boolean(),
      })
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(added, { selector: ({ id }) => id, maxLength: 30 }),
          fc.integer({ min: 1, max: 4 }),
          fc.boolean(),
          fc.constantFrom('created_at' as const, 'modified_at' as const),
          async (jobs, limit, reverse, orderBy) => {
            const { store } = await fresh()
            const put = ({ timeMs, id }: (typeof jobs)[number]) =>
              store.commit({
                jobs: [
                  sampleJob({
                    id: `j-${String(id).padStart(2, '0')}`,
                    createTimeMs: timeMs,
                    modifyTimeMs: 10 - timeMs,
                  }),
                ],
              })
            const early = jobs.filter(({ isEarly }) => isEarly)
            const late = jobs.filter(({ isEarly }) => !isEarly)
            for (const job of early) await put(job)
            const seen: string[] = []
            let after: JobQuery['after']
            for (;;) {
              const page = await store.listJobs({ ...LIST, orderBy, reverse, limit, after })
              seen.push(...page.jobs.map(({ id }) => id))
              const last = page.jobs.at(-1)
              if (!page.more || last === undefined) break
              const timeMs = orderBy === 'created_at' ? last.createTimeMs : last.modifyTimeMs
              after = { timeMs, id: last.id }
              const next = late.pop()
              if (next !== undefined) await put(next)
            }
            expect(new Set(seen).size).toBe(seen.length)
            for (const { id } of early) expect(seen).toContain(`j-${String(id).padStart(2, '0')}`)
          },
        ),
        { numRuns: 25 },
      )
    })

    it('tells a watcher that fell too far behind to begin anew, and never leaves a commit out', async () => {
      const { store } = await fresh()
      const { revision } = await store.snapshot()
      const enough = new AbortController()
      const watching = store.watch(revision, enough.signal)[Symbol.asyncIterator]()
      const large = Array.from({ length: 300 }, (_, index) => sampleJob({ id: `j-${index}` }))
      const seen: number[] = []
      const first = watching.next()
      for (let round = 0; round < 40; round++) {
        await Promise.all([1, 2].map((part) => store.commit({ jobs: large.slice(0, part === 1 ? 300 : 1) })))
        if (round === 0) seen.push((await first).value?.revision as number)
      }
      await expect(
        (async () => {
          for (let next = await watching.next(); next.done !== true; next = await watching.next())
            seen.push(next.value.revision)
        })(),
      ).rejects.toMatchObject({ code: 'store.stale', hint: expect.stringContaining('snapshot') as string })
      expect(seen).toEqual([revision + 1])
      // Whoever begins anew is told everything again.
      const now = await store.snapshot()
      const again = store.watch(now.revision, enough.signal)[Symbol.asyncIterator]()
      const next = again.next()
      await store.commit({ jobs: [sampleJob()] })
      expect((await next).value?.revision).toBe(now.revision + 1)
      enough.abort()
    })

    it('tells watchers each commit in order, also those before they came', async () => {
      const { store } = await fresh()
      const { revision } = await store.snapshot()
      await store.commit({ jobs: [sampleJob()] })
      const enough = new AbortController()
      const seen: number[] = []
      const watching = (async () => {
        for await (const commit of store.watch(revision, enough.signal)) {
          seen.push(commit.revision - revision)
          if (seen.length === 3) enough.abort()
        }
      })()
      await store.commit({ jobs: [sampleJob({ id: 'j-2' })] })
      await store.commit({ jobs: [sampleJob({ id: 'j-3' })] })
      await watching
      expect(seen).toEqual([1, 2, 3])
    })

    it('makes many commits at once, each on its own revision', async () => {
      const { store } = await fresh()
      const commits = Array.from({ length: 50 }, (_, index) =>
        store.commit({ jobs: [sampleJob({ id: `j-${index}` })] }),
      )
      const revisions = await Promise.all(commits)
      expect(new Set(revisions).size).toBe(50)
      expect([...(await store.snapshot()).activeJobs()]).toHaveLength(50)
    })

    it('names ended jobs that are too old or too many, the oldest first, and forgets what it is told to', async () => {
      const { store } = await fresh()
      const ids = ['j-1', 'j-2', 'j-3', 'j-4', 'j-5']
      for (const [index, id] of ids.entries()) {
        const state = id === 'j-2' ? 'Running' : 'Completed'
        const observed = { ...sampleExecution().observed, state: 'Completed' as const }
        await store.commit({
          jobs: [sampleJob({ id, state, modifyTimeMs: 100 + index, idempotencyToken: id })],
          executions: [
            sampleExecution({
              id: `e-${id}`,
              jobId: id,
              desired: { state: 'Stopped', message: '', sinceMs: 1 },
              // What j-4 ran has not ended as far as anybody knows.
              ...(id === 'j-4' ? {} : { observed }),
            }),
          ],
          history: [{ jobId: id, topic: 't', message: 'm', details: {}, timeMs: 1, jobVersion: 0 }],
        })
      }
      expect(await store.endedJobs({ beforeMs: 0, keepMax: 3, limit: 10 })).toEqual([])
      expect(await store.endedJobs({ beforeMs: 0, keepMax: 1, limit: 10 })).toEqual(['j-1', 'j-3'])
      expect(await store.endedJobs({ beforeMs: 0, keepMax: 0, limit: 1 })).toEqual(['j-1'])
      expect(await store.endedJobs({ beforeMs: 104, keepMax: 9, limit: 10 })).toEqual(['j-1', 'j-3', 'j-4'])

      await store.commit({ deleteJobs: ['j-1', 'j-4'] })
      const snapshot = await store.snapshot()
      for (const id of ['j-1', 'j-4']) {
        expect(snapshot.job(id)).toBeUndefined()
        expect(snapshot.execution(`e-${id}`)).toBeUndefined()
        expect(snapshot.executionsOfJob(id)).toEqual([])
        expect((await store.history(id, ALL)).events).toEqual([])
        expect(await store.jobByIdempotencyToken(id)).toBeUndefined()
      }
      expect(snapshot.activeExecutionsOnNode('n-1')).toEqual([])
      expect((await store.listJobs(LIST)).jobs.map((job) => job.id)).toEqual(['j-2', 'j-3', 'j-5'])
    })

    it('forgets single executions, and keeps the order of the others', async () => {
      const { store, reopen } = await fresh()
      const ended = ['e-1', 'e-2', 'e-3'].map((id) =>
        sampleExecution({
          id,
          desired: { state: 'Stopped', message: '', sinceMs: 1 },
          observed: { ...sampleExecution().observed, state: 'Completed' },
        }),
      )
      await store.commit({ jobs: [sampleJob({ state: 'Running' })], executions: ended })
      await store.commit({ deleteExecutions: ['e-2', 'e-unknown'] })
      const left = (from: Snapshot): string[] => from.executionsOfJob(sampleJob().id).map((one) => one.id)
      expect(left(await store.snapshot())).toEqual(['e-1', 'e-3'])
      expect((await store.snapshot()).execution('e-2')).toBeUndefined()
      if (reopen === undefined) return
      await store.close()
      const again = await reopen()
      expect(left(await again.snapshot())).toEqual(['e-1', 'e-3'])
      await again.close()
    })

    it('keeps the newest lines of a long history, and their numbers', async () => {
      const { store } = await fresh({ historyPerJobMax: 100 })
      await store.commit({ jobs: [sampleJob()] })
      const line = { jobId: sampleJob().id, topic: 't', details: {}, timeMs: 1, jobVersion: 0 }
      for (let index = 1; index <= 400; index++) {
        await store.commit({ history: [{ ...line, message: String(index) }] })
      }
      const { events } = await store.history(sampleJob().id, ALL)
      expect(events.length).toBeGreaterThanOrEqual(100)
      expect(events.length).toBeLessThanOrEqual(200)
      expect(events.at(-1)).toMatchObject({ sequence: 400, message: '400' })
      for (const event of events) expect(event.message).toBe(String(event.sequence))
    })

    it('refuses everything after it was closed', async () => {
      const { store } = await fresh()
      await store.close()
      await expect(store.snapshot()).rejects.toMatchObject({ code: 'store.unavailable' })
      await expect(store.commit({})).rejects.toMatchObject({ code: 'store.unavailable' })
    })

    it('agrees with a plain model of it after any sequence of commits', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(changes(), { maxLength: 25 }), async (sequence) => {
          const { store, reopen, cleanUp } = await open()
          const model = new Model()
          const old: { snapshot: Snapshot; expected: unknown }[] = []
          try {
            for (const change of sequence) {
              if (!model.accepts(change)) continue
              await store.commit(change)
              model.apply(change)
              const snapshot = await store.snapshot()
              old.push({ snapshot, expected: model.view() })
            }
            for (const { snapshot, expected } of old) expect(viewOf(snapshot)).toEqual(expected)
            if (reopen === undefined) return
            await store.close()
            const again = await reopen()
            expect(viewOf(await again.snapshot())).toEqual(model.view())
            await again.close()
          } finally {
            await store.close()
            await cleanUp?.()
          }
        }),
        { numRuns: 40 },
      )
    })
  })
}

const JOB_IDS = ['j-1', 'j-2', 'j-3']
const EXECUTION_IDS = ['e-1', 'e-2', 'e-3', 'e-4', 'e-5', 'e-6']
const NODE_IDS = ['n-1', 'n-2']

function changes(): fc.Arbitrary<Change> {
  const job = fc
    .record({
      id: fc.constantFrom(...JOB_IDS),
      state: fc.constantFrom(
        'Pending' as const,
        'Running' as const,
        'Completed' as const,
        'Stopped' as const,
      ),
      message: fc.string({ maxLength: 4 }),
    })
    .map((changed) => sampleJob(changed))
  const execution = fc
    .record({
      index: fc.nat(5),
      state: fc.constantFrom('New' as const, 'Running' as const, 'Completed' as const, 'Failed' as const),
      desired: fc.constantFrom('Running' as const, 'Stopped' as const),
    })
    .map(({ index, state, desired }) =>
      sampleExecution({
        id: EXECUTION_IDS[index] ?? '',
        jobId: JOB_IDS[index % 3] ?? '',
        nodeId: NODE_IDS[index % 2] ?? '',
        desired: { state: desired, message: '', sinceMs: 1 },
        observed: { ...sampleExecution().observed, state },
      }),
    )
  const evaluationId = fc.constantFrom('v-1', 'v-2')
  const evaluation = evaluationId.map((id) => ({
    id,
    jobId: 'j-1',
    namespace: 'default',
    trigger: 'exec-update' as const,
    priority: 0,
    waitUntilMs: 0,
    createTimeMs: 0,
  }))
  const node = fc.constantFrom(...NODE_IDS).map((id) => sampleNode(id))
  const unique = <T>(records: fc.Arbitrary<T>, key: (record: T) => string): fc.Arbitrary<T[]> =>
    fc.uniqueArray(records, { selector: key, maxLength: 3 })
  return fc.record({
    jobs: unique(job, (one) => one.id),
    executions: unique(execution, (one) => one.id),
    evaluations: unique(evaluation, (one) => one.id),
    deleteEvaluations: fc.uniqueArray(evaluationId, { maxLength: 1 }),
    nodes: unique(node, (one) => one.info.nodeId),
    deleteNodes: fc.uniqueArray(fc.constantFrom(...NODE_IDS), { maxLength: 1 }),
  })
}

/** The promise of the interface in the plainest words. */
class Model {
  readonly #jobs = new Map<string, Job>()
  readonly #executions = new Map<string, Execution>()
  readonly #evaluations = new Set<string>()
  readonly #nodes = new Map<string, NodeRecord>()

  accepts(change: Change): boolean {
    const created = new Set(change.jobs?.map((job) => job.id))
    return (change.executions ?? []).every(({ jobId }) => this.#jobs.has(jobId) || created.has(jobId))
  }

  apply(change: Change): void {
    for (const job of change.jobs ?? []) this.#jobs.set(job.id, job)
    for (const execution of change.executions ?? []) this.#executions.set(execution.id, execution)
    for (const evaluation of change.evaluations ?? []) this.#evaluations.add(evaluation.id)
    for (const id of change.deleteEvaluations ?? []) this.#evaluations.delete(id)
    for (const node of change.nodes ?? []) this.#nodes.set(node.info.nodeId, node)
    for (const id of change.deleteNodes ?? []) this.#nodes.delete(id)
  }

  view(): unknown {
    const executions = [...this.#executions.values()]
    const isActive = (execution: Execution): boolean =>
      !['Completed', 'Failed'].includes(execution.observed.state) || execution.desired.state === 'Running'
    return {
      active: [...this.#jobs.values()]
        .filter(
          (job) =>
            !['Completed', 'Stopped'].includes(job.state) ||
            executions.some((execution) => execution.jobId === job.id && isActive(execution)),
        )
        .map((job) => job.id)
        .toSorted(),
      jobs: JOB_IDS.map((id) => this.#jobs.get(id)),
      executions: EXECUTION_IDS.map((id) => this.#executions.get(id)),
      ofJob: JOB_IDS.map((id) => executions.filter((execution) => execution.jobId === id)),
      onNode: NODE_IDS.map((id) =>
        executions
          .filter((execution) => execution.nodeId === id && isActive(execution))
          .map((execution) => execution.id)
          .toSorted(),
      ),
      evaluations: [...this.#evaluations].toSorted(),
      nodes: NODE_IDS.map((id) => this.#nodes.get(id)),
    }
  }
}

function viewOf(snapshot: Snapshot): unknown {
  return {
    active: [...snapshot.activeJobs()].map((job) => job.id).toSorted(),
    jobs: JOB_IDS.map((id) => snapshot.job(id)),
    executions: EXECUTION_IDS.map((id) => snapshot.execution(id)),
    ofJob: JOB_IDS.map((id) => [...snapshot.executionsOfJob(id)]),
    onNode: NODE_IDS.map((id) =>
      snapshot
        .activeExecutionsOnNode(id)
        .map((execution) => execution.id)
        .toSorted(),
    ),
    evaluations: [...snapshot.evaluations()].map((evaluation) => evaluation.id).toSorted(),
    nodes: NODE_IDS.map((id) => snapshot.node(id)),
  }
}
