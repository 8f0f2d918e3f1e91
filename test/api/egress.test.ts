import { get } from 'node:http'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { auditRecord, type MemoryJobService } from './memory-job-service.js'
import { startServer, submit, type Server } from './with-server.js'

let server: Server
beforeEach(async () => {
  server = await startServer()
})
afterEach(() => server.close())

const path = (id: string, query = '') => `/api/v1/orchestrator/jobs/${id}/egress${query}`

describe('egress records over HTTP', () => {
  const EXECUTIONS = [1, 2].map((n) => `e-0000000${n}-0000-4000-8000-000000000000`)

  function addExecutions(jobs: MemoryJobService, jobId: string): void {
    for (const _ of EXECUTIONS) jobs.addExecution(jobId, { state: 'Running' })
  }

  it('gives records in the form over which their hashes were made', async () => {
    const id = await submit(server)
    const record = auditRecord(id)
    server.jobs.addExecution(id, {})
    server.jobs.egressByJob.set(id, [record])
    expect((await server.call('GET', path(id))).json).toEqual({ NextToken: '', Items: [record] })
  })

  it('gives refusals only when asked for those', async () => {
    const id = await submit(server)
    server.jobs.addExecution(id, {})
    const refused = auditRecord(id, {
      sequence: 2,
      decision: 'deny',
      code: 'egress.not_in_job_list',
      dialled: '',
    })
    server.jobs.egressByJob.set(id, [auditRecord(id), refused])
    expect((await server.call('GET', path(id, '?denied=true'))).json.Items).toEqual([refused])
  })

  it('pages through many records, execution by execution, without losing one when more arrive', async () => {
    const id = await submit(server)
    addExecutions(server.jobs, id)
    const records = [1, 2, 3, 4].flatMap((sequence) =>
      EXECUTIONS.map((executionId) => auditRecord(id, { executionId, sequence })),
    )
    server.jobs.egressByJob.set(id, records)
    const seen: string[] = []
    let token = ''
    do {
      const page = (await server.call('GET', path(id, `?limit=3&next_token=${token}`))).json
      seen.push(
        ...page.Items.map(
          (item: { executionId: string; sequence: number }) => `${item.executionId[9]}/${item.sequence}`,
        ),
      )
      if (token === '') records.push(auditRecord(id, { executionId: EXECUTIONS[0], sequence: 5 }))
      token = page.NextToken
    } while (token !== '')
    expect(seen).toEqual(['1/1', '1/2', '1/3', '1/4', '1/5', '2/1', '2/2', '2/3', '2/4'])
  })

  it('reads one execution, and says when there is none like that', async () => {
    const id = await submit(server)
    addExecutions(server.jobs, id)
    server.jobs.egressByJob.set(
      id,
      EXECUTIONS.map((executionId) => auditRecord(id, { executionId })),
    )
    const one = await server.call('GET', path(id, '?execution_id=e-00000002'))
    expect(one.json.Items.map((item: { executionId: string }) => item.executionId)).toEqual([EXECUTIONS[1]])
    expect((await server.call('GET', path(id, '?execution_id=e-f'))).status).toBe(404)
    expect((await server.call('GET', path(id, '?next_token=abc'))).status).toBe(400)
  })

  it('answers 404 for an unknown job, also when following', async () => {
    expect((await server.call('GET', path('j-nope'))).status).toBe(404)
    expect((await server.call('GET', path('j-nope', '?follow=true'))).status).toBe(404)
  })

  it('streams one record per line while the job runs and ends with it', async () => {
    const id = await submit(server)
    const records = [auditRecord(id)]
    server.jobs.egressByJob.set(id, records)
    const lines: string[] = []
    const ended = new Promise<string | undefined>((resolve, reject) => {
      get(`${server.url}${path(id, '?follow=true')}`, (response) => {
        response.setEncoding('utf8')
        response.on('data', (text: string) => lines.push(...text.split('\n').filter((line) => line !== '')))
        response.on('end', () => resolve(response.headers['content-type']))
      }).on('error', reject)
    })
    await expect.poll(() => lines.length).toBe(1)
    records.push(auditRecord(id, { sequence: 2 }))
    await expect.poll(() => lines.length).toBe(2)
    server.jobs.change(id, { state: 'Completed' })
    expect(await ended).toBe('application/x-ndjson')
    expect(lines.map((line) => (JSON.parse(line) as { sequence: number }).sequence)).toEqual([1, 2])
  })

  it('stops reading when the client goes away', async () => {
    const id = await submit(server)
    const request = get(`${server.url}${path(id, '?follow=true')}`)
    request.on('error', () => {})
    await expect.poll(() => server.jobs.openStreams).toBe(1)
    request.destroy()
    await expect.poll(() => server.jobs.openStreams).toBe(0)
  })
})
