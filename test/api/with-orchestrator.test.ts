import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { createApiServer } from '../../src/api/index.js'
import { WeirClient } from '../../src/client/index.js'
import { createOrchestrator } from '../../src/orchestrator/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { REAL_CLOCK } from '../../src/node/real-time.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { auditRecord, nodeInfo } from './memory-job-service.js'
import { SimulatedNode, type Program } from './simulated-node.js'
import { HELLO, NODE_ID } from './with-server.js'

const clock = {
  now: () => Date.now(),
  sleep: async (ms: number, signal?: AbortSignal) => {
    await delay(ms, undefined, { signal }).catch((error: unknown) => {
      throw signal?.reason ?? error
    })
  },
  schedule: REAL_CLOCK.schedule,
}
const chance = { uuid: () => randomUUID(), random: () => Math.random() }

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

/** The real orchestrator, store and transport behind the API; only the node pretends. */
async function startNetwork(program: Program | undefined): Promise<WeirClient> {
  const store = openMemoryStore()
  const transport = createInProcessTransport({ clock })
  const orchestrator = createOrchestrator({ store, transport, clock, chance, nodeId: NODE_ID })
  await orchestrator.start()
  const api = await createApiServer({
    jobs: orchestrator,
    identity: { nodeId: NODE_ID },
    nodeInfo: () => nodeInfo(NODE_ID),
    version: { weir: '0.1.0' },
  })
  const { url } = await api.listen({ host: '127.0.0.1', port: 0 })
  const client = new WeirClient({ baseUrl: url })
  closers.push(
    () => store.close(),
    () => transport.close(),
    () => orchestrator.close(),
    () => api.close(),
    () => client.close(),
  )
  if (program !== undefined) await new SimulatedNode(transport, nodeInfo('n-sim'), program).start()
  return client
}

/** The loop of `docker run`: history with limit 10 until the token is empty. */
async function waitAsTheCliDoes(client: WeirClient, id: string): Promise<string[]> {
  const lines: string[] = []
  for (let nextToken: string | undefined; ; ) {
    const page = await client.history(id, { eventType: 'all', limit: 10, nextToken, waitMs: 2000 })
    lines.push(...page.Items.map((item) => `${item.Type} ${item.Event.Topic}: ${item.Event.Message}`))
    if (page.NextToken === '') return lines
    nextToken = page.NextToken
  }
}

const BARE = { ...HELLO, Tasks: [{ ...HELLO.Tasks[0], Network: { Type: 'None' } }] }

