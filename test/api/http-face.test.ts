import { gzipSync } from 'node:zlib'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createApiServer } from '../../src/api/index.js'
import { exchange } from './contract/go-cli.js'
import { MemoryJobService, nodeInfo } from './memory-job-service.js'
import { HELLO, NODE_ID, startServer, submit, type Server } from './with-server.js'

/** The face that HTTP itself shows: what happens to requests before any route means something by them. */

let server: Server
beforeAll(async () => {
  server = await startServer({ limits: { requestsPerSecond: 100_000, bodyBytesMax: 100_000 } })
})
afterAll(() => server.close())

const JOBS = '/api/v1/orchestrator/jobs'
const ALIVE = '/api/v1/agent/alive'
const HOST = 'Host: localhost\r\n'
const BODY = JSON.stringify({ Job: HELLO })
const PUT = `PUT ${JOBS} HTTP/1.1\r\n${HOST}Connection: close\r\n`
const JSON_TYPE = 'Content-Type: application/json\r\n'

describe('what is no request', () => {
  it.each([
    ['is no HTTP', 'GARBAGE\r\n\r\n', 400],
    ['has a method that does not exist', `FOO ${JOBS} HTTP/1.1\r\n${HOST}\r\n`, 400],
    ['has a head that is too large', `GET / HTTP/1.1\r\n${HOST}X: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
    ['has too many headers', `GET / HTTP/1.1\r\n${HOST}${manyHeaders(3000)}\r\n`, 431],
    ['has a null byte in a header', `GET / HTTP/1.1\r\n${HOST}X: a\0b\r\n\r\n`, 400],
    ['has a chunk without a size', `${PUT}${JSON_TYPE}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, 400],
    [
      'has two lengths',
      `${PUT}${JSON_TYPE}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
    ['expects something unknown', `${PUT}Expect: pizza\r\nContent-Length: 0\r\n\r\n`, 417],
    ['has no Host', `GET ${ALIVE} HTTP/1.1\r\nConnection: close\r\n\r\n`, 400],
    [
      'has a path that cannot be decoded',
      `GET /api/v1/%zz HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`,
      400,
    ],
  ])(
    'because it %s is answered in the shape of every error, and the server goes on',
    async (_title, text, status) => {
      const answer = await raw(text)
      expect(answer.status, answer.text).toBe(status)
      expect(answer.headers).toMatchObject({
        'content-type': 'application/json; charset=utf-8',
        'x-bacalhau-git-version': 'v1.5.2',
        'x-request-id': expect.stringMatching(/^[0-9a-f-]{36}$/),
      })
      expect(answer.json).toMatchObject({ Status: status, RequestID: '', Component: 'APIServer' })
      expect(answer.json.Message).not.toBe('')
      expect((await server.call('GET', ALIVE)).status).toBe(200)
    },
  )

  it('because it never ends is answered with 408 and cut', async () => {
    const slow = await startServer({ limits: { headTimeoutMs: 100, readTimeoutMs: 300 } })
    try {
      for (const text of [
        'GET / HTTP/1.1\r\nHost: localhost\r\nX: ',
        `${PUT}${JSON_TYPE}Content-Length: 50\r\n\r\n{`,
      ]) {
        const answer = await raw(text, slow)
        expect([answer.status, answer.json.Code]).toEqual([408, 'TimeOut'])
      }
    } finally {
      await slow.close()
    }
  })
})

describe('bodies', () => {
  it('may be announced with Expect: 100-continue, and are refused before they are sent when they are too large', async () => {
    const small = await raw(
      `${PUT}${JSON_TYPE}Expect: 100-continue\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`,
    )
    expect([small.interim, small.status]).toEqual([true, 200])
    const large = await raw(`${PUT}${JSON_TYPE}Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n`)
    expect([large.interim, large.status]).toEqual([false, 413])
  })

  it('may come in chunks, and are cut off at the limit', async () => {
    const chunked = `${PUT}${JSON_TYPE}Transfer-Encoding: chunked\r\n\r\n`
    expect((await raw(`${chunked}${chunk(BODY)}0\r\n\r\n`)).status).toBe(200)
    expect((await raw(`${chunked}${chunk(' '.repeat(100_001))}0\r\n\r\n`)).status).toBe(413)
  })

  it.each(['gzip', 'deflate', 'br', 'GZIP, identity', 'x'])(
    'packed as %s are refused in plain words',
    async (encoding) => {
      const packed = gzipSync(BODY)
      const head = `${PUT}${JSON_TYPE}Content-Encoding: ${encoding}\r\nContent-Length: ${packed.length}\r\n\r\n`
      const answer = await raw(Buffer.concat([Buffer.from(head), packed]))
      expect([answer.status, answer.json.Hint]).toEqual([400, expect.stringContaining('uncompressed')])
      expect(answer.json.Message).toContain(JSON.stringify(encoding))
    },
  )

  it('with the encoding identity are read', async () => {
    expect((await server.call('PUT', JOBS, BODY, { 'content-encoding': 'identity' })).status).toBe(200)
  })

  it.each([
    ['a content type in capitals with a charset', 'Application/JSON; charset=UTF-8', 200],
    ['no content type', '', 400],
    ['a form', 'application/x-www-form-urlencoded', 400],
    ['text', 'text/plain', 400],
  ])('with %s are answered as documented', async (_title, type, status) => {
    const header = type === '' ? '' : `Content-Type: ${type}\r\n`
    const answer = await raw(`${PUT}${header}Content-Length: ${BODY.length}\r\n\r\n${BODY}`)
    expect(answer.status).toBe(status)
    if (status === 400) expect(answer.json.Message).toContain('415')
  })

  it('that are no UTF-8 never reach a job unnoticed', async () => {
    const bytes = Buffer.from(JSON.stringify({ Job: { ...HELLO, Name: 'a?b' } }))
    bytes[bytes.indexOf('?')] = 0xff
    const head = `${PUT}${JSON_TYPE}Content-Length: ${bytes.length}\r\n\r\n`
    const answer = await raw(Buffer.concat([Buffer.from(head), bytes]))
    expect(answer.status).toBe(200)
    const stored = await server.call('GET', `${JOBS}/${answer.json.JobID}`)
    expect(stored.json.Job.Name).toBe('a\ufffdb')
  })

  it('of a GET are not looked at', async () => {
    expect((await server.call('GET', ALIVE, '{"limit":')).status).toBe(200)
  })
})

describe('paths and methods', () => {
  it.each(['OPTIONS', 'TRACE', 'PROPFIND', 'PATCH', 'COPY'])(
    '%s is answered with 405 and what is allowed',
    async (method) => {
      const answer = await raw(`${method} ${JOBS} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`)
      expect(answer.status).toBe(405)
      expect(answer.headers.allow?.split(', ').toSorted()).toEqual(['GET', 'HEAD', 'POST', 'PUT'])
      expect(answer.json).toMatchObject({ Status: 405, Component: 'APIServer' })
    },
  )

  it('HEAD gives what GET gives, without the body', async () => {
    for (const path of ['/', ALIVE, JOBS, `${JOBS}/j-none`, '/api/v1/livez', '/api/v1/nothing']) {
      const [get, head] = [await server.call('GET', path), await server.call('HEAD', path)]
      expect([head.status, head.headers['content-type'], head.text]).toEqual([
        get.status,
        get.headers['content-type'],
        '',
      ])
      if (path !== JOBS) expect(head.headers['content-length'], path).toBe(get.headers['content-length'])
    }
  })

  it.each([`${JOBS}/`, `${JOBS}/?limit=1`, `${ALIVE}/`, '/api/v1/orchestrator/nodes/', '/api/v1/auth/'])(
    '%s is told to leave out the slash',
    async (path) => {
      const answer = await server.call('GET', path)
      expect([answer.status, answer.json.Hint]).toEqual([404, 'Leave out the slash at the end.'])
    },
  )

  it.each([
    '//api/v1/agent/alive',
    '/API/V1/agent/alive',
    '/api/v1/agent/../agent/alive',
    '/api/v1/agent/%61live/x',
    '/peers',
    '/api/v2/jobs',
  ])('%s is unknown', async (path) => {
    const answer = await server.call('GET', path)
    expect([answer.status, answer.json.Code, answer.json.Status]).toEqual([404, 'NotFound', 404])
    expect(answer.text.endsWith('\n')).toBe(true)
  })

  it('takes ids of any length, as unknown', async () => {
    for (const length of [64, 500, 4000]) {
      const answer = await server.call('GET', `${JOBS}/${'a'.repeat(length)}`)
      expect([400, 404, 414]).toContain(answer.status)
      expect(answer.json.Status).toBe(answer.status)
    }
  })

  it('takes the first of repeated parameters, and every label', async () => {
    await submit(server)
    const answer = await server.call('GET', `${JOBS}?limit=1&limit=x&reverse=true&reverse=nonsense`)
    expect([answer.status, answer.json.Items.length]).toEqual([200, 1])
    const labels = await server.call('GET', `${JOBS}?labels=team%3Dx&labels=team%3Dy`)
    expect(labels.json.Items).toEqual([])
  })

  it('takes requests in absolute form', async () => {
    const answer = await raw(`GET http://localhost${ALIVE} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`)
    expect(answer.status).toBe(200)
  })

  it.each(['GET', 'POST', 'PUT', 'DELETE'])(
    '%s of the requester is gone, whatever the body is',
    async (method) => {
      for (const path of [
        '/requester/submit',
        '/api/v1/requester/websocket/events',
        '/requester/anything/else',
      ]) {
        const head = `${method} ${path} HTTP/1.1\r\n${HOST}Connection: close\r\nContent-Type: text/xml\r\nContent-Length: 2\r\n\r\n`
        const answer = await raw(`${head}<>`)
        expect(answer.status, path).toBe(410)
        expect(answer.json).toContain('/api/v1/orchestrator')
        expect(answer.headers['content-type']).toBe('application/json; charset=utf-8')
      }
    },
  )
})

describe('answers', () => {
  it('are never kept by caches and never guessed at', async () => {
    for (const path of [ALIVE, JOBS, '/', '/api/v1/openapi.json', '/api/v1/nothing']) {
      const { headers } = await server.call('GET', path, undefined, {
        'if-none-match': '*',
        range: 'bytes=0-1',
      })
      expect(headers['cache-control'], path).toBe('no-store')
      expect(headers['x-content-type-options'], path).toBe('nosniff')
      expect(headers, path).not.toHaveProperty('etag')
      expect(headers, path).not.toHaveProperty('last-modified')
    }
  })

  it('are not compressed, whatever is accepted', async () => {
    const { headers, json } = await server.call('GET', ALIVE, undefined, {
      'accept-encoding': 'gzip, br',
      accept: 'text/xml',
    })
    expect(headers).not.toHaveProperty('content-encoding')
    expect(json).toEqual({ Status: 'OK' })
  })

  it('are pretty when asked, also errors; plain texts stay plain', async () => {
    const unknown = await server.call('GET', '/api/v1/nothing?pretty')
    expect(unknown.text).toMatch(/^\{\n {2}"Status": 404,\n/)
    expect(unknown.headers['content-type']).toBe('application/json; charset=utf-8')
    expect((await server.call('GET', `${ALIVE}?pretty=false`)).text).toBe('{\n  "Status": "OK"\n}\n')
    expect((await server.call('GET', '/api/v1/livez?pretty')).text).toBe('OK')
  })

  it.each(['a b', 'x'.repeat(129), 'ü', ''])('do not repeat the request id %j', async (id) => {
    const answer = await raw(
      Buffer.from(
        `GET /api/v1/nothing HTTP/1.1\r\n${HOST}Connection: close\r\nX-Request-ID: ${id}\r\n\r\n`,
        'latin1',
      ),
    )
    expect(answer.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/)
    expect(answer.json.RequestID).toBe('')
  })
})

describe('websockets', () => {
  const KEY = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n'
  const UPGRADE = `Connection: Upgrade\r\nUpgrade: websocket\r\n${KEY}`

  it('are opened by the log route, from any origin that may call, without a subprotocol', async () => {
    const id = await submit(server)
    const path = `${JOBS}/${id}/logs`
    const answer = await raw(`GET ${path} HTTP/1.1\r\n${HOST}${UPGRADE}Origin: http://localhost:8438\r\n\r\n`)
    expect(answer.status).toBe(101)
    expect(answer.headers).not.toHaveProperty('sec-websocket-protocol')
    const stranger = await raw(
      `GET ${path} HTTP/1.1\r\n${HOST}${UPGRADE}Origin: https://evil.example\r\n\r\n`,
    )
    expect([stranger.status, stranger.json.Status]).toEqual([403, 403])
  })

  it.each([
    [JOBS, 400],
    [ALIVE, 400],
    [`${JOBS}/j-1/egress`, 400],
    ['/api/v1/nothing', 404],
  ])('%s answers a handshake with %i instead of opening one', async (path, status) => {
    const answer = await raw(`GET ${path} HTTP/1.1\r\n${HOST}${UPGRADE}\r\n`)
    expect([answer.status, answer.json.Status]).toEqual([status, status])
  })

  it.each([
    [
      'an old version',
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\nSec-WebSocket-Key: x\r\n',
    ],
    ['another protocol', 'Connection: Upgrade\r\nUpgrade: h2c\r\n'],
  ])('with %s are refused with a status', async (_title, headers) => {
    const answer = await raw(`GET ${JOBS}/j-1/logs HTTP/1.1\r\n${HOST}${headers}\r\n`)
    expect(answer.status).toBeGreaterThanOrEqual(400)
    expect(answer.status).toBeLessThan(500)
  })

  it('that send far too much are closed, and the server goes on', async () => {
    const id = await submit(server)
    const frame = Buffer.concat([
      Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4]),
      Buffer.alloc(70_000),
    ])
    const head = `GET ${JOBS}/${id}/logs?follow=true HTTP/1.1\r\n${HOST}${UPGRADE}\r\n`
    await raw(Buffer.concat([Buffer.from(head), frame]))
    await expect.poll(() => server.jobs.openStreams).toBe(0)
    expect((await server.call('GET', ALIVE)).status).toBe(200)
  })
})

describe('a server under a crowd', () => {
  it('takes only so many connections, and serves again when they are gone', async () => {
    const api = await createApiServer({
      jobs: new MemoryJobService(),
      identity: { nodeId: NODE_ID },
      nodeInfo: () => nodeInfo(NODE_ID),
      version: { weir: '0.1.0' },
      limits: { connectionsMax: 5 },
    })
    const { port } = await api.listen({ host: '127.0.0.1', port: 0 })
    try {
      const idle = await Promise.all(Array.from({ length: 5 }, () => opened(port)))
      await new Promise((resolve) =>
        connect(port, '127.0.0.1')
          .once('close', resolve)
          .on('error', () => {})
          .resume(),
      )
      for (const socket of idle) socket.destroy()
      await expect
        .poll(async () => {
          const url = new URL(`http://127.0.0.1:${port}`)
          const answer = await exchange(url, 'GET', ALIVE, {}).catch(() => undefined)
          return answer?.status
        })
        .toBe(200)
    } finally {
      await api.close()
    }
  })
})

function opened(port: number): Promise<ReturnType<typeof connect>> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket))
    socket.on('error', () => {})
  })
}

