import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as tlsConnect, createServer as createTlsServer } from 'node:tls'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type GatewayClient, type GatewayClientOptions, startGateway } from '../../src/egress/index.js'
import type { AuditLog, AuditSink } from '../../src/ports/index.js'
import { createAuditFile, verifyAuditFile } from '../../src/stores/audit-file.js'
import { Namespace, namespacesMissing } from './network.js'

const NODE = { allow: ['.example.com'], deny: [], privateExceptions: [], self: [] }
const POLICY = { mode: 'http' as const, allow: ['.example.com'] }
const REFUSED = 'GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n'
const missing = namespacesMissing()

let dir: string
let audit: AuditSink & AuditLog
let gateway: GatewayClient
const troubles: string[] = []

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'weir-gateway-'))
  audit = createAuditFile({ dir })
  troubles.length = 0
  gateway = await start()
  await gateway.setNodePolicy(NODE)
})

afterEach(async () => {
  await gateway.close()
  rmSync(dir, { recursive: true, force: true })
})

describe('the gateway process', () => {
  it('L-04 L-05 serves a lease on a loopback listener, with every proxy variable, each a whole URL', async () => {
    const attachment = await gateway.attachLoopback()
    const lease = await gateway.open({ jobId: 'j-1', executionId: 'e-1' }, POLICY, attachment)
    expect(Object.keys(lease.env).sort()).toEqual([
      'ALL_PROXY',
      'HTTPS_PROXY',
      'HTTP_PROXY',
      'NODE_USE_ENV_PROXY',
      'NO_PROXY',
      'all_proxy',
      'http_proxy',
      'https_proxy',
      'no_proxy',
    ])
    for (const [name, value] of Object.entries(lease.env))
      if (/^(?:https?|all)_proxy$/i.test(name)) expect(value).toBe(attachment.proxyUrl)
    expect(attachment.proxyUrl).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    expect(await ask(attachment.proxyUrl, REFUSED)).toContain('egress.not_in_job_list')
    expect(await lease.summary()).toMatchObject({ records: 1, refused: 1 })
    const final = await lease.close()
    expect(await lease.close()).toEqual(final)
    await expect(ask(attachment.proxyUrl, REFUSED)).rejects.toThrow(/ECONNREFUSED/)
  })

  it('K-17 lets nothing out while it is down, and serves the same leases again afterwards', async () => {
    const attachment = await gateway.attachLoopback()
    const lease = await gateway.open({ jobId: 'j-1', executionId: 'e-1' }, POLICY, attachment)
    await ask(attachment.proxyUrl, REFUSED)
    kill(gateway)
    await waitFor(async () => !(await gateway.status()).running)
    await expect(ask(attachment.proxyUrl, REFUSED)).rejects.toThrow(/ECONNREFUSED/)
    await waitFor(async () => (await gateway.status()).running)
    expect(await ask(attachment.proxyUrl, REFUSED)).toContain('egress.not_in_job_list')
    // Two requests, and the restart between them, which is nobody's attempt.
    expect(await lease.close()).toMatchObject({ records: 3, refused: 2, allowed: 0 })
    const records = await audit.read('e-1', 0, 10)
    expect(records.map(({ kind }) => kind)).toEqual(['http', 'restart', 'http'])
    expect(await verifyAuditFile(dir, 'e-1')).toMatchObject({ intact: true, records: 3 })
    expect(troubles).toHaveLength(1)
  })

  it('gives the final summary from the records when a lease is closed while it is down', async () => {
    const attachment = await gateway.attachLoopback()
    const lease = await gateway.open({ jobId: 'j-1', executionId: 'e-1' }, POLICY, attachment)
    await ask(attachment.proxyUrl, REFUSED)
    kill(gateway)
    await waitFor(async () => !(await gateway.status()).running)
    expect(await lease.close()).toMatchObject({ records: 1, refused: 1 })
  })

  it('goes on with the chain of an execution whose node died, and settles one that is not opened again', async () => {
    const [one, two] = [await gateway.attachLoopback(), await gateway.attachLoopback()]
    const who = (executionId: string) => ({ jobId: 'j-1', executionId })
    await gateway.open(who('e-1'), POLICY, one)
    await gateway.open(who('e-2'), POLICY, two)
    for (const { proxyUrl } of [one, two]) await ask(proxyUrl, REFUSED)
    kill(gateway)
    await gateway.close()
    gateway = await start()
    await gateway.setNodePolicy(NODE)
    expect(await gateway.settle?.(who('e-2'))).toMatchObject({ records: 1, refused: 1 })
    const attachment = await gateway.attachLoopback()
    const lease = await gateway.open(who('e-1'), POLICY, attachment, { again: true })
    await ask(attachment.proxyUrl, REFUSED)
    expect(await lease.close()).toMatchObject({ records: 3, refused: 2 })
    expect(await verifyAuditFile(dir, 'e-1')).toMatchObject({ intact: true, records: 3 })
  })

  it('refuses a namespace that does not exist, and says what is needed', async () => {
    await expect(gateway.attach('/proc/1/ns/nothing')).rejects.toMatchObject({ code: 'egress.unavailable' })
  })

  it('ends with its parent', async () => {
    const { pid } = gateway
    await gateway.close()
    await waitFor(() => Promise.resolve(!isAlive(pid)))
    expect((await gateway.status()).running).toBe(false)
  })
})

