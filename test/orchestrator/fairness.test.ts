import { afterEach, describe, expect, it } from 'vitest'
import {
  createOrchestrator,
  type Orchestrator,
  type OrchestratorLimits,
} from '../../src/orchestrator/index.js'
import type { DesiredExecution, NodeInfo, Resources } from '../../src/model/index.js'
import type { Change, JobStore } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleSpec, type SpecChanges } from './samples.js'
import { SimulatedNode, type Behaviour } from './simulated-node.js'
import { VirtualClock, seededChance } from './virtual-time.js'

const MINUTE = 60_000

/** Nodes of four cores that may have as much again and a half waiting, and a record of what was placed when. */
class World {
  readonly clock = new VirtualClock()
  readonly store: JobStore = openMemoryStore({ endedJobsMax: 100_000 })
  readonly transport = createInProcessTransport({ clock: this.clock, chance: seededChance(2) })
  readonly orchestrator: Orchestrator
  /** Ids of jobs in the order in which they were placed. */
  readonly placed: string[] = []
  readonly #nodes: SimulatedNode[] = []
  readonly #watching = new AbortController()

  constructor(limits: Partial<OrchestratorLimits> = {}) {
    const { clock, store, transport } = this
    this.orchestrator = createOrchestrator({
      store,
      transport,
      clock,
      chance: seededChance(1),
      nodeId: 'n',
      limits,
    })
    void this.#watch()
  }

  async addNode(
    nodeId: string,
    behaviour: Partial<Behaviour> = {},
    info: Partial<NodeInfo> = {},
  ): Promise<void> {
    const { transport, clock } = this
    const behave = ({ jobSpec }: DesiredExecution): Behaviour => ({
      runMs: jobSpec.Type === 'service' ? Infinity : 10_000,
      ...behaviour,
    })
    const node = new SimulatedNode({ nodeId, transport, clock, behave, info })
    this.#nodes.push(node)
    await node.start()
    await clock.pass(0)
  }

  async submit(cpu: string, changes: SpecChanges = {}): Promise<string> {
    const spec = sampleSpec({
      ...changes,
      task: {
        Resources: { CPU: cpu, Memory: '', Disk: '', GPU: '' },
        Timeouts: { ExecutionTimeout: 0, QueueTimeout: 86_400, TotalTimeout: 0 },
        ...changes.task,
      },
    })
    return (await this.orchestrator.submit({ spec, clientMeta: {} })).jobId
  }

  async state(id: string): Promise<string> {
    return (await this.orchestrator.job(id)).state
  }

  /** What executions that may still be there hold, by the store's own records. */
  async used(nodeId: string): Promise<number> {
    const active = (await this.store.snapshot()).activeExecutionsOnNode(nodeId)
    const held: Resources[] = active.map(({ resources }) => resources)
    return held.reduce((sum, { cpu }) => sum + cpu, 0)
  }

  async close(): Promise<void> {
    this.#watching.abort()
    for (const node of this.#nodes) await node.kill()
    await this.orchestrator.close()
    await this.transport.close()
    await this.store.close()
  }

  async #watch(): Promise<void> {
    for await (const { change } of this.store.watch(0, this.#watching.signal)) this.#note(change)
  }

  #note({ executions = [] }: Change): void {
    for (const { revision, jobId } of executions) if (revision === 1) this.placed.push(jobId)
  }
}

describe('fair order', () => {
  const worlds: World[] = []
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.close()
  })
  async function makeWorld(limits: Partial<OrchestratorLimits> = {}): Promise<World> {
    const world = new World(limits)
    worlds.push(world)
    await world.orchestrator.start()
    return world
  }

