import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { HELLO, NODE_ID, startServer, submit, type Server } from './with-server.js'

const JOBS = '/api/v1/orchestrator/jobs'

describe('jobs over HTTP', () => {
  let server: Server
  beforeAll(async () => {
    server = await startServer()
  })
  afterAll(() => server.close())

  it('takes a submission by PUT and by POST and answers with ids and warnings', async () => {
    for (const method of ['PUT', 'POST']) {
      const answer = await server.call(method, JOBS, { Job: HELLO, Namespace: '', Credential: null })
      expect(answer.status, answer.text).toBe(200)
      expect(answer.json.JobID).toMatch(/^j-[0-9a-f-]{36}$/)
      expect(answer.json.EvaluationID).toMatch(/^[0-9a-f-]{36}$/)
      expect(answer.json.Warnings).toEqual([])
    }
  })
})
