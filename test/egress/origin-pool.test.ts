import { once } from 'node:events'
import type { Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { OriginPool } from '../../src/egress/serve/origin-pool.js'
import { parseIpAddress } from '../../src/model/index.js'
import { ChannelClient, socketPair } from './channel-client.js'
import { dial, TestGateway, until } from './with-gateway.js'

const GET = 'GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n'
const request = { kind: 'http', host: { kind: 'name', text: 'example.com' }, port: 80 } as const
const clocks = { now: Date.now, monotonic: () => performance.now() }
const ANSWER = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK'

let net: TestGateway
/** Connections that the origin accepted, in order, and what it received on each. */
let origins: { socket: Socket; received: string }[]
let answer: string

beforeEach(async () => {
  net = await TestGateway.start()
  origins = []
  answer = ANSWER
  net.onOrigin = (socket) => {
    const seen = { socket, received: '' }
    origins.push(seen)
    socket.on('data', (data: Buffer) => {
      seen.received += data.toString('latin1')
      socket.write(answer)
    })
    socket.on('end', () => socket.end())
  }
})
afterEach(() => net.close())

/** Sends a request on a client's connection; resolves with the whole answer, of which `end` is the last part. */
async function ask(client: Socket, text = GET, end = 'OK'): Promise<string> {
  let received = ''
  client.write(text)
  while (!received.endsWith(end)) {
    const [data] = (await once(client, 'data')) as [Buffer]
    received += data.toString('latin1')
  }
  return received
}

/** The same for the last answer of a client's connection. */
async function askLast(client: Socket): Promise<string> {
  let received = ''
  client.on('data', (data: Buffer) => {
    received += data.toString('latin1')
  })
  client.write(GET)
  await once(client, 'end')
  client.end()
  return received
}

describe('a connection to the origin of plain HTTP', () => {
  it('serves the next requests of its execution, each with a decision and a record of its own', async () => {
    const port = await net.lease('e-1')
    const [one, other] = [await dial(port), await dial(port)]
    for (const client of [one, one, other]) expect(await ask(client)).toMatch(/^HTTP\/1\.1 200 /)
    expect(origins.length).toBe(1)
    expect(net.lookups).toEqual(['example.com', 'example.com', 'example.com'])
    await until(async () => (await net.audit.read('e-1', 0, 10)).length === 3)
    const records = await net.audit.read('e-1', 0, 10)
    expect(records.map(({ dialled }) => dialled)).toEqual(Array(3).fill('93.184.216.10'))
    expect(origins[0]?.received).not.toContain('Connection:')
  })

  it('serves the next request of a sandbox too, whose conversations carry one each', async () => {
    await net.lease('e-1')
    const [theirs, mine] = await socketPair()
    net.gateway.carry('door-e-1', theirs)
    const sandbox = new ChannelClient(mine)
    const once = GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n')
    for (let count = 0; count < 3; count++)
      expect(await ask(sandbox.open() as unknown as Socket, once)).toContain('Connection: close')
    expect(origins.length).toBe(1)
    await until(async () => (await net.audit.read('e-1', 0, 10)).length === 3)
    mine.destroy()
  })

  it('is closed when more came behind an answer than it said, in one piece with its end', async () => {
    const client = await dial(await net.lease('e-1'))
    const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
    answer = ''
    const answered = ask(client, GET, '0\r\n\r\n')
    await until(() => origins[0]?.received.endsWith('\r\n\r\n') === true)
    origins[0]?.socket.write(chunked)
    await once(client, 'data')
    origins[0]?.socket.write('2\r\nOK\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL')
    await answered
    answer = ANSWER
    expect(await ask(client)).not.toContain('EVIL')
    expect(origins.length).toBe(2)
  })

  it('is not shared by executions, hosts or ports', async () => {
    const [mine, yours] = [await dial(await net.lease('e-1')), await dial(await net.lease('e-2'))]
    await ask(mine)
    await ask(yours)
    await ask(mine, GET.replaceAll('example.com', 'h1.example.com'))
    expect(origins.length).toBe(3)
  })

  it.each([
    ['with a body', GET.replace('\r\n\r\n', '\r\nContent-Length: 1\r\n\r\nx')],
    ['that changes something', GET.replace('GET', 'DELETE')],
    ['of a client that asks only once', GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n')],
  ])('is closed after a request %s, and never carries one', async (_what, request) => {
    const port = await net.lease('e-1')
    await ask(await dial(port))
    await ask(await dial(port), request)
    expect(origins.length).toBe(2)
    expect(origins[1]?.received).toContain('Connection: close')
    await ask(await dial(port))
    // The first one is still there for it.
    expect(origins.length).toBe(2)
  })

  it.each([
    ['ends without saying where', 'HTTP/1.1 204 No Content\r\n\r\n', '\r\n\r\n'],
    ['is to be the last', 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK', 'OK'],
    ['is of an old server', ANSWER.replace('1.1', '1.0'), 'OK'],
    ['promises little time', ANSWER.replace('\r\n', '\r\nKeep-Alive: timeout=2\r\n'), 'OK'],
  ])('is closed after an answer that %s', async (_what, text, end) => {
    answer = text
    const client = await dial(await net.lease('e-1'))
    await ask(client, GET, end)
    await ask(client, GET, end)
    expect(origins.length).toBe(2)
  })

  it('is dropped when anything comes between two answers: no byte of it reaches the next one', async () => {
    const client = await dial(await net.lease('e-1'))
    await ask(client)
    const first = origins[0]?.socket
    first?.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL')
    await once(first as Socket, 'close')
    expect(await ask(client)).not.toContain('EVIL')
    expect(origins.length).toBe(2)
  })

  it('is closed when rules change, and when the lease does', async () => {
    const client = await dial(await net.lease('e-1'))
    await ask(client)
    const closedByRules = once(origins[0]?.socket as Socket, 'close')
    net.gateway.setNodePolicy({ ...net.node, deny: ['h1.example.com'] })
    await closedByRules
    await ask(client)
    const closedByLease = once(origins[1]?.socket as Socket, 'close')
    await net.gateway.close('e-1')
    await closedByLease
  })

  describe('that the origin closes when it is used again', () => {
    /** Serves one request of each connection; the second one meets this. */
    function meets(close: (socket: Socket) => void): void {
      net.onOrigin = (socket) => {
        const seen = { socket, received: '' }
        origins.push(seen)
        socket.on('data', (data: Buffer) => {
          const isFirst = seen.received === ''
          seen.received += data.toString('latin1')
          if (isFirst) socket.write(ANSWER)
          else close(socket)
        })
        socket.on('end', () => socket.end())
      }
    }

    it.each([
      ['in good order', (socket: Socket) => void socket.end()],
      ['with a reset', (socket: Socket) => void socket.resetAndDestroy()],
    ])('%s, is replaced: the program sees its answer, and both count', async (_how, close) => {
      meets(close)
      const client = await dial(await net.lease('e-1'))
      await ask(client)
      expect(await ask(client)).toMatch(/^HTTP\/1\.1 200 /)
      expect(origins.length).toBe(2)
      await until(async () => (await net.audit.read('e-1', 0, 10)).length === 2)
      const [first, second] = await net.audit.read('e-1', 0, 10)
      expect(second).toMatchObject({ code: '', status: 200, decision: 'allow', dialled: '93.184.216.10' })
      expect(second?.bytesUp).toBe(2 * Number(first?.bytesUp))
      expect(net.lookups.length).toBe(2)
      // The new one is kept as well.
      await ask(client)
      expect(origins.length).toBe(3)
    })

    it('is not replaced when a byte of the answer came', async () => {
      meets((socket) => socket.end('H'))
      const client = await dial(await net.lease('e-1'))
      await ask(client)
      expect(await askLast(client)).toMatch(/^HTTP\/1\.1 502 /)
      expect(origins.length).toBe(1)
    })

    it('is replaced once only', async () => {
      meets((socket) => {
        net.onOrigin = (fresh) => {
          origins.push({ socket: fresh, received: '' })
          fresh.once('data', () => fresh.end())
        }
        socket.end()
      })
      const client = await dial(await net.lease('e-1'))
      await ask(client)
      expect(await askLast(client)).toMatch(/^HTTP\/1\.1 502 /)
      expect(origins.length).toBe(2)
    })

    it('is replaced within the budget of the job only', async () => {
      meets((socket) => socket.end())
      await ask(await dial(await net.lease('e-1')))
      const length = Number(origins[0]?.received.length)
      const client = await dial(await net.lease('e-2', { bytesUpMax: 2 * length }))
      await ask(client)
      expect(await askLast(client)).toContain('egress.quota_up')
    })

    it('is not replaced where rules came meanwhile that forbid it', async () => {
      meets((socket) => {
        net.gateway.setNodePolicy({ ...net.node, deny: ['example.com'] })
        socket.end()
      })
      const client = await dial(await net.lease('e-1'))
      await ask(client)
      expect(await askLast(client)).toContain('egress.revoked')
      expect(origins.length).toBe(1)
    })

    it('is not replaced where rules came meanwhile that forbid another address of the lookup', async () => {
      await net.close()
      const addresses = ['93.184.216.10', '93.184.216.77'].flatMap((text) => parseIpAddress(text) ?? [])
      net = await TestGateway.start({}, {}, { resolve: async () => ({ addresses, aliases: [] }) })
      meets((socket) => {
        net.gateway.setNodePolicy({ ...net.node, deny: ['93.184.216.77'] })
        socket.end()
      })
      const client = await dial(await net.lease('e-1'))
      await ask(client)
      expect(await askLast(client)).toContain('egress.revoked')
      expect(origins.length).toBe(1)
      await until(async () => (await net.audit.read('e-1', 0, 10)).length === 2)
      // What did go out is told: the address that is allowed still.
      const [, second] = await net.audit.read('e-1', 0, 10)
      expect(second).toMatchObject({ code: 'egress.revoked', dialled: '93.184.216.10' })
    })
  })

  it.each([
    ['longer than it said', 'Content-Length: 6', 'all OKEVIL'],
    ['followed by something', 'Transfer-Encoding: chunked', '6\r\nall OK\r\n0\r\n\r\nHTTP/1.1 200 '],
  ])('is closed after an answer that is %s', async (_what, length, body) => {
    net.onOrigin = (socket) => {
      origins.push({ socket, received: '' })
      socket.once('data', () => {
        socket.write(`HTTP/1.1 200 OK\r\n${length}\r\n\r\n`)
        client.once('data', () => socket.write(body))
      })
      socket.on('end', () => socket.end())
    }
    const client = await dial(await net.lease('e-1'))
    const answered = await ask(client, GET, length.startsWith('C') ? 'all OK' : '\r\n0\r\n\r\n')
    expect(answered).not.toContain('EVIL')
    // Asked at once: a connection that was kept would meet this request, and be closed by its timer only later.
    const closed = once(origins[0]?.socket as Socket, 'close')
    expect(await ask(client, GET, length.startsWith('C') ? 'all OK' : '\r\n0\r\n\r\n')).toBe(answered)
    expect(origins.length).toBe(2)
    await closed
  })

  it('is not kept once it was closed: it would take the place of another', async () => {
    const count = { connections: 0 }
    const pool = new OriginPool(count, clocks)
    const socket = await dial(await net.lease('e-1'))
    const address = parseIpAddress('93.184.216.10')
    if (address === undefined) throw new Error('this is an address')
    const connection = pool.adopt(request, socket, address)
    socket.destroy()
    await once(socket, 'close')
    pool.keep(connection)
    expect(count.connections).toBe(0)
  })

  it('is used only for an address that the new lookup found', async () => {
    const [one, two] = ['93.184.216.10', '93.184.216.77'].map((text) => parseIpAddress(text))
    if (one === undefined || two === undefined) throw new Error('these are addresses')
    const pool = new OriginPool({ connections: 0 }, clocks)
    const port = await net.lease('e-1')
    const connection = pool.adopt(request, await dial(port), one)
    pool.keep(connection)
    expect(pool.take(request, [two, one])).toBe(connection)
    pool.keep(connection)
    // Without TLS it is nothing for a request that wants it.
    expect(pool.take({ ...request, kind: 'https' }, [one])).toBeUndefined()
    expect(pool.take(request, [two])).toBeUndefined()
    expect(connection.socket.destroyed).toBe(true)
  })
})
