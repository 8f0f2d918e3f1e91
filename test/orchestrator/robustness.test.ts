import { afterEach, describe, expect, it } from 'vitest'
import {
  createOrchestrator,
  type Orchestrator,
  type OrchestratorOptions,
} from '../../src/orchestrator/index.js'
import { WeirError } from '../../src/errors.js'
import type { NodeInfo } from '../../src/model/index.js'
import type { Change, JobStore, Transport } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleExecution, sampleInfo, sampleJob, sampleSpec, type SpecChanges } from './samples.js'
import { SimulatedNode, type Behaviour, type SimulatedNodeOptions } from './simulated-node.js'
import { VirtualClock, seededChance } from './virtual-time.js'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[48][0-9a-f]{3}-[89a-f][0-9a-f]{3}-[0-9a-f]{12}$/
const ALL_JOBS = { orderBy: 'created_at', reverse: false, limit: 0, offset: 0 } as const
const ALL_HISTORY = { level: 'all', afterSequence: 0, limit: 0 } as const

/** A world whose orchestrator can be taken away and whose disk can be full. */
class World {
  readonly clock = new VirtualClock()
  readonly store: JobStore
  readonly transport: Transport
  readonly #memory = openMemoryStore()
  readonly #chance = seededChance(1)
  readonly #nodes: SimulatedNode[] = []
  #orchestrator: Orchestrator | undefined
  /** What each write to the store is asked first. */
  onCommit: (change: Change) => void | Promise<void> = () => undefined

