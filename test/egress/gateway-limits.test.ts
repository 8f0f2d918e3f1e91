import { afterEach, describe, expect, it } from 'vitest'
import type { Socket } from 'node:net'
import { buildServerHello } from './hello.js'
import { closed, dial, exchange, get, pour, TestGateway, tunnel, until } from './with-gateway.js'

let net: TestGateway

afterEach(() => net.close())

describe('byte budgets', () => {
  it('M-21 cut an answer after exactly the last byte that they allow, and refuse what follows with the reason', async () => {
    net = await TestGateway.start({ bytesDownMax: 300_000 })
    net.onOrigin = pour
    const port = await net.lease('e-1', { bytesDownMax: 100_000 })
    const answer = await exchange(port, get('example.com'))
    expect(answer.length).toBe(100_000)
    const refusal = await exchange(port, get('example.com'))
    expect(refusal).toMatch(/^HTTP\/1\.1 429 /)
    expect(refusal).toContain('Weir-Egress-Code: egress.quota_down')
    expect(refusal).toContain('the download budget of the execution, 100 kB, is used up')
    expect(refusal).toContain('--egress-budget')
    const records = await net.audit.read('e-1', 0, 10)
    expect(records.map(({ code, end, decision, bytesDown }) => ({ code, end, decision, bytesDown }))).toEqual(
      [
        { code: 'egress.quota_down', end: 'limit', decision: 'allow', bytesDown: 100_000 },
        { code: 'egress.quota_down', end: 'limit', decision: 'deny', bytesDown: 0 },
      ],
    )
  })

  it('of the operator hold whatever the job asks for', async () => {
    net = await TestGateway.start({ bytesDownMax: 50_000 })
    net.onOrigin = pour
    const port = await net.lease('e-1', { bytesDownMax: 900_000 })
    expect((await exchange(port, get('example.com'))).length).toBe(50_000)
  })

  it('end an upload with 429 although the host reads on', async () => {
    net = await TestGateway.start()
    let received = 0
    net.onOrigin = (socket) => socket.on('data', (data: Buffer) => (received += data.length))
    const port = await net.lease('e-1', { bytesUpMax: 20_000 })
    const head = 'POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 90000\r\n\r\n'
    expect(await exchange(port, head + 'x'.repeat(90_000))).toContain('Weir-Egress-Code: egress.quota_up')
    expect(received).toBe(20_000)
  })

  it('cut open tunnels, each when its domain has used up its own, and record why', async () => {
    net = await TestGateway.start()
    net.onOrigin = (socket) => {
      socket.once('data', () => socket.write(buildServerHello(false)))
      socket.resume()
    }
    const budgets = [{ domain: 'h1.example.com', bytesUpMax: 5_000, bytesDownMax: 0 }]
    const port = await net.lease('e-1', { budgets })
    const answered = async (host: string): Promise<Socket> => {
      const socket = await tunnel(port, host)
      await new Promise((resolve) => socket.once('data', resolve))
      return socket
    }
    const [bounded, free] = [await answered('h1.example.com'), await answered('h2.example.com')]
    const cut = closed(bounded)
    for (const socket of [bounded, free]) socket.write(Buffer.alloc(30_000))
    await cut
    expect(free.destroyed).toBe(false)
    const [record] = await net.audit.read('e-1', 0, 10)
    expect(record).toMatchObject({
      host: 'h1.example.com',
      code: 'egress.quota_up',
      end: 'limit',
      decision: 'allow',
      bytesUp: 5_000,
    })
    free.destroy()
  })

  it('count what was used before the gateway was restarted', async () => {
    net = await TestGateway.start()
    net.onOrigin = pour
    await exchange(await net.lease('e-1', { bytesDownMax: 30_000 }), get('example.com'))
    await net.gateway.close('e-1')
    const again = await net.lease('e-1', { bytesDownMax: 30_000 }, { again: true })
    expect(await exchange(again, get('example.com'))).toContain('egress.quota_down')
  })
})

