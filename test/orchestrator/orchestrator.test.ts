import { afterEach, describe, expect, it } from 'vitest'
import { createOrchestrator, type Orchestrator } from '../../src/orchestrator/index.js'
import type { JobStore, Transport } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleSpec, type SpecChanges } from './samples.js'
import { SimulatedNode, type Behaviour, type SimulatedNodeOptions } from './simulated-node.js'
import { VirtualClock, seededChance } from './virtual-time.js'

const ALL_HISTORY = { level: 'all', afterSequence: 0, limit: 0 } as const

describe('the orchestrator', () => {
  const closing: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  interface World {
    clock: VirtualClock
    store: JobStore
    transport: Transport
    orchestrator: Orchestrator
    addNode: (
      nodeId: string,
      behaviour?: Partial<Behaviour>,
      more?: Partial<SimulatedNodeOptions>,
    ) => Promise<SimulatedNode>
    submit: (spec?: SpecChanges) => Promise<string>
  }

  async function makeWorld(options: Partial<Parameters<typeof createOrchestrator>[0]> = {}): Promise<World> {
    const clock = new VirtualClock()
    const chance = seededChance(1)
    const store = openMemoryStore()
    const transport = createInProcessTransport({ clock, chance })
    const orchestrator = createOrchestrator({
      store,
      transport,
      clock,
      chance,
      nodeId: 'n-orchestrator',
      ...options,
    })
    await orchestrator.start()
    closing.push(async () => {
      await orchestrator.close()
      await transport.close()
      await store.close()
    })
    return {
      clock,
      store,
      transport,
      orchestrator,
      async addNode(nodeId, behaviour = {}, more = {}) {
        const node = new SimulatedNode({
          nodeId,
          transport,
          clock,
          behave: () => ({ runMs: 1_000, ...behaviour }),
          ...more,
        })
        await node.start()
        closing.push(() => node.kill())
        await clock.pass(0)
        return node
      },
      async submit(spec = {}) {
        const { jobId } = await orchestrator.submit({ spec: sampleSpec(spec), clientMeta: {} })
        return jobId
      },
    }
  }

  it('runs a batch job and writes its history in the order that clients know', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1a2b3c4d-0000-4000-8000-000000000000')
    const id = await submit()
    await clock.pass(0)
    expect((await orchestrator.job(id)).state).toBe('Running')
    expect((await orchestrator.history(id, ALL_HISTORY)).finished).toBe(false)
    await clock.pass(2_000)
    const { events, finished } = await orchestrator.history(id, ALL_HISTORY)
    expect((await orchestrator.job(id)).state).toBe('Completed')
    expect(finished).toBe(true)
    expect(
      events.map(({ topic, message, executionId }) => [
        executionId === undefined ? 'job' : 'exec',
        topic,
        message,
      ]),
    ).toEqual([
      ['job', 'Submission', 'Job submitted'],
      ['exec', 'Scheduling', 'Requested execution on n-1a2b3c4d'],
      ['job', 'State Update', 'Running'],
      ['exec', 'Running Execution', 'Running Execution'],
      ['exec', 'Execution', 'Running'],
      ['exec', 'Execution', 'Completed successfully'],
      ['job', 'State Update', 'Completed'],
    ])
    expect(events[1]?.details).toEqual({ NodeID: 'n-1a2b3c4d-0000-4000-8000-000000000000' })
    expect(events.map((event) => event.sequence)).toEqual([1, 2, 3, 4, 5, 6, 7])
  })

  it('needs no timer between submission and result', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: 0 })
    const before = clock.now()
    const id = await submit()
    await clock.pass(0)
    expect((await orchestrator.job(id)).state).toBe('Completed')
    expect(clock.now()).toBe(before)
  })

  it('fails at once without nodes, and says why', async () => {
    const { clock, orchestrator, submit } = await makeWorld()
    const id = await submit()
    await clock.pass(0)
    const job = await orchestrator.job(id)
    expect(job.state).toBe('Failed')
    expect(job.message).toBe(
      'not enough nodes to run job. requested: 1, available: 0, suitable: 0. No compute node has joined',
    )
    expect(job.details).toMatchObject({
      ErrorCode: 'scheduling.no_nodes',
      NodesRequested: '1',
      NodesAvailable: '0',
    })
  })

  it('keeps a job with a queue timeout until a node joins', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    const id = await submit({
      task: { Timeouts: { ExecutionTimeout: 0, QueueTimeout: 600, TotalTimeout: 0 } },
    })
    await clock.pass(10_000)
    expect((await orchestrator.job(id)).state).toBe('Queued')
    await addNode('n-1')
    await clock.pass(2_000)
    expect((await orchestrator.job(id)).state).toBe('Completed')
    const topics = (await orchestrator.history(id, ALL_HISTORY)).events.map((event) => event.topic)
    expect(topics.filter((topic) => topic === 'Queueing')).toHaveLength(1)
  })

  it('fails a queued job when its queue timeout is over', async () => {
    const { clock, orchestrator, submit } = await makeWorld()
    const id = await submit({
      task: { Timeouts: { ExecutionTimeout: 0, QueueTimeout: 600, TotalTimeout: 0 } },
    })
    await clock.pass(599_000)
    expect((await orchestrator.job(id)).state).toBe('Queued')
    await clock.pass(1_000)
    expect((await orchestrator.job(id)).state).toBe('Failed')
  })

  it('starts a queued job as soon as another one leaves room', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld({ limits: { nodeQueueFactor: 0 } })
    await addNode('n-1', { runMs: 5_000 })
    const big = { CPU: '4', Memory: '', Disk: '', GPU: '' }
    const Timeouts = { ExecutionTimeout: 0, QueueTimeout: 600, TotalTimeout: 0 }
    await submit({ task: { Resources: big, Timeouts } })
    const id = await submit({ task: { Resources: big, Timeouts } })
    await clock.pass(4_000)
    const waiting = await orchestrator.job(id)
    expect(waiting.state).toBe('Queued')
    expect(waiting.message).toContain('0 of 1 node can run this: 1 has 0 CPU free, 4 asked')
    await clock.pass(1_000)
    expect((await orchestrator.job(id)).state).toBe('Running')
  })

  it('tries a failed execution again on another node first', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { fail: 'the disk is broken' })
    await addNode('n-2', { fail: 'the disk is broken' })
    const id = await submit()
    await clock.pass(60_000)
    const executions = await orchestrator.executions(id)
    expect(executions).toHaveLength(3)
    expect(new Set(executions.slice(0, 2).map((execution) => execution.nodeId))).toEqual(
      new Set(['n-1', 'n-2']),
    )
    expect(executions.map((execution) => execution.attempt)).toEqual([0, 1, 2])
    const job = await orchestrator.job(id)
    expect(job.state).toBe('Failed')
    expect(job.message).toBe(
      'Job failed because it has been retried too many times: 3 tries, the last one: the disk is broken',
    )
  })

  it('does not repeat on the same node what cannot succeed there', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { fail: 'no such image', retryable: false })
    const id = await submit()
    await clock.pass(60_000)
    expect(await orchestrator.executions(id)).toHaveLength(1)
    const job = await orchestrator.job(id)
    expect(job.state).toBe('Failed')
    expect(job.message).toMatch(
      /^Job failed because one or more executions failed: no such image\. No other node: /,
    )
    expect(job.details.ErrorCode).toBe('engine.failed')
  })

  it('goes to another node when one refuses, and quotes the refusals when all do', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { reject: 'not on Sundays' })
    const refused = await submit()
    await clock.pass(2_000)
    expect((await orchestrator.job(refused)).message).toBe(
      'not enough nodes to run job. requested: 1, available: 1, suitable: 0. ' +
        '0 of 1 node can run this: 1 refused the job (not on Sundays)',
    )
    await addNode('n-2')
    const accepted = await submit()
    await clock.pass(5_000)
    expect((await orchestrator.job(accepted)).state).toBe('Completed')
  })

  it('completes a job whose program ended with an error code', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { exitCode: 3 })
    const id = await submit()
    await clock.pass(5_000)
    expect((await orchestrator.job(id)).state).toBe('Completed')
    expect((await orchestrator.executions(id))[0]?.observed.runOutput?.exitCode).toBe(3)
    expect(await orchestrator.results(id)).toMatchObject([{ Type: 'urlDownload' }])
  })

  it('stops a job at once and its execution soon after', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    const node = await addNode('n-1', { runMs: Infinity })
    const id = await submit()
    await clock.pass(1_000)
    expect(node.running).toHaveLength(1)
    const { evaluationId } = await orchestrator.stop(id, 'changed my mind')
    expect(evaluationId).not.toBe('')
    expect(await orchestrator.job(id)).toMatchObject({ state: 'Stopped', message: 'changed my mind' })
    await clock.pass(0)
    expect(node.running).toHaveLength(0)
    expect((await orchestrator.executions(id))[0]).toMatchObject({
      desired: { state: 'Stopped', message: 'Execution stop requested because job has been stopped' },
      observed: { state: 'Cancelled' },
    })
    expect(await orchestrator.stop(id, 'again')).toEqual({ evaluationId: '' })
  })

  it('does not stop what has ended', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1')
    const id = await submit()
    await clock.pass(5_000)
    await expect(orchestrator.stop(id, '')).rejects.toMatchObject({
      code: 'job.terminal',
      message: 'cannot stop job in state Completed',
    })
  })

  it('replaces the executions of a lost node after a grace time, and stops them when it comes back', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    const lost = await addNode('n-1', { runMs: Infinity })
    const id = await submit()
    await clock.pass(1_000)
    await addNode('n-2', { runMs: Infinity })
    await lost.kill()
    await clock.pass(115_000)
    expect(await orchestrator.executions(id)).toHaveLength(1)
    expect(await orchestrator.node('n-1')).toMatchObject({ connection: 'DISCONNECTED' })
    await clock.pass(10_000)
    const [first, second] = await orchestrator.executions(id)
    expect(first?.desired).toMatchObject({
      state: 'Stopped',
      message: 'Execution stop requested because node has disappeared',
    })
    expect(second).toMatchObject({ nodeId: 'n-2', slot: 0, attempt: 1 })
  })

  it('fails a job that takes longer than its total timeout', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    const node = await addNode('n-1', { runMs: Infinity })
    const id = await submit({
      task: { Timeouts: { ExecutionTimeout: 0, QueueTimeout: 0, TotalTimeout: 60 } },
    })
    await clock.pass(60_000)
    expect(await orchestrator.job(id)).toMatchObject({
      state: 'Failed',
      message: 'Job timed out. Job took longer than 1m0s',
    })
    await clock.pass(1_000)
    expect(node.running).toHaveLength(0)
  })

  it('runs an ops job once on every matching node', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', {}, { info: { labels: { zone: 'a' } } })
    await addNode('n-2', {}, { info: { labels: { zone: 'a' } } })
    await addNode('n-3', {}, { info: { labels: { zone: 'b' } } })
    const id = await submit({ Type: 'ops', Constraints: [{ Key: 'zone', Operator: '=', Values: ['a'] }] })
    await clock.pass(5_000)
    expect((await orchestrator.job(id)).state).toBe('Completed')
    expect((await orchestrator.executions(id)).map((execution) => execution.nodeId).toSorted()).toEqual([
      'n-1',
      'n-2',
    ])
  })

  it('keeps a service running', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: 1_000 })
    const id = await submit({ Type: 'service' })
    await clock.pass(30_000)
    expect((await orchestrator.job(id)).state).toBe('Running')
    const executions = await orchestrator.executions(id)
    // Ends after 1 s each time, and waits 1, 2, 4, 8 s in between.
    expect(executions).toHaveLength(5)
    expect(executions[0]?.desired.message).toBe('execution completed unexpectedly')
  })

  it('puts a daemon on nodes that join later', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: Infinity })
    const id = await submit({ Type: 'daemon' })
    await clock.pass(1_000)
    const later = await addNode('n-2', { runMs: Infinity })
    await clock.pass(1_000)
    expect(later.running).toHaveLength(1)
    expect(await orchestrator.executions(id)).toHaveLength(2)
  })

  it('gives the same answer for the same idempotency token, also when asked at the same time', async () => {
    const { orchestrator } = await makeWorld()
    const request = { spec: sampleSpec(), clientMeta: {}, idempotencyToken: 'token-1' }
    const answers = await Promise.all([orchestrator.submit(request), orchestrator.submit(request)])
    const later = await orchestrator.submit(request)
    expect(new Set([...answers, later].map((answer) => answer.jobId)).size).toBe(1)
    expect(later.warnings).toHaveLength(1)
    const other = await orchestrator.submit({ ...request, idempotencyToken: 'token-2' })
    expect(other.jobId).not.toBe(later.jobId)
  })

  it('fills in name and meta data, and keeps reserved keys to itself', async () => {
    const { orchestrator } = await makeWorld({ installationId: 'inst-1' })
    const { jobId } = await orchestrator.submit({
      spec: sampleSpec({ Name: '', Meta: { mine: '1', 'bacalhau.org/orchestrator.id': 'forged' } }),
      clientMeta: { 'bacalhau.org/client.instance.id': 'c-1' },
    })
    const { spec } = await orchestrator.job(jobId)
    expect(spec.Name).toBe(jobId)
    expect(spec.Meta).toEqual({
      mine: '1',
      'bacalhau.org/orchestrator.id': 'n-orchestrator',
      'bacalhau.org/requester.id': 'n-orchestrator',
      'bacalhau.org/server.installation.id': 'inst-1',
      'bacalhau.org/client.instance.id': 'c-1',
    })
  })

  it('finds jobs, executions and nodes by prefix', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-alpha')
    await addNode('n-beta')
    const id = await submit()
    await submit()
    await clock.pass(5_000)
    expect((await orchestrator.job(id.slice(0, 10))).id).toBe(id)
    await expect(orchestrator.job('j-')).rejects.toMatchObject({ code: 'job.ambiguous' })
    await expect(orchestrator.job('j-nothing')).rejects.toMatchObject({ code: 'job.not_found' })
    await expect(orchestrator.job('')).rejects.toMatchObject({ code: 'job.not_found' })
    expect((await orchestrator.node('n-al')).info.nodeId).toBe('n-alpha')
    await expect(orchestrator.node('n-')).rejects.toMatchObject({ code: 'node.ambiguous' })
    await expect(orchestrator.node('x')).rejects.toMatchObject({ code: 'node.not_found' })
  })

  it('refuses a specification that would not fit into a message, and more jobs than it may hold', async () => {
    const { orchestrator } = await makeWorld({ limits: { activeJobsMax: 1 } })
    const large = sampleSpec({ Meta: { big: 'x'.repeat(800_000) } })
    await expect(orchestrator.submit({ spec: large, clientMeta: {} })).rejects.toMatchObject({
      code: 'spec.too_large',
    })
    const Timeouts = { ExecutionTimeout: 0, QueueTimeout: 600, TotalTimeout: 0 }
    await orchestrator.submit({ spec: sampleSpec({ task: { Timeouts } }), clientMeta: {} })
    await expect(orchestrator.submit({ spec: sampleSpec(), clientMeta: {} })).rejects.toMatchObject({
      code: 'job.too_many',
    })
  })

  it('lets new nodes wait for approval when told to', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld({ approveNodes: false })
    await addNode('n-1')
    const early = await submit()
    await clock.pass(1_000)
    expect((await orchestrator.job(early)).message).toContain('1 waits for approval')
    await orchestrator.updateNode('n-1', 'approve', '')
    await expect(orchestrator.updateNode('n-1', 'approve', '')).rejects.toMatchObject({
      code: 'node.conflict',
    })
    await expect(orchestrator.updateNode('n-9', 'approve', '')).rejects.toMatchObject({
      code: 'node.not_found',
    })
    const id = await submit()
    await clock.pass(5_000)
    expect((await orchestrator.job(id)).state).toBe('Completed')
  })

  it('knows a node by what lists show of a made-up id, and by no beginning of a name', async () => {
    const { orchestrator, addNode } = await makeWorld({ approveNodes: false })
    await addNode('n-0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d')
    await addNode('rack-10')
    await orchestrator.updateNode('n-0a1b2c3d', 'approve', '')
    for (const id of ['n-0a1b', 'rack-1', 'rack', ''])
      await expect(orchestrator.updateNode(id, 'delete', ''), id).rejects.toMatchObject({
        code: 'node.not_found',
      })
    const nodes = await orchestrator.nodes({})
    expect(nodes.map(({ info, membership }) => [info.nodeId.slice(0, 7), membership])).toEqual([
      ['n-0a1b2', 'APPROVED'],
      ['rack-10', 'PENDING'],
    ])
  })

  it('takes the work off a node that is rejected', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    const node = await addNode('n-1', { runMs: Infinity })
    const id = await submit()
    await clock.pass(1_000)
    await addNode('n-2', { runMs: Infinity })
    await orchestrator.updateNode('n-1', 'reject', 'hostile')
    await clock.pass(5_000)
    expect(node.running).toHaveLength(0)
    expect(
      (await orchestrator.executions(id)).map((execution) => [execution.nodeId, execution.desired.state]),
    ).toEqual([
      ['n-1', 'Stopped'],
      ['n-2', 'Running'],
    ])
  })

  it('ignores reports about executions of other nodes', async () => {
    const { clock, orchestrator, transport, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: Infinity })
    const id = await submit()
    await clock.pass(1_000)
    const [execution] = await orchestrator.executions(id)
    const { sampleInfo } = await import('./samples.js')
    await transport.request(
      'orchestrator.sync',
      {
        nodeId: 'n-2',
        incarnation: 'i-1',
        info: sampleInfo('n-2'),
        knownRevision: 0,
        leaving: false,
        observed: [
          {
            executionId: execution?.id,
            jobId: id,
            observed: { state: 'Completed', sequence: 99, message: '', code: '', hint: '', retryable: false },
            events: [],
          },
        ],
      },
      1_000,
    )
    await clock.pass(1_000)
    expect((await orchestrator.executions(id))[0]?.observed.state).toBe('Running')
  })

  it.each([
    ['null', null],
    ['a node without a name', { incarnation: 'i', observed: [] }],
    [
      'a name that would break out of its subject',
      { nodeId: 'a.b', incarnation: 'i', knownRevision: 0, observed: [] },
    ],
    ['no information', { nodeId: 'n-1', incarnation: 'i', knownRevision: 0, observed: [] }],
  ])('refuses a malformed message of a node: %s', async (_, body) => {
    const { transport } = await makeWorld()
    await expect(transport.request('orchestrator.sync', body, 1_000)).rejects.toMatchObject({
      code: 'api.bad_request',
    })
  })

  it('streams the output of a job to its end', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { stdout: 'hello\n' })
    const id = await submit()
    let text = ''
    let isDone = false
    const reading = (async () => {
      const query = { follow: true, fromEnd: false }
      for await (const item of orchestrator.logs(id, query, new AbortController().signal)) {
        text += Buffer.from(item.data).toString()
      }
      isDone = true
    })()
    await clock.pass(20_000, () => isDone)
    await reading
    expect(text).toBe('hello\n')
  })

  it('gives the short output when the node is gone', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    const node = await addNode('n-1', { stdout: 'hello\n' })
    const id = await submit()
    await clock.pass(5_000)
    await node.kill()
    const read: string[] = []
    for await (const item of orchestrator.logs(
      id,
      { follow: false, fromEnd: false },
      new AbortController().signal,
    )) {
      read.push(Buffer.from(item.data).toString())
    }
    expect(read).toEqual(['hello\n'])
  })

  it('says so when egress records cannot be had because the node is gone', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    const node = await addNode('n-1')
    const id = await submit()
    await clock.pass(5_000)
    await node.kill()
    const reading = (async () => {
      for await (const _ of orchestrator.egress(id, { follow: false }, new AbortController().signal)) void _
    })()
    await expect(reading).rejects.toMatchObject({ code: 'transport.no_responder' })
  })

  it('stops following when the reader has had enough', async () => {
    const { clock, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: Infinity })
    const id = await submit()
    await clock.pass(1_000)
    const enough = new AbortController()
    const reading = (async () => {
      for await (const _ of orchestrator.logs(id, { follow: true, fromEnd: false }, enough.signal)) void _
    })()
    await clock.pass(1_000)
    enough.abort(new Error('enough'))
    await expect(reading).rejects.toThrow('enough')
  })

  it('goes on where it was after a restart', async () => {
    const { clock, store, transport, orchestrator, addNode, submit } = await makeWorld()
    await addNode('n-1', { runMs: 30_000 })
    const id = await submit()
    await clock.pass(1_000)
    await orchestrator.close()
    await clock.pass(60_000)
    const chance = seededChance(2)
    const again = createOrchestrator({ store, transport, clock, chance, nodeId: 'n-orchestrator' })
    await again.start()
    await clock.pass(20_000)
    expect((await again.job(id)).state).toBe('Completed')
    expect(await again.executions(id)).toHaveLength(1)
    await again.close()
  })
})