  it('gives room that appears to who has waited longest, also when others keep coming', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { runMs: 5_000 })
    const ids: string[] = []
    for (let index = 0; index < 60; index++) {
      ids.push(await world.submit('1'))
      await world.clock.pass(250)
    }
    await world.clock.pass(5 * MINUTE)
    expect(world.placed).toEqual(ids)
  })

  it('serves higher priorities first and the others by age, whatever their namespace', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { runMs: 5_000 })
    const filling = await Promise.all(Array.from({ length: 10 }, () => world.submit('1')))
    await world.clock.pass(100)
    const order: string[] = []
    for (let index = 0; index < 12; index++) {
      order.push(await world.submit('1', { Namespace: index % 4 === 0 ? 'small' : 'crowd' }))
      await world.clock.pass(10)
    }
    const urgent = await world.submit('1', { Priority: 5, Namespace: 'late' })
    await world.clock.pass(5 * MINUTE)
    expect(world.placed.slice(filling.length)).toEqual([urgent, ...order])
  })

  it('does not let a job that fits nowhere hold up smaller ones', async () => {
    const world = await makeWorld()
    await world.addNode('n-1')
    const huge = await Promise.all(Array.from({ length: 50 }, () => world.submit('100', { Priority: 9 })))
    const small = await Promise.all(Array.from({ length: 30 }, () => world.submit('1')))
    await world.clock.pass(MINUTE - 1_000)
    for (const id of small) expect(await world.state(id)).toBe('Completed')
    for (const id of huge) expect(await world.state(id)).toBe('Queued')
  })

  it('keeps a node free for a large job that has waited too long, while small ones use the others', async () => {
    const world = await makeWorld()
    for (const name of ['n-1', 'n-2', 'n-3']) await world.addNode(name)
    const small: string[] = []
    for (let index = 0; index < 40; index++) small.push(await world.submit('1'))
    const large = await world.submit('4')
    const placedAt = async (): Promise<boolean> => (await world.state(large)) !== 'Queued'
    let waitedMs = 0
    let lowest = Infinity
    // A stream of small ones that is always ahead of what ends.
    while (!(await placedAt()) && waitedMs < 30 * MINUTE) {
      for (let index = 0; index < 9; index++) small.push(await world.submit('1'))
      await world.clock.pass(2_000)
      waitedMs += 2_000
      const used = await Promise.all(['n-1', 'n-2', 'n-3'].map((name) => world.used(name)))
      for (const one of used) expect(one).toBeLessThanOrEqual(10)
      lowest = Math.min(lowest, used.filter((one) => one >= 9).length)
    }
    expect(await world.state(large)).not.toBe('Queued')
    expect(waitedMs).toBeGreaterThanOrEqual(MINUTE)
    expect(waitedMs).toBeLessThan(4 * MINUTE)
    // At no time were more nodes held back than the one.
    expect(lowest).toBeGreaterThanOrEqual(1)
  })

  it('would let it wait for ever without that', async () => {
    const world = await makeWorld({ reserveAfterMs: Infinity })
    await world.addNode('n-1')
    for (let index = 0; index < 20; index++) await world.submit('1')
    const large = await world.submit('4')
    for (let step = 0; step < 300; step++) {
      for (let index = 0; index < 2; index++) await world.submit('1')
      await world.clock.pass(2_000)
    }
    expect(await world.state(large)).toBe('Queued')
  })

  it('gives a node back that does not empty, so that the others go on', async () => {
    const world = await makeWorld({ reservationMs: 2 * MINUTE })
    await world.addNode('n-1')
    // Seven cores that never end: a job of four never fits, one of three does.
    const running: string[] = []
    for (let index = 0; index < 7; index++) running.push(await world.submit('1', { Type: 'service' }))
    const large = await world.submit('4')
    await world.clock.pass(MINUTE + 61_000)
    const small = await world.submit('1')
    await world.clock.pass(50_000)
    expect(await world.state(small)).toBe('Queued')
    await world.clock.pass(MINUTE)
    expect(await world.state(small)).toBe('Completed')
    expect(await world.state(large)).toBe('Queued')
    expect(running).toHaveLength(7)
  })

  it('does not keep a node from jobs of a higher priority', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { runMs: Infinity })
    for (let index = 0; index < 7; index++) await world.submit('1')
    await world.submit('4')
    await world.clock.pass(3 * MINUTE)
    const same = await world.submit('1')
    const higher = await world.submit('1', { Priority: 1 })
    await world.clock.pass(1_000)
    expect(await world.state(same)).toBe('Queued')
    expect(await world.state(higher)).toBe('Running')
  })

  it('frees the node again when the job that waits is stopped', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { runMs: Infinity })
    for (let index = 0; index < 7; index++) await world.submit('1')
    const large = await world.submit('4')
    await world.clock.pass(3 * MINUTE)
    const small = await world.submit('1')
    await world.clock.pass(1_000)
    expect(await world.state(small)).toBe('Queued')
    await world.orchestrator.stop(large, 'no longer needed')
    await world.clock.pass(1_000)
    expect(await world.state(small)).toBe('Running')
  })

  it('wakes a job that waits for room also when its total time is nearly over', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { runMs: 10_000 })
    for (let index = 0; index < 10; index++) await world.submit('1')
    await world.clock.pass(5_000)
    const id = await world.submit('1', {
      task: { Timeouts: { ExecutionTimeout: 0, QueueTimeout: 86_400, TotalTimeout: 30 } },
    })
    await world.clock.pass(8_000)
    expect(await world.state(id)).not.toBe('Queued')
  })

  it('takes up who waited after a restart', async () => {
    const world = await makeWorld()
    await world.addNode('n-1', { runMs: 20_000 })
    const first = await Promise.all(Array.from({ length: 10 }, () => world.submit('1')))
    const waiting = await world.submit('1')
    await world.clock.pass(1_000)
    await world.orchestrator.close()
    const again = createOrchestrator({
      store: world.store,
      transport: world.transport,
      clock: world.clock,
      chance: seededChance(7),
      nodeId: 'n',
    })
    await again.start()
    await world.clock.pass(25_000)
    expect((await again.job(first[0] ?? '')).state).toBe('Completed')
    expect((await again.job(waiting)).state).not.toBe('Queued')
    await again.close()
  })
})
