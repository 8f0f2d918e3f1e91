import type { Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { verifyAuditFile } from '../../src/stores/audit-file.js'
import { buildHello, buildServerHello } from './hello.js'
import { closed, dial, exchange, get, pour, TestGateway, tunnel, until } from './with-gateway.js'

let net: TestGateway
const sockets: Socket[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await net.close()
})

/** A connection that nothing surprises. */
async function connection(port: number): Promise<Socket> {
  const socket = await dial(port)
  socket.on('error', () => {})
  sockets.push(socket)
  return socket
}

function connections(port: number, count: number): Promise<Socket[]> {
  return Promise.all(Array.from({ length: count }, () => connection(port)))
}

/** Collects what comes, and ends with the other side. */
function hear(socket: Socket): () => string {
  let text = ''
  socket.on('data', (data: Buffer) => (text += data.toString('latin1')))
  socket.on('end', () => socket.end())
  return () => text
}

/** Another execution beside the one that misbehaves: it must be served as if nothing were. */
const honest = async (): Promise<void> => {
  net.onOrigin = (socket) => socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\n\r\n'))
  const port = await net.lease('e-honest')
  expect(await exchange(port, get('example.com'))).toMatch(/^HTTP\/1\.1 200 /)
}

const POST = 'POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\n'

describe('clients that take their time', () => {
  it('M-01 are turned away beyond their bound, and told 408 when no head has come', async () => {
    net = await TestGateway.start({ connectionsMax: 20, headTimeoutMs: 1_500 })
    const port = await net.lease('e-1')
    const slow = await connections(port, 20)
    const answers = slow.map(hear)
    for (const socket of slow) socket.write('GET http://example.com/ HTT')
    await until(() => net.gateway.status.connections === 20)
    const ended = Promise.all(slow.map(closed))
    const drip = setInterval(() => slow.forEach((socket) => socket.writable && socket.write('P')), 100)
    try {
      expect(await exchange(port, get('example.com'))).toContain('egress.connections')
      await honest()
      await ended
    } finally {
      clearInterval(drip)
    }
    for (const answer of answers) expect(answer()).toMatch(/^HTTP\/1\.1 408 /)
    expect(net.lookups).toEqual(['example.com'])
    expect(await exchange(port, get('example.com'))).toMatch(/^HTTP\/1\.1 200 /)
    const records = await net.audit.read('e-1', 0, 100)
    expect(records.filter(({ code }) => code === 'request.timeout')).toHaveLength(20)
  })

  it('M-02 are cut in a body that brings next to nothing, and not while the host answers', async () => {
    net = await TestGateway.start({ slowBodyMs: 600, headTimeoutMs: 5_000 })
    net.onOrigin = (socket) => socket.resume()
    const port = await net.lease('e-1')
    const slow = await connection(port)
    const answer = hear(slow)
    slow.write(`${POST}Content-Length: 100000\r\n\r\nx`)
    const drip = setInterval(() => slow.writable && slow.write('x'), 50)
    await closed(slow)
    clearInterval(drip)
    expect(answer()).toMatch(/^HTTP\/1\.1 408 /)
    expect((await net.audit.read('e-1', 0, 1)).at(0)).toMatchObject({
      code: 'request.timeout',
      end: 'timeout',
    })

    // A conversation: the host answers from the beginning, and what comes up is rare.
    net.onOrigin = (socket) => {
      socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'))
      socket.on('data', (data: Buffer) => data.toString().endsWith('last') && socket.end('heard'))
    }
    const talking = await connection(port)
    const heard = hear(talking)
    talking.write(`${POST}Content-Length: 5\r\n\r\nx`)
    await until(() => heard().includes('200'))
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    talking.write('last')
    await closed(talking)
    expect(heard()).toMatch(/heard$/)
  })

  it('M-17 and those that send half a hello are cut at the deadline, and what they sent is let go', async () => {
    net = await TestGateway.start({ helloTimeoutMs: 2_500 })
    net.onOrigin = (socket) => socket.resume()
    const port = await net.lease('e-1')
    const many = await connections(port, 100)
    const cut = Promise.all(many.map(closed))
    for (const socket of many) {
      hear(socket)
      socket.write('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n')
      // A record of 16 KiB after the other, none of which ends the hello.
      const header = Buffer.from('16030140000100f0000303', 'hex')
      const rest = Buffer.concat([Buffer.from('1603014000', 'hex'), Buffer.alloc(16_384)])
      socket.write(Buffer.concat([header, Buffer.alloc(16_378), rest, rest]))
    }
    await honest()
    await cut
    await until(() => net.gateway.status.connections === 0)
    const records = await net.audit.read('e-1', 0, 200)
    expect(records).toHaveLength(100)
    expect(new Set(records.map(({ code, bytesUp }) => `${code} ${bytesUp}`))).toEqual(
      new Set(['egress.not_tls 0']),
    )
  })

  it('M-03 hold no more than a few buffers when they do not read, and are cut when nothing moves', async () => {
    net = await TestGateway.start({ idleTimeoutMs: 1_500, bitsPerSecondDown: 8_000_000_000 })
    let taken = 0
    net.onOrigin = (socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n')
        const more = () => {
          while (socket.writable && socket.write(Buffer.alloc(65_536))) taken += 65_536
        }
        socket.on('drain', more)
        more()
      })
    }
    const port = await net.lease('e-1')
    const deaf = await connection(port)
    deaf.pause()
    deaf.write(get('example.com'))
    await until(async () => (await net.audit.read('e-1', 0, 1)).length === 1)
    // What the kernel keeps for both connections is most of it.
    expect(taken).toBeLessThan(20_000_000)
    expect((await net.audit.read('e-1', 0, 1)).at(0)).toMatchObject({
      code: 'egress.timeout',
      end: 'timeout',
    })
    await honest()
  })

  it('M-05 with idle tunnels lose them, each recorded', async () => {
    net = await TestGateway.start({ idleTimeoutMs: 800 })
    net.onOrigin = (socket) => {
      socket.once('data', () => socket.write(buildServerHello(false)))
      socket.resume()
    }
    const port = await net.lease('e-1')
    const idle = await Promise.all(Array.from({ length: 50 }, () => tunnel(port)))
    sockets.push(...idle)
    await Promise.all(idle.map(closed))
    expect(new Set((await net.audit.read('e-1', 0, 100)).map(({ end }) => end))).toEqual(new Set(['timeout']))
  })
})

