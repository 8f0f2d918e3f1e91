import { createServer as createHttpServer, type Server as HttpServer } from 'node:http'
import { createServer as createNetServer, type AddressInfo } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createApiServer, type ApiServer } from '../../src/api/index.js'
import { executionStateName, WeirClient } from '../../src/client/index.js'
import { isWeirError, type WeirError } from '../../src/errors.js'
import type { LogItem } from '../../src/ports/index.js'
import { auditRecord, MemoryJobService, nodeInfo, nodeRecord } from '../api/memory-job-service.js'

const NODE_ID = 'n-00000001-0000-4000-8000-000000000000'
const HELLO = {
  Name: 'hello',
  Type: 'batch',
  Tasks: [{ Name: 'main', Engine: { Type: 'docker', Params: { Image: 'alpine' } } }],
}

describe.each(['tcp', 'unix'] as const)('the client over %s', (kind) => {
  let jobs: MemoryJobService
  let api: ApiServer
  let client: WeirClient
  let directory: string

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'weir-client-'))
    jobs = new MemoryJobService()
    api = await createApiServer({
      jobs,
      identity: { nodeId: NODE_ID },
      nodeInfo: () => nodeInfo(NODE_ID),
      version: { weir: '0.1.0' },
      config: () => ({ API: { Port: 1234 } }),
    })
    const where =
      kind === 'tcp' ? { host: '127.0.0.1', port: 0 } : { socketPath: join(directory, 'a:b c%20.sock') }
    client = new WeirClient({ baseUrl: (await api.listen(where)).url })
  })
  afterEach(async () => {
    client.close()
    await api.close()
    await rm(directory, { recursive: true })
  })

  it('submits, describes, lists and stops a job', async () => {
    const { JobID: id, Warnings: warnings } = await client.submit(HELLO, { idempotencyToken: 'once' })
    expect(warnings).toEqual([])
    expect((await client.submit(HELLO, { idempotencyToken: 'once' })).JobID).toBe(id)
    const described = await client.job(id.slice(0, 10), { include: ['history', 'executions'] })
    expect(described.Job.State.StateType).toBe('Pending')
    expect(described.Job.CreateTime).toBeCloseTo(1_732_870_000_001e6, -3)
    expect(described.History?.Items).toHaveLength(1)
    expect(described.Executions?.Items).toEqual([])
    expect((await client.jobs({ labels: ['bacalhau_canary!=true'], limit: 5 })).Items).toHaveLength(1)
    expect((await client.stop(id, 'enough')).EvaluationID).not.toBe('')
    expect(jobs.stopReasons).toEqual(['enough'])
  })

  it('reads all jobs page by page', async () => {
    for (const name of ['a', 'b', 'c']) await client.submit({ ...HELLO, Name: name })
    const names: string[] = []
    for await (const job of client.allJobs({ limit: 2 })) names.push(job.Name)
    expect(names).toEqual(['a', 'b', 'c'])
  })

  it('follows the history until the job has ended', async () => {
    const { JobID: id } = await client.submit(HELLO)
    const seen: string[] = []
    for await (const item of client.pollHistory(id)) {
      seen.push(item.Event.Message)
      if (item.Event.Message === 'Job submitted') {
        setTimeout(() => jobs.addEvent(id, 'Execution', 'Running', 'e-1'), 10)
      }
      if (item.Event.Message === 'Running') {
        setTimeout(() => {
          jobs.addEvent(id, 'State Update', 'Completed')
          jobs.change(id, { state: 'Completed' })
        }, 10)
      }
    }
    expect(seen).toEqual(['Job submitted', 'Running', 'Completed'])
  })

  it('reads executions and results', async () => {
    const { JobID: id } = await client.submit(HELLO)
    const result = { Type: 'urlDownload', Params: { URL: 'http://127.0.0.1/x.tar.gz' } }
    jobs.addExecution(id, { state: 'Completed', publishedResult: result })
    const [execution] = (await client.executions(id, { orderBy: 'modified_at' })).Items
    expect(executionStateName(execution?.ComputeState.StateType ?? 0)).toBe('Completed')
    expect((await client.results(id)).Items).toEqual([result])
  })

  it('reads output byte for byte, with the execution it came from', async () => {
    const { JobID: id } = await client.submit(HELLO)
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
    jobs.logsByJob.set(id, [logItem('stdout', bytes), logItem('stderr', Buffer.from('€'))])
    const chunks = await collect(client.logs(id))
    expect(chunks.map((chunk) => chunk.stream)).toEqual(['stdout', 'stderr'])
    expect(Buffer.compare(chunks[0]?.data ?? new Uint8Array(), bytes)).toBe(0)
    expect(chunks[0]?.executionId).toBe('e-1')
  })

  it('follows output, and closes the stream when the reader leaves', async () => {
    const { JobID: id } = await client.submit(HELLO)
    jobs.logsByJob.set(id, [logItem('stdout', Buffer.from('x'))])
    for await (const chunk of client.logs(id, { follow: true })) {
      expect(Buffer.from(chunk.data).toString()).toBe('x')
      expect(jobs.openStreams).toBe(1)
      break
    }
    await expect.poll(() => jobs.openStreams).toBe(0)
  })

  it('reads much output with a slow reader completely and in order', async () => {
    const { JobID: id } = await client.submit(HELLO)
    jobs.logsByJob.set(
      id,
      Array.from({ length: 2000 }, (_, index) =>
        logItem('stdout', Buffer.from(`${index}\n`.padEnd(2000, '.'))),
      ),
    )
    let next = 0
    for await (const chunk of client.logs(id)) {
      expect(Number.parseInt(Buffer.from(chunk.data).toString(), 10)).toBe(next++)
      if (next % 200 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    expect(next).toBe(2000)
  })

  it('gives the code and the words of the server when a log stream cannot be opened', async () => {
    await expect(collect(client.logs('j-nope'))).rejects.toMatchObject({
      code: 'job.not_found',
      message: expect.stringMatching(/^Cannot find job "j-nope"/),
    })
  })

  it('reads egress records by page and as they happen', async () => {
    const { JobID: id } = await client.submit(HELLO)
    jobs.addExecution(id, {})
    const records = [auditRecord(id), auditRecord(id, { sequence: 2, decision: 'deny', code: 'egress.port' })]
    jobs.egressByJob.set(id, records)
    expect((await client.egress(id)).Items).toEqual(records)
    expect((await client.egress(id, { denied: true })).Items).toEqual([records[1]])
    const followed: number[] = []
    for await (const record of client.followEgress(id)) {
      followed.push(record.sequence)
      if (followed.length === 2) {
        records.push(auditRecord(id, { sequence: 3 }))
        jobs.change(id, { state: 'Completed' })
      }
    }
    expect(followed).toEqual([1, 2, 3])
  })

  it('lists, describes and updates nodes', async () => {
    jobs.nodesById.set('n-a', nodeRecord('n-a', { membership: 'PENDING' }))
    expect((await client.nodes({ approval: 'pending' })).map((node) => node.Info.NodeID)).toEqual(['n-a'])
    expect((await client.updateNode('n-a', 'approve')).Success).toBe(true)
    expect((await client.node('n-a')).Membership).toBe('APPROVED')
    expect(await client.updateNode('n-a', 'approve')).toMatchObject({ Success: false })
  })

  it('asks the agent', async () => {
    expect(await client.alive()).toEqual({ Status: 'OK' })
    expect((await client.version()).WeirVersion).toBe('0.1.0')
    expect((await client.agentNode()).NodeID).toBe(NODE_ID)
    expect(await client.config()).toEqual({ API: { Port: 1234 } })
  })

  it('throws the error of the server, with code, hint and details', async () => {
    const error = await failure(client.job('j-nope'))
    expect(error).toMatchObject({
      code: 'job.not_found',
      hint: 'Look at the list.',
      details: { status: 404 },
    })
    const invalid = await failure(client.submit({ ...HELLO, Count: -1, Type: 'never' }))
    expect(invalid.code).toBe('spec.invalid')
    expect(invalid.details.problems).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ path: 'Count' }),
        expect.objectContaining({ path: 'Type' }),
      ]),
    )
  })

  it('gives up when the caller aborts, with the reason of the abort', async () => {
    const { JobID: id } = await client.submit(HELLO)
    const reason = new Error('Ctrl-C')
    for (const start of [
      (signal: AbortSignal) => collect(client.logs(id, { follow: true }, { signal })),
      (signal: AbortSignal) => collect(client.followEgress(id, {}, { signal })),
      (signal: AbortSignal) => collect(client.pollHistory(id, {}, { signal })),
    ]) {
      const controller = new AbortController()
      const running = start(controller.signal)
      setTimeout(() => controller.abort(reason), 30)
      await expect(running).rejects.toBe(reason)
    }
    await expect.poll(() => jobs.openStreams).toBe(0)
  })

  it('says that the stream broke off when the server stops', async () => {
    const { JobID: id } = await client.submit(HELLO)
    const reading = failure(collect(client.logs(id, { follow: true })))
    await expect.poll(() => jobs.openStreams).toBe(1)
    await api.close()
    expect(await reading).toMatchObject({ code: 'api.failed', retryable: true })
  })
})