  constructor() {
    this.transport = createInProcessTransport({ clock: this.clock, chance: this.#chance })
    const own: Partial<JobStore> = {
      commit: async (change, ifRevision) => {
        await this.onCommit(change)
        return this.#memory.commit(change, ifRevision)
      },
    }
    this.store = new Proxy(this.#memory, {
      get: (target, name) => {
        const value = own[name as keyof JobStore] ?? target[name as keyof JobStore]
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }

  get orchestrator(): Orchestrator {
    if (this.#orchestrator === undefined) throw new Error('there is no orchestrator now')
    return this.#orchestrator
  }

  async start(options: Partial<OrchestratorOptions> = {}): Promise<void> {
    this.#orchestrator = createOrchestrator({
      store: this.store,
      transport: this.transport,
      clock: this.clock,
      chance: this.#chance,
      nodeId: 'n-orchestrator',
      ...options,
    })
    await this.#orchestrator.start()
  }

  async stop(): Promise<void> {
    await this.#orchestrator?.close()
    this.#orchestrator = undefined
  }

  async addNode(
    nodeId: string,
    behaviour: Partial<Behaviour> = {},
    more: Partial<SimulatedNodeOptions> = {},
  ): Promise<SimulatedNode> {
    const { transport, clock } = this
    const behave = (): Behaviour => ({ runMs: 1_000, ...behaviour })
    const node = new SimulatedNode({ nodeId, transport, clock, behave, ...more })
    this.#nodes.push(node)
    await node.start()
    await clock.pass(0)
    return node
  }

  async submit(spec: SpecChanges = {}): Promise<string> {
    return (await this.orchestrator.submit({ spec: sampleSpec(spec), clientMeta: {} })).jobId
  }

  async close(): Promise<void> {
    for (const node of this.#nodes) await node.kill()
    await this.stop()
    await this.transport.close()
    await this.#memory.close()
  }
}

function diskFull(): never {
  throw new WeirError('store.unavailable', 'the disk is full', { retryable: true })
}

describe('the orchestrator', () => {
  const worlds: World[] = []
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.close()
  })
  async function makeWorld(options: Partial<OrchestratorOptions> = {}): Promise<World> {
    const world = new World()
    worlds.push(world)
    await world.start(options)
    return world
  }

  it('tells what is too large for one message in parts, at once, and leaves nothing unknown running', async () => {
    const world = await makeWorld()
    const node = await world.addNode('n-1', { runMs: Infinity }, { syncIntervalMs: 600_000 })
    for (let index = 0; index < 7; index++) await world.submit(LARGE)
    await world.clock.pass(10)
    const known = node.running
    expect(known).toHaveLength(7)

    // The orchestrator restarts, so the node is told everything; it holds something that nobody knows.
    await world.stop()
    const strangers = ['e-stranger-1', 'e-stranger-2']
    for (const executionId of strangers) node.adopt({ ...desired(), executionId })
    await world.start()
    await world.clock.pass(100)
    expect(node.held).toEqual(known)
    expect(node.running).toEqual(known)
    expect([...node.starts.values()]).toEqual(known.map(() => 1))
  })

  it('gives evaluations and executions ids that are UUIDs, one evaluation per job and kind', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { fail: 'broken', retryable: true })
    const id = await world.submit()
    await world.clock.pass(2_000)
    for (const { id: evaluationId } of (await world.store.snapshot()).evaluations()) {
      expect(evaluationId).toMatch(UUID)
    }
    await world.clock.pass(30_000)
    const executions = await world.orchestrator.executions(id)
    expect(executions.length).toBeGreaterThan(1)
    for (const { evaluationId } of executions) expect(evaluationId).toMatch(UUID)
    expect([...(await world.store.snapshot()).evaluations()]).toEqual([])
  })

  it('advises to wait when the only nodes that could run a job are busy', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { runMs: Infinity })
    await world.addNode('n-2', {}, { info: { engines: ['wasm'] } })
    await world.addNode('n-3', {}, { info: { engines: ['wasm'] } })
    const Resources = { CPU: '4', Memory: '', Disk: '', GPU: '' }
    for (let index = 0; index < 2; index++) await world.submit({ task: { Resources } })
    const id = await world.submit({ task: { Resources } })
    await world.clock.pass(100)
    const job = await world.orchestrator.job(id)
    expect(job.state).toBe('Failed')
    expect(job.message).toContain('1 has 0 CPU free, 4 asked')
    expect(job.details.Hint).toBe('--queue-timeout SECONDS lets it wait for room')
  })

  it('counts the time limit of an execution by its own clock, not by the node’s', async () => {
    const world = await makeWorld()
    const slow = Object.create(world.clock) as VirtualClock
    slow.now = () => world.clock.now() - 3_600_000
    slow.sleep = (ms, signal) => world.clock.sleep(ms, signal)
    await world.addNode('n-1', { runMs: 30_000 }, { clock: slow })
    const id = await world.submit({
      task: { Timeouts: { ExecutionTimeout: 60, QueueTimeout: 0, TotalTimeout: 0 } },
    })
    await world.clock.pass(60_000)
    expect(await world.orchestrator.job(id)).toMatchObject({ state: 'Completed' })
  })

  it('ends an execution itself when its node lets it run far beyond its limit', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { runMs: Infinity })
    const id = await world.submit({
      task: { Timeouts: { ExecutionTimeout: 60, QueueTimeout: 0, TotalTimeout: 0 } },
    })
    await world.clock.pass(60_000 + 110_000)
    expect((await world.orchestrator.executions(id))[0]?.desired.state).toBe('Running')
    await world.clock.pass(20_000)
    expect((await world.orchestrator.executions(id))[0]?.desired).toMatchObject({
      state: 'Stopped',
      message: 'Execution timed out. Execution took longer than 1m0s',
    })
  })

  it('stops what still runs of a job that it cannot decide on', async () => {
    const world = new World()
    worlds.push(world)
    const spec = sampleSpec({ Count: 2, task: { Network: { Type: 'HTTP', Domains: ['[['] } } })
    const job = sampleJob({ spec, state: 'Running' })
    await world.store.commit({
      jobs: [job],
      executions: [sampleExecution()],
      evaluations: [
        {
          id: 'v-1',
          jobId: job.id,
          namespace: 'default',
          trigger: 'exec-update',
          priority: 0,
          waitUntilMs: 0,
          createTimeMs: 0,
        },
      ],
    })
    await world.addNode('n-1', { runMs: Infinity })
    await world.start()
    await world.clock.pass(100)
    const snapshot = await world.store.snapshot()
    expect(snapshot.job(job.id)).toMatchObject({ state: 'Failed' })
    expect(snapshot.executionsOfJob(job.id)).toMatchObject([{ desired: { state: 'Stopped' } }])
  })

  it.each<[string, object]>([
    ['labels that are no texts', { labels: { zone: 5 } }],
    ['engines that are no texts', { engines: [1] }],
    ['a list without end', { sources: Array.from({ length: 20_000 }, () => 'x') }],
    ['less than no memory', { maxCapacity: { cpu: 1, memoryBytes: -1, diskBytes: 1, gpu: 0 } }],
    ['problems that are no texts', { engineProblems: { wasm: { toString: 1 } } }],
    ['an allowlist that is none', { egress: { ...sampleInfo('n').egress, allow: [{}] } }],
  ])('refuses a node with %s, and places the jobs of others', async (_, info) => {
    const world = await makeWorld()
    const body = {
      nodeId: 'n-bad',
      incarnation: 'i',
      info: sampleInfo('n-bad', info as Partial<NodeInfo>),
      knownRevision: 0,
      observed: [],
      leaving: false,
    }
    await expect(world.transport.request('orchestrator.sync', body, 1_000)).rejects.toMatchObject({
      code: 'api.bad_request',
    })
    await world.addNode('n-1', {}, { info: { labels: { zone: 'a' } } })
    const id = await world.submit({ Constraints: [{ Key: 'zone', Operator: '=', Values: ['a'] }] })
    await world.clock.pass(5_000)
    expect((await world.orchestrator.job(id)).state).toBe('Completed')
  })

  it('stores of a report what it knows, whatever else a node puts in', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { runMs: Infinity })
    const id = await world.submit()
    await world.clock.pass(100)
    const [execution] = await world.orchestrator.executions(id)
    const observed = {
      state: 'Completed',
      sequence: 9,
      message: { no: 'text' },
      retryable: 'yes',
      startTimeMs: 'soon',
      endTimeMs: null,
      runOutput: { stdout: 5, exitCode: 'x' },
      egress: { destinations: [null, { host: 'a', allowed: -1 }], records: '7' },
      made: 'up',
    }
    const details = { toString: 1 }
    const events = [{ index: 1, topic: 't', message: 'm', details, timeMs: 1 }, null, 'event']
    const body = {
      nodeId: 'n-1',
      incarnation: 'i-1',
      info: sampleInfo('n-1'),
      knownRevision: 0,
      leaving: false,
      observed: [{ executionId: execution?.id, jobId: id, observed, events }],
    }
    await world.transport.request('orchestrator.sync', body, 1_000)
    await world.clock.pass(100)
    const [after] = await world.orchestrator.executions(id)
    expect(after?.observed).toEqual({
      state: 'Completed',
      sequence: 9,
      message: '',
      code: '',
      hint: '',
      retryable: false,
      runOutput: {
        stdout: '',
        stdoutTruncated: false,
        stderr: '',
        stderrTruncated: false,
        exitCode: 0,
        errorMessage: '',
      },
      egress: {
        records: 0,
        allowed: 0,
        refused: 0,
        bytesUp: 0,
        bytesDown: 0,
        destinations: [{ host: 'a', port: 0, allowed: 0, refused: 0, bytesUp: 0, bytesDown: 0 }],
        destinationsTruncated: false,
        chainHead: '',
      },
    })
    expect((await world.orchestrator.job(id)).state).toBe('Completed')
  })
})

