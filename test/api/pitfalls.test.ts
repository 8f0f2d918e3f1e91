import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeJson } from '../../src/api/wire/index.js'
import { goDecode } from './contract/go-decode.js'
import { exchange, GoCli, goTask, type RawAnswer } from './contract/go-cli.js'
import { goStructs } from './contract/go-structs.js'
import { plain, readJsonText, type JsonText } from './contract/json-text.js'
import { NODES } from './contract/network.js'
import { startPopulatedNetwork, untilState, type PopulatedNetwork } from './contract/populated-network.js'

/** Where servers that look compatible are not; the numbers are those of the catalogue of Bacalhau's behaviour. */

let network: PopulatedNetwork
beforeAll(async () => {
  network = await startPopulatedNetwork()
})
afterAll(() => network.close())

const JOBS = '/api/v1/orchestrator/jobs'
const NODE = `/api/v1/orchestrator/nodes/${NODES.worker}`
const sh = (script: string, change: object = {}): object => goTask(['sh', '-c', script], change)

describe('compatibility pitfalls', () => {
  it('1: everything that succeeds is 200 with a JSON body', async () => {
    const { JobID: id } = await network.cli.submit({ Type: 'batch', Tasks: [sh('sleep 600')] })
    for (const [method, path, body] of [
      ['PUT', JOBS, { Job: { Type: 'batch', Tasks: [sh('true')] } }],
      ['POST', JOBS, { Job: { Type: 'batch', Tasks: [sh('true')] } }],
      ['DELETE', `${JOBS}/${id}`, { reason: '' }],
      ['DELETE', `${JOBS}/${id}`, { reason: '' }],
      ['PUT', NODE, { Action: 'approve' }],
      ['GET', JOBS, undefined],
    ] as const) {
      const answer = await call(method, path, body)
      expect([answer.status, answer.headers['content-type']], `${method} ${path}`).toEqual([
        200,
        'application/json; charset=utf-8',
      ])
      expect(readJsonText(answer.text).kind).toBe('object')
    }
  })

  it('2: one challenge method, any key accepted, tokens that keep working', async () => {
    const { Methods: methods } = json(await call('GET', '/api/v1/auth'))
    expect(Object.values(methods).map((method) => (method as { type: string }).type)).toEqual(['challenge'])
    const cli = new GoCli(network.url)
    await cli.list()
    await cli.list()
    expect(cli.requests.filter((request) => request.startsWith('POST'))).toHaveLength(1)
  })

  it('3: states of jobs are words, states of executions are integers', async () => {
    for (const id of Object.values(network.jobs)) {
      const { Job: job, Executions: executions } = json(await call('GET', `${JOBS}/${id}?include=executions`))
      expect(job.State.StateType).toMatch(/^[A-Z][a-z]+$/)
      for (const execution of executions.Items) {
        expect(Number.isInteger(execution.ComputeState.StateType)).toBe(true)
        expect(Number.isInteger(execution.DesiredState.StateType)).toBe(true)
      }
    }
  })

  it('4: the token of the history is empty exactly when the job has ended and all was delivered', async () => {
    for (const [name, id] of Object.entries(network.jobs)) {
      const runs = ['queued', 'service', 'daemon'].includes(name)
      const all = json(await call('GET', `${JOBS}/${id}/history?limit=1000`))
      expect(all.NextToken === '', name).toBe(!runs)
      const first = json(await call('GET', `${JOBS}/${id}/history?limit=1`))
      expect(first.NextToken, name).not.toBe('')
      const rest = json(
        await call('GET', `${JOBS}/${id}/history?next_token=${all.NextToken || first.NextToken}`),
      )
      if (runs) expect([rest.Items, rest.NextToken !== ''], name).toEqual([[], true])
    }
  })

  it('5: keys come in any case and go out in one; stderr is lower case', async () => {
    const answer = await call('PUT', JOBS, {
      jOB: {
        tYPE: 'batch',
        TASKS: [{ name: 'm', ENGINE: { TYPE: 'docker', pARAMS: { iMAGE: 'x', parameters: ['true'] } } }],
      },
    })
    expect(answer.status, answer.text).toBe(200)
    const { Items: items } = json(await call('GET', `${JOBS}/${network.jobs.completed}/executions`))
    expect(Object.keys(items[0].RunOutput)).toEqual([
      'Stdout',
      'StdoutTruncated',
      'stderr',
      'StderrTruncated',
      'ExitCode',
      'ErrorMsg',
    ])
  })

  it('6: warnings are a list or null', async () => {
    const { Warnings: warnings } = json(
      await call('PUT', JOBS, { Job: { Type: 'batch', Tasks: [sh('true')] } }),
    )
    expect(warnings === null || Array.isArray(warnings)).toBe(true)
  })

  it('7: what is empty and may be left out is left out, never null', async () => {
    const { Job: job, Executions: executions } = json(
      await call('GET', `${JOBS}/${network.jobs.completed}?include=executions`),
    )
    const [task] = job.Tasks
    for (const key of ['Env', 'Meta', 'InputSources', 'ResultPaths']) expect(task).not.toHaveProperty(key)
    expect(task.Timeouts).toEqual({})
    expect(task.Network).toEqual({ Type: 'None' })
    expect(job.State).not.toHaveProperty('Message')
    expect(executions.Items[0]).not.toHaveProperty('Job')
    const published = json(await call('GET', `${JOBS}/${network.jobs.published}`)).Job.Tasks[0]
    expect(published).toMatchObject({ Env: { GREETING: 'hello' }, ResultPaths: [{ Name: 'outputs' }] })
  })

  it.each([
    ['None', 200],
    ['none', 200],
    ['', 200],
    ['Default', 200],
    ['Host', 400],
    ['Bridge', 400],
    ['1', 400],
    [1, 400],
    [{}, 400],
  ] as const)(
    '8: the network type %j is answered with %i, and clients of 1.5 can read what is stored',
    async (type, status) => {
      const answer = await call('PUT', JOBS, {
        Job: { Type: 'batch', Tasks: [sh('true', { Network: { Type: type } })] },
      })
      expect(answer.status, answer.text).toBe(status)
      if (status !== 200) return
      const stored = await call('GET', `${JOBS}/${json(answer).JobID}`)
      const { Job: job } = goDecode(stored.text, goStructs('v1.5.2').getJob) as {
        Job: { Tasks: { Network: object }[] }
      }
      expect(job.Tasks[0]?.Network).toMatchObject({ Type: 'None' })
    },
  )

  it('9: timeouts are whole seconds', async () => {
    const { Job: job } = json(await call('GET', `${JOBS}/${network.jobs.published}`))
    expect(job.Tasks[0].Timeouts).toEqual({ ExecutionTimeout: 60, QueueTimeout: 10, TotalTimeout: 90 })
    const wrong = { Job: { Type: 'batch', Tasks: [sh('true', { Timeouts: { TotalTimeout: '1m' } })] } }
    expect((await call('PUT', JOBS, wrong)).status).toBe(400)
  })

  it('10: times are integer nanoseconds of jobs, RFC 3339 in the history, and Go text in the header', async () => {
    const answer = await call('GET', `${JOBS}/${network.jobs.completed}?include=history`)
    expect(answer.text).toMatch(/"CreateTime":1\d{18},"ModifyTime":1\d{18}\b/)
    const { History: history } = json(answer)
    for (const item of history.Items) expect(Date.parse(item.Time as string)).toBeGreaterThan(1.7e12)
    expect(answer.headers['x-bacalhau-build-date']).toBe('2024-11-29 10:11:12 +0000 UTC')
    expect(json(await call('GET', '/api/v1/agent/version')).BuildDate).toBe('2024-11-29T10:11:12.000Z')
  })

  it('11: a time that is not set is Go’s zero time, never an empty string', async () => {
    for (const path of ['/api/v1/orchestrator/nodes', '/api/v1/agent/node', '/api/v1/node_info']) {
      for (const [key, value] of walk(readJsonText((await call('GET', path)).text))) {
        if (!/(Since|Heartbeat|Date|Time)$/.test(key)) continue
        expect(value.kind === 'string' && Date.parse(value.value), `${path} ${key}`).not.toBeNaN()
      }
    }
  })

  it('12: integers have no fraction and no exponent, however large', async () => {
    expect(writeJson({ a: 1e21, b: -1e25, c: 2n ** 64n - 1n, d: 1.0 })).toBe(
      '{"a":1000000000000000000000,"b":-10000000000000000905969664,"c":18446744073709551615,"d":1}\n',
    )
    const counts = /^(Version|Revision|SeqNum|Memory|Disk|GPU|Count|Priority|CreateTime|ModifyTime|ExitCode)$/
    for (const path of [`${JOBS}?limit=100`, '/api/v1/orchestrator/nodes']) {
      for (const [key, value] of walk(readJsonText((await call('GET', path)).text))) {
        if (counts.test(key) && value.kind === 'number') expect(value.text, `${path} ${key}`).toMatch(/^\d+$/)
      }
    }
  })

  it('13: a log frame has value with Type and Line in one text frame; the close code is 1000', async () => {
    expect(await network.cli.logs(network.jobs.completed)).toEqual({ stdout: 'out\n', stderr: 'err\n' })
    expect(await network.cli.logs(network.jobs.opsCompleted, { follow: true })).toEqual({
      stdout: 'ops\n',
      stderr: '',
    })
  })

  it.each([
    ['an unknown job', 'j-00000000', {}],
    ['an unknown execution', 'completed', { executionId: 'e-00000000-0000-4000-8000-000000000000' }],
    ['a job without execution', 'queued', {}],
  ] as const)('14: %s is an error frame, not an HTTP error', async (_title, job, options) => {
    const id = job === 'j-00000000' ? job : network.jobs[job]
    await expect(network.cli.logs(id, options)).rejects.toThrow(`failed to open log stream for job ${id}: `)
  })

  it('15: links to results end in .tar.gz', async () => {
    const { Items: items } = json(await call('GET', `${JOBS}/${network.jobs.published}/results`))
    expect(items.map((item: { Type: string }) => item.Type)).toEqual(['urlDownload'])
    expect(new URL(items[0].Params.URL as string).pathname).toMatch(/\.tar\.gz$/)
  })

  it.each([[{}], [{ Count: null }], [{ Count: 1 }]])('16: a batch job with %j runs once', async (count) => {
    const answer = await call('PUT', JOBS, { Job: { Type: 'batch', Tasks: [sh('true')], ...count } })
    const id = json(answer).JobID as string
    await untilState(network.cli, id, 'Completed')
    const { Job: job, Executions: executions } = await network.cli.describe(id)
    expect([job.Count, executions.Items.length]).toEqual([1, 1])
  })

  it('17: missing or empty parts, null lists and unknown keys are accepted', async () => {
    for (const change of [
      { Publisher: undefined, Resources: undefined, Network: undefined, Timeouts: undefined },
      { Publisher: {}, Resources: {}, Network: {}, Timeouts: {} },
      { Publisher: null, Resources: null, Network: null, Timeouts: null, Env: null, InputSources: null },
      { Flavour: 'new', Network: { Type: 'None', Ports: [] } },
    ]) {
      const answer = await call('PUT', JOBS, {
        Job: { Type: 'batch', Tasks: [sh('true', change)], Later: {} },
        Force: false,
      })
      expect(answer.status, `${JSON.stringify(change)} ${answer.text}`).toBe(200)
    }
  })

  it('18: the beginning of an id is enough on every endpoint of jobs, and for a node', async () => {
    const short = network.jobs.completed.slice(0, 10)
    for (const path of ['', '/history', '/executions', '/results']) {
      expect((await call('GET', `${JOBS}/${short}${path}`)).status, path).toBe(200)
    }
    expect((await network.cli.logs(short)).stdout).toBe('out\n')
    expect(json(await call('GET', '/api/v1/orchestrator/nodes/n-0b')).Node.Info.NodeID).toBe(NODES.worker)
    expect((await call('GET', '/api/v1/orchestrator/nodes/n-0')).status).toBe(409)
    const { JobID: id } = await network.cli.submit({ Type: 'batch', Tasks: [sh('sleep 600')] })
    expect((await call('DELETE', `${JOBS}/${(id as string).slice(0, 13)}`, {})).status).toBe(200)
  })

  it('19: the reason to stop comes in the body or in the query', async () => {
    for (const [query, body] of [
      ['?reason=because', undefined],
      ['?reason=because', {}],
      ['', { Reason: 'because' }],
    ] as const) {
      const { JobID: id } = await network.cli.submit({ Type: 'batch', Tasks: [sh('sleep 600')] })
      await call('DELETE', `${JOBS}/${id}${query}`, body)
      expect(json(await call('GET', `${JOBS}/${id}`)).Job.State.Message).toBe('because')
    }
  })

  it('20: empty parameters are absent, and True and False are booleans', async () => {
    const query = 'namespace=&labels=&order_by=&limit=&next_token=&reverse='
    const answer = await call('GET', `${JOBS}?${query}`)
    expect(json(answer).Items.length).toBeGreaterThan(9)
    const first = json(await call('GET', `${JOBS}?reverse=False&limit=1`)).Items[0].ID
    expect(json(await call('GET', `${JOBS}?reverse=True&limit=1`)).Items[0].ID).not.toBe(first)
  })

  it('21: the agent’s node has both shapes, and every node both forms of its connection', async () => {
    const node = json(await call('GET', '/api/v1/agent/node'))
    expect(node).toMatchObject({
      NodeID: NODES.worker,
      NodeType: 'Compute',
      Info: { NodeID: NODES.worker },
      Connection: 'CONNECTED',
      ConnectionState: { Status: 'CONNECTED' },
    })
    for (const { Connection: connection, ConnectionState: state } of json(
      await call('GET', '/api/v1/orchestrator/nodes'),
    ).Nodes) {
      expect(state.Status).toBe(connection)
    }
  })

  it('22: errors have Status, Message, RequestID, Code, Component, and texts only in Details', async () => {
    const requests = [
      ['GET', `${JOBS}/j-00000000`, undefined],
      ['GET', '/api/v1/nothing', undefined],
      ['PATCH', JOBS, undefined],
      ['PUT', JOBS, { Job: { Count: -1 } }],
      ['GET', `${JOBS}?limit=x`, undefined],
      ['DELETE', `${JOBS}/${network.jobs.failed}`, {}],
      ['GET', '/api/v1/orchestrator/nodes/n-none', undefined],
    ] as const
    for (const [method, path, body] of requests) {
      const answer = await call(method, path, body, { 'x-request-id': 'mine-1' })
      const error = goDecode(answer.text, goStructs('v1.5.2').apiError) as Record<string, unknown>
      expect(error, `${method} ${path}`).toMatchObject({ Status: answer.status, RequestID: 'mine-1' })
      for (const key of ['Message', 'Code', 'Component']) expect(error[key], `${path} ${key}`).not.toBe('')
      expect(answer.headers).toMatchObject({
        'x-request-id': 'mine-1',
        'content-type': 'application/json; charset=utf-8',
      })
    }
  })

  it('23: the client’s version decides about history, nodes and the door', async () => {
    const as = (version: string, method: string, path: string, body?: unknown) =>
      call(method, path, body, { 'x-bacalhau-git-version': version })
    const history = `${JOBS}/${network.jobs.completed}/history`
    expect((await as('v1.4.2', 'GET', history)).text).toContain('"JobState":{}')
    expect((await as('v1.5.0', 'GET', history)).text).not.toContain('JobState')
    expect((await as('v1.3.9', 'GET', history)).status).toBe(403)
    expect((await as('v1.7.0', 'PUT', NODE, { Action: 'approve' })).status).toBe(200)
    expect((await as('v1.8.0', 'PUT', NODE, { Action: 'approve' })).status).toBe(409)
    expect((await as('v1.8.0', 'PUT', NODE, { Action: 'dance' })).status).toBe(400)
    const unknown = '/api/v1/orchestrator/nodes/n-none'
    expect((await as('v1.5.2', 'PUT', unknown, { Action: 'approve' })).status).toBe(200)
    expect((await as('v1.8.0', 'PUT', unknown, { Action: 'approve' })).status).toBe(404)
  })

  it('24: bodies may come in chunks and after Expect', async () => {
    const body = JSON.stringify({ Job: { Type: 'batch', Tasks: [sh('true')] } })
    const head = `PUT ${JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n`
    const pieces = [body.slice(0, 10), body.slice(10)].map(
      (piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`,
    )
    expect(await raw(`${head}Transfer-Encoding: chunked\r\n\r\n${pieces.join('')}0\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 200 /,
    )
    const expecting = await raw(
      `${head}Expect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    expect(expecting).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 /)
  })

  it('25: free maps hold texts only, whatever was sent', async () => {
    for (const key of ['Labels', 'Meta']) {
      const answer = await call('PUT', JOBS, { Job: { Type: 'batch', [key]: { a: 1 }, Tasks: [sh('true')] } })
      if (answer.status === 400) continue
      const stored = json(await call('GET', `${JOBS}/${json(answer).JobID}`)).Job
      expect(Object.values(stored[key] as object).every((value) => typeof value === 'string')).toBe(true)
    }
    for (const id of Object.values(network.jobs)) {
      for (const [key, value] of walk(
        readJsonText((await call('GET', `${JOBS}/${id}?include=history,executions`)).text),
      )) {
        if (!['Details', 'Meta', 'Labels', 'Env'].includes(key) || value.kind !== 'object') continue
        expect(
          value.entries.filter(([, item]) => item.kind !== 'string'),
          `${id} ${key}`,
        ).toEqual([])
      }
    }
  })

  it('26: an exit code other than 0 completes the execution and the job', async () => {
    const { Job: job, Executions: executions } = json(
      await call('GET', `${JOBS}/${network.jobs.exitThree}?include=executions`),
    )
    expect([job.State.StateType, executions.Items[0].ComputeState.StateType]).toEqual(['Completed', 9])
  })

  it('27: types of engines come in any case, types of jobs do not have to', async () => {
    const task = sh('true', { Engine: { Type: ' DOCKER ', Params: { Image: 'x', Parameters: ['true'] } } })
    const answer = await call('PUT', JOBS, { Job: { Type: 'batch', Tasks: [task] } })
    expect(json(await call('GET', `${JOBS}/${json(answer).JobID}`)).Job.Tasks[0].Engine.Type).toBe('docker')
    expect((await call('PUT', JOBS, { Job: { Type: 'burst', Tasks: [task] } })).status).toBe(400)
  })

  it('28: only words that Go decodes are sent for node types and networks', async () => {
    for (const version of ['v1.4.0', 'v1.5.2', 'v1.9.3'] as const) {
      const structs = goStructs(version)
      goDecode((await call('GET', '/api/v1/orchestrator/nodes')).text, structs.listNodes)
      goDecode((await call('GET', JOBS)).text, structs.listJobs)
    }
  })

  it('29: without a token every submission is a job of its own; with a token it is the same one', async () => {
    const submit = async (token: string) =>
      json(await call('PUT', JOBS, { Job: { Type: 'batch', Tasks: [sh('true')] }, IdempotencyToken: token }))
        .JobID
    expect(await submit('')).not.toBe(await submit(''))
    expect(await submit('the same')).toBe(await submit('the same'))
  })

  it('30: every job has a task with an engine', async () => {
    for (const job of json(await call('GET', JOBS)).Items) {
      expect(job.Tasks[0].Engine.Type).not.toBe('')
    }
    expect((await call('PUT', JOBS, { Job: { Type: 'batch', Tasks: [] } })).status).toBe(400)
    expect((await call('PUT', JOBS, { Job: { Type: 'batch', Tasks: [{ Name: 'm' }] } })).status).toBe(400)
  })
})

/* ---- Requests ---- */

function call(
  method: string,
  path: string,
  body?: unknown,
  more: Record<string, string> = {},
): Promise<RawAnswer> {
  const payload = body === undefined ? undefined : JSON.stringify(body)
  const type: Record<string, string> =
    payload === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }
  return exchange(new URL(network.url), method, path, { ...type, ...more }, payload)
}

// eslint-disable-next-line typescript/no-explicit-any
function json(answer: RawAnswer): any {
  return plain(readJsonText(answer.text))
}

/** Everything that comes until the server closes the connection. */
function raw(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = ''
    const socket = connect(network.port, '127.0.0.1', () => socket.write(text))
    socket.on('data', (data) => (received += data.toString()))
    socket.once('error', reject)
    socket.once('close', () => resolve(received))
  })
}

function* walk(value: JsonText, key = ''): Iterable<[string, JsonText]> {
  yield [key, value]
  if (value.kind === 'object') for (const [name, item] of value.entries) yield* walk(item, name)
  if (value.kind === 'array') for (const item of value.items) yield* walk(item, key)
}
