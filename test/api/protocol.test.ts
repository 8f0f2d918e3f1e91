import { connect, createServer, type AddressInfo, type Server as NetServer } from 'node:net'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createApiServer, type ApiServerOptions } from '../../src/api/index.js'
import { WeirError } from '../../src/errors.js'
import { WeirClient } from '../../src/client/index.js'
import { nodeInfo } from './memory-job-service.js'
import { HELLO, NODE_ID, startServer, submit, type Server } from './with-server.js'

const JOBS = '/api/v1/orchestrator/jobs'
const ALIVE = '/api/v1/agent/alive'

const servers: Server[] = []
async function start(options: Partial<ApiServerOptions> = {}): Promise<Server> {
  const server = await startServer(options)
  servers.push(server)
  return server
}
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

describe('error answers', () => {
  it('answers 404 for an unknown route and 405 for a wrong method, in the documented shape', async () => {
    const server = await start()
    const unknown = await server.call('GET', '/api/v1/nothing', undefined, { 'x-request-id': 'r1' })
    expect(unknown.status).toBe(404)
    expect(unknown.json).toMatchObject({
      Status: 404,
      RequestID: 'r1',
      Code: 'NotFound',
      Component: 'APIServer',
    })
    const wrong = await server.call('PATCH', `${JOBS}/j-1/history`)
    expect(wrong.status).toBe(405)
    expect(wrong.headers.allow).toContain('GET')
    expect(wrong.json).toMatchObject({ Status: 405, RequestID: '', Component: 'APIServer' })
  })

  it('hides what a defect says and logs it', async () => {
    const logged: object[] = []
    const silent = () => {}
    const server = await start({
      logger: { debug: silent, warn: silent, error: (details) => logged.push(details) },
    })
    server.jobs.failNext = new Error('the password is hunter2')
    const answer = await server.call('GET', JOBS)
    expect(answer.status).toBe(500)
    expect(answer.json).toMatchObject({
      Message: 'Internal server error',
      Code: 'InternalError',
      Component: 'Unknown',
    })
    expect(answer.text).not.toContain('hunter2')
    expect(answer.text).not.toContain('    at ')
    expect(logged).toHaveLength(1)
    server.jobs.failNext = new WeirError('internal', 'the password is hunter2')
    expect((await server.call('GET', JOBS)).text).not.toContain('hunter2')
  })

  it('answers HEAD with a status and no body', async () => {
    const server = await start()
    const answer = await server.call('HEAD', `${JOBS}/j-nope`)
    expect([answer.status, answer.text]).toEqual([404, ''])
  })

  it.each([
    ['broken JSON', '{"Job":', 'JSON'],
    ['nesting without end', `{"Job":${'['.repeat(5000)}${']'.repeat(5000)}}`, 'nested deeper'],
    ['a key that would reach a prototype', '{"Job":{"Labels":{"__proto__":{"x":"y"}}}}', '__proto__'],
  ])('answers 400 for %s', async (_title, body, text) => {
    const server = await start()
    const answer = await server.call('PUT', JOBS, body)
    expect(answer.status).toBe(400)
    expect(answer.json.Message).toContain(text)
  })

  it('names the content type when it is the wrong one', async () => {
    const server = await start()
    const answer = await server.call('PUT', JOBS, 'Job=1', {
      'content-type': 'application/x-www-form-urlencoded',
    })
    expect(answer.status).toBe(400)
    expect(answer.json.Message).toContain('415')
    expect(answer.json.Hint).toContain('application/json')
  })

  it('answers 413 for a body above the limit', async () => {
    const server = await start()
    const body = JSON.stringify({ Job: { ...HELLO, Meta: { big: 'x'.repeat(11_000_000) } } })
    const answer = await server.call('PUT', JOBS, body)
    expect(answer.status).toBe(413)
    expect(answer.json.Status).toBe(413)
    expect(server.jobs.submissions).toEqual([])
  })
})

describe('headers', () => {
  it('carries the server version and a request id on every answer', async () => {
    const server = await start()
    for (const path of [ALIVE, '/api/v1/nothing', JOBS]) {
      const { headers } = await server.call('GET', path)
      expect(headers['x-bacalhau-git-version']).toBe('v1.5.2')
      expect(headers['x-bacalhau-build-date']).toBe('2024-11-29 10:11:12 +0000 UTC')
      expect(headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/)
    }
    const echoed = await server.call('GET', ALIVE, undefined, { 'x-request-id': 'abc-1' })
    expect(echoed.headers['x-request-id']).toBe('abc-1')
  })

  it('indents when asked to be pretty', async () => {
    const server = await start()
    expect((await server.call('GET', ALIVE)).text).toBe('{"Status":"OK"}\n')
    expect((await server.call('GET', `${ALIVE}?pretty`)).text).toBe('{\n  "Status": "OK"\n}\n')
  })
})

