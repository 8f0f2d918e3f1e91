import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { egressSubject, outputSubject, type OutputReadResponse } from '../../src/ports/index.js'
import { createInProcessTransport } from '../../src/transports/in-process.js'
import type { AuditRecord } from '../../src/model/audit.js'
import { CHANCE, CLOCK, eventually, shellJob, startFixture, type Fixture } from './node-fixture.js'

let fixture: Fixture
afterEach(() => fixture.close())

describe('the conversation with the orchestrator', () => {
  it('brings every execution to one end although messages are lost, repeated and overtake each other', async () => {
    const transport = createInProcessTransport({
      clock: CLOCK,
      chance: CHANCE,
      faults: () => ({ loss: 0.3, repeat: 0.3, delayMsMin: 0, delayMsMax: 20 }),
    })
    fixture = await startFixture({
      transport,
      node: { limits: { syncTimeoutMs: 60, syncIntervalMs: 50, syncBackoffMaxMs: 100 } },
    })
    const { orchestrator, executor } = fixture
    const ids = await Promise.all(
      Array.from({ length: 12 }, (_, n) => orchestrator.run(shellJob(`echo ${n}`))),
    )
    for (const [n, id] of ids.entries()) {
      expect(await orchestrator.ended(id)).toMatchObject({
        state: 'Completed',
        runOutput: { stdout: `${n}\n` },
      })
    }
    expect(executor.runs.map(({ executionId }) => executionId).toSorted()).toEqual(ids.toSorted())
    for (const id of ids) {
      const indexes = [...(orchestrator.events.get(id)?.keys() ?? [])]
      expect(new Set(orchestrator.messages(id)).size).toBe(indexes.length)
    }
  })

  it('goes on when the orchestrator was away from the start', async () => {
    const transport = createInProcessTransport({ clock: CLOCK, chance: CHANCE })
    let away = true
    const lossy = {
      ...transport,
      request: ((subject, body, timeoutMs) =>
        away && subject === 'orchestrator.sync'
          ? transport.request('nobody.there', body, timeoutMs)
          : transport.request(subject, body, timeoutMs)) satisfies typeof transport.request,
      serve: transport.serve.bind(transport),
      close: transport.close.bind(transport),
    }
    fixture = await startFixture({ transport: lossy, node: { limits: { syncBackoffMaxMs: 100 } } })
    const { orchestrator } = fixture
    const id = await orchestrator.run(shellJob('echo late'))
    expect(orchestrator.requests).toEqual([])
    away = false
    expect(await orchestrator.ended(id)).toMatchObject({ state: 'Completed' })
  })

  it('sends again what was not acknowledged, and nothing that was', async () => {
    fixture = await startFixture({ node: { limits: { syncIntervalMs: 30, syncBackoffMaxMs: 30 } } })
    const { orchestrator } = fixture
    orchestrator.answers = true
    const id = await orchestrator.run(shellJob('sleep 0.2'))
    await orchestrator.in(id, 'Running')
    orchestrator.answers = false
    await orchestrator.ended(id)
    const reportsOf = () =>
      orchestrator.requests.filter(({ observed }) => observed.some(({ executionId }) => executionId === id))
    const before = reportsOf().length
    await eventually(() => reportsOf().length >= before + 3)
    orchestrator.answers = true
    await eventually(() => orchestrator.requests.at(-1)?.observed.length === 0)
    const known = reportsOf().length
    const requests = orchestrator.requests.length
    await eventually(() => orchestrator.requests.length >= requests + 3)
    expect(reportsOf().length).toBe(known)
  })

  it('hears of work at once when nudged, without waiting for its interval', async () => {
    fixture = await startFixture({ node: { limits: { syncIntervalMs: 3_600_000 } } })
    const { orchestrator } = fixture
    await eventually(() => orchestrator.requests.length > 0)
    const startMs = Date.now()
    const id = await orchestrator.run(shellJob('true'))
    await orchestrator.ended(id)
    expect(Date.now() - startMs).toBeLessThan(2_000)
  })

  it('stops and forgets what an orchestrator without memory does not want', async () => {
    fixture = await startFixture()
    const { orchestrator, executor } = fixture
    const id = await orchestrator.run(shellJob('sleep 600'))
    await orchestrator.in(id, 'Running')
    orchestrator.forget(id)
    orchestrator.revision = 0
    await eventually(() => executor.children.size === 0)
    await eventually(async () => (await fixture.leftovers(id)).join() === 'state.json')
  })

  it('starts all over with an orchestrator whose revisions begin again, and runs nothing twice', async () => {
    fixture = await startFixture({ node: { limits: { syncIntervalMs: 50 } } })
    const { orchestrator, executor } = fixture
    const id = await orchestrator.run(shellJob('sleep 1'))
    await orchestrator.run(shellJob('true'))
    await orchestrator.in(id, 'Running')
    orchestrator.revision = 1
    expect(await orchestrator.ended(id)).toMatchObject({ state: 'Completed' })
    expect(executor.runs.filter(({ executionId }) => executionId === id)).toHaveLength(1)
  })

  it('reports an execution that was stopped before the node heard of it as cancelled', async () => {
    fixture = await startFixture({ start: false })
    const { orchestrator, node, executor } = fixture
    const id = await orchestrator.run(shellJob('true'), { state: 'Stopped', message: 'too late' })
    await node.start()
    expect(await orchestrator.ended(id)).toMatchObject({ state: 'Cancelled', message: 'too late' })
    expect(executor.runs).toEqual([])
  })

  it('ignores ids that could become paths', async () => {
    fixture = await startFixture()
    const { orchestrator, executor } = fixture
    await orchestrator.run(shellJob('true'), { executionId: '../../escape' })
    const id = await orchestrator.run(shellJob('true'))
    await orchestrator.ended(id)
    expect(executor.runs).toHaveLength(1)
  })

  it('says what it is and has', async () => {
    fixture = await startFixture({
      executor: { modes: { http: true, full: true, problems: [] } },
      node: { labels: { zone: 'a' }, policy: { acceptNetworkedJobs: true, allow: ['Example.com'] } },
    })
    const { orchestrator, node } = fixture
    await eventually(() => orchestrator.info !== undefined)
    expect(orchestrator.info).toMatchObject({
      nodeId: 'n-test',
      roles: ['compute'],
      engines: ['process'],
      sources: ['text'],
      publishers: ['copy', 'noop'],
      labels: { zone: 'a', 'Operating-System': 'linux' },
      maxCapacity: { cpu: 4, memoryBytes: 4e9, diskBytes: 1e9, gpu: 0 },
      egress: {
        acceptsNetworkedJobs: true,
        httpEngines: ['process'],
        fullEngines: [],
        allow: ['example.com'],
      },
    })
    node.setPolicy({ acceptNetworkedJobs: false })
    await eventually(() => orchestrator.info?.egress.acceptsNetworkedJobs === false)
    expect(() => node.setPolicy({ acceptNetworkedJobs: true, allow: ['*com'] })).toThrowError(/\*com/)
    expect(node.info().egress.acceptsNetworkedJobs).toBe(false)
  })
})

