import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Constraint, Execution, NodeRecord, ObservedState } from '../../src/model/index.js'
import { HostPatternSet } from '../../src/model/index.js'
import type { Change, JobStore } from '../../src/ports/index.js'
import { place, readDemand, type NodePast, type PlacementOptions } from '../../src/orchestrator/index.js'
import { Fleet } from '../../src/orchestrator/fleet.js'
import { readEgressOffer } from '../../src/orchestrator/egress-offers.js'
import { charge, readOffer, viewNode, type NodeView } from '../../src/orchestrator/node-view.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { sampleExecution, sampleJob, sampleNode, sampleSpec, type SpecChanges } from './samples.js'

const NODES = 24
const CAPACITIES = [
  { cpu: 4, memoryBytes: 8e9, diskBytes: 1e10, gpu: 0 },
  { cpu: 8, memoryBytes: 8e9, diskBytes: 1e10, gpu: 1 },
  { cpu: 0, memoryBytes: 1e9, diskBytes: 0, gpu: 0 },
]
const SIZES = [
  { CPU: '500m', Memory: '100mb', Disk: '', GPU: '' },
  { CPU: '0.1', Memory: '4gb', Disk: '', GPU: '' },
  { CPU: '3', Memory: '', Disk: '2gb', GPU: '' },
  { CPU: '', Memory: '', Disk: '', GPU: '' },
  { CPU: '1', Memory: '1gb', Disk: '', GPU: '1' },
  { CPU: '6', Memory: '1gb', Disk: '', GPU: '' },
]
const CONSTRAINTS: Constraint[][] = [
  [],
  [{ Key: 'region', Operator: '=', Values: ['eu'] }],
  [{ Key: 'favour_region', Operator: 'in', Values: ['eu', 'us'] }],
  [
    { Key: 'rank', Operator: 'gt', Values: ['1'] },
    { Key: 'favour_rank', Operator: '=', Values: ['2'] },
  ],
]

const recordOf = (index: number, kind: number, shift = 0): NodeRecord => {
  const capacity = CAPACITIES[kind % 3] ?? CAPACITIES[0]!
  return sampleNode(
    `n-${index}`,
    {
      roles: kind % 11 === 10 ? ['orchestrator'] : ['compute'],
      labels: { region: ['eu', 'us', 'asia'][(kind + shift) % 3] ?? '', rank: String((kind + shift) % 4) },
      engines: kind % 7 === 6 ? ['wasm'] : ['docker', 'wasm'],
      publishers: kind % 5 === 4 ? [] : ['local'],
      maxCapacity: capacity,
      maxJobRequirements: kind % 2 === 0 ? capacity : { ...capacity, cpu: capacity.cpu / 2 },
      egress: {
        acceptsNetworkedJobs: kind % 2 === 0,
        httpEngines: ['docker'],
        fullEngines: [],
        allow: kind % 4 === 0 ? ['.example.com'] : ['www.example.com'],
        deny: kind % 8 === 0 ? ['secret.example.com'] : [],
        problems: [],
      },
    },
    {
      membership: kind % 9 === 8 ? 'PENDING' : 'APPROVED',
      connection: kind % 6 === 5 ? 'DISCONNECTED' : 'CONNECTED',
    },
  )
}

const index = fc.nat(NODES - 1)
const kind = fc.nat(99)
const demand = fc
  .record({
    size: fc.nat(SIZES.length - 1),
    constraints: fc.nat(CONSTRAINTS.length - 1),
    unique: fc.boolean(),
    network: fc.nat(3),
    publisher: fc.boolean(),
  })
  .map(({ size, constraints, unique, network, publisher }): SpecChanges => {
    const only: Constraint[] = unique ? [{ Key: 'region', Operator: '!=', Values: [`x${size}`] }] : []
    const domains = [['www.example.com'], ['secret.example.com'], ['a.example.com', 'other.org']][network]
    return {
      Constraints: [...(CONSTRAINTS[constraints] ?? []), ...only],
      task: {
        Resources: SIZES[size] ?? SIZES[0]!,
        Publisher: { Type: publisher ? 'local' : '' },
        Network: domains === undefined ? { Type: 'None', Domains: [] } : { Type: 'HTTP', Domains: domains },
      },
    }
  })

