import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exchange, goJob, goTask, type RawAnswer } from './contract/go-cli.js'
import { startPopulatedNetwork, type PopulatedNetwork } from './contract/populated-network.js'
import type { OpenApi } from './openapi-conformance.js'

/** Random requests to every route of a real server, with real jobs behind it. */

let network: PopulatedNetwork
let routes: { method: string; path: string }[]
const defects: object[] = []
beforeAll(async () => {
  network = await startPopulatedNetwork({
    api: {
      limits: { requestsPerSecond: 1_000_000, handlerTimeoutMs: 20_000 },
      logger: { debug() {}, warn() {}, error: (details) => defects.push(details) },
    },
  })
  const document = JSON.parse((await call('GET', '/api/v1/openapi.json')).text) as OpenApi
  routes = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => ({ method: method.toUpperCase(), path })),
  )
})
afterAll(() => network.close())

const QUERY_NAMES = [
  'namespace',
  'labels',
  'order_by',
  'reverse',
  'limit',
  'next_token',
  'include',
  'event_type',
  'execution_id',
  'since',
  'filter-approval',
  'filter_status',
  'idempotency_token',
  'reason',
  'job_version',
  'all_job_versions',
  'encoding',
  'tail',
  'denied',
  'pretty',
  '__proto__',
  'constructor',
]

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.constantFrom(
    '',
    '0',
    '-1',
    'true',
    'False',
    'default',
    '*',
    'e-',
    'j-',
    'n-0',
    '9'.repeat(30),
    'a'.repeat(3000),
  ),
  fc.base64String({ maxLength: 40 }),
)
const query = fc
  .array(fc.tuple(fc.constantFrom(...QUERY_NAMES), text), { maxLength: 5 })
  .map((pairs) => pairs.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&'))

const JOB = goJob({ Type: 'batch', Tasks: [goTask(['true'])] }) as Record<string, unknown>
const anything = fc.jsonValue({ maxDepth: 5 })
/** A valid body in which some keys were replaced, at any depth. */
const damaged = fc
  .array(
    fc.tuple(
      fc.constantFrom(...Object.keys(JOB), 'Engine', 'Network', 'Timeouts', 'Resources', 'Env'),
      anything,
    ),
    { minLength: 1, maxLength: 3 },
  )
  .map((changes) => {
    const job = structuredClone(JOB) as Record<string, unknown> & { Tasks: Record<string, unknown>[] }
    for (const [key, value] of changes) {
      if (key in JOB) job[key] = value
      else if (Array.isArray(job.Tasks) && typeof job.Tasks[0] === 'object')
        job.Tasks[0] = { ...job.Tasks[0], [key]: value }
    }
    return JSON.stringify({ Job: job })
  })
const body = fc.oneof(
  anything.map((value) => JSON.stringify(value)),
  damaged,
  fc
    .record({ Action: text, NodeID: text, Message: text, MethodData: text, reason: anything })
    .map((value) => JSON.stringify(value)),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.constantFrom(
    '',
    '{',
    '[[[[',
    '{"__proto__":{}}',
    '{"Job":{"constructor":{"prototype":{}}}}',
    `${'['.repeat(70)}${']'.repeat(70)}`,
  ),
)
const headers = fc.dictionary(
  fc.constantFrom(
    'x-bacalhau-git-version',
    'x-request-id',
    'authorization',
    'x-bacalhau-instanceid',
    'accept',
    'accept-encoding',
    'content-encoding',
    'content-type',
    'origin',
    'cookie',
    'x-forwarded-for',
    'x-http-method-override',
  ),
  fc.oneof(
    fc.constantFrom(
      'v1.5.2',
      'v1.4.0',
      'v1.9.3',
      'latest',
      'application/json',
      'text/plain',
      'Bearer x',
      'http://localhost',
      'DELETE',
      '',
    ),
    fc.string({
      unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
      maxLength: 40,
    }),
  ),
  { maxKeys: 4 },
)

const STATUSES = [200, 301, 400, 401, 403, 404, 405, 409, 410, 413, 414, 415, 429]

describe('random requests', () => {
  it('to every route are answered in one of the documented ways; nothing is a defect and the server lives', {
    timeout: 180_000,
  }, async () => {
    const request = fc.record({
      route: fc.nat(),
      id: fc.oneof(fc.constantFrom('known', 'queued', 'node'), text),
      query,
      body: fc.option(body, { nil: undefined }),
      headers,
      method: fc.option(fc.constantFrom('GET', 'PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD'), {
        nil: undefined,
      }),
    })
    await fc.assert(
      fc.asyncProperty(request, async (one) => {
        const route = routes[one.route % routes.length]
        if (route === undefined) throw new Error('no routes')
        const method = one.method ?? route.method
        const path = route.path.replace(/\{\w+\}/g, idOf(one.id))
        // Streams end when their job does; these jobs do not.
        if (/egress|logs/.test(path) && /follow/.test(one.query)) return
        const answer = await call(method, `${path}?${one.query}`, one.body, one.headers)
        // Tokens and the record of actions need a data directory, which this network has not.
        const isElsewhere = answer.status === 503 && path.startsWith('/api/v1/access')
        if (!isElsewhere)
          expect(STATUSES, `${method} ${path}?${one.query} ${answer.text}`).toContain(answer.status)
        if (answer.status >= 400 && method !== 'HEAD') expectErrorBody(answer)
        expect(defects).toEqual([])
      }),
      { numRuns: Number(process.env.WEIR_FUZZ_RUNS ?? 600) },
    )
    expect((await call('GET', '/api/v1/agent/alive')).status).toBe(200)
    expect((await network.cli.describe(network.jobs.published)).Job.State.StateType).toBe('Completed')
  })

  it('to paths that nobody made are answered with an error', async () => {
    const segment = fc.oneof(
      text.map((value) => encodeURIComponent(value)),
      fc.constantFrom(
        'api',
        'v1',
        'orchestrator',
        'jobs',
        'requester',
        '..',
        '%2e%2e',
        '%00',
        '%',
        '*',
        ':id',
        '',
      ),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(segment, { minLength: 1, maxLength: 7 }), async (segments) => {
        const answer = await call('GET', `/${segments.join('/')}`)
        expect([200, 400, 404, 405, 410, 414, 431], answer.text).toContain(answer.status)
        if (answer.status >= 400) expectErrorBody(answer)
      }),
      { numRuns: 300 },
    )
    expect(defects).toEqual([])
  })
})

