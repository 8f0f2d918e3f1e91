import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HELLO, startServer, submit, type Server } from './with-server.js'

const JOBS = '/api/v1/orchestrator/jobs'

let server: Server
beforeEach(async () => {
  server = await startServer()
})
afterEach(() => server.close())

describe('submitting a job', () => {
  it('takes it by PUT and by POST and answers with ids and warnings', async () => {
    for (const method of ['PUT', 'POST']) {
      const answer = await server.call(method, JOBS, { Job: HELLO, Namespace: '', Credential: null })
      expect(answer.status, answer.text).toBe(200)
      expect(answer.json.JobID).toMatch(/^j-[0-9a-f-]{36}$/)
      expect(answer.json.EvaluationID).toMatch(/^[0-9a-f-]{36}$/)
      expect(answer.json.Warnings).toEqual([])
    }
  })

  it('matches keys without regard to case', async () => {
    const answer = await server.call('PUT', JOBS, {
      job: {
        name: 'lower',
        TYPE: 'batch',
        tasks: [{ NAME: 'main', engine: { type: 'Docker', params: { IMAGE: 'alpine' } } }],
      },
      idempotencyToken: 'once',
    })
    expect(answer.status, answer.text).toBe(200)
    expect(server.jobs.submissions[0]?.spec.Tasks[0].Engine.Type).toBe('docker')
    expect(server.jobs.submissions[0]?.idempotencyToken).toBe('once')
  })

  it('answers 400 with "missing job type" when there is no type', async () => {
    const answer = await server.call('PUT', JOBS, { Job: { ...HELLO, Type: undefined } })
    expect(answer.status).toBe(400)
    expect(answer.json.Message).toContain('missing job type')
    expect(answer.json.Status).toBe(400)
    expect(answer.json.Details.WeirCode).toBe('spec.invalid')
  })

  it('reports every mistake at once, one per line', async () => {
    const task = { ...HELLO.Tasks[0], Timeouts: { ExecutionTimeout: -1 }, Resources: { CPU: 'lots' } }
    const answer = await server.call('PUT', JOBS, { Job: { ...HELLO, Count: -1, Tasks: [task] } })
    expect(answer.status).toBe(400)
    expect(answer.json.Message.split('\n').length).toBeGreaterThanOrEqual(3)
    expect(answer.json.Message).toContain('job count must be >= 0')
    expect(answer.json.Message).toContain('invalid CPU value')
    const problems = JSON.parse(answer.json.Details.problems) as { path: string }[]
    expect(problems.map((problem) => problem.path)).toContain('Count')
  })

  it('refuses a network type that is a number', async () => {
    const task = { ...HELLO.Tasks[0], Network: { Type: 1 } }
    const answer = await server.call('PUT', JOBS, { Job: { ...HELLO, Tasks: [task] } })
    expect(answer.status).toBe(400)
  })

  it.each([
    ['no job', {}],
    ['a null job', { Job: null }],
    ['a job that is a list', { Job: [] }],
    ['a body that is a list', []],
    ['an empty body', undefined],
  ])('answers 400 for %s', async (_title, body) => {
    const answer = await server.call('PUT', JOBS, body)
    expect(answer.status, answer.text).toBe(400)
    expect(server.jobs.submissions).toEqual([])
  })

  it('accepts what the Python client and the CLI send: empty publisher, null lists, server-owned and unknown keys', async () => {
    const answer = await server.call('PUT', JOBS, {
      Job: {
        ...HELLO,
        ID: '',
        State: { StateType: 'Undefined' },
        Revision: 0,
        Version: 7,
        Flavour: 'new',
        Constraints: null,
        Tasks: [{ ...HELLO.Tasks[0], Publisher: {}, InputSources: null, Resources: null, Timeouts: {} }],
      },
      namespace: '',
      credential: null,
    })
    expect(answer.status, answer.text).toBe(200)
    expect(answer.json.Warnings.join('\n')).toContain('job version is ignored when submitting a job')
  })

  it('passes the idempotency token of the query and gives the same job for the same token', async () => {
    const first = await server.call('PUT', `${JOBS}?idempotency_token=abc`, { Job: HELLO })
    const second = await server.call('PUT', `${JOBS}?idempotency_token=abc`, { Job: HELLO })
    expect(second.json.JobID).toBe(first.json.JobID)
  })

  it('keeps what the client tells about itself, unless it is not plain text', async () => {
    await server.call(
      'PUT',
      JOBS,
      { Job: HELLO },
      { 'x-bacalhau-instanceid': 'i-1', 'x-bacalhau-installationid': 'x y' },
    )
    expect(server.jobs.submissions[0]?.clientMeta).toEqual({ 'bacalhau.org/client.instance.id': 'i-1' })
  })

  it('fills in the stock resources where the job says nothing', async () => {
    await submit(server)
    expect(server.jobs.submissions[0]?.spec.Tasks[0].Resources).toMatchObject({ CPU: '500m', Memory: '1gb' })
  })
})