type Step =
  | { do: 'node'; index: number; kind: number }
  | { do: 'relabel'; index: number; shift: number }
  | { do: 'remove'; index: number }
  | {
      do: 'ask'
      demand: SpecChanges
      wanted: number
      load: boolean
      seed: number
      past: [number, number][]
      start: boolean
    }
  | { do: 'execution'; id: number; index: number; size: number; state: ObservedState }
  | { do: 'reserve'; index: number; job: number; priority: number }
  | { do: 'network'; allow: string[] | undefined; deny: string[] }
  | { do: 'pass' }
  | { do: 'fail' }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('node' as const), index, kind }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), index }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('relabel' as const), index, shift: fc.nat(11) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      demand,
      wanted: fc.constantFrom(1, 1, 1, 2, 5, Infinity),
      load: fc.boolean(),
      seed: fc.nat(20),
      past: fc.array(fc.tuple(index, fc.nat(3)), { maxLength: 4 }),
      start: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('execution' as const),
      id: fc.nat(40),
      index,
      size: fc.nat(SIZES.length - 1),
      state: fc.constantFrom<ObservedState>('New', 'Running', 'Completed', 'Failed'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('reserve' as const),
      index,
      job: fc.nat(20),
      priority: fc.nat(2),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('network' as const),
      allow: fc.constantFrom<(string[] | undefined)[]>(
        undefined,
        [],
        ['.example.com'],
        ['www.example.com'],
        ['*.example.com', 'other.org'],
      ),
      deny: fc.constantFrom<string[][]>([], ['secret.example.com'], ['.example.com']),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pass' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fail' as const) }) },
)

/** A fleet that follows a store, beside the records from which everything can be read anew. */
class World {
  readonly store: JobStore = openMemoryStore()
  readonly fleet = new Fleet()
  readonly records = new Map<string, NodeRecord>()
  readonly kinds = new Map<number, number>()
  readonly executions = new Map<string, Execution>()
  /** The list of the network, as every node's offer must heed it. */
  network: Parameters<typeof readEgressOffer>[1] = {}
  #planned: [string, NodeView['used']][] = []

  async commit(change: Change, fails = false): Promise<void> {
    const base = await this.store.snapshot()
    this.#planned = []
    this.fleet.committing(change, base)
    if (!fails) await this.store.commit(change, base.revision)
  }

  async follow(): Promise<void> {
    this.#planned = []
    this.fleet.follow(await this.store.snapshot())
  }

  start(nodeId: string, resources: NodeView['used']): void {
    this.fleet.charge(nodeId, resources)
    this.#planned.push([nodeId, resources])
  }

  /** Every view as it must be, read from the beginning. */
  fresh(): NodeView[] {
    return [...this.records.values()].map((record) => {
      const { nodeId } = record.info
      const reservation = this.fleet.get(nodeId)?.reservation
      const offer = readOffer(record.info, readEgressOffer(record.info.egress, this.network))
      const view = viewNode(record, { offer, ...(reservation === undefined ? {} : { reservation }) })
      for (const execution of this.executions.values()) {
        const ended = ['Completed', 'Failed'].includes(execution.observed.state)
        if (execution.nodeId === nodeId && !ended) charge(view, execution.resources)
      }
      for (const [id, resources] of this.#planned) if (id === nodeId) charge(view, resources)
      return view
    })
  }
}

describe('the fleet', () => {
  it('chooses the very nodes that a look at each node would choose, and gives the same reasons', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(kind, { maxLength: NODES }),
        fc.array(step, { maxLength: 60 }),
        async (kinds, steps) => {
          const world = new World()
          await world.store.commit({ jobs: [sampleJob({ id: 'j-all', state: 'Running' })] })
          await world.follow()
          for (const [index, kind] of kinds.entries()) await act(world, { do: 'node', index, kind })
          for (const one of steps) {
            await world.follow()
            await act(world, one)
          }
        },
      ),
      { numRuns: 400 },
    )
  })

  it('comes to the same with many nodes alike, where groups are large', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(20), demand), { minLength: 1, maxLength: 150 }), (asked) => {
        const fleet = new Fleet()
        const views = Array.from({ length: 60 }, (_, at) => viewNode(recordOf(at, 0)))
        for (const { record } of views) fleet.put(record, true)
        for (const [seed, changes] of asked) {
          const wanted = readDemand(sampleSpec(changes))
          const options = { wanted: 1, past: new Map(), nodeQueueFactor: 1.5, seed: `j-${seed}` }
          const found = place(wanted, views, options)
          expect(fleet.place(wanted, options).chosen).toEqual(found.chosen)
          for (const nodeId of found.chosen) {
            fleet.charge(nodeId, wanted.resources)
            const view = views.find((one) => one.record.info.nodeId === nodeId)
            if (view !== undefined) charge(view, wanted.resources)
          }
        }
      }),
      { numRuns: 100 },
    )
  })

  it('counts how many more fit on a node as putting them there one by one would', () => {
    fc.assert(
      fc.property(demand, kind, fc.nat(40), (changes, one, most) => {
        const wanted = readDemand(sampleSpec(changes))
        const options = { wanted: 1, past: new Map(), nodeQueueFactor: 1.5, seed: 'j' }
        const fleet = new Fleet()
        const record = recordOf(1, one)
        fleet.put(record, true)
        const view = viewNode(record)
        let fitting = 0
        while (fitting < most && place(wanted, [view], options).chosen.length > 0) {
          charge(view, wanted.resources)
          fitting += 1
        }
        expect(fleet.roomOn('n-1', wanted, options, most)).toBe(fitting)
      }),
    )
  })
})

