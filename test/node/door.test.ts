import { execFile } from 'node:child_process'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { chmodSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:tls'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { WeirClient } from '../../src/client/index.js'
import { CONFIG_SCHEMA, loadConfig, type ConfigValues } from '../../src/config/index.js'
import { openCertificate } from '../../src/node/door/certificate.js'
import { doorOf } from '../../src/node/door/door.js'
import { jobAddresses } from '../../src/node/door/job-addresses.js'
import { fingerprintOf, selfSignedCertificate } from '../../src/node/door/self-signed.js'
import { HandClock } from '../api/with-access.js'
import { ip, namespacesMissing } from '../egress/network.js'
import { withDirectory, withNode } from './running-node.js'

const run = promisify(execFile)
const DAY_MS = 24 * 3_600_000
const QUIET = ['Engines.Disabled=docker,wasm']
const PASSWORDS = [{ Username: 'a', Password: 'b'.repeat(10) }]

function valuesWith(change: Partial<ConfigValues>): ConfigValues {
  const defaults = Object.fromEntries(Object.entries(CONFIG_SCHEMA).map(([name, key]) => [name, key.default]))
  return { ...(defaults as ConfigValues), ...change }
}

describe('the door of the API', () => {
  const open = { isLocal: true, asks: false, tls: 'none' }
  const anywhere = { host: '0.0.0.0', port: 1 }
  const here = { host: '127.0.0.1', port: 1 }

  it.each([
    ['loopback', here, {}, open],
    ['a Unix socket', { socketPath: '/tmp/x' }, { 'API.TLS.SelfSigned': true }, open],
    ['loopback with users', here, { 'API.Auth.Users': PASSWORDS }, { ...open, asks: true }],
    ['loopback that asks', here, { 'API.Auth.Mode': 'on' }, { ...open, asks: true }],
    [
      'everywhere with a certificate of our own',
      anywhere,
      { 'API.TLS.SelfSigned': true },
      { isLocal: false, asks: true, tls: 'self-signed' },
    ],
    [
      'everywhere with a certificate',
      anywhere,
      { 'API.TLS.CertFile': '/c', 'API.TLS.KeyFile': '/k' },
      { isLocal: false, asks: true, tls: 'files' },
    ],
    [
      'everywhere behind a proxy',
      anywhere,
      { 'API.TLS.BehindProxy': true },
      { isLocal: false, asks: true, tls: 'none' },
    ],
    [
      'everywhere, said to be insecure',
      anywhere,
      { 'API.AllowInsecure': true },
      { isLocal: false, asks: false, tls: 'none' },
    ],
    [
      'everywhere, insecure but asking',
      anywhere,
      { 'API.AllowInsecure': true, 'API.Auth.Mode': 'on' },
      { isLocal: false, asks: true, tls: 'none' },
    ],
  ] as const)('of %s', (_title, listen, values, door) => {
    expect(doorOf(listen, valuesWith(values))).toEqual(door)
  })

  it.each([
    ['everywhere without TLS', anywhere, {}, '--self-signed'],
    ['another address without TLS', { host: '192.0.2.1', port: 1 }, {}, '--self-signed'],
    [
      'everywhere without authentication',
      anywhere,
      { 'API.Auth.Mode': 'off', 'API.TLS.SelfSigned': true },
      '--insecure',
    ],
    ['a certificate without key', here, { 'API.TLS.CertFile': '/c' }, 'both'],
    [
      'two certificates',
      here,
      { 'API.TLS.CertFile': '/c', 'API.TLS.KeyFile': '/k', 'API.TLS.SelfSigned': true },
      'one',
    ],
    ['a certificate from the internet', here, { 'API.TLS.AutoCert': 'weir.example.com' }, 'ACME'],
  ] as const)('stays shut for %s', (_title, listen, values, hint) => {
    expect(() => doorOf(listen, valuesWith(values))).toThrow(
      expect.objectContaining({
        code: 'config.invalid',
        hint: expect.stringContaining(hint) as string,
      }) as Error,
    )
  })
})

describe('a certificate of our own', () => {
  const now = Date.UTC(2030, 0, 1)

  it('is made once, for the names, and readable by its owner only', () =>
    withDirectory(async (dir) => {
      const names = ['localhost', '127.0.0.1', '::1', 'weir.example.com']
      const first = await selfSignedCertificate(join(dir, 'tls'), names, now)
      const certificate = new X509Certificate(first.cert)
      expect(certificate.checkHost('weir.example.com')).toBeDefined()
      expect(certificate.checkIP('::1')).toBeDefined()
      expect(certificate.checkHost('other.example.com')).toBeUndefined()
      for (const file of ['key.pem', 'cert.pem'])
        expect(statSync(join(dir, 'tls', file)).mode & 0o077).toBe(0)
      expect(await selfSignedCertificate(join(dir, 'tls'), names, now + DAY_MS)).toEqual(first)
    }))

  it('is renewed before its end and for a new name, with the same key and so the same fingerprint', () =>
    withDirectory(async (dir) => {
      const first = await selfSignedCertificate(dir, ['localhost'], now)
      const late = await selfSignedCertificate(dir, ['localhost'], now + 370 * DAY_MS)
      const named = await selfSignedCertificate(dir, ['localhost', 'new.example.com'], now + 370 * DAY_MS)
      expect(new Set([first.cert, late.cert, named.cert]).size).toBe(3)
      expect(new Set([first, late, named].map(({ cert }) => fingerprintOf(cert))).size).toBe(1)
      expect(fingerprintOf(first.cert)).toMatch(/^SHA256:[A-Za-z0-9+/]{43}=$/)
    }))

  it('is not replaced in silence when its key is damaged', () =>
    withDirectory(async (dir) => {
      await selfSignedCertificate(dir, ['localhost'], now)
      writeFileSync(join(dir, 'key.pem'), 'nonsense')
      await expect(selfSignedCertificate(dir, ['localhost'], now)).rejects.toMatchObject({
        code: 'tls.invalid',
      })
    }))
})

describe('certificate files', () => {
  it('are read again when they change; what cannot be used is left alone', () =>
    withDirectory(async (dir) => {
      const [certFile, keyFile] = [join(dir, 'c.pem'), join(dir, 'k.pem')]
      const put = (pair: { cert: string; key: string }, atSeconds: number): void => {
        writeFileSync(certFile, pair.cert)
        writeFileSync(keyFile, pair.key)
        utimesSync(certFile, atSeconds, atSeconds)
        utimesSync(keyFile, atSeconds, atSeconds)
      }
      const [one, two] = [
        await selfSignedCertificate(join(dir, '1'), ['localhost'], Date.now()),
        await selfSignedCertificate(join(dir, '2'), ['localhost'], Date.now()),
      ]
      put(one, 1_000)
      const clock = new HandClock()
      const warnings: string[] = []
      const logger = {
        debug: () => {},
        info: () => {},
        error: () => {},
        warn: (_fields: object, message: string) => warnings.push(message),
      }
      const config = loadConfig({
        dataDir: dir,
        settings: [`API.TLS.CertFile=${certFile}`, `API.TLS.KeyFile=${keyFile}`],
      })
      const listen = { host: '127.0.0.1', port: 0 }
      const door = doorOf(listen, config.values)
      const certificate = await openCertificate({ config, listen, door, clock, logger })
      expect(certificate?.cert).toBe(one.cert)
      const seen: string[] = []
      const closing = new AbortController()
      certificate?.watch(({ cert }) => seen.push(cert), closing.signal)
      const look = async (until: () => boolean): Promise<void> => {
        await expect
          .poll(() => {
            clock.pass(5_000)
            return until()
          })
          .toBe(true)
      }
      put({ cert: two.cert, key: one.key }, 2_000)
      await look(() => warnings.length === 1)
      put(two, 3_000)
      await look(() => seen.length === 1)
      expect(seen).toEqual([two.cert])
      closing.abort()
    }))

  it('that do not belong together, or are not there, keep the node from starting', () =>
    withDirectory(async (dir) => {
      const { cert } = await selfSignedCertificate(dir, ['localhost'], Date.now())
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      writeFileSync(join(dir, 'c.pem'), cert)
      writeFileSync(join(dir, 'k.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }))
      for (const key of ['k.pem', 'absent.pem']) {
        const settings = [
          `API.TLS.CertFile=${join(dir, 'c.pem')}`,
          `API.TLS.KeyFile=${join(dir, key)}`,
          ...QUIET,
        ]
        await expect(withNode(join(dir, 'data'), settings, async () => {})).rejects.toMatchObject({
          code: 'tls.invalid',
        })
      }
    }))
})

describe('a node that asks and speaks TLS', () => {
  it('lets the holder of its first token in, over a pinned connection, and again after a restart', () =>
    withDirectory(async (dir) => {
      const settings = ['API.TLS.SelfSigned=true', 'API.Auth.Mode=on', ...QUIET]
      const data = join(dir, 'data')
      let token = ''
      let pin = ''
      await withNode(data, settings, async (node) => {
        expect(node.apiUrl).toMatch(/^https:/)
        expect(statSync(node.rootTokenFile ?? '').mode & 0o777).toBe(0o600)
        expect(statSync(join(data, 'access.db')).mode & 0o077).toBe(0)
        token = readFileSync(node.rootTokenFile ?? '', 'utf8').trim()
        pin = node.fingerprint ?? ''
        const client = new WeirClient({ baseUrl: node.apiUrl, token, tls: { fingerprint: pin } })
        expect(await client.whoAmI()).toMatchObject({ Name: 'root', Role: 'admin' })
        const logs = client.logs('j-absent')[Symbol.asyncIterator]()
        await expect(logs.next()).rejects.toMatchObject({ code: 'job.not_found' })
        const records = (await client.adminLog()).Items
        expect(records.map(({ action }) => action)).toEqual(['server.start', 'token.create'])
        expect(JSON.stringify(records)).not.toContain(token.slice(18))
        expect(JSON.stringify(await client.config())).not.toContain(token.slice(18))
        client.close()
        const careless = new WeirClient({ baseUrl: node.apiUrl, tls: { fingerprint: pin } })
        await expect(careless.jobs()).rejects.toMatchObject({
          code: 'api.unauthorized',
          hint: `Log in with \`weir auth login ${node.apiUrl}\`, or put a token into the variable WEIR_API_KEY.`,
        })
        careless.close()
      })
      await withNode(data, settings, async (node) => {
        expect(node.fingerprint).toBe(pin)
        const client = new WeirClient({ baseUrl: node.apiUrl, token, tls: { fingerprint: pin } })
        expect(await client.whoAmI()).toMatchObject({ Name: 'root' })
        expect(await client.tokens()).toHaveLength(1)
        expect(await client.adminLog({ verify: true })).toMatchObject({ Verdict: { intact: true } })
        client.close()
      })
    }))

  it('gets a new first token when nobody is left who may manage it', () =>
    withDirectory(async (dir) => {
      const settings = ['API.Auth.Mode=on', ...QUIET]
      const data = join(dir, 'data')
      let old = ''
      await withNode(data, settings, async (node) => {
        old = readFileSync(node.rootTokenFile ?? '', 'utf8').trim()
        const client = new WeirClient({ baseUrl: node.apiUrl, token: old })
        const [root] = await client.tokens()
        await client.revokeToken(root?.ID ?? '')
        await expect(client.tokens()).rejects.toMatchObject({ code: 'api.unauthorized' })
        client.close()
      })
      await withNode(data, settings, async (node) => {
        const fresh = readFileSync(node.rootTokenFile ?? '', 'utf8').trim()
        expect(fresh).not.toBe(old)
      })
    }))

  it('sends nothing to a server with another key', () =>
    withDirectory(async (dir) => {
      const { cert, key } = await selfSignedCertificate(dir, ['localhost', '127.0.0.1'], Date.now())
      const heard: string[] = []
      const impostor = createServer({ cert, key }, (socket) => {
        socket.on('data', (data: Buffer) => heard.push(data.toString('latin1'))).on('error', () => {})
      })
      await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve))
      const { port } = impostor.address() as AddressInfo
      const fingerprint = `SHA256:${'A'.repeat(43)}=`
      const client = new WeirClient({
        baseUrl: `https://127.0.0.1:${port}`,
        token: 'weir_secret',
        tls: { fingerprint },
      })
      const wanted = { code: 'tls.untrusted', details: { expected: fingerprint, found: fingerprintOf(cert) } }
      await expect(client.jobs()).rejects.toMatchObject(wanted)
      await expect(client.submit({ Type: 'batch' })).rejects.toMatchObject(wanted)
      await expect(client.logs('j-1')[Symbol.asyncIterator]().next()).rejects.toMatchObject(wanted)
      expect(heard).toEqual([])
      client.close()
      await new Promise((resolve) => impostor.close(resolve))
    }))

  it('does not start on a data directory whose record it cannot go on with', () =>
    withDirectory(async (dir) => {
      const data = join(dir, 'data')
      await withNode(data, QUIET, async () => {})
      writeFileSync(join(data, 'admin-audit', 'admin.jsonl'), 'nonsense\n')
      await expect(withNode(data, QUIET, async () => {})).rejects.toMatchObject({ code: 'audit.unavailable' })
    }))
})

describe('addresses from which jobs could call', () => {
  const interfaces = () => ({
    lo: [entry('127.0.0.1', '127.0.0.1/8'), entry('::1', '::1/128')],
    eth0: [entry('192.0.2.10', '192.0.2.10/24'), entry('2001:db8::10', '2001:db8::10/64')],
    docker0: [entry('172.17.0.1', '172.17.0.1/16')],
  })
  const entry = (address: string, cidr: string) =>
    ({
      address,
      cidr,
      family: address.includes(':') ? 'IPv6' : 'IPv4',
      internal: false,
      mac: '',
      netmask: '',
    }) as never

  it.each([
    ['127.0.0.1', false],
    ['::1', false],
    ['::ffff:127.0.0.1', false],
    ['192.0.2.10', true],
    ['::ffff:192.0.2.10', true],
    ['192.0.2.11', false],
    ['2001:db8::10', true],
    ['2001:0db8:0::0010', true],
    ['172.17.0.2', true],
    ['172.17.255.254', true],
    ['172.18.0.2', false],
    ['203.0.113.5', true],
    ['', false],
    ['nonsense', false],
  ])('include %s: %s', async (address, isOne) => {
    let now = 0
    const test = jobAddresses({
      interfaces,
      isBridge: (name) => name === 'docker0',
      now: () => now,
      nodes: async () => [{ info: { addresses: ['203.0.113.5', '127.0.0.1', 'nonsense'] } } as never],
    })
    now += 5_000
    await new Promise((resolve) => setImmediate(resolve))
    expect(test(address)).toBe(isOne)
  })
})

const missing = namespacesMissing()

describe.skipIf(missing !== undefined)(
  `a job that reaches the API${missing === undefined ? '' : ` (skipped: ${missing})`}`,
  () => {
    it('starts no job from behind a bridge of the node, nor by the node’s own address (row J-09)', () =>
      withDirectory(async (dir) => {
        const name = `weir-j${process.pid}`
        const [bridge, inside, outside] = [`wb${process.pid}`, `wi${process.pid}`, `wo${process.pid}`]
        ip('netns', 'add', name)
        try {
          ip('link', 'add', bridge, 'type', 'bridge')
          ip('addr', 'add', '10.211.7.1/24', 'dev', bridge)
          ip('link', 'set', bridge, 'up')
          ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', inside)
          ip('link', 'set', outside, 'master', bridge, 'up')
          ip('link', 'set', inside, 'netns', name)
          ip('-n', name, 'addr', 'add', '10.211.7.9/24', 'dev', inside)
          ip('-n', name, 'link', 'set', inside, 'up')
          await withNode(
            join(dir, 'data'),
            ['API.Host=0.0.0.0', 'API.AllowInsecure=true', ...QUIET],
            async (node) => {
              const { port } = new URL(node.apiUrl)
              const submit = (host: string) => `
            fetch('http://${host}:${port}/api/v1/orchestrator/jobs', {
              method: 'PUT',
              headers: { 'content-type': 'application/json' },
              body: JSON.stringify({ Job: { Type: 'batch', Tasks: [{ Name: 'main', Engine: { Type: 'docker', Params: { Image: 'alpine' } } }] } }),
            }).then(async (answer) => console.log(answer.status, await answer.text()))`
              const asJob = await run('ip', [
                'netns',
                'exec',
                name,
                process.execPath,
                '-e',
                submit('10.211.7.1'),
              ])
              expect(asJob.stdout).toMatch(/^403 .*api\.from_job/)
              const byOwnAddress = await run(process.execPath, ['-e', submit('10.211.7.1')])
              expect(byOwnAddress.stdout).toMatch(/^403 .*api\.from_job/)
              expect((await node.client.jobs()).Items).toEqual([])
              const asUser = await run(process.execPath, ['-e', submit('127.0.0.1')])
              expect(asUser.stdout).toMatch(/^200 /)
            },
          )
        } finally {
          ip('netns', 'del', name)
          ip('link', 'del', bridge)
        }
      }))
  },
)

it('refuses credentials that others on the machine can read', () =>
  withDirectory(async (dir) => {
    const { readCredential, saveCredential, forgetCredential } = await import('../../src/client/index.js')
    const data = join(dir, 'data')
    const path = await saveCredential(data, 'http://a:1', { token: 't', fingerprint: 'f' })
    await saveCredential(data, 'http://b:1', { token: 'u' })
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(await readCredential(data, 'http://a:1')).toEqual({ token: 't', fingerprint: 'f' })
    expect(await readCredential(data, '__proto__')).toBeUndefined()
    expect(await forgetCredential(data, 'http://a:1', false)).toBe(true)
    expect(await readCredential(data, 'http://a:1')).toEqual({ fingerprint: 'f' })
    for (const mode of [0o640, 0o604, 0o660]) {
      chmodSync(path, mode)
      await expect(readCredential(data, 'http://a:1')).rejects.toMatchObject({ code: 'credentials.unsafe' })
    }
    chmodSync(path, 0o600)
    for (const text of ['nonsense', '[]', '{"servers":[]}']) {
      writeFileSync(path, text)
      await expect(readCredential(data, 'http://a:1')).rejects.toMatchObject({ code: 'credentials.unsafe' })
    }
  }))
