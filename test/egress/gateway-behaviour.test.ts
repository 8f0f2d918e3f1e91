import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createResolver, type Dial, Gateway, type GatewayOptions } from '../../src/egress/index.js'
import type { AuditLog, AuditSink, NodeEgressPolicy } from '../../src/ports/index.js'
import { createAuditFile, verifyAuditFile } from '../../src/stores/audit-file.js'
import { buildHello, buildServerHello } from './hello.js'

const NODE: NodeEgressPolicy = { allow: ['.example.com'], deny: [], privateExceptions: [], self: [] }
const GET = 'GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n'
const WHO = { jobId: 'j-1', executionId: 'e-1' }

let dir: string
let audit: AuditSink & AuditLog
let origin: Server
let onOrigin: (socket: Socket) => void
const open: (() => Promise<void> | void)[] = []

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'weir-gateway-'))
  audit = createAuditFile({ dir })
  onOrigin = (socket) => socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK'))
  origin = await listen()
  origin.on('connection', (socket: Socket) => {
    socket.on('error', () => {})
    onOrigin(socket)
  })
})

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
  origin.close()
  rmSync(dir, { recursive: true, force: true })
})

describe('limits', () => {
  it.each([1, 64])('M-08 keeps the download rate of 10 Mbit/s with %i streams', async (streams) => {
    onOrigin = (socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        const more = () => {
          while (socket.writable && socket.write(Buffer.alloc(65_536)));
        }
        socket.on('drain', more)
        more()
      })
    }
    const { port } = await gateway()
    let bytes = 0
    const sockets: Socket[] = []
    for (let index = 0; index < streams; index++) {
      const socket = await dialProxy(port)
      socket.on('data', (data: Buffer) => {
        bytes += data.length
      })
      socket.write(GET)
      sockets.push(socket)
    }
    await sleep(700)
    const from = bytes
    const startedAt = performance.now()
    await sleep(2_000)
    const mbit = ((bytes - from) * 8) / ((performance.now() - startedAt) * 1_000)
    for (const socket of sockets) socket.destroy()
    // The limit is what must hold on a busy machine too; its accuracy on a quiet one is measured in bench/.
    expect(mbit).toBeGreaterThan(5)
    expect(mbit).toBeLessThan(10.4)
  })

  it('M-10 stores no more than 128 KiB while idle', async () => {
    let received = 0
    onOrigin = (socket) => socket.on('data', (data: Buffer) => (received += data.length))
    const { port } = await gateway()
    await sleep(1_500)
    const socket = await dialProxy(port)
    socket.write('POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 9000000\r\n\r\n')
    socket.write(Buffer.alloc(4_000_000))
    await sleep(300)
    socket.destroy()
    // 300 ms at 10 Mbit/s are 375 kB, and some more time may have passed.
    expect(received).toBeLessThan(375_000 * 1.4 + 131_072)
  })

  it('E-18 answers the 257th connection with 429 and records it', async () => {
    const { port } = await gateway()
    const idle = await Promise.all(Array.from({ length: 256 }, () => dialProxy(port)))
    await sleep(50)
    const late = await exchange(port, GET)
    expect(late).toMatch(/^HTTP\/1\.1 429 /)
    expect(late).toContain('Weir-Egress-Code: egress.connections')
    for (const socket of idle) socket.destroy()
    await sleep(50)
    expect(await exchange(port, GET)).toMatch(/^HTTP\/1\.1 200 /)
    expect((await audit.read('e-1', 0, 10)).map((record) => record.code)).toEqual(['egress.connections', ''])
  })
})

