import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  DEFAULT_LIMITS,
  applyPlan,
  isEmptyPlan,
  reconcile,
  viewNode,
  type NodeView,
  type Plan,
} from '../../src/orchestrator/index.js'
import {
  JOB_TYPES,
  OBSERVED_STATES,
  addResources,
  isTerminalJobState,
  isTerminalObservedState,
  type Execution,
  type Job,
} from '../../src/model/index.js'
import { sampleExecution, sampleJob, sampleNode } from './samples.js'

interface Situation {
  job: Job
  executions: Execution[]
  nodes: NodeView[]
  now: number
}

const situations: fc.Arbitrary<Situation> = fc
  .record({
    type: fc.constantFrom(...JOB_TYPES),
    state: fc.constantFrom(
      'Pending' as const,
      'Queued' as const,
      'Running' as const,
      'Completed' as const,
      'Failed' as const,
      'Stopped' as const,
    ),
    count: fc.nat(4),
    queueTimeout: fc.constantFrom(0, 60),
    totalTimeout: fc.constantFrom(0, 0, 100),
    now: fc.constantFrom(1_000, 5_000, 50_000, 200_000),
    nodes: fc.array(
      fc.record({
        connected: fc.boolean(),
        lost: fc.boolean(),
        membership: fc.constantFrom('APPROVED' as const, 'APPROVED' as const, 'REJECTED' as const),
        engines: fc.constantFrom(['docker'], ['docker'], ['wasm']),
      }),
      { maxLength: 5 },
    ),
    executions: fc.array(
      fc.record({
        node: fc.nat(5),
        slot: fc.nat(4),
        observed: fc.constantFrom(...OBSERVED_STATES),
        desired: fc.constantFrom('Running' as const, 'Running' as const, 'Stopped' as const),
        retryable: fc.boolean(),
        createTimeMs: fc.constantFrom(1_000, 3_000),
      }),
      { maxLength: 8 },
    ),
  })
  .map((seed) => {
    const job = sampleJob(
      { state: seed.state },
      {
        Type: seed.type,
        Count: seed.count,
        task: {
          Timeouts: { ExecutionTimeout: 0, QueueTimeout: seed.queueTimeout, TotalTimeout: seed.totalTimeout },
        },
      },
    )
    const executions = seed.executions.map((one, index) =>
      sampleExecution({
        id: `e-${index}`,
        nodeId: `n-${one.node}`,
        slot: one.slot,
        attempt: index,
        createTimeMs: one.createTimeMs,
        desired: { state: one.desired, message: '', sinceMs: one.createTimeMs },
        observed: {
          ...sampleExecution().observed,
          state: one.observed,
          sequence: 1,
          retryable: one.retryable,
        },
        resources: { cpu: 0.5, memoryBytes: 1e8, diskBytes: 0, gpu: 0 },
      }),
    )
    const nodes = seed.nodes.map((one, index) =>
      viewNode(
        sampleNode(
          `n-${index}`,
          { engines: [...one.engines] },
          {
            membership: one.membership,
            connection: one.connected && !one.lost ? 'CONNECTED' : 'DISCONNECTED',
          },
        ),
        { lost: one.lost },
      ),
    )
    return { job, executions, nodes, now: seed.now }
  })

/** Nodes with what the executions hold, as a planner sees them. */
function view({ nodes, executions }: Situation): Map<string, NodeView> {
  return new Map(
    nodes.map(({ record, lost }) => {
      const mine = executions.filter(
        (one) => one.nodeId === record.info.nodeId && !isTerminalObservedState(one.observed.state),
      )
      const used = mine
        .map((one) => one.resources)
        .reduce(addResources, { cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 })
      return [record.info.nodeId, viewNode(record, { used, lost })]
    }),
  )
}

function look(situation: Situation): Plan {
  const { job, executions, now } = situation
  return reconcile(job, executions, view(situation), now, DEFAULT_LIMITS)
}

function after(situation: Situation, plan: Plan): Situation {
  let next = 0
  const change = applyPlan(plan, {
    ...situation,
    evaluationId: 'v',
    newExecutionId: () => `e-new-${situation.executions.length}-${next++}`,
  })
  const changed = new Map(change.executions?.map((execution) => [execution.id, execution]))
  const known = new Set(situation.executions.map((execution) => execution.id))
  return {
    ...situation,
    job: change.jobs?.[0] ?? situation.job,
    executions: [
      ...situation.executions.map((execution) => changed.get(execution.id) ?? execution),
      ...[...changed.values()].filter((execution) => !known.has(execution.id)),
    ],
  }
}

function live({ executions }: Situation): Execution[] {
  return executions.filter(
    (one) => one.desired.state === 'Running' && !isTerminalObservedState(one.observed.state),
  )
}

