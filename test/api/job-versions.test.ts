import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WeirClient } from '../../src/client/index.js'
import { startNetwork, type Network } from './contract/network.js'

const CLIENTS = { old: 'v1.5.2', new: 'v1.9.3' } as const

describe('versions of jobs over the API', () => {
  let network: Network
  beforeAll(async () => {
    network = await startNetwork({ allStates: false })
  })
  afterAll(() => network.close())

  interface Answer {
    status: number
    json: {
      JobID: string
      JobVersion: number
      EvaluationID: string
      Diff: string
      Warnings: string[]
      Items: { ID: string; Version: number; JobVersion: number; Event: { Message: string } }[]
      NextToken: string
      Job: { ID: string; Version: number; State: { StateType: string }; Labels: Record<string, string> }
      Code: string
      Details: Record<string, string>
      Message: string
    }
  }
  const call = async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = { 'x-bacalhau-git-version': CLIENTS.new },
  ): Promise<Answer> => {
    const response = await fetch(`${network.url}/api/v1/orchestrator/jobs${path}`, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    return { status: response.status, json: (await response.json()) as Answer['json'] }
  }
  const job = (Name: string, changes: object = {}): { Job: object } => ({
    Job: {
      Name,
      Type: 'batch',
      Tasks: [
        { Name: 'main', Engine: { Type: 'docker', Params: { Image: 'x', Parameters: ['echo', 'hi'] } } },
      ],
      ...changes,
    },
  })
  const over = async (path: string): Promise<void> => {
    await expect.poll(async () => (await call('GET', path)).json.Job.State.StateType).toBe('Completed')
  }

  it('updates a named job for clients since 1.8, and makes another one for earlier clients and plain ones', async () => {
    const first = await call('PUT', '', job('web'))
    expect(first).toMatchObject({ status: 200, json: { JobVersion: 1 } })
    await over('/web')
    const second = await call('PUT', '', job('web', { Labels: { is: 'new' } }))
    expect(second.json).toMatchObject({ JobID: first.json.JobID, JobVersion: 2 })
    expect(second.json.EvaluationID).not.toBe('')
    for (const headers of [
      { 'x-bacalhau-git-version': CLIENTS.old },
      { 'x-bacalhau-git-version': 'v0.0.0-dev' },
      {},
    ]) {
      const other = await call('PUT', '', job('plain'), headers as Record<string, string>)
      expect(other).toMatchObject({ status: 200, json: { JobVersion: 1 } })
    }
    const { json } = await call('GET', '')
    expect(new Set(json.Items.map(({ ID }) => ID)).size).toBe(json.Items.length)
    expect(json.Items.filter(({ Version }) => Version === 2)).toHaveLength(1)
  })

  it('counts the own client among those that know names', async () => {
    const client = new WeirClient({ baseUrl: network.url })
    const one = await client.submit(job('own').Job)
    const two = await client.submit(job('own', { Priority: 1 }).Job)
    expect(two).toMatchObject({ JobID: one.JobID, JobVersion: 2 })
    await expect(client.submit(job('own', { Priority: 1 }).Job)).rejects.toMatchObject({
      code: 'job.unchanged',
    })
    expect(await client.submit(job('own', { Priority: 1 }).Job, { force: true })).toMatchObject({
      JobVersion: 3,
    })
    client.close()
  })

  it('refuses what changes nothing with 409, unless Force is set', async () => {
    await call('PUT', '', job('same'))
    const refused = await call('PUT', '', job('same'))
    expect(refused).toMatchObject({
      status: 409,
      json: { Code: 'ConflictJobVersion', Details: { WeirCode: 'job.unchanged' } },
    })
    expect(await call('PUT', '', { ...job('same'), Force: true })).toMatchObject({ json: { JobVersion: 2 } })
    expect(await call('PUT', '', { ...job('same'), force: 'yes' })).toMatchObject({ status: 400 })
  })

  it('compares, runs again and lists versions', async () => {
    const { json: first } = await call('PUT', '', job('cycle'))
    expect((await call('PUT', '/diff', job('cycle'))).json).toEqual({ Diff: '', Warnings: [] })
    expect((await call('PUT', '/diff', job('cycle', { Priority: 7 }))).json.Diff).toBe(
      '- Priority: 0\n+ Priority: 7\n',
    )
    expect((await call('PUT', '/diff', job('unheard'))).json.Warnings[0]).toContain('would be a new one')
    expect((await call('PUT', '/diff', job(''))).status).toBe(400)
    await over('/cycle')
    expect(await call('PUT', '/cycle/rerun', { JobVersion: 0, Reason: 'again' })).toMatchObject({
      status: 200,
      json: { JobID: first.JobID, JobVersion: 2, Warnings: [] },
    })
    await over('/cycle')
    expect(
      await call('PUT', `/${first.JobID.slice(0, 12)}/rerun`, { jobversion: 1, reason: '' }),
    ).toMatchObject({ json: { JobVersion: 3 } })
    await over('/cycle')
    const { json } = await call('GET', '/cycle/versions')
    expect(json).toMatchObject({ NextToken: '' })
    expect(json.Items.map(({ ID, Version }) => [ID, Version])).toEqual(
      [1, 2, 3].map((version) => [first.JobID, version]),
    )
    expect((await call('PUT', '/cycle/rerun', { JobVersion: 9 })).status).toBe(404)
    expect((await call('PUT', '/cycle/rerun', { JobVersion: -1 })).status).toBe(400)
    expect((await call('PUT', '/cycle/rerun', { JobVersion: '1' })).status).toBe(400)
    expect((await call('PUT', '/nobody/rerun', {})).status).toBe(404)
  })

  it('shows the latest version by default, one that is named, or all', async () => {
    await call('PUT', '', job('shown'))
    await over('/shown')
    await call('PUT', '', job('shown', { Labels: { v: '2' } }))
    await over('/shown')
    const versionsOf = async (path: string): Promise<number[]> => [
      ...new Set((await call('GET', path)).json.Items.map(({ JobVersion }) => JobVersion)),
    ]
    for (const part of ['executions', 'history']) {
      expect(await versionsOf(`/shown/${part}`)).toEqual([2])
      expect(await versionsOf(`/shown/${part}?job_version=1`)).toEqual([1])
      expect(await versionsOf(`/shown/${part}?all_job_versions=True`)).toEqual([1, 2])
      expect((await call('GET', `/shown/${part}?job_version=5`)).status).toBe(404)
    }
    expect((await call('GET', '/shown?job_version=1')).json.Job).toMatchObject({ Version: 1, Labels: {} })
    const { json } = await call('GET', '/shown?job_version=1&include=executions,history')
    expect(json).toMatchObject({ Executions: { Items: [{ JobVersion: 1 }] } })
    // The history of a version that was replaced has an end.
    expect((await call('GET', '/shown/history?job_version=1&limit=100')).json.NextToken).toBe('')
  })

  it('finds jobs by names that have to be escaped, in their namespace', async () => {
    const name = 'a b/ü?#%'
    const path = `/${encodeURIComponent(name)}`
    const { json: here } = await call('PUT', '', job(name))
    const { json: there } = await call('PUT', '', job(name, { Namespace: 'team' }))
    expect((await call('GET', path)).json.Job.ID).toBe(here.JobID)
    expect((await call('GET', `${path}?namespace=team`)).json.Job.ID).toBe(there.JobID)
    expect((await call('GET', `${path}?namespace=nobody`)).status).toBe(404)
    expect((await call('GET', `/${there.JobID}?namespace=default`)).json.Job.ID).toBe(there.JobID)
    expect((await call('GET', `${path}/results?namespace=team`)).status).toBe(200)
    expect((await call('GET', `${path}/versions?namespace=team`)).json.Items).toHaveLength(1)
  })

  it('lists jobs by state and in pages that stand still while jobs are added', async () => {
    const client = new WeirClient({ baseUrl: network.url })
    const before = (await client.jobs({ limit: 0 })).Items.map(({ ID }) => ID)
    for (const reverse of [false, true]) {
      const seen: string[] = []
      for (let nextToken: string | undefined; ; ) {
        const page = await client.jobs({ limit: 2, reverse, nextToken })
        seen.push(...page.Items.map(({ ID }) => ID))
        if (page.NextToken === '') break
        nextToken = page.NextToken
        if (seen.length < 20) await client.submit(job(`added-${reverse}-${seen.length}`).Job)
      }
      expect(new Set(seen).size).toBe(seen.length)
      for (const id of before) expect(seen).toContain(id)
    }
    const states = async (state: string): Promise<string[]> => {
      const { json } = await call('GET', `?state=${state}`)
      return [
        ...new Set(
          json.Items.map((one) => (one as unknown as { State: { StateType: string } }).State.StateType),
        ),
      ]
    }
    expect(await states('completed')).toEqual(['Completed'])
    expect(await states('Failed,stopped')).toEqual([])
    expect((await call('GET', '?state=broken')).status).toBe(400)
    const old = Buffer.from('created_at:N:2:2').toString('base64url')
    expect((await call('GET', `?next_token=${old}`)).json.Items).toHaveLength(2)
    client.close()
  })
})
