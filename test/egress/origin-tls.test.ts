import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { OriginPool, SESSION_MS } from '../../src/egress/serve/origin-pool.js'
import { ChannelClient, socketPair } from './channel-client.js'
import { type Certified, TestAuthority } from './test-authority.js'
import { TestGateway, until } from './with-gateway.js'

const DAY_MS = 24 * 3_600_000
const ANSWER = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK'
/** Not one that is kept, so that the next request needs a new one. */
const LAST_ANSWER = ANSWER.replace('\r\n', '\r\nConnection: close\r\n')

const missing = spawnSync('openssl', ['version']).status === 0 ? '' : ' (skipped: needs openssl)'

describe.skipIf(missing !== '')(`TLS with the hosts of a sandbox${missing}`, () => {
  let authority: TestAuthority
  let site: Certified
  let net: TestGateway
  let origin: Server
  let monotonicMs: number
  let answer: string
  /** Of each handshake that the origin completed: whether it resumed a session. */
  let resumed: boolean[]
  /** What the origin spoke over, in order. */
  let secured: TLSSocket[]
  let sandboxes: ChannelClient[]
  const ticketKeys = randomBytes(48)

  beforeAll(() => {
    authority = new TestAuthority()
    site = authority.certify(['example.com', 'h1.example.com'])
  })
  afterAll(() => authority.close())

  beforeEach(async () => {
    monotonicMs = 0
    answer = LAST_ANSWER
    resumed = []
    secured = []
    sandboxes = []
    net = await TestGateway.start({}, {}, { authorities: authority.pem, monotonic: () => monotonicMs })
    serve(site)
  })
  afterEach(async () => {
    for (const { socket } of sandboxes) socket.destroy()
    await net.close()
  })

  /** The hosts show this certificate from now on; with the same keys of tickets unless told otherwise. */
  function serve(shown: Certified, options: { ticketKeys?: Buffer; maxVersion?: 'TLSv1.2' } = {}): void {
    origin = createServer({ ...shown, ticketKeys, ALPNProtocols: ['http/1.1'], ...options })
    origin.on('tlsClientError', () => {})
    origin.on('secureConnection', (socket) => {
      resumed.push(socket.isSessionReused())
      secured.push(socket)
      socket.on('error', () => {})
      socket.on('data', () => socket.write(answer, () => answer === LAST_ANSWER && socket.end()))
    })
    net.onOrigin = (socket: Socket) => void origin.emit('connection', socket)
  }

  /** The sandbox of an execution. */
  async function enter(executionId = 'e-1'): Promise<ChannelClient> {
    await net.lease(executionId)
    const [theirs, mine] = await socketPair()
    net.gateway.carry(`door-${executionId}`, theirs)
    const sandbox = new ChannelClient(mine)
    sandboxes.push(sandbox)
    return sandbox
  }

  /** One request, and its whole answer. */
  async function ask(sandbox: ChannelClient, host = 'example.com'): Promise<string> {
    const stream = sandbox.open()
    let received = ''
    stream.on('data', (bytes: Buffer) => (received += bytes.toString('latin1')))
    stream.write(`GET https://${host}/ HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
    await once(stream, 'end')
    stream.end()
    return received
  }

  async function askAll(sandbox: ChannelClient, hosts: readonly string[]): Promise<void> {
    for (const host of hosts) expect(await ask(sandbox, host)).toMatch(/^HTTP\/1\.1 200 /)
  }

  it('is spoken once for several requests, over one connection', async () => {
    answer = ANSWER
    await askAll(await enter(), ['example.com', 'example.com', 'example.com'])
    expect(resumed).toEqual([false])
  })

  it.each([{}, { maxVersion: 'TLSv1.2' }] as const)(
    'goes on with the session that is known when it needs a new connection: %o',
    async (options) => {
      serve(site, options)
      await askAll(await enter(), ['example.com', 'example.com', 'example.com'])
      expect(resumed).toEqual([false, true, true])
    },
  )

  it('shares neither connection nor session between hosts, or between executions', async () => {
    answer = ANSWER
    const [mine, yours] = [await enter('e-1'), await enter('e-2')]
    await askAll(mine, ['example.com', 'h1.example.com'])
    await askAll(yours, ['example.com'])
    expect(secured.map(({ servername }: TLSSocket & { servername?: string }) => servername)).toEqual([
      'example.com',
      'h1.example.com',
      'example.com',
    ])
    expect(resumed).toEqual([false, false, false])
  })

  it('shows the certificate again a few minutes after it was shown, however often the session was resumed since', async () => {
    const sandbox = await enter()
    await askAll(sandbox, ['example.com'])
    for (let count = 0; count < 3; count++) {
      monotonicMs += SESSION_MS / 3 - 1
      await askAll(sandbox, ['example.com'])
    }
    monotonicMs += 3
    await askAll(sandbox, ['example.com', 'example.com'])
    expect(resumed).toEqual([false, true, true, true, false, true])
  })

  it.each([
    ['the certificate', 1, 9],
    ['the one of its authority', 30, 9],
  ])('does not go on with a session once %s is not valid any more', async (_what, days, endsAfterDays) => {
    serve(authority.certify(['example.com'], days))
    const sandbox = await enter()
    const end = Date.now() + Math.min(days, endsAfterDays) * DAY_MS
    net.nowMs = () => end - 60_000
    await askAll(sandbox, ['example.com', 'example.com'])
    net.nowMs = () => end + 1_000
    await askAll(sandbox, ['example.com'])
    // This machine's own clock says that it is valid, so that it is accepted; but it was shown.
    expect(resumed).toEqual([false, true, false])
  })

  it.each([
    ['has expired', () => authority.certify(['example.com'], -1), 'it has expired'],
    ['is for another name', () => authority.certify(['h1.example.com']), 'it is for another host'],
    ['is of another authority', () => authority.certifyItself(['example.com']), 'it is signed by itself'],
  ])(
    'is refused by the next handshake when the certificate %s now, though a session is known',
    async (_what, certificate, why) => {
      const sandbox = await enter()
      await askAll(sandbox, ['example.com', 'example.com'])
      const now = certificate()
      // Another server, which does not know the session.
      serve(now, { ticketKeys: randomBytes(48) })
      expect(await ask(sandbox)).toContain(`cannot be trusted: ${why}`)
      // One that does know it, as long as it may last.
      serve(now)
      monotonicMs += SESSION_MS
      expect(await ask(sandbox)).toContain(`cannot be trusted: ${why}`)
      expect(resumed.slice(0, 2)).toEqual([false, true])
      expect(await records()).toEqual(['', '', 'egress.upstream_failed', 'egress.upstream_failed'])
    },
  )

  async function records(): Promise<string[]> {
    await until(async () => (await net.audit.read('e-1', 0, 10)).length >= 4)
    return (await net.audit.read('e-1', 0, 10)).map(({ code }) => code)
  }

  it('begins anew when rules change, over a new connection', async () => {
    answer = ANSWER
    const sandbox = await enter()
    await askAll(sandbox, ['example.com'])
    net.gateway.setNodePolicy({ ...net.node, deny: ['h1.example.com'] })
    await askAll(sandbox, ['example.com'])
    expect(resumed).toEqual([false, false])
  })
})

describe('a session of TLS', () => {
  const request = { kind: 'https', host: { kind: 'name', text: 'example.com' }, port: 443 } as const
  const pool = () => new OriginPool({ connections: 0 }, { now: () => 0, monotonic: () => 0 })

  it('that arrives after rules changed is not kept, by whatever connection', () => {
    const sessions = pool()
    const early = sessions.session(request)
    early.certificateShown(1)
    early.keep(Buffer.from('early'))
    expect(sessions.session(request).known?.toString()).toBe('early')
    const resuming = sessions.session(request)
    sessions.clear()
    for (const one of [early, resuming]) one.keep(Buffer.from('late'))
    expect(sessions.session(request).known).toBeUndefined()
  })

  it('is not kept for a connection that showed no certificate, and not when it is large', () => {
    const sessions = pool()
    const one = sessions.session(request)
    one.keep(Buffer.from('unseen'))
    expect(sessions.session(request).known).toBeUndefined()
    one.certificateShown(1)
    one.keep(Buffer.alloc(1024 * 1024))
    expect(sessions.session(request).known).toBeUndefined()
  })
})
