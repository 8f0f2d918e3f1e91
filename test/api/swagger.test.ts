import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import WebSocket from 'ws'
import { deviations, readFacts, WRONG_DEFINITIONS, type OperationFacts } from './contract/api-facts.js'
import { exchange, goJob, goTask, type RawAnswer } from './contract/go-cli.js'
import { readJsonText, type JsonText } from './contract/json-text.js'
import { NODES } from './contract/network.js'
import { startPopulatedNetwork, type PopulatedNetwork } from './contract/populated-network.js'

let network: PopulatedNetwork
beforeAll(async () => {
  network = await startPopulatedNetwork({ api: { limits: { requestsPerSecond: 100_000 } } })
})
afterAll(() => network.close())

const VERSIONS = ['v1.5.2', 'v1.9.3'] as const
const FACTS = { 'v1.5.2': readFacts('v1.5.2'), 'v1.9.3': readFacts('v1.9.3') }

/** Where the published descriptions are wrong about a whole operation: why, and what is true. */
const WRONG_OPERATIONS: Record<string, { reason: string; holds: () => Promise<void> }> = {
  'GET /api/v1/compute/debug': {
    reason: 'the path takes POST',
    holds: async () => {
      expect((await call('GET', '/api/v1/compute/debug')).status).toBe(405)
      const answer = await call('POST', '/api/v1/compute/debug')
      expect([answer.status, readJsonText(answer.text).kind]).toEqual([200, 'object'])
    },
  },
  'GET /api/v1/orchestrator/jobs/{id}/logs': {
    reason: 'a websocket; its frames wrap the log, whose keys are capitalised, in "value"',
    holds: async () => {
      const path = `/api/v1/orchestrator/jobs/${network.jobs.completed}/logs`
      const plain = await call('GET', path)
      expect([plain.status, plain.headers['content-type']]).toEqual([400, 'text/plain; charset=utf-8'])
      const frames = await readFrames(path)
      expect(frames.length).toBeGreaterThan(0)
      for (const frame of frames) {
        const value = entry(readJsonText(frame), 'value')
        expect(deviations(value, '#models.ExecutionLog', FACTS['v1.5.2'])).toEqual([])
        expect(entry(value, 'Line').kind).toBe('string')
      }
    },
  },
  'GET /api/v1/agent/config': {
    reason: 'the configuration is under the key "config", with durations as Go writes them',
    holds: async () => {
      const answer = await call('GET', '/api/v1/agent/config')
      expect(entry(readJsonText(answer.text), 'config').kind).toBe('object')
    },
  },
  'GET /api/v1/agent/debug': {
    reason: 'a free object from component to anything, not one component',
    holds: async () => {
      expect(readJsonText((await call('GET', '/api/v1/agent/debug')).text).kind).toBe('object')
    },
  },
  'GET /api/v1/node_info': {
    reason: 'NodeState, not NodeInfo',
    holds: async () => {
      const json = readJsonText((await call('GET', '/api/v1/node_info')).text)
      expect(deviations(json, '#models.NodeState', FACTS['v1.5.2'])).toEqual([])
      expect(entry(json, 'Info').kind).toBe('object')
    },
  },
}

/** Operations whose answer is text although the description has a type, or none. */
const TEXT = new Set(['GET /', 'GET /api/v1/id', 'GET /api/v1/livez'])