describe('the version gate', () => {
  it.each(['v1.3.0', '1.3.9', 'v1.4.0-rc1', 'v0.3.24'])('refuses a client of version %s', async (version) => {
    const server = await start()
    const answer = await server.call('GET', ALIVE, undefined, { 'x-bacalhau-git-version': version })
    expect(answer.status).toBe(403)
    expect(answer.json).toMatchObject({
      MinVersion: '1.4.0',
      ClientVersion: version.replace('v', ''),
      ServerVersion: '1.5.2',
    })
    expect(answer.json.Error).toContain('too old')
  })

  it.each(['', 'v0.0.0', 'v0.0.0-123abc', 'v1.4.0', 'v1.5.2', 'v1.9.3', 'v2.0.0+dirty'])(
    'serves a client of version %j',
    async (version) => {
      const server = await start()
      expect((await server.call('GET', ALIVE, undefined, { 'x-bacalhau-git-version': version })).status).toBe(
        200,
      )
    },
  )

  it('answers 400 for something that is not a version', async () => {
    const server = await start()
    const answer = await server.call('GET', ALIVE, undefined, { 'x-bacalhau-git-version': 'latest' })
    expect([answer.status, answer.json]).toEqual([400, { Error: 'Invalid client version latest' }])
  })
})

describe('requests from web pages', () => {
  it.each(['evil.example', 'evil.example:1234', '127.0.0.1.evil.example', '192.0.2.1', '[2001:db8::1]:80'])(
    'refuses the host name %j on a loopback server',
    async (host) => {
      const server = await start()
      const answer = await server.call('GET', ALIVE, undefined, { host })
      expect(answer.status).toBe(403)
      expect(answer.json.Details.WeirCode).toBe('api.refused')
    },
  )

  it.each([
    'localhost',
    'LOCALHOST:1234',
    '127.0.0.1:9',
    '127.8.8.8',
    '[::1]:1234',
    'a.localhost',
    'weir.example:1',
  ])('serves the host name %j', async (host) => {
    const server = await start({ allowedHosts: ['weir.example'] })
    expect((await server.call('GET', ALIVE, undefined, { host })).status).toBe(200)
  })

  it.each([
    'https://evil.example',
    'null',
    'http://localhost.evil.example',
    'file://',
    'http://a@localhost/',
  ])('refuses pages at %s before anything happens', async (origin) => {
    const server = await start()
    const answer = await server.call('PUT', JOBS, { Job: HELLO }, { origin })
    expect(answer.status).toBe(403)
    expect(answer.headers).not.toHaveProperty('access-control-allow-origin')
    expect(server.jobs.submissions).toEqual([])
    const preflight = await server.call('OPTIONS', JOBS, undefined, {
      origin,
      'access-control-request-method': 'PUT',
    })
    expect(preflight.status).toBe(403)
  })

  it('serves pages from loopback and from listed origins, and answers their preflight', async () => {
    const server = await start({ allowedOrigins: ['https://ui.example'] })
    for (const origin of ['http://localhost:8438', 'http://127.0.0.1:3000', 'https://ui.example']) {
      const answer = await server.call('GET', ALIVE, undefined, { origin })
      expect(answer.status).toBe(200)
      expect(answer.headers['access-control-allow-origin']).toBe(origin)
      expect(answer.headers.vary).toContain('Origin')
      const preflight = await server.call('OPTIONS', JOBS, undefined, {
        origin,
        'access-control-request-method': 'PUT',
        'access-control-request-headers': 'content-type, authorization',
      })
      expect(preflight.status).toBe(204)
      expect(preflight.headers['access-control-allow-methods']).toContain('PUT')
      expect(preflight.headers['access-control-allow-headers']).toBe('content-type, authorization')
    }
  })

  it('serves pages of its own host only when the host is an address or a known name, elsewhere than on loopback', async () => {
    const api = await createApiServer({
      identity: { nodeId: NODE_ID },
      nodeInfo: () => nodeInfo(NODE_ID),
      version: { weir: '0.1.0' },
    })
    const { port } = await api.listen({ host: '0.0.0.0', port: 0 })
    const status = async (host: string, origin?: string) => {
      const headers: Record<string, string> = origin === undefined ? { host } : { host, origin }
      const answer = await fetchStatus(port, headers)
      return answer
    }
    expect(await status('weir.example')).toBe(200)
    expect(await status('192.0.2.1:1', 'http://192.0.2.1:8438')).toBe(200)
    expect(await status(hostname(), `http://${hostname().toLowerCase()}:8438`)).toBe(200)
    expect(await status('rebound.example', 'http://rebound.example')).toBe(403)
    await api.close()
  })
})

describe('bounds', () => {
  it('answers 429 beyond the rate, per client', async () => {
    const server = await start({ limits: { requestsPerSecond: 5 } })
    const answers = await Promise.all(Array.from({ length: 12 }, () => server.call('GET', ALIVE)))
    const refused = answers.filter((answer) => answer.status === 429)
    expect(refused.length).toBeGreaterThan(0)
    expect(refused[0]?.json).toMatchObject({ Status: 429, Message: 'rate limit exceeded' })
  })

  it('answers 503 "Server Timeout!" when a route takes too long', async () => {
    const server = await start({
      limits: { handlerTimeoutMs: 50 },
      nodeInfo: () => new Promise(() => {}),
    })
    const answer = await server.call('GET', '/api/v1/agent/node')
    expect([answer.status, answer.text]).toEqual([503, 'Server Timeout!'])
    expect(answer.headers['content-type']).toContain('text/plain')
  })

  it('closes a connection whose request head never ends', async () => {
    const server = await start({ limits: { headTimeoutMs: 100, readTimeoutMs: 200 } })
    const text = await new Promise<string>((resolve) => {
      let received = ''
      const socket = connect(server.port, '127.0.0.1', () =>
        socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nX: '),
      )
      socket.on('data', (data) => (received += data.toString()))
      socket.on('close', () => resolve(received))
    })
    expect(text).toContain('408')
  })
})