function idOf(id: string): string {
  switch (id) {
    case 'known':
      return network.jobs.completed
    case 'queued':
      return network.jobs.queued.slice(0, 12)
    case 'node':
      return 'n-0b'
    default:
      return encodeURIComponent(id)
  }
}

/** The one shape, the two of the version gate, the refused login, the requester's text, or the text of the log route. */
function expectErrorBody(answer: RawAnswer): void {
  const type = answer.headers['content-type'] ?? ''
  if (type.startsWith('text/plain')) return expect(answer.text).toMatch(/^Bad Request: the log stream/)
  expect(type, answer.text).toBe('application/json; charset=utf-8')
  const error: unknown = JSON.parse(answer.text)
  if (answer.status === 410) return expect(error).toBeTypeOf('string')
  const record = error as Record<string, unknown>
  if ('Error' in record || 'Authentication' in record) return
  expect(record).toMatchObject({
    Status: answer.status,
    Message: expect.any(String),
    Code: expect.any(String),
  })
  expect(record.Message).not.toBe('')
  const details = Object.values((record.Details ?? {}) as object)
  expect(details.every((value) => typeof value === 'string')).toBe(true)
}

function call(
  method: string,
  path: string,
  payload?: string,
  more: Record<string, string> = {},
): Promise<RawAnswer> {
  const type: Record<string, string> =
    payload === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }
  return exchange(new URL(network.url), method, path, { ...type, ...more }, payload)
}