describe('leases', () => {
  it('M-22 closes every connection within a second, removes the listener and seals the chain', async () => {
    onOrigin = () => {}
    const { gateway: gw, port } = await gateway()
    const sockets = await Promise.all(Array.from({ length: 100 }, () => tunnel(port)))
    const closed = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)))
    const startedAt = performance.now()
    const summary = await gw.close('e-1')
    await Promise.all(closed)
    expect(performance.now() - startedAt).toBeLessThan(1_000)
    expect(summary).toMatchObject({ records: 100, allowed: 100 })
    const verdict = await verifyAuditFile(dir, 'e-1')
    expect(verdict).toEqual({ intact: true, records: 100, head: summary.chainHead })
    expect((await audit.read('e-1', 0, 1)).at(0)).toMatchObject({ end: 'shutdown', host: 'example.com' })
    await expect(dialProxy(port)).rejects.toThrow(/ECONNREFUSED/)
  })

  it('N-12 refuses a second lease for the same execution', async () => {
    const { gateway: gw } = await gateway()
    gw.hold('second', { proxy: [await listen()] })
    await expect(gw.open(WHO, { mode: 'http', allow: [] }, 'second')).rejects.toMatchObject({
      code: 'egress.unavailable',
    })
  })

  it('answers 503 before a lease is open', async () => {
    const { gateway: gw } = await gateway()
    const door = await listen()
    gw.hold('unopened', { proxy: [door] })
    expect(await exchange(portOf(door), GET)).toMatch(/^HTTP\/1\.1 503 /)
  })

  it('allows nothing before the node has rules', async () => {
    const { port } = await gateway({}, null)
    expect(await exchange(port, GET)).toContain('egress.not_in_node_list')
  })
})