describe('listening', () => {
  const busy: NetServer[] = []
  afterEach(() => busy.splice(0).forEach((server) => server.close()))

  it('says which key to change when the port is taken', async () => {
    const other = createServer()
    busy.push(other)
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as AddressInfo
    const api = await createApiServer({
      identity: { nodeId: NODE_ID },
      nodeInfo: () => nodeInfo(NODE_ID),
      version: { weir: '0.1.0' },
    })
    const error = await api.listen({ host: '127.0.0.1', port }).catch((reason: unknown) => reason)
    expect(error).toMatchObject({
      code: 'port.in_use',
      message: expect.stringContaining(`127.0.0.1:${port}`),
    })
    expect((error as WeirError).hint).toContain('API.Port')
    await api.close()
  })

  it('serves a Unix socket that only its owner may use, and replaces one that is dead', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'weir-api-'))
    const socketPath = join(directory, 'api.sock')
    const make = () =>
      createApiServer({
        identity: { nodeId: NODE_ID },
        nodeInfo: () => nodeInfo(NODE_ID),
        version: { weir: '0.1.0' },
      })
    try {
      const first = await make()
      const { url } = await first.listen({ socketPath })
      expect(((await stat(socketPath)).mode & 0o777).toString(8)).toBe('600')
      const client = new WeirClient({ baseUrl: url })
      expect(await client.alive()).toEqual({ Status: 'OK' })
      const second = await make()
      await expect(second.listen({ socketPath })).rejects.toMatchObject({ code: 'port.in_use' })
      await second.close()
      client.close()
      await first.close()
      await leaveDeadSocket(socketPath)
      const third = await make()
      await third.listen({ socketPath })
      expect(await client.alive()).toEqual({ Status: 'OK' })
      client.close()
      await third.close()
    } finally {
      await rm(directory, { recursive: true })
    }
  })

  it('has no orchestrator endpoints on a node that is only a compute node', async () => {
    const server = await start({ jobs: undefined })
    expect((await server.call('GET', JOBS)).status).toBe(404)
    expect((await server.call('GET', ALIVE)).status).toBe(200)
  })

  it('closes although clients keep their connections and streams open', async () => {
    const server = await start()
    const id = await submit(server)
    const client = new WeirClient({ baseUrl: server.url })
    // Waited for at once: it can end before the server has closed.
    const ended = collect(client.followEgress(id)).catch((error: unknown) => error)
    await expect.poll(() => server.jobs.openStreams).toBe(1)
    await server.close()
    expect(await ended).toMatchObject({ code: 'api.unreachable' })
    expect(server.jobs.openStreams).toBe(0)
    client.close()
  })
})

describe('closing', () => {
  it('ends a long poll of the history with an answer', async () => {
    const server = await start()
    const id = await submit(server)
    const first = (await server.call('GET', `${JOBS}/${id}/history`)).json
    const waiting = server.call('GET', `${JOBS}/${id}/history?wait_ms=20000&next_token=${first.NextToken}`)
    await new Promise((resolve) => setTimeout(resolve, 30))
    const started = Date.now()
    await server.close()
    expect((await waiting).json).toEqual({ Items: [], NextToken: first.NextToken })
    expect(Date.now() - started).toBeLessThan(1500)
  })

  it('does not wait for a websocket whose client never says goodbye', async () => {
    const server = await start()
    const id = await submit(server)
    const key = Buffer.from('0123456789abcdef').toString('base64')
    const socket = connect(server.port, '127.0.0.1', () =>
      socket.write(
        `GET ${JOBS}/${id}/logs?follow=true HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
      ),
    )
    socket.on('error', () => {})
    await expect.poll(() => server.jobs.openStreams).toBe(1)
    const started = Date.now()
    await server.close()
    expect(Date.now() - started).toBeLessThan(5000)
    socket.destroy()
  })
})

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function fetchStatus(port: number, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
    const socket = connect(port, '127.0.0.1', () =>
      socket.write(`GET ${ALIVE} HTTP/1.1\r\n${lines.join('')}connection: close\r\n\r\n`),
    )
    socket.once('data', (data) => {
      resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(data.toString())?.[1]))
      socket.destroy()
    })
    socket.once('error', reject)
  })
}

/** A socket file whose listener died without removing it. */
async function leaveDeadSocket(path: string): Promise<void> {
  const { spawn } = await import('node:child_process')
  const script =
    'require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))'
  await new Promise((resolve) => spawn(process.execPath, ['-e', script, path]).once('exit', resolve))
}