describe('a node with very long egress lists', () => {
  it('names them by digest in each message, sends them when it is asked, and says what it could not tell', async () => {
    const allow = Array.from({ length: 9_000 }, (_, n) => `host-${n}.${'long-label-'.repeat(5)}x.example.com`)
    fixture = await startFixture({ node: { policy: { acceptNetworkedJobs: true, allow } } })
    const { orchestrator } = fixture
    await eventually(() => orchestrator.lists !== undefined)
    const told = orchestrator.lists?.allow ?? []
    expect(told.length).toBeGreaterThan(1_000)
    expect(told).toEqual(allow.slice(0, told.length))
    const { egress } = orchestrator.info ?? {}
    expect(egress).toMatchObject({ allow: [], allowCount: told.length })
    expect(egress?.problems).toContain('the egress lists are too long to be told whole')
    expect(orchestrator.requests.filter((one) => 'egressLists' in one)).toHaveLength(1)
  })
})

describe('reading output from a node', () => {
  const read = (id: unknown, change: object = {}) =>
    fixture.transport.request(
      outputSubject('n-test'),
      { executionId: id, cursor: 0, waitMs: 0, bytesMax: 1_000, ...change },
      5_000,
    ) as Promise<OutputReadResponse>

  it('follows a running program and sees everything exactly once, however small the pages', async () => {
    fixture = await startFixture()
    const { orchestrator } = fixture
    const script =
      'i=0; while [ $i -lt 400 ]; do echo out $i; echo err $i >&2; i=$((i+1)); [ $((i%50)) = 0 ] && sleep 0.05; done'
    const id = await orchestrator.run(shellJob(script))
    await orchestrator.until(id, () => true)
    const expected = (word: string) => Array.from({ length: 400 }, (_, n) => `${word} ${n}\n`).join('')
    const followers = await Promise.all(
      [1, 300, 5_000, 500_000].map((bytesMax) => fixture.follow(id, bytesMax)),
    )
    followers.push(await fixture.follow(id))
    for (const output of followers) {
      expect(output).toEqual({ stdout: expected('out'), stderr: expected('err'), truncated: false })
    }
  })

  it('answers at once when something comes, and with nothing when the wait is over', async () => {
    fixture = await startFixture()
    const id = await fixture.orchestrator.run(shellJob('sleep 0.4; echo now; sleep 60'))
    await fixture.orchestrator.in(id, 'Running')
    expect(await read(id, { waitMs: 50 })).toEqual({ chunks: [], cursor: 0, done: false, truncated: false })
    const startMs = Date.now()
    const page = await read(id, { waitMs: 10_000 })
    expect(Buffer.from(page.chunks[0]?.data ?? '', 'base64').toString()).toBe('now\n')
    expect(Date.now() - startMs).toBeLessThan(3_000)
    expect(await read(id, { fromEnd: true })).toMatchObject({ chunks: [], cursor: page.cursor, done: false })
  })

  it('is done at once for an execution that was refused', async () => {
    fixture = await startFixture()
    const id = await fixture.orchestrator.run(shellJob('true', { Publisher: { Type: 'nope' } }))
    await fixture.orchestrator.in(id, 'Rejected')
    expect(await read(id, { waitMs: 5_000 })).toMatchObject({ chunks: [], done: true })
  })

  it('refuses what nobody runs and what cannot be read', async () => {
    fixture = await startFixture()
    const id = await fixture.orchestrator.run(
      shellJob('echo a line that is longer than the head of an entry'),
    )
    await fixture.orchestrator.ended(id)
    for (const bad of ['e-unknown', '../../etc', 7, null]) {
      await expect(read(bad)).rejects.toMatchObject({ code: 'execution.not_found' })
    }
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.string(), fc.double({ noInteger: true }), fc.constant({}), fc.constant(null)),
        async (cursor) => {
          await expect(read(id, { cursor })).rejects.toMatchObject({ code: 'api.bad_request' })
        },
      ),
      { numRuns: 20 },
    )
    await expect(read(id, { cursor: 5 })).rejects.toMatchObject({ code: 'api.bad_request' })
    expect(await read(id, { cursor: 1e9 })).toMatchObject({ chunks: [], done: true })
  })
})