describe('a server that cannot be reached', () => {
  it('is reported with its address and what to do, for calls and for streams', async () => {
    const port = await freePort()
    const client = new WeirClient({ baseUrl: `http://127.0.0.1:${port}` })
    for (const error of [await failure(client.alive()), await failure(collect(client.logs('j-1')))]) {
      expect(error.code).toBe('api.unreachable')
      expect(error.message).toContain(`http://127.0.0.1:${port}`)
      expect(error.message).toContain('nobody listens')
      expect(error.hint).toContain('weir serve')
      expect(error.retryable).toBe(true)
    }
    const gone = new WeirClient({ baseUrl: 'unix:/nowhere/weir.sock' })
    expect(await failure(gone.alive())).toMatchObject({ code: 'api.unreachable' })
    expect((await failure(collect(gone.logs('j-1')))).code).toBe('api.unreachable')
  })

  it('is given up on when it accepts but never answers', async () => {
    const silent = createNetServer(() => {})
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const { port } = silent.address() as AddressInfo
    const client = new WeirClient({
      baseUrl: `http://127.0.0.1:${port}`,
      timeoutMs: 100,
      connectTimeoutMs: 100,
    })
    const error = await failure(client.alive())
    expect(error).toMatchObject({ code: 'api.unreachable', details: { reason: 'timeout' } })
    expect((await failure(collect(client.logs('j-1')))).code).toBe('api.unreachable')
    client.close()
    silent.close()
  })
})

