import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { HELLO, startServer, submit, type Server } from './with-server.js'

let server: Server
let id: string
beforeAll(async () => {
  server = await startServer({ limits: { requestsPerSecond: 100_000 } })
  id = await submit(server)
})
afterAll(() => server.close())

const anything = fc.jsonValue({ maxDepth: 4 })
/** A job in which one part was replaced by something else. */
const damagedJob = fc
  .tuple(
    fc.constantFrom('Name', 'Type', 'Count', 'Labels', 'Constraints', 'Tasks', 'Meta', 'Priority'),
    anything,
  )
  .map(([key, value]) => ({ Job: { ...HELLO, [key]: value } }))
const damagedTask = fc
  .tuple(
    fc.constantFrom(
      'Name',
      'Engine',
      'Publisher',
      'Env',
      'InputSources',
      'ResultPaths',
      'Resources',
      'Network',
      'Timeouts',
    ),
    anything,
  )
  .map(([key, value]) => ({ Job: { ...HELLO, Tasks: [{ ...HELLO.Tasks[0], [key]: value }] } }))

describe('whatever is sent', () => {
  it.each([
    ['PUT', () => '/api/v1/orchestrator/jobs', [200, 400]],
    ['DELETE', () => `/api/v1/orchestrator/jobs/${id}`, [200, 400]],
    ['PUT', () => '/api/v1/orchestrator/nodes/n-1', [200, 400]],
    ['POST', () => '/api/v1/auth/clientkey', [400, 401]],
  ] satisfies [string, () => string, number[]][])(
    'as body of %s %s is answered, never with a defect',
    async (method, path, statuses) => {
      const body = fc.oneof(anything, damagedJob, damagedTask)
      await fc.assert(
        fc.asyncProperty(body, async (value) => {
          const answer = await server.call(method, path(), JSON.stringify(value))
          expect(statuses, answer.text).toContain(answer.status)
        }),
        { numRuns: 150 },
      )
    },
  )

  it('as query is answered with 200 or 400', async () => {
    const names = [
      'limit',
      'next_token',
      'order_by',
      'reverse',
      'labels',
      'namespace',
      'include',
      'event_type',
      'since',
    ]
    const query = fc.array(
      fc.tuple(fc.constantFrom(...names), fc.string({ unit: 'binary', maxLength: 12 })),
      { maxLength: 4 },
    )
    const paths = ['', `/${id}`, `/${id}/history`, `/${id}/executions`, `/${id}/egress`]
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), query, async (path, pairs) => {
        const text = pairs.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&')
        const answer = await server.call('GET', `/api/v1/orchestrator/jobs${path}?${text}`)
        expect([200, 400], answer.text).toContain(answer.status)
      }),
      { numRuns: 200 },
    )
  })

  it('as path is answered with an error in the documented shape', async () => {
    const segment = fc.oneof(
      fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }).map((text) => encodeURIComponent(text)),
      fc.constantFrom('..', '%2e%2e', '%2f', '%00', '%zz', '%', 'a'.repeat(600), 'j-%0d%0a'),
    )
    await fc.assert(
      fc.asyncProperty(segment, async (text) => {
        const answer = await server.call('GET', `/api/v1/orchestrator/jobs/${text}/results`)
        expect([400, 404, 414], answer.text).toContain(answer.status)
        expect(answer.json.Status, answer.text).toBe(answer.status)
      }),
      { numRuns: 150 },
    )
  })
})
