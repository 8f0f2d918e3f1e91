import { afterEach, describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import { createOrchestrator, type Orchestrator } from '../../src/orchestrator/index.js'
import { outputSubject, type LogItem, type LogQuery, type OutputReadRequest } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleSpec, type SpecChanges } from './samples.js'
import { SimulatedNode } from './simulated-node.js'
import { VirtualClock, seededChance } from './virtual-time.js'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** An orchestrator that hears nothing of the output of nodes that are cut off, and notes what it asks. */
async function makeWorld(
  nodes: readonly string[],
  behaviour: { runMs: number; fail?: string; retryable?: boolean },
) {
  const clock = new VirtualClock()
  const chance = seededChance(3)
  const store = openMemoryStore()
  const transport = createInProcessTransport({ clock, chance })
  const cut = new Set<string>()
  const asked: OutputReadRequest[] = []
  const orchestrator: Orchestrator = createOrchestrator({
    store,
    transport: {
      serve: (subject, handler) => transport.serve(subject, handler),
      close: () => transport.close(),
      async request(subject, body, timeoutMs) {
        if (!subject.endsWith('.output')) return transport.request(subject, body, timeoutMs)
        asked.push(body as OutputReadRequest)
        if (!cut.has(subject)) return transport.request(subject, body, timeoutMs)
        await clock.sleep(timeoutMs)
        throw new WeirError('transport.timeout', 'no answer')
      },
    },
    clock,
    chance,
    nodeId: 'n-orchestrator',
  })
  await orchestrator.start()
  closing.push(
    () => store.close(),
    () => transport.close(),
    () => orchestrator.close(),
  )
  for (const nodeId of nodes) {
    const node = new SimulatedNode({
      nodeId,
      transport,
      clock,
      behave: () => ({ stdout: 'hello\n', ...behaviour }),
    })
    await node.start()
    closing.push(() => node.kill())
    await clock.pass(0)
  }
  const submit = async (spec: SpecChanges = {}): Promise<string> =>
    (await orchestrator.submit({ spec: sampleSpec(spec), clientMeta: {} })).jobId
  const follow = (id: string, query: Partial<LogQuery> = {}) => {
    const items: LogItem[] = []
    const stop = new AbortController()
    const done = (async () => {
      const wanted = { follow: true, fromEnd: false, allExecutions: true, ...query }
      for await (const item of orchestrator.logs(id, wanted, stop.signal)) items.push(item)
    })()
    done.catch(() => undefined)
    closing.push(() => stop.abort())
    return { items, done, notices: () => items.flatMap(({ notice }) => notice ?? []) }
  }
  return { clock, orchestrator, cut, asked, submit, follow }
}

describe('following the output of a job', () => {
  it('says once that a node does not answer, waits for it, and goes on when it is back', async () => {
    const { clock, orchestrator, cut, submit, follow } = await makeWorld(['n-1', 'n-2'], { runMs: 300_000 })
    cut.add(outputSubject('n-1'))
    const id = await submit({ Count: 2 })
    const { items, done, notices } = follow(id)
    await clock.pass(40_000)
    expect(notices()).toEqual(['n-1 does not answer, so its output cannot be read; waiting for it'])
    const others = items.filter(({ notice }) => notice === undefined)
    const executions = await orchestrator.executions(id)
    const silent = executions.find(({ nodeId }) => nodeId === 'n-1')?.id
    expect(others.map(({ executionId }) => executionId)).not.toContain(silent)
    cut.clear()
    await clock.pass(300_000)
    await done
    expect(notices()).toEqual([
      'n-1 does not answer, so its output cannot be read; waiting for it',
      'n-1 answers again',
    ])
    const texts = items.filter(({ notice }) => notice === undefined)
    expect(new Set(texts.map(({ executionId }) => executionId)).size).toBe(2)
  })

  it('goes through all tries of a job that fails, and then ends', async () => {
    const { clock, orchestrator, submit, follow } = await makeWorld(['n-1', 'n-2', 'n-3'], {
      runMs: 2_000,
      fail: 'broken',
      retryable: true,
    })
    const id = await submit()
    const { items, done, notices } = follow(id)
    await clock.pass(60_000)
    await done
    expect((await orchestrator.job(id)).state).toBe('Failed')
    const executions = await orchestrator.executions(id)
    expect(executions.length).toBe(3)
    const heard = new Set(items.map(({ executionId }) => executionId))
    expect([...heard]).toEqual(executions.map((one) => one.id).filter((one) => heard.has(one)))
    expect(notices().filter((text) => text.includes('answer'))).toEqual([])
  })

  it('asks the node for the last lines only, and then goes on from there', async () => {
    const { clock, asked, submit, follow } = await makeWorld(['n-1'], { runMs: 8_000 })
    const id = await submit()
    await clock.pass(1_000)
    const { done } = follow(id, { tailLines: 5, sinceMs: 7 })
    await clock.pass(30_000)
    await done
    const [first, ...later] = asked
    expect(first).toMatchObject({ tailLines: 5, sinceMs: 7 })
    expect(later.length).toBeGreaterThan(0)
    for (const request of later) {
      expect(request.tailLines).toBeUndefined()
      expect(request.sinceMs).toBeUndefined()
    }
  })

  it('shares the memory for answers among many executions', async () => {
    const nodes = Array.from({ length: 100 }, (_, index) => `n-${index}`)
    const { clock, asked, submit, follow } = await makeWorld(nodes, { runMs: 20_000 })
    const id = await submit({ Type: 'ops' })
    await clock.pass(1_000)
    const { done } = follow(id)
    await clock.pass(10_000)
    const last = asked.slice(-100)
    expect(Math.max(...last.map(({ bytesMax }) => bytesMax)) * 100).toBeLessThanOrEqual(16 * 1024 ** 2)
    await clock.pass(60_000)
    await done
  })
})