describe('listing jobs', () => {
  it('gives an empty list, not null, when there are none', async () => {
    expect((await server.call('GET', JOBS)).json).toEqual({ NextToken: '', Items: [] })
  })

  it('pages with a token until everything was delivered', async () => {
    await submit(server, { Name: 'a' })
    await submit(server, { Name: 'b' })
    const first = (await server.call('GET', `${JOBS}?limit=1&order_by=created_at&reverse=True`)).json
    expect(first.Items.map((job: { Name: string }) => job.Name)).toEqual(['b'])
    expect(first.NextToken).not.toBe('')
    const second = (await server.call('GET', `${JOBS}?limit=1&next_token=${first.NextToken}`)).json
    expect(second.Items.map((job: { Name: string }) => job.Name)).toEqual(['a'])
    expect(second.NextToken).toBe('')
  })

  it('selects by labels; a job without the label passes !=', async () => {
    await submit(server)
    await submit(server, { Labels: { bacalhau_canary: 'true' } })
    const shown = await server.call(
      'GET',
      `${JOBS}?labels=${encodeURIComponent('bacalhau_canary!=true')}&limit=10`,
    )
    expect(shown.json.Items).toHaveLength(1)
    expect(shown.json.Items[0].Labels).toEqual({ team: 'x' })
    const both = await server.call(
      'GET',
      `${JOBS}?labels=team%3Dx&labels=${encodeURIComponent('team in (x,y)')}`,
    )
    expect(both.json.Items).toHaveLength(1)
  })

  it('counts empty query values as absent', async () => {
    await submit(server)
    const answer = await server.call(
      'GET',
      `${JOBS}?limit=&order_by=&next_token=&reverse=False&namespace=&labels=`,
    )
    expect(answer.json.Items).toHaveLength(1)
  })

  it.each([
    ['limit=-1', 'limit'],
    ['limit=1e3', 'limit'],
    ['reverse=maybe', 'reverse'],
    ['order_by=size', 'order_by'],
    ['next_token=%21%21', 'page token'],
    ['labels=a%20b%20c', 'a b c'],
  ])('answers 400 for %s and names it', async (query, named) => {
    const answer = await server.call('GET', `${JOBS}?${query}`)
    expect(answer.status, answer.text).toBe(400)
    expect(answer.json.Message).toContain(named)
  })
})

describe('describing a job', () => {
  it('finds it by a unique beginning of its id, and includes what was asked for', async () => {
    const id = await submit(server)
    server.jobs.addExecution(id, { state: 'Running' })
    const plain = (await server.call('GET', `${JOBS}/${id.slice(0, 10)}?include=`)).json
    expect(Object.keys(plain)).toEqual(['Job'])
    const full = (
      await server.call(
        'GET',
        `${JOBS}/${id}?include=executions, history,nonsense&limit=10`.replace(' ', '%20'),
      )
    ).json
    expect(full.History.Items[0].Event.Message).toBe('Job submitted')
    expect(full.History.NextToken).toBe('')
    expect(full.Executions.Items[0].ComputeState.StateType).toBe(6)
  })

  it('answers 404 in the documented shape for an unknown id', async () => {
    const answer = await server.call('GET', `${JOBS}/j-99999999`, undefined, { 'x-request-id': 'mine' })
    expect(answer.status).toBe(404)
    expect(answer.json).toEqual({
      Status: 404,
      Message: 'Cannot find job "j-99999999"',
      RequestID: 'mine',
      Code: 'NotFound',
      Component: 'JobStore',
      Hint: 'Look at the list.',
      Details: { WeirCode: 'job.not_found', Retryable: 'false' },
    })
  })

  it('answers 409 when several ids begin like that', async () => {
    await submit(server)
    await submit(server)
    const answer = await server.call('GET', `${JOBS}/j-`)
    expect(answer.status).toBe(409)
    expect(answer.json.Code).toBe('MultipleJobsFound')
  })

  it('writes times as integer nanoseconds without an exponent', async () => {
    const id = await submit(server)
    const { text } = await server.call('GET', `${JOBS}/${id}`)
    expect(text).toMatch(/"CreateTime":1732870000001000000,"ModifyTime":1732870000001000000/)
  })

  it('gives the state as a word and leaves out what is empty', async () => {
    const id = await submit(server)
    const { Job: job } = (await server.call('GET', `${JOBS}/${id}`)).json
    expect(job.State).toEqual({ StateType: 'Pending' })
    expect(job.Constraints).toEqual([])
    expect(job.Meta).toEqual({})
    expect(job.Tasks[0]).not.toHaveProperty('InputSources')
    expect(job.Tasks[0].Publisher).toEqual({ Type: '' })
    expect(job.Tasks[0].Network).toEqual({ Type: 'HTTP', Domains: ['example.org', '.example.com'] })
    expect(job.Tasks[0].Timeouts).toEqual({})
  })
})