describe('requests per second', () => {
  it('M-06 K-26 make requests wait for their turn, and refuse those that would wait too long', async () => {
    net = await TestGateway.start({ requestsPerSecond: 5, requestWaitMs: 400 })
    const port = await net.lease('e-1', { requestsPerSecond: 50 })
    // Five at once, two after 200 and 400 ms; the next would be too late.
    const answers = await Promise.all(Array.from({ length: 20 }, () => exchange(port, get('example.com'))))
    const refused = answers.filter((answer) => answer.includes('Weir-Egress-Code: egress.rate'))
    const served = answers.filter((answer) => answer.startsWith('HTTP/1.1 200 '))
    expect(served.length + refused.length).toBe(20)
    // A slow machine takes longer for all of it, and serves one or the other more.
    expect(served.length).toBeGreaterThanOrEqual(7)
    expect(refused.length).toBeGreaterThan(0)
    expect(refused[0]).toMatch(/^HTTP\/1\.1 429 /)
    expect(refused[0]).toContain('the job may begin 5 requests per second')
  })
})

describe('host names', () => {
  it('K-26 are looked up only so many, also when the list would allow more', async () => {
    net = await TestGateway.start()
    const port = await net.lease('e-1', { hostNamesMax: 2 })
    for (const host of ['h1.example.com', 'h2.example.com', 'h1.example.com'])
      expect(await exchange(port, get(host))).toMatch(/^HTTP\/1\.1 200 /)
    const refusal = await exchange(port, get('h3.example.com'))
    expect(refusal).toMatch(/^HTTP\/1\.1 429 /)
    expect(refusal).toContain('Weir-Egress-Code: egress.names')
    expect(net.lookups).toEqual(['h1.example.com', 'h2.example.com', 'h1.example.com'])
  })
})

describe('connections to one host', () => {
  it('are bounded for all executions of a job together', async () => {
    net = await TestGateway.start({ hostConnectionsMax: 2 })
    net.onOrigin = (socket) => socket.resume().on('end', () => socket.end())
    const [first, second, other] = [
      await net.lease('e-1'),
      await net.lease('e-2'),
      await net.lease('e-3', {}, { jobId: 'j-2' }),
    ]
    const open = [await tunnel(first), await tunnel(second)]
    const refusal = await exchange(first, 'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n')
    expect(refusal).toMatch(/^HTTP\/1\.1 429 /)
    expect(refusal).toContain('Weir-Egress-Code: egress.connections')
    open.push(await tunnel(other), await tunnel(first, 'h1.example.com'))
    open[0]?.destroy()
    await until(async () => (await net.audit.read('e-1', 0, 10)).some(({ end }) => end === 'client'))
    open.push(await tunnel(second))
    for (const socket of open) socket.destroy()
  })
})

describe('the bandwidth of the node', () => {
  it('is shared alike by executions, however many streams each has', async () => {
    net = await TestGateway.start({ nodeBitsPerSecondDown: 4_000_000 })
    net.onOrigin = pour
    const ports = [await net.lease('e-1'), await net.lease('e-2')]
    const received = [0, 0]
    const sockets: Socket[] = []
    for (const [index, streams] of [1, 16].entries()) {
      for (let stream = 0; stream < streams; stream++) {
        const socket = await dial(ports[index] ?? 0)
        socket.on('data', (data: Buffer) => {
          received[index] = (received[index] ?? 0) + data.length
        })
        socket.on('error', () => {})
        socket.write(get('example.com'))
        sockets.push(socket)
      }
    }
    await until(() => (received[0] ?? 0) + (received[1] ?? 0) > 1_000_000)
    const [one, many] = received as [number, number]
    for (const socket of sockets) socket.destroy()
    expect(one / many).toBeGreaterThan(0.6)
    expect(one / many).toBeLessThan(1.7)
  })
})

describe('what the gateway counts', () => {
  it('are attempts by code, refusals by owner, bytes and durations, and no hosts', async () => {
    net = await TestGateway.start({}, { deny: ['h1.example.com'] })
    const port = await net.lease('e-1')
    for (const host of ['example.com', 'h1.example.com', 'elsewhere.test']) await exchange(port, get(host))
    const { counters } = net.gateway
    expect(counters.attempts).toEqual({
      'allow ': 1,
      'deny egress.denied_by_operator': 1,
      'deny egress.not_in_job_list': 1,
    })
    expect(counters.refusedByOwner).toEqual({ node: 1, job: 1 })
    const [record] = await net.audit.read('e-1', 0, 1)
    expect(counters).toMatchObject({
      bytesUp: record?.bytesUp,
      bytesDown: record?.bytesDown,
      auditFailures: 0,
      learningLeases: 0,
    })
    for (const durations of [counters.decision, counters.dial, counters.firstByte])
      expect(durations.counts.reduce((sum, count) => sum + count, 0)).toBe(1)
    expect(JSON.stringify(counters)).not.toContain('example')
  })
})