describe('an orchestrator whose disk is full for a while', () => {
  const worlds: World[] = []
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.close()
  })

  it('puts a daemon on a node that joined meanwhile', async () => {
    const world = new World()
    worlds.push(world)
    await world.start()
    const id = await world.submit({ Type: 'daemon' })
    await world.clock.pass(100)
    world.onCommit = diskFull
    const node = await world.addNode('n-1', { runMs: Infinity })
    await world.clock.pass(11_000)
    expect(node.running).toEqual([])
    world.onCommit = () => undefined
    await world.clock.pass(11_000)
    expect(node.running).toHaveLength(1)
    expect((await world.orchestrator.job(id)).state).toBe('Running')
  })

  it('refuses the decision of an operator, and takes it afterwards', async () => {
    const world = new World()
    worlds.push(world)
    await world.start()
    await world.addNode('n-1')
    world.onCommit = diskFull
    const { orchestrator } = world
    await expect(orchestrator.updateNode('n-1', 'reject', '')).rejects.toMatchObject({
      code: 'store.unavailable',
    })
    await expect(orchestrator.updateNode('n-1', 'delete', '')).rejects.toMatchObject({
      code: 'store.unavailable',
    })
    expect(await orchestrator.node('n-1')).toMatchObject({ membership: 'APPROVED' })
    world.onCommit = () => undefined
    await orchestrator.updateNode('n-1', 'reject', '')
    expect((await world.store.snapshot()).node('n-1')).toMatchObject({ membership: 'REJECTED' })
  })

  it('loses no acknowledged submission and goes on when there is room', async () => {
    const world = new World()
    worlds.push(world)
    await world.start()
    await world.addNode('n-1')
    const before = await world.submit()
    world.onCommit = diskFull
    await expect(world.submit()).rejects.toMatchObject({ code: 'store.unavailable', retryable: true })
    await world.clock.pass(10_000)
    world.onCommit = () => undefined
    await world.clock.pass(10_000)
    expect((await world.orchestrator.job(before)).state).toBe('Completed')
    expect((await world.orchestrator.jobs(ALL_JOBS)).jobs).toHaveLength(1)
  })

  it('closes when everything under way is stored or refused, and takes nothing afterwards', async () => {
    const world = new World()
    worlds.push(world)
    await world.start()
    let release: () => void = () => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    world.onCommit = () => held
    const submitted = world.submit()
    await world.clock.pass(0)
    const { orchestrator } = world
    let isClosed = false
    const closing = orchestrator.close().then(() => (isClosed = true))
    await world.clock.pass(0)
    expect(isClosed).toBe(false)
    release()
    await closing
    expect((await world.store.snapshot()).job(await submitted)).toBeDefined()
    await expect(orchestrator.submit({ spec: sampleSpec(), clientMeta: {} })).rejects.toMatchObject({
      code: 'store.unavailable',
    })
  })
})