describe('hosts that take their time', () => {
  it('and never answer are given up, with 504', async () => {
    net = await TestGateway.start({ idleTimeoutMs: 700 })
    net.onOrigin = (socket) => socket.resume()
    const port = await net.lease('e-1')
    expect(await exchange(port, get('example.com'))).toMatch(/^HTTP\/1\.1 504 /)
    expect((await net.audit.read('e-1', 0, 1)).at(0)).toMatchObject({
      code: 'egress.timeout',
      end: 'timeout',
    })
    await honest()
  })

  it('M-21 and drip without end are held to the budget of the execution', async () => {
    net = await TestGateway.start({ idleTimeoutMs: 2_000 })
    let drip: NodeJS.Timeout | undefined
    net.onOrigin = (socket) => {
      socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'))
      drip = setInterval(() => socket.writable && socket.write('1\r\nx\r\n'), 5)
    }
    const port = await net.lease('e-1', { bytesDownMax: 600 })
    const answer = await exchange(port, get('example.com'))
    clearInterval(drip)
    expect(answer).toHaveLength(600)
    expect((await net.audit.read('e-1', 0, 1)).at(0)).toMatchObject({
      code: 'egress.quota_down',
      bytesDown: 600,
    })
  })

  it('and reset the connection inside an answer leave the client with a broken one, not a whole one', async () => {
    net = await TestGateway.start()
    net.onOrigin = (socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart')
        setTimeout(() => socket.resetAndDestroy(), 50)
      })
    }
    const port = await net.lease('e-1')
    const answer = await exchange(port, get('example.com'))
    expect(answer).toMatch(/part$/)
    expect((await net.audit.read('e-1', 0, 1)).at(0)).toMatchObject({ end: 'origin', decision: 'allow' })
    await honest()
  })
})

describe('connections beyond the bound', () => {
  it('M-06 are one record with a count, however fast they come; no attempt is lost from the sums', async () => {
    net = await TestGateway.start({ connectionsMax: 2 })
    const port = await net.lease('e-1')
    await connections(port, 2)
    await until(() => net.gateway.status.connections === 2)
    const answers = await Promise.all(Array.from({ length: 150 }, () => exchange(port, get('example.com'))))
    for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 429 /)
    const summary = await net.gateway.close('e-1')
    expect(summary).toMatchObject({ refused: 150, codes: { 'egress.connections': 150 } })
    const records = await net.audit.read('e-1', 0, 1_000)
    expect(records.length).toBe(summary.records)
    expect(records.length).toBeLessThan(30)
    expect(records[0]?.count).toBeUndefined()
    expect(records.reduce((sum, { count = 1 }) => sum + count, 0)).toBe(150)
    expect(await verifyAuditFile(net.dir, 'e-1')).toMatchObject({ intact: true, records: records.length })
    expect(net.gateway.counters.attempts['deny egress.connections']).toBe(150)
  })

  it('are counted again after a restart of the gateway, as they were before', async () => {
    net = await TestGateway.start({ connectionsMax: 1 })
    const port = await net.lease('e-1')
    await connection(port)
    await until(() => net.gateway.status.connections === 1)
    await Promise.all(Array.from({ length: 20 }, () => exchange(port, get('example.com'))))
    await net.gateway.close('e-1')
    await net.lease('e-1', {}, { again: true })
    expect(net.gateway.summary('e-1')).toMatchObject({ refused: 20 })
  })
})