const inNamespace = 'in a network namespace with only loopback'
describe.skipIf(missing !== undefined)(
  missing === undefined ? inNamespace : `${inNamespace} (skipped: ${missing})`,
  () => {
    let job: Namespace

    beforeEach(() => {
      job = Namespace.create(`wg${process.pid % 10_000}`)
    })
    afterEach(() => job.close())

    it('refuses everything until a lease is open, and is gone after it was closed (N-13)', async () => {
      const attachment = await gateway.attach(job.path)
      expect(attachment.proxyUrl).toBe('http://127.0.0.1:3128')
      expect(await askIn(job, REFUSED)).toMatch(/^HTTP\/1\.1 503 /)
      expect(await askIn(job, REFUSED, '::1')).toMatch(/^HTTP\/1\.1 503 /)
      const lease = await gateway.open({ jobId: 'j-1', executionId: 'e-1' }, POLICY, attachment)
      expect(await askIn(job, REFUSED)).toContain('egress.not_in_job_list')
      await lease.close()
      await expect(askIn(job, REFUSED)).rejects.toThrow(/ECONNREFUSED/)
    })

    it('says why it serves only programs that use the proxy, unless that was switched off', async () => {
      execFileSync('ip', ['-n', job.name, 'link', 'add', 'dummy0', 'type', 'veth', 'peer', 'name', 'dummy1'])
      const { nameServer, onlyProxy } = await gateway.attach(job.path)
      expect([nameServer, onlyProxy]).toEqual([undefined, 'its network has an interface beside loopback'])
      await gateway.close()
      gateway = await start({ transparent: false })
      const attachment = await gateway.attach(job.path)
      expect([attachment.nameServer, attachment.onlyProxy]).toEqual([undefined, undefined])
      await gateway.open({ jobId: 'j-1', executionId: 'e-1' }, POLICY, attachment)
      await expect(job.connect('1.2.3.4', 80)).rejects.toThrow(/ENETUNREACH/)
      expect(await askIn(job, REFUSED)).toContain('egress.not_in_')
    })

    it('detaches listeners that never got a lease', async () => {
      await gateway.detach(await gateway.attach(job.path))
      await expect(askIn(job, REFUSED)).rejects.toThrow(/ECONNREFUSED/)
    })

    it('K-17 restores its listeners inside the namespace after a crash', async () => {
      const attachment = await gateway.attach(job.path)
      await gateway.open({ jobId: 'j-1', executionId: 'e-1' }, POLICY, attachment)
      kill(gateway)
      await waitFor(async () => !(await gateway.status()).running)
      await waitFor(async () => (await gateway.status()).running)
      expect(await askIn(job, REFUSED)).toContain('egress.not_in_job_list')
    })

    it('tells the holder of a lease that cannot be had again, because its namespace is gone', async () => {
      const attachment = await gateway.attach(job.path)
      const lease = await gateway.open({ jobId: 'j-1', executionId: 'e-1' }, POLICY, attachment)
      job.close()
      kill(gateway)
      expect(await lease.lost).toMatchObject({ code: 'egress.unavailable', retryable: true })
      expect(await lease.close()).toMatchObject({ records: 0 })
      // For the end of the test to remove.
      job = Namespace.create(`wg${process.pid % 10_000}`)
    })

    it('I-23, I-24 and F-28: there is no DNS, no UDP and no route', () => {
      const probe = `
      const { createSocket } = require('node:dgram'); const { connect } = require('node:net')
      const udp = createSocket('udp4'); const out = []
      udp.on('error', (e) => out.push(e.code))
      for (const port of [53, 5353, 443]) udp.send('x', port, '93.184.216.10', (e) => out.push(e ? e.code : 'sent'))
      connect(53, '8.8.8.8').on('error', (e) => out.push(e.code)).on('connect', () => out.push('connected'))
      setTimeout(() => { console.log(out.join()); process.exit() }, 300)`
      const result = spawnSync('ip', ['netns', 'exec', job.name, process.execPath, '-e', probe], {
        encoding: 'utf8',
      })
      expect(result.stdout.trim().split(',')).toEqual(Array(4).fill('ENETUNREACH'))
    })
  },
)