describe('a live change of the rules', () => {
  it('N-06 cuts a tunnel that is now forbidden within a second, and records both generations', async () => {
    onOrigin = () => {}
    const { gateway: gw, port } = await gateway()
    const socket = await tunnel(port)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    const startedAt = performance.now()
    gw.setNodePolicy({ ...NODE, allow: ['other.test'] })
    await closed
    expect(performance.now() - startedAt).toBeLessThan(1_000)
    expect(await exchange(port, GET)).toContain('egress.not_in_node_list')
    const [record] = await audit.read('e-1', 0, 1)
    expect(record).toMatchObject({
      code: 'egress.revoked',
      end: 'revoked',
      decision: 'allow',
      policyGeneration: 1,
      revokedByGeneration: 2,
    })
  })

  it('cuts what the list of the network does not hold any more, also where the node would allow it', async () => {
    onOrigin = () => {}
    const { gateway: gw, port } = await gateway()
    const socket = await tunnel(port)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    gw.setNodePolicy({ ...NODE, network: ['http://example.com'] })
    await closed
    expect(await exchange(port, 'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n')).toMatch(
      /egress\.port[\s\S]*network/,
    )
    gw.setNodePolicy({ ...NODE, networkDeny: ['.example.com'] })
    expect(await exchange(port, GET)).toMatch(/egress\.denied_by_operator[\s\S]*the network's list/)
    expect((await audit.read('e-1', 0, 3)).map(({ ruleOwner }) => ruleOwner)).toContain('network')
  })

  it('lets a job with an https URL open TLS to that host and send nothing in clear', async () => {
    const { port } = await gateway({}, NODE, ['https://example.com'])
    expect(await exchange(port, GET)).toContain('egress.port')
    const socket = await tunnel(port)
    socket.destroy()
  })

  it('N-07 judges a tunnel that waits for its hello by the newer rules', async () => {
    const { gateway: gw, port } = await gateway()
    const socket = await dialProxy(port)
    socket.write('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n')
    await new Promise((resolve) => socket.once('data', resolve))
    gw.setNodePolicy({ ...NODE, deny: ['.example.com'] })
    socket.write(buildHello({ sni: 'example.com' }))
    await new Promise((resolve) => socket.once('close', resolve))
    await sleep(20)
    expect((await audit.read('e-1', 0, 1)).at(0)).toMatchObject({ code: 'egress.revoked', bytesUp: 0 })
  })

  it('cuts an attempt whose addresses are denied while it is being connected', async () => {
    let dialled = (): void => {}
    const isDialling = new Promise<void>((resolve) => (dialled = resolve))
    let connected = (): void => {}
    const isAllowedOn = new Promise<void>((resolve) => (connected = resolve))
    let reached = 0
    onOrigin = () => (reached += 1)
    const dial: Dial = async (_address, _port, signal) => {
      dialled()
      await isAllowedOn
      signal.throwIfAborted()
      return await dialProxy(portOf(origin))
    }
    const { gateway: gw, port } = await gateway({ dial })
    const answer = exchange(port, GET)
    await isDialling
    gw.setNodePolicy({ ...NODE, deny: ['93.184.216.10'] })
    connected()
    expect(await answer).toContain('egress.revoked')
    expect(reached).toBe(0)
    expect((await audit.read('e-1', 0, 1)).at(0)).toMatchObject({ code: 'egress.revoked', bytesUp: 0 })
  })

  it('leaves a tunnel alone that is still allowed, and keeps the old rules when the new ones are unreadable', async () => {
    onOrigin = (socket) => socket.on('data', () => socket.write(buildServerHello(false)))
    const { gateway: gw, port } = await gateway()
    const socket = await tunnel(port)
    expect(() => gw.setNodePolicy({ ...NODE, allow: ['a..b'] })).toThrow(/host pattern/)
    gw.setNodePolicy({ ...NODE, allow: ['.example.com', 'more.test'] })
    const answered = new Promise((resolve) => socket.once('data', resolve))
    socket.write('more')
    await answered
    expect(gw.status).toMatchObject({ policyGeneration: 2, connections: 1 })
    socket.destroy()
  })
})

describe('what a refusal tells', () => {
  it('names the flag that would allow the host', async () => {
    const { port, gateway: gw } = await gateway()
    const text = await exchange(port, 'GET http://cdn.test/ HTTP/1.1\r\nHost: cdn.test\r\n\r\n')
    expect(text).toContain('--domain cdn.test:80\n')
    expect(gw.summary('e-1').destinations).toMatchObject([
      {
        host: 'cdn.test',
        port: 80,
        refused: 1,
        code: 'egress.not_in_job_list',
        advice: '--domain cdn.test:80',
      },
    ])
  })

  it('names a port that the list lacks, but none where only the node could open it or no list can', async () => {
    const node = { ...NODE, allow: ['a.test', 'b.test:80'] }
    const { port } = await gateway({}, node, ['a.test:443', 'b.test'])
    const ask = (method: string, host: string) =>
      exchange(port, `${method} ${host} HTTP/1.1\r\nHost: ${host.replace(/^http:\/\/|\/$/g, '')}\r\n\r\n`)
    expect(await ask('GET', 'http://a.test/')).toMatch(/--domain a\.test:80\n[^]*Code: egress\.port/)
    expect(await ask('CONNECT', 'a.test:80')).toMatch(/^(?![^]*--domain)[^]*Code: egress\.port/)
    expect(await ask('CONNECT', 'b.test:443')).toMatch(
      /^(?![^]*--domain)[^]*Only the operator[^]*egress\.port/,
    )
  })

  it('N-01 cannot be used to forge a line of the record', async () => {
    const { port } = await gateway()
    await exchange(port, 'GET http://evil.test%0aALLOW\x1b[31m"/ HTTP/1.1\r\nHost: x\r\n\r\n')
    const [record] = await audit.read('e-1', 0, 5)
    expect(record?.hostAsSent).toMatch(/^[\x20-\x7e]{1,256}$/)
    expect(record?.hostAsSent).toContain('\\u001b')
  })

  it.each([
    'GET https://me:S3CRET@example.com/S3CRET?key=S3CRET HTTP/1.1',
    'GET http://me:S3CRET@example.com/?S3CRET HTTP/1.1',
    'GET http://example.com?S3CRET#S3CRET HTTP/1.1',
    'GET /login?S3CRET HTTP/1.1',
    'TRACE http://example.com/S3CRET HTTP/1.1',
    'CONNECT me:S3CRET@example.com:443 HTTP/1.1',
  ])('records of %s the host alone, not what may be a secret', async (line) => {
    const { port } = await gateway()
    expect(await exchange(port, `${line}\r\nHost: example.com\r\n\r\n`)).toMatch(/^HTTP\/1\.1 40[05] /)
    const [record] = await audit.read('e-1', 0, 5)
    expect(record?.decision).toBe('deny')
    expect(JSON.stringify(record)).not.toContain('S3CRET')
    if (!line.includes(' /login')) expect(record?.hostAsSent).toContain('example.com')
  })

  it('N-02 reflects nothing of a malformed host', async () => {
    const { port } = await gateway()
    const text = await exchange(port, 'GET http://<script>alert(1)</script>/ HTTP/1.1\r\nHost: x\r\n\r\n')
    expect(text).toMatch(/^HTTP\/1\.1 400 /)
    expect(text).not.toContain('script')
    expect(text).toContain('Content-Type: text/plain')
    expect(text).toContain('X-Content-Type-Options: nosniff')
  })

  it("N-03 prints nobody else's list", async () => {
    const { port } = await gateway({}, { ...NODE, allow: ['secret-partner.test', 'example.com'] }, [
      'cdn.example.com',
    ])
    const text = await exchange(port, 'GET http://cdn.example.com/ HTTP/1.1\r\nHost: cdn.example.com\r\n\r\n')
    expect(text).toContain('egress.not_in_node_list')
    expect(text).not.toContain('secret-partner')
  })

  it('N-04 keeps resolved private addresses in the record only', async () => {
    const { port } = await gateway({ resolve: createResolver({ hosts: { 'example.com': '10.1.2.3' } }) })
    const text = await exchange(port, GET)
    expect(text).toContain('private address')
    expect(text).not.toContain('10.1.2.3')
    expect((await audit.read('e-1', 0, 1)).at(0)?.answers).toEqual(['10.1.2.3'])
  })

  it('I-32 says that a host has only IPv6 when the node has none', async () => {
    const { port } = await gateway({
      resolve: createResolver({ hosts: { 'example.com': '2606:2800::10' } }),
      dial: () => Promise.reject(Object.assign(new Error('no route'), { code: 'ENETUNREACH' })),
    })
    const text = await exchange(port, GET)
    expect(text).toMatch(/^HTTP\/1\.1 502 /)
    expect(text).toContain('only IPv6')
  })
})

describe('a gateway that cannot write its records', () => {
  it('M-20 refuses with 503 and lets nothing out', async () => {
    let contacts = 0
    onOrigin = () => contacts++
    audit = createAuditFile({ dir, bytesMax: 100 })
    const { port } = await gateway()
    expect(await exchange(port, GET)).toContain('egress.audit_failed')
    expect(await exchange(port, 'GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n')).toMatch(
      /^HTTP\/1\.1 503 /,
    )
    expect(contacts).toBe(0)
  })
})

async function gateway(
  options: Partial<GatewayOptions> = {},
  node: NodeEgressPolicy | null = NODE,
  allow = ['.example.com'],
): Promise<{ gateway: Gateway; port: number }> {
  const dial: Dial = () =>
    new Promise((resolve, reject) => {
      const socket = connect({ port: portOf(origin), host: '127.0.0.1', allowHalfOpen: true })
      socket.once('connect', () => resolve(socket))
      socket.once('error', reject)
    })
  const hosts = { 'example.com': '93.184.216.10', 'cdn.example.com': '93.184.216.10' }
  const made = new Gateway({
    nodeId: 'n-1',
    audit,
    resolve: createResolver({ hosts }),
    dial,
    ownAddresses: () => [],
    ...options,
  })
  if (node !== null) made.setNodePolicy(node)
  const door = await listen()
  made.hold('door', { proxy: [door] })
  await made.open(WHO, { mode: 'http', allow }, 'door')
  open.push(() => made.shutdown())
  return { gateway: made, port: portOf(door) }
}

async function tunnel(port: number): Promise<Socket> {
  const socket = await dialProxy(port)
  socket.write('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n')
  await new Promise((resolve) => socket.once('data', resolve))
  socket.write(buildHello({ sni: 'example.com' }))
  await sleep(20)
  return socket
}

function dialProxy(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.on('error', () => {})
      resolve(socket)
    })
    socket.once('error', reject)
  })
}

async function exchange(port: number, text: string): Promise<string> {
  const socket = await dialProxy(port)
  let received = ''
  socket.on('data', (data: Buffer) => {
    received += data.toString('latin1')
  })
  socket.write(Buffer.from(text, 'latin1'))
  await Promise.race([new Promise((resolve) => socket.once('close', resolve)), sleep(3_000)])
  return received
}

function listen(): Promise<Server> {
  return new Promise((resolve) => {
    const server = createServer({ allowHalfOpen: true })
    server.listen(0, '127.0.0.1', () => resolve(server))
  })
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}