function take(world: World, record: NodeRecord): void {
  world.records.set(record.info.nodeId, record)
  world.fleet.put(record, true)
}

async function act(world: World, one: Step): Promise<void> {
  switch (one.do) {
    case 'node':
      world.kinds.set(one.index, one.kind)
      return take(world, recordOf(one.index, one.kind))
    case 'relabel': {
      const kind = world.kinds.get(one.index)
      return kind === undefined ? undefined : take(world, recordOf(one.index, kind, one.shift))
    }
    case 'remove':
      world.records.delete(`n-${one.index}`)
      return world.fleet.delete(`n-${one.index}`)
    case 'network': {
      const { allow, deny } = one
      world.network = {
        network: allow && HostPatternSet.parse(allow, { allowPublicSuffix: true }),
        networkDeny: HostPatternSet.parse(deny, { portlessMeans: 'any' }),
      }
      return world.fleet.setNetworkEgress({ version: 1, deny, ...(allow && { allow }) })
    }
    case 'reserve':
      return world.fleet.reserve(`n-${one.index}`, {
        jobId: `j-${one.job}`,
        priority: one.priority,
        untilMs: 1,
      })
    case 'execution': {
      const { resources } = readDemand(sampleSpec({ task: { Resources: SIZES[one.size] ?? SIZES[0]! } }))
      const known = world.executions.get(`e-${one.id}`)
      const execution = sampleExecution({
        id: `e-${one.id}`,
        jobId: 'j-all',
        nodeId: known?.nodeId ?? `n-${one.index}`,
        resources: known?.resources ?? resources,
        observed: { ...sampleExecution().observed, state: one.state },
      })
      world.executions.set(execution.id, execution)
      return world.commit({ executions: [execution] })
    }
    case 'pass':
      return world.commit({ jobs: [sampleJob({ id: 'j-other' })] })
    case 'fail': {
      // What was never stored must not be counted, also when another commit comes before the next look.
      const lost = sampleExecution({ id: 'e-lost', jobId: 'j-all', nodeId: 'n-1', resources: CAPACITIES[0]! })
      await world.commit({ executions: [lost] }, true)
      return world.commit({ jobs: [sampleJob({ id: 'j-other' })] })
    }
    case 'ask':
      return compareAnswers(world, one)
  }
}

function compareAnswers(world: World, one: Step & { do: 'ask' }): void {
  const wanted = readDemand(sampleSpec(one.demand))
  const excluded = { code: 'busy', one: 'is busy', many: 'are busy', transient: false, hint: '' }
  const past = new Map<string, NodePast>(
    one.past.map(([at, failures]) => [`n-${at}`, { failures, ...(failures === 3 ? { excluded } : {}) }]),
  )
  const options: PlacementOptions = {
    wanted: one.wanted,
    past,
    nodeQueueFactor: one.load ? 1.5 : Infinity,
    seed: `j-${one.seed}`,
    priority: one.seed % 3,
  }
  for (let round = 0; round < 2; round++) {
    const expected = place(wanted, world.fresh(), options)
    const found = world.fleet.place(wanted, options)
    expect(found.chosen).toEqual(expected.chosen)
    expect(found.shortage).toEqual(expected.shortage)
    if (!one.start) continue
    for (const nodeId of found.chosen) world.start(nodeId, wanted.resources)
  }
}