describe('stopping a job', () => {
  it('gives an evaluation id first and an empty one the second time', async () => {
    const id = await submit(server)
    const first = await server.call('DELETE', `${JOBS}/${id}`, { reason: 'no longer needed' })
    expect(first.json.EvaluationID).not.toBe('')
    const second = await server.call('DELETE', `${JOBS}/${id}`)
    expect([second.status, second.json]).toEqual([200, { EvaluationID: '' }])
    expect(server.jobs.stopReasons[0]).toBe('no longer needed')
  })

  it('takes the reason from the query as well', async () => {
    const id = await submit(server)
    await server.call('DELETE', `${JOBS}/${id}?reason=by%20query`, {})
    expect(server.jobs.stopReasons).toEqual(['by query'])
  })

  it.each(['Completed', 'Failed'] as const)('refuses a job in state %s and says the state', async (state) => {
    const id = await submit(server)
    server.jobs.change(id, { state })
    const answer = await server.call('DELETE', `${JOBS}/${id}`)
    expect(answer.status).toBe(409)
    expect(answer.json.Message).toContain(state)
    expect(answer.json.Code).toBe('ConflictJobState')
  })
})

describe('history', () => {
  it('keeps the token filled while the job runs and empties it when everything was delivered', async () => {
    const id = await submit(server)
    const history = async (token: string) =>
      (await server.call('GET', `${JOBS}/${id}/history?event_type=all&limit=10&next_token=${token}`)).json
    const first = await history('')
    expect(first.Items).toHaveLength(1)
    expect(first.NextToken).not.toBe('')
    const again = await history(first.NextToken)
    expect(again).toEqual({ Items: [], NextToken: first.NextToken })
    server.jobs.addEvent(id, 'State Update', 'Completed', undefined, { NewState: 'Completed' })
    server.jobs.change(id, { state: 'Completed' })
    const last = await history(again.NextToken)
    expect(last.Items.map((item: { Event: { Message: string } }) => item.Event.Message)).toEqual([
      'Completed',
    ])
    expect(last.NextToken).toBe('')
  })

  it('pages through a finished job without losing or repeating an event', async () => {
    const id = await submit(server)
    for (let index = 0; index < 9; index++) server.jobs.addEvent(id, 'Execution', `event ${index}`)
    server.jobs.change(id, { state: 'Completed' })
    const sequences: number[] = []
    let token = ''
    do {
      const page = (await server.call('GET', `${JOBS}/${id}/history?limit=3&next_token=${token}`)).json
      sequences.push(...page.Items.map((item: { SeqNum: number }) => item.SeqNum))
      token = page.NextToken
    } while (token !== '')
    expect(sequences).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  })

  it('filters by level, execution and time', async () => {
    const id = await submit(server)
    const execution = server.jobs.addExecution(id, {})
    server.jobs.addEvent(id, 'Scheduling', 'Requested execution', execution.id)
    const items = async (query: string) =>
      (await server.call('GET', `${JOBS}/${id}/history?${query}`)).json.Items as Record<string, unknown>[]
    expect((await items('event_type=job')).map((item) => item.Type)).toEqual(['JobLevel'])
    expect((await items('event_type=execution')).map((item) => item.ExecutionID)).toEqual([execution.id])
    expect(await items('execution_id=e-0000')).toHaveLength(1)
    expect(await items('since=1732870001')).toHaveLength(1)
    const wrong = await server.call('GET', `${JOBS}/${id}/history?event_type=some`)
    expect(wrong.status).toBe(400)
  })

  it('gives clients of version 1.4 the state objects they dereference, and nobody else', async () => {
    const id = await submit(server)
    server.jobs.addEvent(id, 'Execution', 'Running', 'e-1')
    const as = async (version: string) =>
      (await server.call('GET', `${JOBS}/${id}/history`, undefined, { 'x-bacalhau-git-version': version }))
        .json.Items
    const [job, execution] = await as('v1.4.0')
    expect([job.JobState, execution.ExecutionState]).toEqual([{}, {}])
    for (const item of await as('v1.5.2')) expect(item).not.toHaveProperty('JobState')
  })

  it('waits for something new when asked to, and not longer', async () => {
    const id = await submit(server)
    const first = (await server.call('GET', `${JOBS}/${id}/history`)).json
    const waiting = server.call('GET', `${JOBS}/${id}/history?wait_ms=20000&next_token=${first.NextToken}`)
    setTimeout(() => server.jobs.addEvent(id, 'Execution', 'at last'), 30)
    expect((await waiting).json.Items[0].Event.Message).toBe('at last')
    const started = Date.now()
    const token = (await waiting).json.NextToken as string
    const empty = await server.call('GET', `${JOBS}/${id}/history?wait_ms=60&next_token=${token}`)
    expect(empty.json.Items).toEqual([])
    expect(Date.now() - started).toBeGreaterThanOrEqual(55)
  })
})