describe('what an orchestrator keeps', () => {
  const worlds: World[] = []
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.close()
  })
  async function makeWorld(options: Partial<OrchestratorOptions>): Promise<World> {
    const world = new World()
    worlds.push(world)
    await world.start(options)
    return world
  }

  it('forgets ended jobs beyond the newest so many, with their history, never others', async () => {
    const world = await makeWorld({ limits: { endedJobsMax: 40, forgetEveryMs: 10_000 } })
    await world.addNode('n-1', {}, { info: { maxCapacity: ROOMY, maxJobRequirements: ROOMY } })
    const service = await world.submit({ Type: 'service' })
    const ids: string[] = []
    for (let index = 0; index < 120; index++) {
      ids.push(await world.submit())
      await world.clock.pass(1)
    }
    await world.clock.pass(5_000)
    expect((await world.orchestrator.jobs(ALL_JOBS)).jobs).toHaveLength(121)
    await world.clock.pass(10_000)
    const left = (await world.orchestrator.jobs(ALL_JOBS)).jobs.map((job) => job.id)
    expect(left.toSorted()).toEqual([service, ...ids.slice(80)].toSorted())
    const gone = ids[0] ?? ''
    await expect(world.orchestrator.job(gone)).rejects.toMatchObject({ code: 'job.not_found' })
    expect((await world.store.history(gone, ALL_HISTORY)).events).toEqual([])
  })

  it('forgets an old job although its node never came back, and stops what that node holds when it does', async () => {
    const world = await makeWorld({ limits: { endedJobsKeptMs: 1_000_000, forgetEveryMs: 10_000 } })
    const node = await world.addNode('n-1', { runMs: Infinity })
    const id = await world.submit()
    await world.clock.pass(1_000)
    await node.kill()
    await world.orchestrator.stop(id, '')
    await world.clock.pass(900_000)
    expect((await world.orchestrator.job(id)).state).toBe('Stopped')
    await world.clock.pass(200_000)
    await expect(world.orchestrator.job(id)).rejects.toMatchObject({ code: 'job.not_found' })
    expect([...(await world.store.snapshot()).activeJobs()]).toEqual([])
    await node.start()
    await world.clock.pass(20_000)
    expect(node.held).toEqual([])
  })

  it('forgets old executions of a service that ends again and again, and counts its tries on', async () => {
    const limits = { endedExecutionsMax: 10, retryBackoffMs: 10, retryBackoffMsMax: 10 }
    const world = await makeWorld({ limits })
    await world.addNode('n-1', { runMs: 10 })
    const id = await world.submit({ Type: 'service' })
    await world.clock.pass(3_000)
    const executions = await world.orchestrator.executions(id)
    expect(executions.length).toBeLessThanOrEqual(12)
    const attempts = executions.map((execution) => execution.attempt)
    expect(attempts).toEqual(attempts.toSorted((a, b) => a - b))
    expect(attempts.at(-1)).toBeGreaterThan(50)
    expect(new Set(attempts).size).toBe(attempts.length)
    expect((await world.orchestrator.job(id)).state).toBe('Running')
  })

  it('takes no more jobs than it can hold in memory', async () => {
    const world = await makeWorld({ limits: { activeJobBytesMax: 500_000 } })
    const first = await world.submit(LARGE)
    await world.submit(LARGE)
    await expect(world.submit()).rejects.toMatchObject({ code: 'job.too_many', retryable: true })
    await world.orchestrator.stop(first, '')
    await world.submit()
  })
})

/** Two of these fill a message. */
const LARGE: SpecChanges = {
  task: {
    Env: { LARGE: 'x'.repeat(300_000) },
    Timeouts: { ExecutionTimeout: 0, QueueTimeout: 1_000, TotalTimeout: 0 },
  },
}

const ROOMY = { cpu: 1e6, memoryBytes: 1e15, diskBytes: 1e15, gpu: 0 }

function desired() {
  return {
    executionId: 'e-1',
    jobId: 'j-1',
    jobSpec: sampleSpec(),
    slot: 0,
    attempt: 0,
    state: 'Running' as const,
    message: '',
    createTimeMs: 0,
    jobCreateTimeMs: 0,
  }
}
