import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NODES, startNetwork, type Network } from './contract/network.js'
import {
  ApiException,
  PythonApiClient,
  pythonDecode,
  PythonError,
  pythonJob,
  PythonSdkJobs,
} from './contract/python-clients.js'

let network: Network
let client: PythonApiClient
let jobs: PythonSdkJobs
beforeAll(async () => {
  network = await startNetwork()
  client = new PythonApiClient(network.url)
  jobs = new PythonSdkJobs(network.url)
})
afterAll(() => network.close())

/** Submits a job and waits for its end as a script of the SDK does. */
async function finished(script: string): Promise<string> {
  const { JobID: id } = await jobs.put(pythonJob(script))
  for (let polls = 0; polls < 500; polls++) {
    const { Job: job } = await jobs.get(id as string)
    if (['Completed', 'Failed', 'Stopped'].includes(job.State.StateType as string)) return id as string
    await sleep(10)
  }
  throw new Error(`${id} does not end`)
}

describe('the Python SDK', () => {
  it('puts the job of its example and reads ids', async () => {
    const answer = await jobs.put(pythonJob('echo Hello World'))
    expect(answer.JobID).toMatch(/^j-[0-9a-f-]{36}$/)
    expect(answer.EvaluationID).toMatch(/^[0-9a-f-]{36}$/)
    expect(answer.Warnings ?? []).toEqual([])
  })

  it('gets a job with an empty include, and with its executions', async () => {
    const id = await finished('echo Hello World')
    const plain = await jobs.get(id)
    expect(plain).toMatchObject({ History: null, Executions: null })
    expect(plain.Job).toMatchObject({ ID: id, Type: 'batch', State: { StateType: 'Completed' } })
    expect(plain.Job.CreateTime).toBeGreaterThan(1.7e18)
    const full = await jobs.get(id, 'executions')
    expect(full.Executions.Items[0].RunOutput).toMatchObject({
      Stdout: 'Hello World\n',
      stderr: '',
      ExitCode: 0,
    })
    expect(full.Executions.Items[0].ComputeState.StateType).toBe(9)
  })

  it('lists executions with every parameter empty', async () => {
    const id = await finished('true')
    const { Items: items } = await jobs.executions(id)
    expect(jobs.client.requests.at(-1)).toBe(
      `GET /api/v1/orchestrator/jobs/${id}/executions?namespace=&limit=5&next_token=&reverse=False&order_by=`,
    )
    expect(items).toHaveLength(1)
    expect(items[0]).toMatchObject({ JobID: id, NodeID: NODES.worker, DesiredState: { StateType: 2 } })
    expect(items[0].AllocatedResources.Tasks['My Main task'].CPU).toBe(0.5)
  })

  it('reads the history of executions although it also sends node_id', async () => {
    const id = await finished('true')
    const { Items: items } = await jobs.history(id)
    expect(items.length).toBeGreaterThan(1)
    for (const item of items) expect(item).toMatchObject({ Type: 'ExecutionLevel', JobID: id })
    expect(items.at(-1).Event.Message).toBe('Completed successfully')
  })

  it('lists jobs with reverse=False and an empty token', async () => {
    await finished('true')
    const { Items: items, NextToken: token } = await jobs.list()
    expect(items.length).toBeGreaterThan(0)
    expect(token).toBeTypeOf('string')
    expect(items[0].Tasks[0].Engine.Params.Image).toBe('busybox')
  })

  it('gets an empty list of results for a job without publisher', async () => {
    expect(await jobs.results(await finished('true'))).toEqual({ Items: [], NextToken: '' })
  })

  it('stops a job; the reason travels in the query', async () => {
    const { JobID: id } = await jobs.put(pythonJob('sleep 600'))
    expect((await jobs.stop(id as string, 'no longer needed')).EvaluationID).not.toBe('')
    const { Job: job } = await jobs.get(id as string)
    expect(job.State).toMatchObject({ StateType: 'Stopped', Message: 'no longer needed' })
    expect((await jobs.stop(id as string)).EvaluationID).toBe('')
  })
})