describe('reading egress records from a node', () => {
  it('waits for records while the execution runs, and is done after its end', async () => {
    const records: AuditRecord[] = []
    const record = (sequence: number) => ({ sequence, host: 'x'.repeat(200_000) }) as unknown as AuditRecord
    const auditLog = {
      read: async (_id: string, after: number, limit: number) =>
        records.filter(({ sequence }) => sequence > after).slice(0, limit),
    }
    fixture = await startFixture({ node: { auditLog } })
    const { orchestrator, transport } = fixture
    const ask = (after: number, waitMs = 0) =>
      transport.request(egressSubject('n-test'), { executionId: id, after, limit: 100, waitMs }, 15_000)
    const id = await orchestrator.run(shellJob('sleep 600'))
    await orchestrator.in(id, 'Running')
    expect(await ask(0)).toEqual({ records: [], done: false })
    const waiting = ask(0, 10_000)
    records.push(record(1))
    expect(await waiting).toMatchObject({ records: [{ sequence: 1 }], done: false })
    records.push(...[2, 3, 4, 5, 6].map(record))
    await orchestrator.stop(id)
    await orchestrator.ended(id)
    // More than one message holds: the rest comes with the next answer.
    const first = (await ask(1)) as { records: AuditRecord[]; done: boolean }
    expect(first.records.map(({ sequence }) => sequence)).toEqual([2, 3, 4])
    expect(first.done).toBe(false)
    expect(await ask(4)).toMatchObject({ records: [{ sequence: 5 }, { sequence: 6 }], done: true })
  })
})
