import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import WebSocket from 'ws'
import { authBody, challengeAnswer, exchange, GoCli, goTask } from './contract/go-cli.js'
import { NODES } from './contract/network.js'
import { startPopulatedNetwork, untilState, type PopulatedNetwork } from './contract/populated-network.js'
import { pythonJob, PythonSdkJobs } from './contract/python-clients.js'

/** The scenarios that decide whether a server is compatible, numbered as Bacalhau's behaviour is catalogued. */

let network: PopulatedNetwork
beforeAll(async () => {
  network = await startPopulatedNetwork()
})
afterAll(() => network.close())

const JOBS = '/api/v1/orchestrator/jobs'
const sh = (script: string, change: object = {}): object => goTask(['sh', '-c', script], change)

describe('compatibility checklist', () => {
  it('1: alive answers {"Status":"OK"}', async () => {
    const answer = await call('GET', '/api/v1/agent/alive')
    expect([answer.status, answer.json]).toEqual([200, { Status: 'OK' }])
  })

  it('2: a fresh client logs in with an RSA signature and uses the token', async () => {
    const cli = new GoCli(network.url)
    await cli.list()
    expect(cli.requests.map((request) => request.split('?')[0])).toEqual([
      'GET /api/v1/auth',
      'POST /api/v1/auth/clientkey',
      `GET ${JOBS}`,
    ])
  })

  it('3: a wrong signature gives 401 with success=false', async () => {
    const wrong = challengeAnswer(Buffer.from('another phrase'))
    const answer = await call('POST', '/api/v1/auth/clientkey', authBody('clientkey', wrong))
    expect(answer.status).toBe(401)
    expect(answer.json).toMatchObject({ Authentication: { success: false } })
    expect(answer.json.Authentication.reason).not.toBe('')
  })

  it('4: submit and poll the history with limit 10: the documented events, then an empty token', async () => {
    const { events } = await network.cli.run({ Type: 'batch', Tasks: [sh('true')] })
    const wanted = [
      'JobLevel Submission: Job submitted',
      'ExecutionLevel Scheduling: Requested execution on n-0b000000',
      'JobLevel State Update: Running',
      'ExecutionLevel Execution: Running',
      'ExecutionLevel Execution: Completed successfully',
      'JobLevel State Update: Completed',
    ]
    const lines = events.map((event) => `${event.Type} ${event.Event.Topic}: ${event.Event.Message}`)
    expect(lines.filter((line) => wanted.includes(line))).toEqual(wanted)
    expect(events[1]?.Event.Details.NodeID).toBe(NODES.worker)
    expect(events.at(-1)?.Event.Details.NewState).toBe('Completed')
  })

  it('5: a job without Type gives 400 "missing job type"', async () => {
    const answer = await call('PUT', JOBS, { Job: { Tasks: [sh('true')] } })
    expect(answer.status).toBe(400)
    expect(answer.json.Message).toContain('missing job type')
  })

  it('6: a network type that is a number gives 400', async () => {
    const task = sh('true', { Network: { Type: 1 } })
    expect((await call('PUT', JOBS, { Job: { Type: 'batch', Tasks: [task] } })).status).toBe(400)
  })

  it('7: lower-case keys are accepted', async () => {
    const job = lowerKeys({ Type: 'batch', Tasks: [sh('echo lower')] })
    const answer = await call('PUT', JOBS, { job, namespace: '', idempotencyToken: '', credential: null })
    expect(answer.status, answer.text).toBe(200)
    await untilState(network.cli, answer.json.JobID as string, 'Completed')
  })

  it('8: the first eight digits of an id are enough', async () => {
    const answer = await call('GET', `${JOBS}/${network.jobs.completed.slice(0, 10)}`)
    expect(answer.json.Job.ID).toBe(network.jobs.completed)
  })

  it('9: an unknown id gives 404 with Code NotFound', async () => {
    const answer = await call('GET', `${JOBS}/j-00000000`)
    expect([answer.status, answer.json.Status, answer.json.Code]).toEqual([404, 404, 'NotFound'])
  })

  it('10: jobs without the label pass bacalhau_canary!=true', async () => {
    const { json } = await call('GET', `${JOBS}?labels=bacalhau_canary%21%3Dtrue`)
    expect(json.Items.map((job: { ID: string }) => job.ID)).toContain(network.jobs.completed)
  })

  it('11: pages of one are followed to the end, where the token is empty', async () => {
    const all = (await call('GET', JOBS)).json.Items.length as number
    const seen = new Set<string>()
    let token = ''
    do {
      const { json } = await call('GET', `${JOBS}?limit=1&next_token=${token}`)
      expect(json.Items).toHaveLength(1)
      seen.add(json.Items[0].ID as string)
      token = json.NextToken as string
    } while (token !== '')
    expect(seen.size).toBe(all)
  })

  it('12: stopping twice gives an id, then an empty one', async () => {
    const { JobID: id } = await network.cli.submit({ Type: 'batch', Tasks: [sh('sleep 600')] })
    const first = await call('DELETE', `${JOBS}/${id}`, { reason: 'enough' })
    const second = await call('DELETE', `${JOBS}/${id}`, { reason: 'enough' })
    expect(first.json.EvaluationID).toMatch(/^[0-9a-f-]{36}$/)
    expect([second.status, second.json]).toEqual([200, { EvaluationID: '' }])
  })

  it('13: stopping a completed job is an error that names the state', async () => {
    const answer = await call('DELETE', `${JOBS}/${network.jobs.completed}`, {})
    expect(answer.status).toBe(409)
    expect(answer.json.Message).toContain('Completed')
  })

  it('14: the log of a finished job is stdout, then stderr, then close 1000', async () => {
    const { frames, code } = await stream(`${JOBS}/${network.jobs.completed}/logs`)
    expect(frames.map(({ value }) => [value.Type, value.Line])).toEqual([
      [1, 'out\n'],
      [2, 'err\n'],
    ])
    expect(code).toBe(1000)
  })

  it('15: the log of an unknown job is an upgrade, one error frame and close 1000', async () => {
    const { frames, code } = await stream(`${JOBS}/j-00000000/logs`)
    expect(frames).toHaveLength(1)
    expect(frames[0]).toMatchObject({
      error: expect.stringMatching(/^failed to open log stream for job j-00000000: /),
      value: { Type: 0, Line: '' },
    })
    expect(code).toBe(1000)
  })

  it('16: a job without publisher has an empty list of results', async () => {
    const { json } = await call('GET', `${JOBS}/${network.jobs.completed}/results`)
    expect(json).toEqual({ NextToken: '', Items: [] })
  })

  it('17: an unknown order of nodes gives 400 "invalid order_by"', async () => {
    const answer = await call('GET', '/api/v1/orchestrator/nodes?order_by=foo')
    expect([answer.status, answer.json.Message]).toEqual([400, expect.stringContaining('invalid order_by')])
  })

  it('18: approving an approved node: Success false with a text for 1.5, 409 for 1.8 and later', async () => {
    const path = `/api/v1/orchestrator/nodes/${NODES.worker}`
    const old = await call('PUT', path, { Action: 'approve' }, { 'x-bacalhau-git-version': 'v1.5.2' })
    expect([old.status, old.json.Success]).toEqual([200, false])
    expect(old.json.Error).toContain('already')
    const late = await call('PUT', path, { Action: 'approve' }, { 'x-bacalhau-git-version': 'v1.9.3' })
    expect([late.status, late.json.Code]).toEqual([409, 'ConflictNodeState'])
  })

  it('19: a client of version 1.3.0 gives 403 with MinVersion', async () => {
    const answer = await call('GET', JOBS, undefined, { 'x-bacalhau-git-version': 'v1.3.0' })
    expect(answer.status).toBe(403)
    expect(answer.json).toMatchObject({ MinVersion: '1.4.0', ClientVersion: '1.3.0', ServerVersion: '1.5.2' })
  })

  it('20: history for a client of version 1.4.0 carries the state objects it reads', async () => {
    const path = `${JOBS}/${network.jobs.completed}/history`
    const { json } = await call('GET', path, undefined, { 'x-bacalhau-git-version': 'v1.4.0' })
    for (const item of json.Items) {
      expect(item[item.Type === 'JobLevel' ? 'JobState' : 'ExecutionState']).toEqual({})
    }
  })

  it('21: a body of 11 MB gives 413', async () => {
    const answer = await call('PUT', JOBS, { Job: { Meta: { big: 'x'.repeat(11_000_000) } } })
    expect([answer.status, answer.json.Status]).toEqual([413, 413])
  })

  it('22: a job that fits nowhere fails at once, and the message lists reasons', async () => {
    const { Job: job } = await network.cli.describe(network.jobs.opsFailed)
    expect(job.State).toMatchObject({ StateType: 'Failed' })
    const { JobID: id } = await network.cli.submit({
      Type: 'batch',
      Tasks: [sh('true', { Resources: { CPU: '10000' } })],
    })
    await untilState(network.cli, id as string, 'Failed')
    expect((await network.cli.describe(id as string)).Job.State.Message).toMatch(
      /^not enough nodes to run job. requested: 1, available: 1, suitable: 0\.[^]*CPU/,
    )
  })

  it('23: with a queue timeout it waits', async () => {
    expect((await network.cli.describe(network.jobs.queued)).Job.State.StateType).toBe('Queued')
  })

  it('24: exit code 3 is a completed job', async () => {
    const { Job: job, Executions: executions } = await network.cli.describe(network.jobs.exitThree)
    expect(job.State.StateType).toBe('Completed')
    expect(executions.Items[0].RunOutput.ExitCode).toBe(3)
  })

  it('25: the methods of the Python SDK raise nothing and fill their fields', async () => {
    const jobs = new PythonSdkJobs(network.url)
    const { JobID: id } = await jobs.put(pythonJob('sleep 600'))
    expect((await jobs.get(id as string)).Job.ID).toBe(id)
    expect((await jobs.executions(id as string)).Items).toBeInstanceOf(Array)
    expect((await jobs.results(id as string)).Items).toEqual([])
    expect((await jobs.history(id as string)).Items).toBeInstanceOf(Array)
    expect((await jobs.list()).Items.length).toBeGreaterThan(0)
    expect((await jobs.stop(id as string)).EvaluationID).not.toBe('')
  })
})

// eslint-disable-next-line typescript/no-explicit-any
type Json = any

async function call(
  method: string,
  path: string,
  body?: unknown,
  more: Record<string, string> = {},
): Promise<{ status: number; text: string; json: Json }> {
  const payload = body === undefined ? undefined : JSON.stringify(body)
  const type: Record<string, string> =
    payload === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }
  const answer = await exchange(new URL(network.url), method, path, { ...type, ...more }, payload)
  return { ...answer, json: JSON.parse(answer.text) }
}

function stream(path: string): Promise<{ frames: Json[]; code: number }> {
  return new Promise((resolve, reject) => {
    const frames: Json[] = []
    const socket = new WebSocket(`ws://127.0.0.1:${network.port}${path}`)
    socket.on('message', (data: Buffer) => frames.push(JSON.parse(data.toString('utf8'))))
    socket.once('error', reject)
    socket.once('close', (code) => resolve({ frames, code }))
  })
}

/** The same value with every key in lower case, except the names of environment variables and labels. */
function lowerKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(lowerKeys)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key.toLowerCase(), lowerKeys(item)]))
}