describe('the API in front of a real orchestrator', () => {
  it('shows the events of a batch job in the documented order, and the token empties after Completed', async () => {
    const client = await startNetwork({ stdout: 'hi\n' })
    const { JobID: id } = await client.submit(BARE)
    expect(await waitAsTheCliDoes(client, id)).toEqual([
      'JobLevel Submission: Job submitted',
      'ExecutionLevel Scheduling: Requested execution on n-sim',
      'JobLevel State Update: Running',
      'ExecutionLevel Execution: Running',
      'ExecutionLevel Execution: Completed successfully',
      'JobLevel State Update: Completed',
    ])
    const { Job: job, Executions: executions } = await client.job(id.slice(0, 10), {
      include: ['executions'],
    })
    expect(job.State.StateType).toBe('Completed')
    expect(executions?.Items[0]).toMatchObject({
      ComputeState: { StateType: 9 },
      DesiredState: { StateType: 2 },
    })
  })

  it('completes a batch job whose program ends with exit code 3', async () => {
    const client = await startNetwork({ exitCode: 3 })
    const { JobID: id } = await client.submit(BARE)
    await waitAsTheCliDoes(client, id)
    expect((await client.job(id)).Job.State.StateType).toBe('Completed')
    expect((await client.executions(id)).Items[0]?.RunOutput?.ExitCode).toBe(3)
    expect((await client.results(id)).Items).toEqual([])
  })

  it('streams the output of a finished job, stdout and stderr', async () => {
    const client = await startNetwork({ stdout: 'out\n', stderr: 'err\n' })
    const { JobID: id } = await client.submit(BARE)
    await waitAsTheCliDoes(client, id)
    const chunks: string[] = []
    for await (const chunk of client.logs(id))
      chunks.push(`${chunk.stream}: ${Buffer.from(chunk.data).toString()}`)
    expect(chunks).toEqual(['stdout: out\n', 'stderr: err\n'])
  })

  it('stops a running job once, then says it is stopped already', async () => {
    const client = await startNetwork({ endless: true })
    const { JobID: id } = await client.submit(BARE)
    await expect.poll(async () => (await client.executions(id)).Items[0]?.ComputeState.StateType).toBe(6)
    expect((await client.stop(id, 'enough')).EvaluationID).not.toBe('')
    expect((await client.stop(id, 'enough')).EvaluationID).toBe('')
    expect((await client.job(id)).Job.State).toMatchObject({ StateType: 'Stopped', Message: 'enough' })
    await expect.poll(async () => (await client.executions(id)).Items[0]?.ComputeState.StateType).toBe(11)
  })

  it('refuses to stop a completed job and says its state', async () => {
    const client = await startNetwork({})
    const { JobID: id } = await client.submit(BARE)
    await waitAsTheCliDoes(client, id)
    await expect(client.stop(id, 'late')).rejects.toMatchObject({
      code: 'job.terminal',
      message: expect.stringContaining('Completed'),
    })
  })

  it('fails a job that fits nowhere at once, with the reasons; with a queue timeout it waits', async () => {
    const client = await startNetwork({})
    const task = { ...BARE.Tasks[0], Engine: { Type: 'wasm', Params: { EntryModule: MODULE } } }
    const big = { ...task, Resources: { CPU: '64' } }
    const { JobID: failed } = await client.submit({ ...BARE, Tasks: [big] })
    await waitAsTheCliDoes(client, failed)
    const { State: state } = (await client.job(failed)).Job
    expect(state.StateType).toBe('Failed')
    expect(state.Message).toContain('CPU')
    const { JobID: queued } = await client.submit({
      ...BARE,
      Tasks: [{ ...big, Timeouts: { QueueTimeout: 600 } }],
    })
    await expect.poll(async () => (await client.job(queued)).Job.State.StateType).toBe('Queued')
  })

  it('gives the same job for the same idempotency token', async () => {
    const client = await startNetwork(undefined)
    const ids = await Promise.all(
      [1, 2, 3].map(async () => (await client.submit(BARE, { idempotencyToken: 't' })).JobID),
    )
    expect(new Set(ids).size).toBe(1)
  })

  it('shows the egress records of the node', async () => {
    const records = [
      auditRecord('j-1'),
      auditRecord('j-1', { sequence: 2, decision: 'deny', code: 'egress.port' }),
    ]
    const client = await startNetwork({ audit: records })
    const { JobID: id } = await client.submit(BARE)
    await waitAsTheCliDoes(client, id)
    expect((await client.egress(id)).Items).toEqual(records)
    const followed = []
    for await (const record of client.followEgress(id, { denied: true })) followed.push(record.sequence)
    expect(followed).toEqual([2])
  })

  it('lists the node, and refuses what it is already', async () => {
    const client = await startNetwork({})
    expect((await client.nodes()).map((node) => node.Info.NodeID)).toContain('n-sim')
    expect(await client.updateNode('n-sim', 'approve')).toMatchObject({ Success: false })
    await expect(client.node('n-nope')).rejects.toMatchObject({ code: 'node.not_found' })
    await expect(client.job('j-00000000')).rejects.toMatchObject({ code: 'job.not_found' })
  })
})

const MODULE = {
  Source: { Type: 'urlDownload', Params: { URL: 'https://example.org/a.wasm' } },
  Alias: '',
  Target: '/a.wasm',
}