const openssl = spawnSync('openssl', ['version']).status === 0
const realTls = 'real TLS through the gateway process'
const noTls = openssl ? missing : 'needs openssl'
describe.skipIf(noTls !== undefined)(noTls === undefined ? realTls : `${realTls} (skipped: ${noTls})`, () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'A-15, K-21 streams both ways over %s until one side ends, in packets of any size',
    async (version) => {
      // The origin lives beside the uplink, on an address of its own that the operator excepts.
      const world = Namespace.create(`wt${process.pid % 10_000}`)
      const uplink = Namespace.create(`wv${process.pid % 10_000}`)
      try {
        const [a, b] = [`wta${process.pid % 10_000}`, `wtb${process.pid % 10_000}`]
        const run = (...args: string[]) => execFileSync('ip', args)
        run('link', 'add', a, 'type', 'veth', 'peer', 'name', b)
        run('link', 'set', a, 'netns', world.name)
        run('link', 'set', b, 'netns', uplink.name)
        run('-n', world.name, 'addr', 'add', '10.77.0.1/24', 'dev', a)
        run('-n', uplink.name, 'addr', 'add', '10.77.0.2/24', 'dev', b)
        run('-n', world.name, 'link', 'set', a, 'mtu', '9000')
        run('-n', uplink.name, 'link', 'set', b, 'mtu', '9000')
        run('-n', world.name, 'link', 'set', a, 'up')
        run('-n', uplink.name, 'link', 'set', b, 'up')
        const origin = createTlsServer(
          { ...certificate(dir), minVersion: version, maxVersion: version },
          (socket) => socket.pipe(socket),
        )
        const raw = await world.listen('10.77.0.1', 443)
        raw.on('connection', (socket) => origin.emit('connection', socket))
        const own = await start({
          launcher: ['ip', 'netns', 'exec', uplink.name],
          hosts: { 'tls.example.com': '10.77.0.1' },
        })
        await own.setNodePolicy({ ...NODE, privateExceptions: ['tls.example.com:443'] })
        const attachment = await own.attach(uplink.path)
        const lease = await own.open(
          { jobId: 'j-1', executionId: `e-${version.replace('.', '-')}` },
          POLICY,
          attachment,
        )
        const socket = await uplink.connect('127.0.0.1', 3128)
        socket.write('CONNECT tls.example.com:443 HTTP/1.1\r\nHost: tls.example.com:443\r\n\r\n')
        await new Promise((resolve) => socket.once('data', resolve))
        const secure = tlsConnect({
          socket,
          servername: 'tls.example.com',
          rejectUnauthorized: false,
          ALPNProtocols: ['http/1.1'],
        })
        const sent = Buffer.alloc(300_000, 'echo ')
        let received = 0
        const whole = new Promise<void>((resolve) =>
          secure.on('data', (data: Buffer) => {
            received += data.length
            if (received >= sent.length) resolve()
          }),
        )
        secure.write(sent)
        await whole
        secure.end()
        await new Promise((resolve) => socket.once('close', resolve))
        expect(await lease.close()).toMatchObject({ records: 1, allowed: 1 })
        const [record] = await audit.read(`e-${version.replace('.', '-')}`, 0, 1)
        expect(record).toMatchObject({
          sni: 'tls.example.com',
          alpn: ['http/1.1'],
          dialled: '10.77.0.1',
          code: '',
        })
        expect(record?.bytesDown).toBeGreaterThan(sent.length)
        await own.close()
      } finally {
        world.close()
        uplink.close()
      }
    },
  )
})

function start(more: Partial<GatewayClientOptions> = {}): Promise<GatewayClient> {
  return startGateway({
    nodeId: 'n-1',
    auditDir: dir,
    audit,
    onTrouble: (error) => troubles.push(error.message),
    ...more,
  })
}

function certificate(into: string): { key: Buffer; cert: Buffer } {
  const [key, cert] = [join(into, 'key.pem'), join(into, 'cert.pem')]
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-subj',
      '/CN=tls.example.com',
      '-keyout',
      key,
      '-out',
      cert,
      '-days',
      '2',
    ],
    { stdio: 'ignore' },
  )
  return { key: readFileSync(key), cert: readFileSync(cert) }
}

function kill(client: GatewayClient): void {
  if (client.pid !== undefined) process.kill(client.pid, 'SIGKILL')
}

function isAlive(pid: number | undefined): boolean {
  try {
    return pid !== undefined && process.kill(pid, 0)
  } catch {
    return false
  }
}

async function ask(proxyUrl: string, text: string): Promise<string> {
  const { hostname, port } = new URL(proxyUrl)
  return await talk(
    await new Promise<Socket>((resolve, reject) => {
      const socket = connect(Number(port), hostname)
      socket.once('connect', () => resolve(socket))
      socket.once('error', reject)
    }),
    text,
  )
}

async function askIn(namespace: Namespace, text: string, host = '127.0.0.1'): Promise<string> {
  return await talk(await namespace.connect(host, 3128), text)
}

async function talk(socket: Socket, text: string): Promise<string> {
  let received = ''
  socket.on('error', () => {})
  socket.on('data', (data: Buffer) => {
    received += data.toString('latin1')
  })
  const ended = new Promise((resolve) => socket.once('end', resolve).once('close', resolve))
  socket.write(text)
  await Promise.race([ended, sleep(3_000)])
  socket.destroy()
  return received
}

async function waitFor(holds: () => Promise<boolean>): Promise<void> {
  for (let waited = 0; waited < 5_000; waited += 10) {
    if (await holds()) return
    await sleep(10)
  }
  throw new Error('it did not happen within 5 s')
}