describe('executions and results', () => {
  it.each([
    ['New', 1],
    ['Accepted', 3],
    ['Rejected', 4],
    ['Preparing', 5],
    ['Running', 6],
    ['Publishing', 7],
    ['Completed', 9],
    ['Failed', 10],
    ['Cancelled', 11],
  ] as const)('shows an execution that is %s with the number %i', async (state, number) => {
    const id = await submit(server)
    server.jobs.addExecution(id, { state })
    const { Items: items } = (await server.call('GET', `${JOBS}/${id}/executions?order_by=`)).json
    expect(items[0].ComputeState).toEqual({ StateType: number })
    expect(items[0].DesiredState).toEqual({ StateType: 1 })
  })

  it('shows output with a lower-case stderr, the exit code, why it failed, and the egress summary', async () => {
    const id = await submit(server)
    server.jobs.addExecution(
      id,
      {
        state: 'Failed',
        message: 'timed out',
        code: 'execution.timeout',
        hint: 'Give it more time.',
        retryable: true,
        runOutput: {
          stdout: 'out',
          stdoutTruncated: false,
          stderr: 'err',
          stderrTruncated: true,
          exitCode: 3,
          errorMessage: 'x',
        },
        egress: {
          records: 2,
          allowed: 1,
          refused: 1,
          bytesUp: 10,
          bytesDown: 20,
          destinations: [
            {
              host: 'evil.example',
              port: 443,
              allowed: 0,
              refused: 1,
              bytesUp: 0,
              bytesDown: 0,
              code: 'egress.not_in_job_list',
              advice: '--domain evil.example',
            },
          ],
          destinationsTruncated: false,
          chainHead: 'ab',
        },
      },
      { desired: { state: 'Stopped', message: 'execution failed', sinceMs: 1 } },
    )
    const [item] = (await server.call('GET', `${JOBS}/${id}/executions`)).json.Items
    expect(item.RunOutput).toEqual({
      Stdout: 'out',
      StdoutTruncated: false,
      stderr: 'err',
      StderrTruncated: true,
      ExitCode: 3,
      ErrorMsg: 'x',
    })
    expect(item.DesiredState).toEqual({ StateType: 2, Message: 'execution failed' })
    expect(item.ComputeState).toEqual({
      StateType: 10,
      Message: 'timed out',
      Details: { ErrorCode: 'execution.timeout', Hint: 'Give it more time.', Retryable: 'true' },
    })
    expect(item.AllocatedResources).toEqual({ Tasks: { main: { CPU: 0.5, Memory: 1_000_000_000 } } })
    expect(item.Egress.Destinations[0].Advice).toBe('--domain evil.example')
    expect(item).not.toHaveProperty('Job')
  })

  it('orders and limits executions', async () => {
    const id = await submit(server)
    const [a, b, c] = [1, 2, 3].map((n) => server.jobs.addExecution(id, {}, { modifyTimeMs: 10 - n }).id)
    const ids = async (query: string) =>
      (await server.call('GET', `${JOBS}/${id}/executions?${query}`)).json.Items.map(
        (item: { ID: string }) => item.ID,
      )
    expect(await ids('')).toEqual([a, b, c])
    expect(await ids('order_by=modified_at')).toEqual([c, b, a])
    expect(await ids('order_by=created_at&reverse=true&limit=2')).toEqual([c, b])
    expect((await server.call('GET', `${JOBS}/${id}/executions?order_by=x`)).status).toBe(400)
  })

  it('gives an empty list of results for a job without publisher, and published ones otherwise', async () => {
    const id = await submit(server)
    expect((await server.call('GET', `${JOBS}/${id}/results`)).json).toEqual({ NextToken: '', Items: [] })
    const result = { Type: 'urlDownload', Params: { URL: 'http://127.0.0.1:6001/a.tar.gz?x=1&y=2' } }
    server.jobs.addExecution(id, { state: 'Completed', publishedResult: result })
    const answer = await server.call('GET', `${JOBS}/${id}/results`)
    expect(answer.json.Items).toEqual([result])
    expect(answer.text).toContain('?x=1&y=2')
  })
})