describe('the generated Python client', () => {
  it('reads nodes under the lower-case keys that only it knows', async () => {
    const { nodes } = await client.orchestratorlist_nodes({ limit: 10, reverse: true, order_by: 'id' })
    expect(nodes.map((node: { Info: { NodeID: string } }) => node.Info.NodeID)).toEqual([
      NODES.gone,
      NODES.rejected,
      NODES.pending,
      NODES.worker,
    ])
    const { node } = await client.orchestratorget_node(NODES.worker)
    expect(node.Info).toMatchObject({ NodeID: NODES.worker, NodeType: 'Compute' })
    expect(node.Info.ComputeNodeInfo.MaxCapacity.CPU).toBeGreaterThan(0)
    expect(node.Info.BacalhauVersion.GitVersion).toMatch(/^v1\./)
  })

  it('filters nodes by filter_approval and filter-status', async () => {
    const { nodes } = await client.orchestratorlist_nodes({
      filter_approval: 'approved',
      'filter-status': 'disconnected',
    })
    expect(nodes.map((node: { Info: { NodeID: string } }) => node.Info.NodeID)).toEqual([NODES.gone])
  })

  it('updates a node although it leaves the id out of the path', async () => {
    const body = { action: 'approve', message: '', nodeID: NODES.worker, namespace: 'default' }
    const again = await client.orchestratorupdate_node(body, NODES.worker)
    expect(again.success).toBe(false)
    expect(again.error).toContain('already')
    const rejected = await client.orchestratorupdate_node(
      { ...body, action: 'reject', nodeID: NODES.pending },
      '',
    )
    expect(rejected).toEqual({ success: true, error: null })
  })

  it('lists jobs in every spelling of its parameters', async () => {
    await finished('true')
    for (const reverse of [true, false]) {
      const page = await client.orchestratorlist_jobs({
        namespace: '',
        limit: 1,
        next_token: '',
        reverse,
        order_by: '',
      })
      expect(page.Items).toHaveLength(1)
    }
  })

  it('cannot read logs, which are a websocket: 400', async () => {
    const id = await finished('true')
    const error = await client
      .orchestratorlogs(id, { tail: true, follow: false })
      .catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(ApiException)
    expect((error as ApiException).status).toBe(400)
  })

  it('reads what the agent says', async () => {
    expect(await client.agentalive()).toEqual({ Status: 'OK' })
    expect((await client.agentversion()).GOOS).toBe('linux')
    expect(await client.agentnode()).toMatchObject({ NodeID: NODES.worker, NodeType: 'Compute' })
    expect(await client.agentdebug()).toBeTypeOf('object')
    expect((await client.node_info()).NodeID).toBe(null)
    expect(await client.text('/api/v1/livez')).toBe('OK')
    expect(await client.text('/api/v1/healthz')).toBe('OK')
    expect(await client.text('/api/v1/id')).toBe(NODES.orchestrator)
    expect(await client.text('/')).toContain('GitVersion')
    expect((await client.api_serverversion({ client_id: 'x' })).build_version_info.GitVersion).toMatch(
      /^v1\./,
    )
  })

  it.each([
    ['api_serverapprover', 404],
    ['api_serverdebug', 405],
  ] as const)('gets for %s what Bacalhau gives: %i', async (method, status) => {
    await expect(client[method]()).rejects.toMatchObject({ status })
  })

  it('is refused when it gives the network as a number, and told the words', async () => {
    for (const type of ['0', '1', '2']) {
      const task = { ...(pythonJob('true') as { Tasks: object[] }).Tasks[0], Network: { Type: type } }
      const error = await client
        .orchestratorput_job(pythonJob('true', { Tasks: [task] }))
        .catch((reason: unknown) => reason)
      expect(error).toMatchObject({ status: 400 })
      expect((error as ApiException).message).toContain('None, HTTP, Full')
    }
  })

  it('gets an exception with the error body for an unknown job', async () => {
    const error = await client.orchestratorget_job('j-00000000').catch((reason: unknown) => reason)
    expect(error).toMatchObject({ status: 404 })
    expect(JSON.parse((error as ApiException).message)).toMatchObject({ Status: 404, Code: 'NotFound' })
  })
})

describe('the imitation of Python’s decoder', () => {
  it.each([
    ['a map where a list belongs', { Items: {} }],
    ['a list where a map belongs', { Items: [{ Labels: [] }] }],
    ['a word where a number belongs', { Items: [{ Count: 'many' }] }],
  ])('raises for %s', (_title, value) => {
    expect(() => pythonDecode(value, 'ListJobsResponse')).toThrow(PythonError)
  })

  it('takes null, missing keys and keys in another case for None', () => {
    expect(pythonDecode({ items: [], NextToken: null }, 'ListJobsResponse')).toEqual({
      Items: null,
      NextToken: null,
    })
  })
})