describe.each(VERSIONS)('the published description of %s', (version) => {
  const facts = FACTS[version]

  it.each(facts.operations.map((operation) => [`${operation.method} ${operation.path}`, operation] as const))(
    '%s is served and answers in the documented shape',
    async (title, operation) => {
      const wrong = WRONG_OPERATIONS[title]
      if (wrong !== undefined) return wrong.holds()
      for (const { path, body } of requestsFor(operation)) {
        const answer = await call(operation.method, path, body)
        expect(answer.status, `${path} ${answer.text}`).toBe(200)
        if (TEXT.has(title)) {
          expect(answer.headers['content-type']).toContain('text/plain')
          continue
        }
        expect(answer.headers['content-type']).toContain('application/json')
        const json = readJsonText(answer.text)
        expect(deviations(json, operation.responses['200'] ?? 'any', facts), path).toEqual([])
      }
    },
  )

  const parameters = facts.operations.flatMap((operation) =>
    Object.entries(operation.query ?? {}).map(
      ([name, type]) => [`${operation.method} ${operation.path}`, name, type, operation] as const,
    ),
  )

  it.each(parameters)(
    '%s takes the parameter %s with every documented value',
    async (title, name, type, operation) => {
      if (title in WRONG_OPERATIONS) return
      const [request] = requestsFor(operation)
      for (const value of documentedValues(name, type)) {
        const path = withQuery(request?.path ?? '', name, value)
        const answer = await call(operation.method, path, request?.body)
        expect(answer.status, `${path} ${answer.text}`).toBe(200)
      }
    },
  )

  it.each(parameters)(
    '%s refuses or ignores hostile values of %s',
    async (_title, name, _type, operation) => {
      const [request] = requestsFor(operation)
      for (const value of HOSTILE) {
        const path = withQuery(request?.path ?? '', name, value)
        const answer = await call(operation.method, path, request?.body)
        expect([200, 400, 404], `${path} ${answer.text}`).toContain(answer.status)
        if (answer.status === 200 || answer.headers['content-type']?.startsWith('text/plain') === true)
          continue
        const error = entryText(readJsonText(answer.text), 'Message')
        expect(error, path).not.toBe('')
      }
    },
  )

  it('describes integers that are integers and times that are times in every answer about real jobs', async () => {
    for (const id of Object.values(network.jobs)) {
      const { text } = await call('GET', `/api/v1/orchestrator/jobs/${id}?include=executions,history`)
      const json = readJsonText(text)
      expect(deviations(json, '#apimodels.GetJobResponse', facts), id).toEqual([])
      for (const [key, value] of walk(json)) {
        if (key === 'CreateTime' || key === 'ModifyTime') {
          expect(value.kind === 'number' && /^1\d{18}$/.test(value.text), `${id} ${key}`).toBe(true)
        }
        if (value.kind === 'number') expect(value.text, `${id} ${key}`).not.toMatch(/e/i)
      }
    }
  })
})

describe('what the published descriptions get wrong', () => {
  it('is listed only where the descriptions really say it', () => {
    const operations = new Set(
      VERSIONS.flatMap((version) => FACTS[version].operations.map(({ method, path }) => `${method} ${path}`)),
    )
    for (const [operation, { reason }] of Object.entries(WRONG_OPERATIONS)) {
      expect(operations, operation).toContain(operation)
      expect(reason).not.toBe('')
    }
    for (const [name, { reason, words }] of Object.entries(WRONG_DEFINITIONS)) {
      const definition = FACTS['v1.5.2'].definitions[name]
      expect(definition, name).toBeDefined()
      expect(definition?.enum ?? [], `${name}: ${reason}`).not.toEqual(words)
    }
  })

  it('is the update of a node: PUT with the id in the path is what the CLI sends; POST without is served too', async () => {
    const put = await call('PUT', `/api/v1/orchestrator/nodes/${NODES.worker}`, { Action: 'approve' })
    expect([put.status, entry(readJsonText(put.text), 'Success')]).toEqual([
      200,
      { kind: 'bool', value: false },
    ])
    const post = await call('POST', '/api/v1/orchestrator/nodes', { action: 'approve', nodeID: NODES.worker })
    expect(post.text).toBe(put.text)
  })

  it('is the stop reason: the body counts, and the query is taken too', async () => {
    for (const [query, body] of [
      ['', { reason: 'why' }],
      ['?reason=why', {}],
      ['?reason=ignored', { reason: 'why' }],
    ] as const) {
      const id = await submitted('sleep 600')
      await call('DELETE', `/api/v1/orchestrator/jobs/${id}${query}`, body)
      const { text } = await call('GET', `/api/v1/orchestrator/jobs/${id}`)
      const state = entry(entry(readJsonText(text), 'Job'), 'State')
      expect(entryText(state, 'Message')).toBe('why')
    }
  })

  it('is filter_approval: both spellings filter', async () => {
    for (const name of ['filter_approval', 'filter-approval']) {
      const { text } = await call('GET', `/api/v1/orchestrator/nodes?${name}=PENDING`)
      const nodes = entry(readJsonText(text), 'Nodes')
      expect(nodes.kind === 'array' && nodes.items.length, name).toBe(1)
    }
  })

  it('is node_id of the history: it is ignored; and the order of executions is optional', async () => {
    const job = `/api/v1/orchestrator/jobs/${network.jobs.completed}`
    const plain = await call('GET', `${job}/history`)
    expect((await call('GET', `${job}/history?node_id=nobody`)).text).toBe(plain.text)
    expect((await call('GET', `${job}/executions`)).status).toBe(200)
  })

  it('leaves out auth, POST of jobs and the requester, which exist', async () => {
    expect((await call('GET', '/api/v1/auth')).status).toBe(200)
    expect((await call('POST', '/api/v1/orchestrator/jobs', body('true'))).status).toBe(200)
    expect((await call('POST', '/api/v1/requester/list', {})).status).toBe(410)
  })

  it('is paths that no server routes', async () => {
    expect((await call('POST', '/api/v1/compute/approve', {})).status).toBe(404)
    expect((await call('GET', '/api/v1/peers')).status).toBe(404)
  })
})

