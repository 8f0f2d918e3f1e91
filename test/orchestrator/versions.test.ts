import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { isTerminalObservedState, jobVersionOf, type Execution } from '../../src/model/index.js'
import { createOrchestrator, type Orchestrator } from '../../src/orchestrator/index.js'
import { openMemoryStore, openSqliteStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import type { JobStore } from '../../src/ports/index.js'
import { sampleSpec, type SpecChanges } from './samples.js'
import { SimulatedNode, type Behaviour } from './simulated-node.js'
import { VirtualClock, seededChance } from './virtual-time.js'

const ALL = { level: 'all', afterSequence: 0, limit: 0 } as const
const hasSqlite = await import('better-sqlite3').then(
  () => true,
  () => false,
)

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

interface World {
  clock: VirtualClock
  store: JobStore
  orchestrator: Orchestrator
  /** What runs now, and the most of one slot that ever ran at the same time. */
  running: Map<string, number>
  mostAtOnce: () => number
  addNode: (nodeId: string, behaviour?: Partial<Behaviour>) => Promise<SimulatedNode>
  submit: (spec?: SpecChanges, more?: object) => ReturnType<Orchestrator['submit']>
}

async function makeWorld(
  store: JobStore = openMemoryStore(),
  limits: Parameters<typeof createOrchestrator>[0]['limits'] = {},
): Promise<World> {
  const clock = new VirtualClock()
  const chance = seededChance(1)
  const transport = createInProcessTransport({ clock, chance })
  const orchestrator = createOrchestrator({
    store,
    transport,
    clock,
    chance,
    limits,
    nodeId: 'n-orchestrator',
  })
  await orchestrator.start()
  closing.push(
    () => store.close(),
    () => transport.close(),
    () => orchestrator.close(),
  )
  const running = new Map<string, number>()
  let most = 0
  return {
    clock,
    store,
    orchestrator,
    running,
    mostAtOnce: () => most,
    async addNode(nodeId, behaviour = {}) {
      const node = new SimulatedNode({
        nodeId,
        transport,
        clock,
        behave: () => ({ runMs: 1_000, ...behaviour }),
        onBegin: ({ jobId, slot }) => {
          const key = `${jobId}/${slot}`
          running.set(key, (running.get(key) ?? 0) + 1)
          most = Math.max(most, running.get(key) ?? 0)
        },
        onEnd: ({ jobId, slot }) => {
          const key = `${jobId}/${slot}`
          running.set(key, (running.get(key) ?? 0) - 1)
        },
      })
      await node.start()
      closing.push(() => node.kill())
      await clock.pass(0)
      return node
    },
    submit: (spec = {}, more = {}) =>
      orchestrator.submit({ spec: sampleSpec(spec), clientMeta: {}, updatesByName: true, ...more }),
  }
}

const summary = (executions: readonly Execution[]): unknown[] =>
  executions.map((one) => [jobVersionOf(one), one.desired.state, one.observed.state])

describe('versions of a job', () => {
  it('replaces a running service that is submitted again under its name, one after the other', async () => {
    const { clock, orchestrator, addNode, submit, mostAtOnce } = await makeWorld()
    await addNode('n-1', { runMs: Infinity })
    await addNode('n-2', { runMs: Infinity })
    const web = { Name: 'web', Type: 'service' as const, Count: 2 }
    const first = await submit(web)
    expect(first).toMatchObject({ jobVersion: 1 })
    await clock.pass(2_000)
    const second = await submit({ ...web, Priority: 5 })
    expect(second).toMatchObject({ jobId: first.jobId, jobVersion: 2, warnings: [] })
    expect(second.evaluationId).not.toBe('')
    expect(await orchestrator.job('web')).toMatchObject({ state: 'Pending', version: 2 })
    await clock.pass(5_000)
    expect(await orchestrator.job('web')).toMatchObject({ state: 'Running', version: 2 })
    expect(summary(await orchestrator.executions('web'))).toEqual([
      [2, 'Running', 'Running'],
      [2, 'Running', 'Running'],
    ])
    expect(summary(await orchestrator.executions('web', { jobVersion: 1 }))).toEqual([
      [1, 'Stopped', 'Cancelled'],
      [1, 'Stopped', 'Cancelled'],
    ])
    expect(await orchestrator.executions('web', { allVersions: true })).toHaveLength(4)
    expect(mostAtOnce()).toBe(1)
  })

  it('tells the truth in the history of each version', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: Infinity })
    const { jobId } = await submit({ Name: 'web', Type: 'service' })
    await clock.pass(2_000)
    expect((await orchestrator.history(jobId, ALL)).finished).toBe(false)
    await submit({ Name: 'web', Type: 'service', Priority: 1 })
    await clock.pass(5_000)
    const words = async (view: object): Promise<string[]> =>
      (await orchestrator.history(jobId, ALL, view)).events.map(({ message }) => message)
    expect(await words({ jobVersion: 1 })).toEqual([
      'Job submitted',
      'Requested execution on n-1',
      'Running',
      'Running Execution',
      'Running',
      'Execution stop requested because job has been updated',
    ])
    expect(await words({})).toEqual([
      'Job updated',
      'Requested execution on n-1',
      'Running',
      'Running Execution',
      'Running',
    ])
    expect(await words({ allVersions: true })).toHaveLength(11)
    expect((await orchestrator.history(jobId, ALL, { jobVersion: 1 })).finished).toBe(true)
    expect((await orchestrator.history(jobId, ALL)).finished).toBe(false)
    const [old] = await orchestrator.executions(jobId, { jobVersion: 1 })
    const ofOne = await orchestrator.history(jobId, { ...ALL, executionId: old?.id.slice(0, 10) })
    expect(ofOne.events.map(({ jobVersion }) => jobVersion)).toEqual([1, 1, 1, 1])
  })

  it('keeps each version as it was when it was replaced', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1')
    await submit({ Name: 'job' })
    await clock.pass(3_000)
    await submit({ Name: 'job', Labels: { try: '2' } })
    await submit({ Name: 'job', Labels: { try: '3' } })
    const versions = await orchestrator.versions('job')
    expect(versions.map(({ version, state, message }) => [version, state, message])).toEqual([
      [1, 'Completed', ''],
      [2, 'Stopped', 'Replaced by version 3'],
      [3, 'Pending', ''],
    ])
    expect(versions.map(({ spec }) => spec.Labels.try)).toEqual([undefined, '2', '3'])
    expect((await orchestrator.job('job', { jobVersion: 1 })).state).toBe('Completed')
    expect((await orchestrator.job('job', { jobVersion: 0 })).version).toBe(3)
    await expect(orchestrator.job('job', { jobVersion: 9 })).rejects.toMatchObject({
      code: 'job.not_found',
      hint: expect.stringContaining('versions 1 to 3') as string,
    })
  })

  it('refuses an update that changes nothing, unless it is forced', async () => {
    const { orchestrator, submit } = await makeWorld()
    const { jobId } = await submit({ Name: 'web', Meta: { a: '1' } })
    await expect(submit({ Name: 'web', Meta: { a: '1' } })).rejects.toMatchObject({
      code: 'job.unchanged',
      message: 'Cannot update job "web": it is the same already',
      details: { jobId, jobVersion: 1 },
    })
    // Who submitted it is no part of what was submitted.
    const clientMeta = { 'bacalhau.org/client.instance.id': 'other' }
    await expect(submit({ Name: 'web', Meta: { a: '1' } }, { clientMeta })).rejects.toMatchObject({
      code: 'job.unchanged',
    })
    expect(await submit({ Name: 'web', Meta: { a: '1' } }, { force: true })).toMatchObject({ jobVersion: 2 })
    expect((await orchestrator.versions('web')).map(({ version }) => version)).toEqual([1, 2])
  })

  it('makes another job for clients that know no names, for other namespaces and for jobs without a name', async () => {
    const { orchestrator, submit } = await makeWorld()
    const ids = [
      await submit({ Name: 'web' }),
      await submit({ Name: 'web', Namespace: 'other' }),
      await submit({ Name: 'web' }, { updatesByName: undefined }),
      await submit({ Name: '' }),
      await submit({ Name: '' }),
    ].map(({ jobId, jobVersion }) => {
      expect(jobVersion).toBe(1)
      return jobId
    })
    expect(new Set(ids).size).toBe(5)
    expect((await orchestrator.job('web', { namespace: 'other' })).id).toBe(ids[1])
  })

  it('makes one job of many submissions of one name at the same time', async () => {
    const { orchestrator, submit } = await makeWorld()
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => submit({ Name: 'web', Labels: { index: String(index) } })),
    )
    expect(new Set(answers.map(({ jobId }) => jobId)).size).toBe(1)
    expect(answers.map(({ jobVersion }) => jobVersion)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
    expect(await orchestrator.versions('web')).toHaveLength(20)
  })

  it('honours idempotency tokens of updates and reruns, also of versions that were replaced since', async () => {
    const { orchestrator, submit } = await makeWorld()
    const { jobId } = await submit({ Name: 'web' }, { idempotencyToken: 'one' })
    const update = { Name: 'web', Priority: 2 }
    const [a, b] = await Promise.all([
      submit(update, { idempotencyToken: 'two' }),
      submit(update, { idempotencyToken: 'two' }),
    ])
    expect([a, b].map(({ jobVersion }) => jobVersion)).toEqual([2, 2])
    const rerun = { reason: '', idempotencyToken: 'three' }
    expect(await orchestrator.rerun('web', rerun)).toMatchObject({ jobVersion: 3 })
    expect(await orchestrator.rerun('web', rerun)).toMatchObject({ jobVersion: 3, evaluationId: '' })
    expect(await submit({ Name: 'web' }, { idempotencyToken: 'one' })).toMatchObject({ jobId, jobVersion: 1 })
    expect(await submit(update, { idempotencyToken: 'two' })).toMatchObject({ jobId, jobVersion: 2 })
    expect((await orchestrator.job('web')).version).toBe(3)
  })

  it('runs an ended job again, and an old version of it', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1')
    const { jobId } = await submit({ Name: 'job' })
    await clock.pass(3_000)
    expect((await orchestrator.job(jobId)).state).toBe('Completed')
    expect(await orchestrator.rerun('job', { reason: 'once more' })).toMatchObject({ jobId, jobVersion: 2 })
    await clock.pass(3_000)
    expect(await orchestrator.job(jobId)).toMatchObject({ state: 'Completed', version: 2 })
    await submit({ Name: 'job', Labels: { is: 'changed' } })
    await orchestrator.rerun(jobId, { jobVersion: 1, reason: '' })
    await clock.pass(3_000)
    const job = await orchestrator.job(jobId)
    expect(job).toMatchObject({ state: 'Completed', version: 4 })
    expect(job.spec.Labels).toEqual({})
    const { events } = await orchestrator.history(jobId, ALL, { jobVersion: 2 })
    expect(events[0]).toMatchObject({
      message: 'Job rerun',
      details: { Reason: 'once more', FromVersion: '1', JobVersion: '2' },
    })
    await expect(orchestrator.rerun(jobId, { jobVersion: 7, reason: '' })).rejects.toMatchObject({
      code: 'job.not_found',
    })
    await expect(orchestrator.rerun('nobody', { reason: '' })).rejects.toMatchObject({
      code: 'job.not_found',
    })
  })

  it('runs a stopped job again, without its stop', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: 5_000 })
    const { jobId } = await submit({ Name: 'job' })
    await clock.pass(1_000)
    await orchestrator.stop('job', 'enough')
    await orchestrator.rerun('job', { reason: '' })
    await clock.pass(20_000)
    const job = await orchestrator.job(jobId)
    expect(job).toMatchObject({ state: 'Completed', message: '' })
    expect(job.stopRequest).toBeUndefined()
  })

  it('waits for the room that the version before holds, on a network without any other', async () => {
    const { clock, orchestrator, addNode, submit, mostAtOnce } = await makeWorld()
    await addNode('n-1', { runMs: Infinity })
    const whole = { Resources: { CPU: '4', Memory: '', Disk: '', GPU: '' } }
    await submit({ Name: 'big', task: whole })
    await clock.pass(1_000)
    await orchestrator.rerun('big', { reason: '' })
    await clock.pass(5_000)
    expect(await orchestrator.job('big')).toMatchObject({ state: 'Running', version: 2 })
    expect(mostAtOnce()).toBe(1)
  })

  it('does not wait for ever for a node that does not answer', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    const silent = await addNode('n-1', { runMs: Infinity })
    await submit({ Name: 'web', Type: 'service' })
    await clock.pass(1_000)
    await silent.kill()
    await addNode('n-2', { runMs: Infinity })
    await orchestrator.rerun('web', { reason: '' })
    await clock.pass(20_000)
    expect(summary(await orchestrator.executions('web'))).toEqual([])
    await clock.pass(15_000)
    const [execution] = await orchestrator.executions('web')
    expect(execution).toMatchObject({ nodeId: 'n-2', jobVersion: 2, observed: { state: 'Running' } })
  })

  it('counts the timeouts of each version from its own beginning', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: 8_000 })
    const Timeouts = { ExecutionTimeout: 0, QueueTimeout: 5, TotalTimeout: 10 }
    await submit({ Name: 'job', task: { Timeouts } })
    await clock.pass(9_000)
    await orchestrator.rerun('job', { reason: '' })
    await clock.pass(9_000)
    expect((await orchestrator.job('job')).state).toBe('Completed')
  })

  it('runs an ops job anew on every node, and a batch job with another count', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1')
    await submit({ Name: 'ops', Type: 'ops' })
    await submit({ Name: 'batch' })
    await clock.pass(3_000)
    await addNode('n-2')
    await orchestrator.rerun('ops', { reason: '' })
    await submit({ Name: 'batch', Count: 2 })
    await clock.pass(5_000)
    for (const name of ['ops', 'batch']) {
      expect((await orchestrator.job(name)).state).toBe('Completed')
      const nodes = (await orchestrator.executions(name)).map(({ nodeId }) => nodeId).toSorted()
      expect(nodes).toEqual(['n-1', 'n-2'])
    }
  })

  it('counts an ended job that comes back among those that it may hold', async () => {
    const { clock, orchestrator, submit } = await makeWorld(openMemoryStore(), { activeJobsMax: 1 })
    await submit({ Name: 'ended' })
    await clock.pass(1_000)
    expect((await orchestrator.job('ended')).state).toBe('Failed')
    const Timeouts = { ExecutionTimeout: 0, QueueTimeout: 600, TotalTimeout: 0 }
    await submit({ Name: 'waits', task: { Timeouts } })
    await expect(orchestrator.rerun('ended', { reason: '' })).rejects.toMatchObject({ code: 'job.too_many' })
    // One that has not ended holds its place already.
    expect(await orchestrator.rerun('waits', { reason: '' })).toMatchObject({ jobVersion: 2 })
    await orchestrator.stop('waits', '')
    expect(await orchestrator.rerun('ended', { reason: '' })).toMatchObject({ jobVersion: 2 })
  })

  it('finds a job by id, then by name, then by the beginning of its id', async () => {
    const { clock, orchestrator, submit } = await makeWorld()
    const first = await submit({ Name: 'a name/with ü' })
    const other = await submit({ Name: first.jobId.slice(0, 10) })
    await clock.pass(0)
    expect((await orchestrator.job('a name/with ü')).id).toBe(first.jobId)
    expect((await orchestrator.job(first.jobId)).id).toBe(first.jobId)
    expect((await orchestrator.job(first.jobId.slice(0, 10))).id).toBe(other.jobId)
    expect((await orchestrator.job(first.jobId.slice(0, 11))).id).toBe(first.jobId)
    expect((await orchestrator.job('a name/with ü', { namespace: '*' })).id).toBe(first.jobId)
    for (const [name, namespace] of [
      ['a name/with ü', 'other'],
      ['a name', undefined],
      ['', undefined],
    ] as const) {
      await expect(orchestrator.job(name, { namespace })).rejects.toMatchObject({ code: 'job.not_found' })
    }
  })

  it('takes a name that several jobs have for the one that has not ended, else the newest', async () => {
    const { clock, orchestrator, submit } = await makeWorld()
    const old = { updatesByName: false }
    const Timeouts = { ExecutionTimeout: 0, QueueTimeout: 600, TotalTimeout: 0 }
    const first = await submit({ Name: 'web', task: { Timeouts } }, old)
    await clock.pass(10)
    const second = await submit({ Name: 'web' }, old)
    await clock.pass(10)
    expect((await orchestrator.job('web')).id).toBe(first.jobId)
    await orchestrator.stop('web', '')
    expect((await orchestrator.job('web')).id).toBe(second.jobId)
    await submit({ Name: 'web', Priority: 3, task: { Timeouts } })
    const third = await submit({ Name: 'web', task: { Timeouts } }, old)
    await clock.pass(10)
    await expect(orchestrator.job('web')).rejects.toMatchObject({ code: 'job.ambiguous' })
    await expect(submit({ Name: 'web' })).rejects.toMatchObject({ code: 'job.ambiguous' })
    expect((await orchestrator.job(third.jobId)).id).toBe(third.jobId)
  })

  it('says what an update would change, and changes nothing', async () => {
    const { orchestrator, submit } = await makeWorld()
    const spec = sampleSpec({ Name: 'web', Labels: { team: 'x', old: '1' } })
    const compare = (changes: SpecChanges) =>
      orchestrator.diff({ spec: sampleSpec({ Name: 'web', ...changes }), clientMeta: {} })
    expect(await compare({ Labels: spec.Labels })).toMatchObject({
      diff: expect.stringContaining('+ Name: "web"\n') as string,
      warnings: [expect.stringContaining('would be a new one')],
    })
    await submit({ Name: 'web', Labels: spec.Labels })
    expect(await compare({ Labels: spec.Labels })).toEqual({ diff: '', warnings: [] })
    expect(await compare({ Labels: { team: 'y', 'a.b': '2' }, Count: 3 })).toEqual({
      diff: '- Count: 1\n+ Count: 3\n- Labels.team: "x"\n+ Labels.team: "y"\n- Labels.old: "1"\n+ Labels."a.b": "2"\n',
      warnings: [],
    })
    const Engine = { Type: 'docker', Params: { Image: 'busybox', Parameters: ['a', 'b'] } }
    expect((await compare({ Labels: spec.Labels, task: { Engine } })).diff).toBe(
      '+ Tasks[0].Engine.Params.Parameters[0]: "a"\n+ Tasks[0].Engine.Params.Parameters[1]: "b"\n',
    )
    expect((await orchestrator.job('web')).version).toBe(1)
    await expect(compare({ Name: '' })).rejects.toMatchObject({ code: 'spec.invalid' })
  })

  it('shows at most a thousand differences, and cuts long values', async () => {
    const { orchestrator, submit } = await makeWorld()
    await submit({ Name: 'web' })
    const Labels = Object.fromEntries(Array.from({ length: 1_500 }, (_, i) => [`k${i}`, 'x'.repeat(450)]))
    const { diff } = await orchestrator.diff({ spec: sampleSpec({ Name: 'web', Labels }), clientMeta: {} })
    const lines = diff.trimEnd().split('\n')
    expect(lines).toHaveLength(1_001)
    expect(lines.at(-1)).toBe('… 500 more')
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(450)
  })

  it('forgets what ran of versions that are no longer kept', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: 0 })
    await submit({ Name: 'job' })
    for (let index = 0; index < 104; index++) {
      await clock.pass(0)
      await orchestrator.rerun('job', { reason: '' })
    }
    await clock.pass(0)
    const versions = await orchestrator.versions('job')
    expect([versions[0]?.version, versions.at(-1)?.version, versions.length]).toEqual([5, 105, 101])
    const executions = await orchestrator.executions('job', { allVersions: true })
    expect(executions.map(jobVersionOf)).toEqual(Array.from({ length: 101 }, (_, index) => index + 5))
  })

  it.skipIf(!hasSqlite)(
    `goes on with the right version after a restart, on SQLite${hasSqlite ? '' : ' (skipped: better-sqlite3 is not installed)'}`,
    async () => {
      const dir = mkdtempSync(join(tmpdir(), 'weir-versions-'))
      closing.push(() => rmSync(dir, { recursive: true, force: true }))
      const path = join(dir, 'jobs.db')
      const before = await makeWorld(await openSqliteStore(path))
      const { jobId } = await before.submit({ Name: 'web', Type: 'service' }, { idempotencyToken: 't' })
      await before.submit({ Name: 'web', Type: 'service', Priority: 1 })
      await before.orchestrator.close()
      await before.store.close()
      const after = await makeWorld(await openSqliteStore(path))
      await after.addNode('n-1', { runMs: Infinity })
      await after.orchestrator.rerun('web', { reason: '' })
      await after.clock.pass(5_000)
      const job = await after.orchestrator.job('web')
      expect(job).toMatchObject({ id: jobId, version: 3, state: 'Running' })
      const { events } = await after.orchestrator.history('web', ALL, { allVersions: true })
      expect(events.filter(({ topic }) => topic === 'Submission').map(({ message }) => message)).toEqual([
        'Job submitted',
        'Job updated',
        'Job rerun',
      ])
      expect(await after.submit({ Name: 'web', Type: 'service' }, { idempotencyToken: 't' })).toMatchObject({
        jobId,
        jobVersion: 1,
      })
      const live = (await after.orchestrator.executions('web', { allVersions: true })).filter(
        ({ observed }) => !isTerminalObservedState(observed.state),
      )
      expect(live.map(jobVersionOf)).toEqual([3])
    },
  )
})