describe('reconcile', () => {
  it('proposes nothing more once its plan is applied', () => {
    fc.assert(
      fc.property(situations, (situation) => {
        const settled = after(situation, look(situation))
        expect(isEmptyPlan(look(settled))).toBe(true)
      }),
      { numRuns: 2_000 },
    )
  })

  it('gives the same plan for the same arguments and changes none of them', () => {
    fc.assert(
      fc.property(situations, (situation) => {
        const before = structuredClone({ job: situation.job, executions: situation.executions })
        expect(look(situation)).toEqual(look(situation))
        expect({ job: situation.job, executions: situation.executions }).toEqual(before)
      }),
      { numRuns: 500 },
    )
  })

  it('never wants more executions than the count, nor two in one slot', () => {
    fc.assert(
      fc.property(situations, (situation) => {
        const settled = after(situation, look(situation))
        const { Type, Count } = settled.job.spec
        if (Type !== 'batch' && Type !== 'service') return
        expect(live(settled).length).toBeLessThanOrEqual(Count)
        expect(new Set(live(settled).map((one) => one.slot)).size).toBe(live(settled).length)
      }),
      { numRuns: 1_000 },
    )
  })

  it('keeps nothing running for a job that has ended', () => {
    fc.assert(
      fc.property(situations, (situation) => {
        const plan = look(situation)
        const settled = after(situation, plan)
        if (!isTerminalJobState(settled.job.state)) return
        expect(plan.placements).toEqual([])
        expect(plan.lookAgain).toBeUndefined()
        expect(settled.executions.filter((one) => one.desired.state === 'Running')).toEqual([])
      }),
      { numRuns: 1_000 },
    )
  })

  it('never changes a job that has ended', () => {
    fc.assert(
      fc.property(situations, (situation) => {
        if (!isTerminalJobState(situation.job.state)) return
        const plan = look(situation)
        expect(plan.job).toBeUndefined()
        expect(plan.events).toEqual([])
      }),
      { numRuns: 500 },
    )
  })

  it('places only on nodes that are there and fit, each at most once at a time', () => {
    fc.assert(
      fc.property(situations, (situation) => {
        const nodes = view(situation)
        const { placements } = look(situation)
        for (const { nodeId } of placements) {
          const node = nodes.get(nodeId)
          expect(node?.record).toMatchObject({ membership: 'APPROVED', connection: 'CONNECTED' })
          expect(node?.record.info.engines).toContain('docker')
        }
        const settled = after(situation, look(situation))
        const added = live(settled).filter((one) => one.id.startsWith('e-new'))
        for (const one of added) {
          expect(live(settled).filter((other) => other.nodeId === one.nodeId)).toHaveLength(1)
        }
      }),
      { numRuns: 1_000 },
    )
  })

  it('uses up at most the allowed tries per slot of a batch job', () => {
    fc.assert(
      fc.property(situations, (situation) => {
        if (situation.job.spec.Type !== 'batch') return
        for (const { slot } of look(situation).placements) {
          const tries = situation.executions.filter(
            (one) => one.slot === slot && one.observed.state !== 'Rejected',
          )
          expect(tries.length).toBeLessThan(DEFAULT_LIMITS.triesMax)
        }
      }),
      { numRuns: 1_000 },
    )
  })

  it('never leaves a job that has not ended without a way forward', () => {
    fc.assert(
      fc.property(situations, (situation) => {
        const plan = look(situation)
        const settled = after(situation, plan)
        if (isTerminalJobState(settled.job.state)) return
        const waits = live(settled).length > 0 || plan.lookAgain !== undefined
        // A daemon without nodes is looked at when one joins.
        expect(waits || settled.job.spec.Type === 'daemon' || settled.job.spec.Count === 0).toBe(true)
        if (plan.lookAgain !== undefined) expect(plan.lookAgain.atMs).toBeGreaterThan(situation.now)
      }),
      { numRuns: 2_000 },
    )
  })

  it('completes a batch job of count 0 at once', () => {
    const situation = { job: sampleJob({}, { Count: 0 }), executions: [], nodes: [], now: 1_000 }
    expect(look(situation)).toMatchObject({ job: { state: 'Completed' }, placements: [] })
  })

  it('counts a late success of an execution that was given up', () => {
    const given = sampleExecution({
      desired: { state: 'Stopped', message: '', sinceMs: 2_000 },
      observed: { ...sampleExecution().observed, state: 'Completed', sequence: 3 },
    })
    const replacement = sampleExecution({ id: 'e-2', nodeId: 'n-2', attempt: 1 })
    const nodes = [viewNode(sampleNode('n-1')), viewNode(sampleNode('n-2'))]
    const plan = look({
      job: sampleJob({ state: 'Running' }),
      executions: [given, replacement],
      nodes,
      now: 9_000,
    })
    expect(plan.job?.state).toBe('Completed')
    expect(plan.stops.map((stop) => stop.executionId)).toEqual(['e-2'])
  })
})