/* ---- Requests ---- */

const HOSTILE = [
  '',
  '-1',
  '1e9',
  '99999999999999999999',
  'NaN',
  'true',
  'nonsense',
  '%00',
  '%ff%fe',
  '%F0%9F%92%A9',
  '..%2F..',
  "'%20OR%201=1--",
  '%7B%22a%22:1%7D',
  'a'.repeat(5000),
  '%0d%0aX-Injected:%201',
  '[]',
  '__proto__',
]

/** Requests that must succeed, one per job or node worth asking about. */
function requestsFor({ method, path, body: type }: OperationFacts): { path: string; body?: unknown }[] {
  const { jobs } = network
  if (path.startsWith('/api/v1/orchestrator/nodes/')) {
    const node = method === 'GET' ? NODES.pending : NODES.worker
    return [
      { path: path.replace('{id}', node), body: type === undefined ? undefined : { Action: 'approve' } },
    ]
  }
  if (path === '/api/v1/orchestrator/nodes' && method === 'POST') {
    return [{ path, body: { action: 'approve', nodeID: NODES.worker } }]
  }
  if (method === 'DELETE') return [{ path: path.replace('{id}', jobs.stopped), body: {} }]
  if (path.endsWith('/rerun')) return [{ path: path.replace('{id}', jobs.completed), body: {} }]
  if (path.endsWith('/diff')) return [{ path, body: { Job: { ...named('contract') } } }]
  if (path === '/api/v1/orchestrator/jobs' && method === 'PUT') return [{ path, body: body('true') }]
  if (path === '/api/v1/version') return [{ path, body: { client_id: 'someone' } }]
  if (!path.includes('{id}')) return [{ path }]
  return Object.values(jobs).map((id) => ({ path: path.replace('{id}', id) }))
}

function documentedValues(name: string, type: string): string[] {
  const values: Record<string, string[]> = {
    namespace: ['', '*', 'default'],
    limit: ['', '0', '1', '4294967295'],
    next_token: [''],
    reverse: ['', 'true', 'false', 'True', 'False', '1', '0', 't', 'F'],
    order_by: [''],
    include: ['', 'history', 'executions', 'history,executions', ' executions , other'],
    reason: ['', 'because'],
    since: ['', '0', '1732870000'],
    event_type: ['', 'all', 'job', 'execution'],
    execution_id: ['', 'e-'],
    filter_approval: ['', 'pending', 'APPROVED', 'rejected'],
    'filter-status': ['', 'connected', 'DISCONNECTED'],
    job_version: ['', '0'],
  }
  const known = values[name]
  if (known === undefined) throw new Error(`no documented values for ${name} of type ${type}`)
  return known
}

function withQuery(path: string, name: string, value: string): string {
  return `${path}${path.includes('?') ? '&' : '?'}${name}=${value.replaceAll(' ', '%20')}`
}

function body(script: string): object {
  return { Job: goJob({ Type: 'batch', Tasks: [goTask(['sh', '-c', script])] }) }
}

function named(name: string): object {
  return goJob({ Name: name, Type: 'batch', Tasks: [goTask(['true'])] })
}

async function submitted(script: string): Promise<string> {
  const { text } = await call('PUT', '/api/v1/orchestrator/jobs', body(script))
  return entryText(readJsonText(text), 'JobID')
}

function call(method: string, path: string, value?: unknown): Promise<RawAnswer> {
  const payload = value === undefined ? undefined : JSON.stringify(value)
  const headers: Record<string, string> =
    payload === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }
  return exchange(new URL(network.url), method, path, headers, payload)
}

function readFrames(path: string): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const frames: string[] = []
    const socket = new WebSocket(`ws://127.0.0.1:${network.port}${path}`)
    socket.on('message', (data: Buffer) => frames.push(data.toString('utf8')))
    socket.once('error', reject)
    socket.once('close', () => resolve(frames))
  })
}

function entry(json: JsonText, key: string): JsonText {
  const found = json.kind === 'object' ? json.entries.find(([name]) => name === key) : undefined
  if (found === undefined) throw new Error(`no ${key} in ${JSON.stringify(json).slice(0, 200)}`)
  return found[1]
}

function entryText(json: JsonText, key: string): string {
  const value = entry(json, key)
  return value.kind === 'string' ? value.value : ''
}

function* walk(json: JsonText, key = ''): Iterable<[string, JsonText]> {
  yield [key, json]
  if (json.kind === 'object') for (const [name, item] of json.entries) yield* walk(item, name)
  if (json.kind === 'array') for (const item of json.items) yield* walk(item, key)
}
