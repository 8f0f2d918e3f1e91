import { afterEach, describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import { createOrchestrator, type Orchestrator } from '../../src/orchestrator/index.js'
import type { ObservedReport, SyncRequest, SyncResponse } from '../../src/model/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleInfo, sampleSpec } from './samples.js'
import { Dice } from './simulation/dice.js'
import { DurableLog, SOUND_DISK } from './simulation/durable-log.js'
import { ProcessLife } from './simulation/process-life.js'
import { VirtualClock, seededChance } from './virtual-time.js'

/** An orchestrator on a disk whose commits are seen before they are durable; the test is its only node. */
class World {
  readonly clock = new VirtualClock()
  readonly transport = createInProcessTransport({ clock: this.clock })
  readonly log = new DurableLog(this.clock, new Dice(1, 'disk'))
  #orchestrator: Orchestrator | undefined

  async start(): Promise<Orchestrator> {
    this.#orchestrator = createOrchestrator({
      store: this.log.forProcess(new ProcessLife()),
      transport: this.transport,
      clock: this.clock,
      chance: seededChance(1),
      nodeId: 'n-orchestrator',
    })
    await this.#orchestrator.start()
    return this.#orchestrator
  }

  async sync(observed: ObservedReport[] = [], more: Partial<SyncRequest> = {}): Promise<SyncResponse> {
    const request: SyncRequest = {
      nodeId: 'n-1',
      incarnation: 'i-1',
      info: sampleInfo('n-1'),
      knownRevision: 0,
      observed,
      leaving: false,
      ...more,
    }
    return (await this.transport.request('orchestrator.sync', request, 60_000)) as SyncResponse
  }

  async close(): Promise<void> {
    await this.#orchestrator?.close()
    await this.transport.close()
    await this.log.close()
  }
}

function report(
  executionId: string,
  jobId: string,
  sequence: number,
  state: 'Running' | 'Completed' | 'Failed',
) {
  const observed = { state, sequence, message: '', code: '', hint: '', retryable: true }
  const failed = { topic: 'Execution', message: 'lost', details: { FailsExecution: 'true' }, timeMs: 1 }
  const events = state === 'Failed' ? [{ index: sequence, ...failed }] : []
  return { executionId, jobId, observed, events }
}

describe('an orchestrator whose commits become durable later', () => {
  const worlds: World[] = []
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.close()
  })
  async function placed() {
    const world = new World()
    worlds.push(world)
    const orchestrator = await world.start()
    await world.sync()
    const { jobId } = await orchestrator.submit({ spec: sampleSpec(), clientMeta: {} })
    await world.clock.pass(100)
    const [execution] = await orchestrator.executions(jobId)
    return { world, orchestrator, jobId, executionId: execution?.id ?? '' }
  }

  it('acknowledges a report that came twice only when the first of them is durable', async () => {
    const { world, jobId, executionId } = await placed()
    world.log.faults = { flushMsMin: 1_000, flushMsMax: 1_000, full: 'loses', unreadable: false }
    const one = report(executionId, jobId, 1, 'Completed')
    const answers = [world.sync([one]), world.sync([one])].map((sent) =>
      sent.catch((error: unknown) => error),
    )
    await world.clock.pass(2_000)
    for (const answer of await Promise.all(answers)) expect(answer).toBeInstanceOf(WeirError)
    world.log.faults = SOUND_DISK
    expect((await world.sync([one])).acknowledged).toEqual({ [executionId]: 1 })
    await world.clock.pass(100)
    expect((await world.log.snapshot()).job(jobId)?.state).toBe('Completed')
  })

  it('says that a job is stopped already only when that is durable', async () => {
    const { world, orchestrator, jobId } = await placed()
    world.log.faults = { flushMsMin: 1_000, flushMsMax: 1_000, full: 'loses', unreadable: false }
    const stops = [orchestrator.stop(jobId, ''), orchestrator.stop(jobId, '')].map((sent) =>
      sent.catch((error: unknown) => error),
    )
    await world.clock.pass(2_000)
    for (const answer of await Promise.all(stops)) expect(answer).toMatchObject({ code: 'store.unavailable' })
    world.log.faults = SOUND_DISK
    await orchestrator.stop(jobId, '')
    expect(await orchestrator.stop(jobId, '')).toEqual({ evaluationId: '' })
  })

  it('keeps the first end of an execution, in the record and in the history', async () => {
    const { world, orchestrator, jobId, executionId } = await placed()
    await world.sync([report(executionId, jobId, 1, 'Completed')])
    // Its node could not write the end down, and tells another one after its restart.
    await world.sync([report(executionId, jobId, 1_000_001, 'Failed')])
    const { events } = await orchestrator.history(jobId, { level: 'all', afterSequence: 0, limit: 0 })
    expect(events.map(({ message }) => message)).not.toContain('lost')
    expect((await orchestrator.executions(jobId))[0]?.observed.state).toBe('Completed')
  })
})

describe('a node that is not part of the network any more', () => {
  const worlds: World[] = []
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.close()
  })

  it('is told to stop what it has, so that it reports the ends', async () => {
    const world = new World()
    worlds.push(world)
    const orchestrator = await world.start()
    await world.sync()
    const { jobId } = await orchestrator.submit({ spec: sampleSpec(), clientMeta: {} })
    await world.clock.pass(100)
    const { desired } = await world.sync()
    const [one] = desired
    await orchestrator.updateNode('n-1', 'reject', '')
    const answer = await world.sync()
    expect(answer).toMatchObject({ membership: 'REJECTED', complete: true })
    expect(answer.desired).toMatchObject([{ executionId: one?.executionId, state: 'Stopped' }])
    expect((await orchestrator.job(jobId)).state).not.toBe('Completed')
  })
})
