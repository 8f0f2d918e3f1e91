import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GoCli, goTask, type GoApiError } from './contract/go-cli.js'
import { NODES, startNetwork, type Network } from './contract/network.js'
import { unpackResults } from './contract/unpack-results.js'

let network: Network
beforeAll(async () => {
  network = await startNetwork()
})
afterAll(() => network.close())

const sh = (script: string): string[] => ['sh', '-c', script]
const batch = (script: string, change: object = {}): object => ({
  Type: 'batch',
  Tasks: [goTask(sh(script), change)],
})
const ENDLESS = 'sleep 600'

describe.each(['v1.4.0', 'v1.5.2', 'v1.9.3'] as const)('the Go command line client %s', (version) => {
  const client = (): GoCli => new GoCli(network.url, { version })

  it('logs in, submits, polls the history to its end and reads the job', async () => {
    const cli = client()
    const { id, events, job } = await cli.run(batch('echo hi'))
    expect(cli.requests.slice(0, 3)).toEqual([
      'GET /api/v1/auth',
      'POST /api/v1/auth/clientkey',
      'PUT /api/v1/orchestrator/jobs',
    ])
    expect(cli.requests[3]).toBe(
      `GET /api/v1/orchestrator/jobs/${id}/history?event_type=all&limit=10&next_token=`,
    )
    expect(cli.requests.at(-1)).toBe(`GET /api/v1/orchestrator/jobs/${id}`)
    expect(job.State.StateType).toBe('Completed')
    expect(job.Tasks[0].Engine.Type).toBe('docker')
    const lines = events.map((event) => `${event.Type} ${event.Event.Topic}: ${event.Event.Message}`)
    expect(lines[0]).toBe('JobLevel Submission: Job submitted')
    expect(lines).toContain('ExecutionLevel Scheduling: Requested execution on n-0b000000')
    expect(lines).toContain('ExecutionLevel Execution: Running')
    expect(lines).toContain('ExecutionLevel Execution: Completed successfully')
    expect(lines.at(-1)).toBe('JobLevel State Update: Completed')
    const sequences = events.map((event) => event.SeqNum as number)
    expect(sequences).toEqual(sequences.map((_, index) => index + 1))
  })

  it('prints no warning about the zero values that Go sends for fields of the server', async () => {
    expect((await client().submit(batch('true'))).Warnings ?? []).toEqual([])
  })

  it('follows output from the beginning to the end of a job', async () => {
    const { stdout, stderr } = await client().runFollowing(
      batch('echo out; echo err >&2; sleep 0.05; echo more'),
    )
    expect(stdout).toBe('out\nmore\n')
    expect(stderr).toBe('err\n')
  })

  it('describes a job with its executions and history', async () => {
    const cli = client()
    const { id } = await cli.run(batch('echo hi; exit 3'))
    const { Job: job, Executions: executions, History: history } = await cli.describe(id.slice(0, 10))
    expect(job.ID).toBe(id)
    expect(executions.Items[0].RunOutput).toMatchObject({ Stdout: 'hi\n', stderr: '', ExitCode: 3 })
    expect([executions.Items[0].DesiredState.StateType, executions.Items[0].ComputeState.StateType]).toEqual([
      2, 9,
    ])
    expect(history.Items.length).toBeGreaterThan(4)
  })

  it('lists jobs page by page with its default selector; every one has a task with an engine', async () => {
    const cli = client()
    for (let index = 0; index < 3; index++) await cli.submit(batch('true', {}))
    const seen: string[] = []
    for (let token = ''; ; ) {
      const page = await cli.list({ limit: '2', order_by: 'created_at', reverse: 'true', next_token: token })
      for (const job of page.Items) {
        expect(job.Tasks[0].Engine.Type).not.toBe('')
        seen.push(job.ID as string)
      }
      token = page.NextToken as string
      if (token === '' || seen.length > 200) break
    }
    expect(new Set(seen).size).toBe(seen.length)
    expect(seen.length).toBeGreaterThanOrEqual(3)
  })

  it('stops a job, and refuses by itself to stop it again', async () => {
    const cli = client()
    const { JobID: id } = await cli.submit(batch(ENDLESS))
    expect((await cli.stop(id as string)).EvaluationID).not.toBe('')
    await expect(cli.stop(id as string)).rejects.toThrow('terminal state')
    expect((await cli.delete(id as string)).EvaluationID).toBe('')
    const { Job: job } = await cli.describe(id as string)
    expect(job.State).toMatchObject({ StateType: 'Stopped', Message: 'Stopped at user request' })
  })

  it('leaves a service running after the first event of an execution', async () => {
    const cli = client()
    const { id, events } = await cli.run({ Type: 'service', Tasks: [goTask(sh(ENDLESS))] })
    expect(events.some((event) => event.Type === 'ExecutionLevel')).toBe(true)
    await cli.stop(id)
  })

  it('runs an ops job and a daemon job', async () => {
    const cli = client()
    expect((await cli.run({ Type: 'ops', Tasks: [goTask(sh('echo ops'))] })).job.State.StateType).toBe(
      'Completed',
    )
    const { id } = await cli.run({ Type: 'daemon', Tasks: [goTask(sh(ENDLESS))] })
    await cli.stop(id)
  })

  it('is told why a job failed', async () => {
    const { job, events } = await client().run({
      Type: 'batch',
      Constraints: [{ Key: 'region', Operator: '=', Values: ['mars'] }],
      Tasks: [goTask(sh('true'))],
    })
    expect(job.State.StateType).toBe('Failed')
    expect(job.State.Message).toContain('not enough nodes')
    expect(events.some((event) => event.Event.Details?.IsError === 'true')).toBe(true)
  })

  it('downloads results: a tar archive whose root holds stdout, stderr, exitCode and the result paths', async () => {
    const cli = client()
    const { id } = await cli.run(
      batch('echo hi; echo oh >&2; echo data > "$OUT_outputs/file"', {
        Publisher: { Type: 'local' },
        ResultPaths: [{ Name: 'outputs', Path: '/outputs' }],
      }),
    )
    const { Items: items } = await cli.results(id)
    expect(items).toHaveLength(1)
    expect(items[0].Type).toBe('urlDownload')
    const link = new URL(items[0].Params.URL as string)
    expect(link.pathname).toMatch(/\.tar\.gz$/)
    const names = await unpackResults(Buffer.from(await (await fetch(link)).arrayBuffer()))
    expect(names).toMatchObject({ stdout: 'hi\n', stderr: 'oh\n', exitCode: '0', 'outputs/file': 'data\n' })
  })

  it('reads nodes in every state and one by a beginning of its id', async () => {
    const cli = client()
    const { Nodes: nodes } = await cli.nodes()
    const states = Object.fromEntries(
      nodes.map((node: { Info: { NodeID: string }; Membership: string; Connection: string }) => [
        node.Info.NodeID,
        `${node.Membership} ${node.Connection}`,
      ]),
    )
    expect(states).toMatchObject({
      [NODES.worker]: 'APPROVED CONNECTED',
      [NODES.pending]: 'PENDING CONNECTED',
      [NODES.rejected]: 'REJECTED CONNECTED',
      [NODES.gone]: 'APPROVED DISCONNECTED',
    })
    const filtered = await cli.nodes({
      'filter-approval': 'pending',
      'filter-status': 'connected',
      limit: '9',
    })
    expect(filtered.Nodes).toHaveLength(1)
    const { Node: node } = await cli.node('n-0b')
    expect(node.Info).toMatchObject({ NodeID: NODES.worker, NodeType: 'Compute' })
    expect(node.Info.ComputeNodeInfo.ExecutionEngines).toEqual(['docker'])
    if (version === 'v1.9.3') expect(node.ConnectionState.Status).toBe('CONNECTED')
  })

  it('reads what the agent says about itself', async () => {
    const cli = client()
    expect(await cli.get('/agent/alive', cli.structs.alive)).toEqual({ Status: 'OK' })
    expect((await cli.get('/agent/version', cli.structs.version)).GitVersion).toMatch(/^v1\.\d+\.\d+$/)
    const node = await cli.get('/agent/node', cli.structs.agentNode)
    expect((node.Info ?? node).NodeID).toBe(NODES.worker)
    expect((await cli.get('/agent/config', cli.structs.agentConfig)).config.API.Port).toBe(1234)
    await cli.get('/agent/debug', cli.structs.debug)
    if (version === 'v1.9.3') {
      expect(await cli.get('/agent/authconfig', cli.structs.authConfig)).toMatchObject({ Version: '1.0.0' })
    }
  })

  it('gets errors that it can decode, with code, component and hint', async () => {
    const cli = client()
    const error = (await cli.describe('j-00000000').catch((reason: unknown) => reason)) as GoApiError
    expect(error.status).toBe(404)
    expect(error.body).toMatchObject({ Status: 404, Code: 'NotFound', Component: 'JobStore' })
    await expect(cli.submit({ Tasks: [goTask(['true'])], Type: '' })).rejects.toThrow('missing job type')
  })
})