describe('what is counted', () => {
  it('M-11 is what writes carry, however small they are', async () => {
    net = await TestGateway.start()
    let received = 0
    net.onOrigin = (socket) => socket.on('data', (data: Buffer) => (received += data.length))
    const port = await net.lease('e-1', { bytesUpMax: 3_000 })
    const socket = await connection(port)
    socket.setNoDelay(true)
    hear(socket)
    socket.write(`${POST}Content-Length: 9000\r\n\r\n`)
    for (let sent = 0; sent < 4_000 && socket.writable; sent++) {
      socket.write('x')
      if (sent % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await closed(socket)
    expect(received).toBe(3_000)
  })

  it('M-13 are heads and hellos as well, and refusals wait for their turn', async () => {
    net = await TestGateway.start({ requestsPerSecond: 5, requestWaitMs: 200 })
    const port = await net.lease('e-1', { bytesUpMax: 2_000 })
    const secret = `GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nX-Data: ${'s'.repeat(4_000)}\r\n\r\n`
    expect(await exchange(port, secret)).toContain('egress.quota_up')
    const other = await net.lease('e-2', {})
    const answers = await Promise.all(Array.from({ length: 15 }, () => exchange(other, 'bad head\r\n\r\n')))
    expect(answers.filter((answer) => answer.startsWith('HTTP/1.1 400 ')).length).toBeLessThan(15)
    expect(net.lookups).toEqual(['example.com'])
  })

  it('M-15 does not change when the clock of the machine jumps: no burst, no stall, no end of tunnels', async () => {
    let wall = 1_700_000_000_000
    let ticks = 0
    net = await TestGateway.start(
      { requestsPerSecond: 3, requestWaitMs: 0, idleTimeoutMs: 60_000 },
      {},
      { now: () => wall, monotonic: () => ticks },
    )
    net.onOrigin = (socket) => socket.once('data', () => socket.write(buildServerHello(false)))
    const port = await net.lease('e-1')
    const open = await tunnel(port)
    sockets.push(open)
    await new Promise((resolve) => open.once('data', resolve))
    net.onOrigin = (socket) => socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\n\r\n'))
    const ask = async () => /^HTTP\/1\.1 (\d+)/.exec(await exchange(port, get('example.com')))?.[1]
    expect([await ask(), await ask(), await ask()]).toEqual(['200', '200', '429'])
    for (const jump of [3_600_000, -7_200_000]) {
      wall += jump
      expect(await ask()).toBe('429')
    }
    ticks += 1_000
    expect(await ask()).toBe('200')
    expect(open.destroyed).toBe(false)
    const times = (await net.audit.read('e-1', 0, 10)).map(({ timeMs }) => timeMs)
    expect(new Set(times).size).toBe(3)
    expect(await verifyAuditFile(net.dir, 'e-1')).toMatchObject({ intact: true })
  })
})

it('M-23 a storm of resets, whatever they interrupt, leaves the gateway whole', async () => {
  net = await TestGateway.start({ requestsPerSecond: 10_000 })
  let storms = 0
  net.onOrigin = (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome')
      if (storms++ % 3 === 0) socket.resetAndDestroy()
      else pour(socket)
    })
  }
  const port = await net.lease('e-1')
  const pieces = [
    'GE',
    get('example.com'),
    `${POST}Content-Length: 50\r\n\r\npart`,
    `${POST}Transfer-Encoding: chunked\r\n\r\n5\r\nab`,
    'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n',
    Buffer.concat([
      Buffer.from('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n'),
      buildHello({ sni: 'example.com' }),
    ]),
    get('elsewhere.test'),
  ]
  const unforeseen: unknown[] = []
  const note = (error: unknown): void => void unforeseen.push(error)
  process.on('unhandledRejection', note)
  try {
    for (let round = 0; round < 12; round++) {
      const storm = await connections(port, pieces.length * 2)
      storm.forEach((socket, index) => socket.write(pieces[index % pieces.length] ?? ''))
      for (let turn = 0; turn < round; turn++) await new Promise((resolve) => setImmediate(resolve))
      storm.forEach((socket) => socket.resetAndDestroy())
    }
    await until(() => net.gateway.status.connections === 0)
    await honest()
  } finally {
    process.off('unhandledRejection', note)
  }
  expect(unforeseen).toEqual([])
  await net.gateway.close('e-1')
  expect(await verifyAuditFile(net.dir, 'e-1')).toMatchObject({ intact: true })
})