function manyHeaders(count: number): string {
  return Array.from({ length: count }, (_, index) => `X-${index}: 1\r\n`).join('')
}

function chunk(text: string): string {
  return `${text.length.toString(16)}\r\n${text}\r\n`
}

interface RawHttp {
  status: number
  /** True when "100 Continue" came first. */
  interim: boolean
  headers: Record<string, string>
  text: string
  // eslint-disable-next-line typescript/no-explicit-any
  json: any
}

/** Writes bytes and reads until the server closes the connection, or switches protocols. */
function raw(bytes: string | Buffer, to: Server = server): Promise<RawHttp> {
  return new Promise((resolve, reject) => {
    let received = ''
    const done = () => {
      socket.destroy()
      resolve(parse(received))
    }
    const socket = connect(to.port, '127.0.0.1', () => socket.write(bytes))
    socket.on('data', (data) => {
      received += data.toString()
      if (received.startsWith('HTTP/1.1 101')) done()
      else if (isWhole(received)) done()
    })
    socket.once('error', (error) => (received === '' ? reject(error) : done()))
    socket.once('close', done)
  })
}

function isWhole(received: string): boolean {
  const { headers, text } = parse(received)
  const length = headers['content-length']
  return length !== undefined && Buffer.byteLength(text) >= Number(length)
}

function parse(received: string): RawHttp {
  const interim = received.startsWith('HTTP/1.1 100')
  const message = interim ? received.slice(received.indexOf('\r\n\r\n') + 4) : received
  const end = message.indexOf('\r\n\r\n')
  const [start = '', ...lines] = message.slice(0, end < 0 ? undefined : end).split('\r\n')
  const text = end < 0 ? '' : message.slice(end + 4)
  return {
    status: Number(/^HTTP\/1\.1 (\d{3})/.exec(start)?.[1] ?? 0),
    interim,
    headers: Object.fromEntries(
      lines.map((line) => [line.split(': ', 1)[0]?.toLowerCase() ?? '', line.slice(line.indexOf(': ') + 2)]),
    ),
    text,
    json: json(text),
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // Part of an answer, or no JSON; a test that expects JSON fails when it reads a field.
  }
}