describe('a server that is not weir', () => {
  let server: HttpServer
  afterEach(() => new Promise((resolve) => server.close(resolve)))

  async function answering(status: number, text: string): Promise<WeirClient> {
    server = createHttpServer((_request, response) => {
      response.writeHead(status, { 'content-type': 'text/html', connection: 'close' }).end(text)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new WeirClient({
      baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      answerBytesMax: 10_000,
    })
  }

  it.each([
    [404, '<html>no such page</html>', 'api.not_found'],
    [500, '', 'api.failed'],
    [201, '{}', 'api.failed'],
    [200, '<html>welcome</html>', 'api.failed'],
    [200, `"${'x'.repeat(20_000)}"`, 'api.failed'],
    [503, '{"Message":"busy","Details":null}', 'api.failed'],
    [400, '[1]', 'api.bad_request'],
    [400, '{"Message":"no","Details":{"WeirCode":"made.up"}}', 'api.bad_request'],
  ])('makes status %i with %j an error of its own', async (status, text, code) => {
    const client = await answering(status, text)
    expect((await failure(client.alive())).code).toBe(code)
    client.close()
  })
})

describe('the address of a server', () => {
  it.each([
    ['http://localhost', { kind: 'tcp', scheme: 'http', host: 'localhost', port: 1234 }],
    ['http://0.0.0.0:80/', { kind: 'tcp', scheme: 'http', host: '127.0.0.1', port: 80 }],
    ['https://weir.example', { kind: 'tcp', scheme: 'https', host: 'weir.example', port: 443 }],
    ['http://[::1]:9', { kind: 'tcp', scheme: 'http', host: '::1', port: 9 }],
    ['unix:/run/weir.sock', { kind: 'unix', socketPath: '/run/weir.sock' }],
    ['unix:///run/weir.sock', { kind: 'unix', socketPath: '/run/weir.sock' }],
  ])('reads %s', (text, expected) => {
    expect(new WeirClient({ baseUrl: text }).address).toEqual(expected)
  })

  it.each([
    '',
    'localhost:1234',
    'ftp://x',
    'http://',
    'http://h:0',
    'http://h:70000',
    'http://h/path',
    'http://u@h',
    'unix:rel',
  ])('refuses %j', (text) => {
    expect(() => new WeirClient({ baseUrl: text })).toThrow(
      expect.objectContaining({ code: 'cli.usage' }) as Error,
    )
  })
})

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function failure(promise: Promise<unknown>): Promise<WeirError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!isWeirError(error)) throw new Error('expected a WeirError', { cause: error })
  return error
}

function logItem(stream: 'stdout' | 'stderr', data: Uint8Array): LogItem {
  return { executionId: 'e-1', stream, data, timeMs: 1_732_870_000_000 }
}

async function freePort(): Promise<number> {
  const server = createNetServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
