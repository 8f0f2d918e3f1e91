import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { WeirClient, type LogChunk, type LogsRequest } from '../../src/client/index.js'
import { startNetwork, type Network } from './contract/network.js'

/** A job whose program is a line of shell, run as a process of this machine. */
function shellJob(script: string, changes: object = {}): object {
  return {
    Type: 'batch',
    Tasks: [
      { Name: 'main', Engine: { Type: 'docker', Params: { Image: 'x', Parameters: ['sh', '-c', script] } } },
    ],
    ...changes,
  }
}

describe('output of jobs, from real programs through node, orchestrator and API', () => {
  let network: Network
  let client: WeirClient
  beforeAll(async () => {
    network = await startNetwork({ allStates: false })
    client = new WeirClient({ baseUrl: network.url })
  })
  afterAll(async () => {
    client.close()
    await network.close()
  })

  const submit = async (script: string, changes: object = {}): Promise<string> =>
    (await client.submit(shellJob(script, changes))).JobID
  const ended = async (id: string): Promise<string> => {
    for await (const _ of client.pollHistory(id)) {
      // Until there is nothing more.
    }
    return (await client.job(id)).Job.State.StateType
  }
  const collect = async (id: string, request: LogsRequest = {}): Promise<LogChunk[]> => {
    const chunks: LogChunk[] = []
    for await (const chunk of client.logs(id, request)) chunks.push(chunk)
    return chunks
  }
  const text = (chunks: readonly LogChunk[]): string =>
    chunks.map(({ data }) => Buffer.from(data).toString()).join('')
  const notices = (chunks: readonly LogChunk[]): string[] => chunks.flatMap(({ notice }) => notice ?? [])

  it('gives the last lines of a log without the rest of it', async () => {
    const id = await submit('i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done')
    expect(await ended(id)).toBe('Completed')
    expect(text(await collect(id, { tailLines: 3 }))).toBe('line 1997\nline 1998\nline 1999\n')
    expect(text(await collect(id, { tailLines: 1, allExecutions: true, follow: true }))).toBe('line 1999\n')
    expect(text(await collect(id, { tailLines: 0 }))).toBe('')
    expect(text(await collect(id, { tailLines: 1_000_000 })).split('\n')).toHaveLength(2_001)
  })

  it('gives what was written since a time', async () => {
    const id = await submit('echo early; sleep 0.4; echo late')
    await ended(id)
    const [first, last] = await collect(id)
    expect([first, last].map((chunk) => text(chunk === undefined ? [] : [chunk]))).toEqual([
      'early\n',
      'late\n',
    ])
    const middleMs = Date.parse(first?.time ?? '') + 200
    expect(text(await collect(id, { sinceMs: middleMs }))).toBe('late\n')
    expect(text(await collect(id, { sinceMs: Date.now() + 60_000 }))).toBe('')
    expect(text(await collect(id, { sinceMs: 0, tailLines: 1 }))).toBe('late\n')
  })

  it('follows through tries that fail until the job has failed, every execution with its own id', async () => {
    await network.addWorker('n-second')
    const id = await submit('echo "try"; sleep 0.2; kill -9 $$')
    const chunks = await collect(id, { allExecutions: true, follow: true })
    const state = await ended(id)
    const executions = (await client.executions(id)).Items.filter((one) => one.RunOutput !== null)
    expect(text(chunks)).toBe('try\n'.repeat(executions.length))
    expect(chunks.map(({ executionId }) => executionId)).toEqual(executions.map(({ ID }) => ID))
    expect(['Completed', 'Failed']).toContain(state)
  })

  it('shows the executions of the next version to who follows', async () => {
    const name = 'followed'
    const id = await submit('echo one; sleep 30', { Name: name, Type: 'service' })
    const seen: LogChunk[] = []
    const stop = new AbortController()
    const reading = (async () => {
      for await (const chunk of client.logs(
        id,
        { allExecutions: true, follow: true },
        { signal: stop.signal },
      ))
        seen.push(chunk)
    })().catch((error: unknown) => {
      if (!stop.signal.aborted) throw error
    })
    await expect.poll(() => text(seen)).toBe('one\n')
    await client.submit(shellJob('echo two; sleep 30', { Name: name, Type: 'service' }))
    await expect.poll(() => text(seen)).toBe('one\ntwo\n')
    expect(new Set(seen.map(({ executionId }) => executionId)).size).toBe(2)
    await client.stop(name, 'enough')
    await reading
    expect(text(await collect(id, { jobVersion: 1, allExecutions: true }))).toBe('one\n')
    expect(text(await collect(name))).toBe('two\n')
    expect(text(await collect(name, { allVersions: true, allExecutions: true }))).toBe('one\ntwo\n')
  })

  it('reads finished executions one after the other, oldest first', async () => {
    const id = await submit('echo a; echo b', { Count: 2 })
    expect(await ended(id)).toBe('Completed')
    const chunks = await collect(id, { allExecutions: true })
    const order = chunks.map(({ executionId }) => executionId)
    expect(text(chunks)).toBe('a\nb\na\nb\n')
    expect(order).toEqual([...order].toSorted((a, b) => order.indexOf(a) - order.indexOf(b)))
  })

  it('chooses one execution by the beginning of its id, of any version', async () => {
    const id = await submit('echo first', { Name: 'chosen' })
    await ended(id)
    const [old] = (await client.executions(id)).Items
    await client.submit(shellJob('echo second', { Name: 'chosen' }))
    await ended(id)
    const executionId = old?.ID.slice(0, 12)
    expect(text(await collect('chosen', { executionId, allExecutions: true, follow: true }))).toBe('first\n')
    await expect(collect('chosen', { executionId: 'e-0000' })).rejects.toMatchObject({
      code: 'execution.not_found',
    })
  })

  it('hears the last words of a program that is stopped', async () => {
    const id = await submit('trap "echo bye; exit 0" TERM; echo ready; while :; do sleep 0.05; done')
    const seen: LogChunk[] = []
    const reading = (async () => {
      for await (const chunk of client.logs(id, { allExecutions: true, follow: true })) seen.push(chunk)
    })()
    await expect.poll(() => text(seen)).toBe('ready\n')
    await client.stop(id, 'enough')
    await reading
    // The shell says on standard error that its sleep was ended.
    expect(text(seen.filter(({ stream }) => stream === 'stdout'))).toBe('ready\nbye\n')
  })

  it('says that a node is away and goes on with the others; what it kept is read when it is back', async () => {
    const worker = await network.addWorker('n-leaving')
    // More than the record of an execution has.
    const id = await submit('head -c 5000 /dev/zero | tr "\\0" "y"; echo; echo kept', { Type: 'ops' })
    expect(await ended(id)).toBe('Completed')
    const whole = await collect(id, { allExecutions: true })
    expect(notices(whole)).toEqual([])
    const executions = (await client.executions(id)).Items
    expect(executions.length).toBeGreaterThanOrEqual(2)
    await worker.close()
    const without = await collect(id, { allExecutions: true })
    const gone = executions.find(({ NodeID }) => NodeID === 'n-leaving')
    expect(notices(without)).toEqual(['n-leaving does not answer: these are the first 2 KiB'])
    expect(without.find(({ notice }) => notice !== undefined)?.executionId).toBe(gone?.ID)
    expect(text(without).match(/kept/g)).toHaveLength(executions.length - 1)
    // Clients that did not ask for notices get what they always got.
    expect(notices(await collect(id))).toEqual([])
    const again = await network.restartWorker('n-leaving')
    await expect.poll(async () => (await client.node('n-leaving')).Connection).toBe('CONNECTED')
    const back = await collect(id, { allExecutions: true })
    expect([notices(back), text(back)]).toEqual([[], text(whole)])
    await again.close()
  }, 60_000)

  it('gives clients of 1.5 the frames that they know, without notices', async () => {
    const id = await submit('echo out; echo err >&2')
    await ended(id)
    const url = `${network.url.replace('http', 'ws')}/api/v1/orchestrator/jobs/${id}/logs`
    const socket = new WebSocket(url, { headers: { 'x-bacalhau-git-version': 'v1.5.2' } })
    const frames: { value: { Type: number; Line: string } }[] = []
    socket.on('message', (data) => frames.push(JSON.parse((data as Buffer).toString()) as (typeof frames)[0]))
    const code = await new Promise<number>((resolve) => socket.on('close', resolve))
    expect(code).toBe(1000)
    const lines = frames.map(({ value }) => [value.Type, value.Line])
    expect(lines.toSorted(([a], [b]) => Number(a) - Number(b))).toEqual([
      [1, 'out\n'],
      [2, 'err\n'],
    ])
  })

  it.each([
    ['since', 'yesterday', 'invalid since: "yesterday"'],
    ['since', '2024-11-29', 'invalid since: "2024-11-29"'],
    ['since', '-5', 'invalid since: "-5"'],
    ['tail_lines', '-1', 'invalid tail_lines: "-1"'],
    ['tail_lines', '1e9', 'invalid tail_lines: "1e9"'],
    ['job_version', 'x', 'invalid job_version: "x"'],
    ['job_version', '77', 'Cannot find version 77'],
    ['all_executions', 'perhaps', 'invalid all_executions: "perhaps"'],
  ])('answers %s=%s with an error frame', async (name, value, message) => {
    const id = await submit('true')
    const query = new URLSearchParams({ [name]: value }).toString()
    const url = `${network.url.replace('http', 'ws')}/api/v1/orchestrator/jobs/${id}/logs?${query}`
    const socket = new WebSocket(url)
    const frames: { error?: string }[] = []
    socket.on('message', (data) => frames.push(JSON.parse((data as Buffer).toString()) as { error?: string }))
    expect(await new Promise<number>((resolve) => socket.on('close', resolve))).toBe(1000)
    expect(frames).toHaveLength(1)
    expect(frames[0]?.error).toContain(message)
  })

  it('gives a reader that is slow every byte', async () => {
    const id = await submit('head -c 8000000 /dev/zero | tr "\\0" "x"; echo')
    let bytes = 0
    let pauses = 0
    for await (const { data } of client.logs(id, { follow: true, allExecutions: true })) {
      bytes += data.length
      if (pauses++ < 20) await sleep(20)
    }
    expect(bytes).toBe(8_000_001)
  })

  it('ends the stream of who follows a job that waits for a node when the job is stopped', async () => {
    const id = await submit('true', {
      Constraints: [{ Key: 'region', Operator: '=', Values: ['nowhere'] }],
      Tasks: [
        {
          Name: 'main',
          Engine: { Type: 'docker', Params: { Image: 'x', Parameters: ['true'] } },
          Timeouts: { QueueTimeout: 600 },
        },
      ],
    })
    const reading = collect(id, { follow: true, allExecutions: true })
    await expect.poll(async () => (await client.job(id)).Job.State.StateType).toBe('Queued')
    await client.stop(id, 'enough')
    expect(await reading).toEqual([])
  })
})
