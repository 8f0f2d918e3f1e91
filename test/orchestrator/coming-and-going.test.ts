import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createOrchestrator, type Orchestrator } from '../../src/orchestrator/index.js'
import type { Clock } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleSpec, type SpecChanges } from './samples.js'
import { ClockError, ProcessLife, processClock } from './simulation/process-life.js'
import { SimulatedNode, type Behaviour } from './simulated-node.js'
import { VirtualClock, seededChance } from './virtual-time.js'

/** An orchestrator whose clock can be set, with its nodes. */
describe('nodes that come and go', () => {
  let time: VirtualClock
  let clockError: ClockError
  let clock: Clock
  let orchestrator: Orchestrator
  let nodes: SimulatedNode[]
  let closeAll: () => Promise<void>
  let transport: ReturnType<typeof createInProcessTransport>

  beforeEach(async () => {
    time = new VirtualClock()
    clockError = new ClockError()
    clock = processClock(time, clockError, new ProcessLife())
    const store = openMemoryStore()
    transport = createInProcessTransport({ clock: time })
    nodes = []
    orchestrator = createOrchestrator({ store, transport, clock, chance: seededChance(1), nodeId: 'n-o' })
    await orchestrator.start()
    closeAll = async () => {
      for (const node of nodes) await node.kill()
      await orchestrator.close()
      await transport.close()
      await store.close()
    }
  })
  afterEach(() => closeAll())

  async function addNode(
    nodeId: string,
    behave: () => Behaviour = () => ({ runMs: Infinity }),
    info: () => object = () => ({}),
  ): Promise<SimulatedNode> {
    const node = new SimulatedNode({ nodeId, transport, clock: time, behave, info })
    nodes.push(node)
    await node.start()
    await time.pass(10)
    return node
  }

  async function submit(spec: SpecChanges): Promise<string> {
    const { jobId } = await orchestrator.submit({ spec: sampleSpec(spec), clientMeta: {} })
    await time.pass(10)
    return jobId
  }

  it('takes a node that was lost into account again when it returns', async () => {
    const node = await addNode('n-1')
    await node.kill()
    await submit({ Type: 'daemon' })
    await time.pass(200_000)
    await node.start()
    await time.pass(1_000)
    expect(node.running).toHaveLength(1)
    const { jobId } = await orchestrator.submit({
      spec: sampleSpec({ Constraints: [{ Key: 'zone', Operator: '=', Values: ['moon'] }] }),
      clientMeta: {},
    })
    await time.pass(100)
    const { state, message } = await orchestrator.job(jobId)
    expect(state).toBe('Failed')
    expect(message).toContain('available: 1')
  })

  it.each([
    ['forward, by ten minutes', 600_000],
    ['back, by ten minutes', -600_000],
  ])('gives no node up because the clock was set %s', async (_, byMs) => {
    const quiet = await addNode('n-1')
    await addNode('n-2')
    await submit({ Type: 'daemon' })
    await time.pass(30_000)
    expect(quiet.running).toHaveLength(1)
    clockError.step(time.now(), byMs)
    await time.pass(60_000)
    for (const { connection } of await orchestrator.nodes({})) expect(connection).toBe('CONNECTED')
    for (const node of nodes) {
      expect(node.running).toHaveLength(1)
      expect(node.starts.size).toBe(1)
    }
    // Silence is noticed all the same.
    await quiet.kill()
    await time.pass(70_000)
    expect((await orchestrator.node('n-1')).connection).toBe('DISCONNECTED')
  })

  it('keeps the limit of a job although the clock was set forward while it waited', async () => {
    await addNode('n-1')
    const Timeouts = { ExecutionTimeout: 0, QueueTimeout: 0, TotalTimeout: 600 }
    const id = await submit({ task: { Timeouts } })
    clockError.step(time.now(), 590_000)
    await time.pass(25_000)
    expect(await orchestrator.job(id)).toMatchObject({ state: 'Failed' })
  })

  it('takes a daemon away from a node whose labels no longer match, and brings it back when they do', async () => {
    let zone = 'a'
    const node = await addNode('n-1', undefined, () => ({ labels: { zone } }))
    const id = await submit({ Type: 'daemon', Constraints: [{ Key: 'zone', Operator: 'in', Values: ['a'] }] })
    await submit({ Type: 'daemon' })
    expect(node.running).toHaveLength(2)
    zone = 'b'
    await time.pass(10_000)
    expect(node.running).toHaveLength(1)
    expect((await orchestrator.executions(id))[0]).toMatchObject({
      desired: { state: 'Stopped', message: expect.stringContaining('no longer match') as string },
      observed: { state: 'Cancelled' },
    })
    zone = 'a'
    await time.pass(10_000)
    expect(node.running).toHaveLength(2)
  })

  it('leaves a daemon where it is while the engine of its node is away', async () => {
    let engines = ['docker']
    const node = await addNode('n-1', undefined, () => ({ engines }))
    const id = await submit({ Type: 'daemon' })
    engines = []
    await time.pass(20_000)
    expect(node.running).toHaveLength(1)
    expect(await orchestrator.executions(id)).toHaveLength(1)
  })

  it('asks a node again that refused a daemon for reasons that pass', async () => {
    let reject: string | undefined = 'not now'
    const node = await addNode('n-1', () => ({
      runMs: Infinity,
      retryable: true,
      ...(reject === undefined ? {} : { reject }),
    }))
    const id = await submit({ Type: 'daemon' })
    expect((await orchestrator.executions(id))[0]?.observed.state).toBe('Rejected')
    reject = undefined
    await time.pass(70_000)
    expect(node.running).toHaveLength(1)
    expect((await orchestrator.job(id)).state).toBe('Running')
  })

  it('asks a node again that refused a daemon for good, once it has become another one', async () => {
    let reject: string | undefined = 'this node does not do such jobs'
    let labels = {}
    const behave = (): Behaviour => ({ runMs: Infinity, ...(reject === undefined ? {} : { reject }) })
    const node = await addNode('n-1', behave, () => ({ labels }))
    const id = await submit({ Type: 'daemon' })
    reject = undefined
    await time.pass(130_000)
    expect(await orchestrator.executions(id)).toHaveLength(1)
    labels = { zone: 'new' }
    await time.pass(70_000)
    expect(node.running).toHaveLength(1)
  })

  it('hears the ends of what a rejected node ran', async () => {
    const node = await addNode('n-1')
    const id = await submit({ Type: 'daemon' })
    await orchestrator.updateNode('n-1', 'reject', '')
    await time.pass(1_000)
    expect(node.running).toEqual([])
    expect((await orchestrator.executions(id))[0]?.observed.state).toBe('Cancelled')
    await orchestrator.updateNode('n-1', 'approve', '')
    await time.pass(10_000)
    expect(node.running).toHaveLength(1)
  })
})
