import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createGuardedDialer, createResolver, dialTcp } from '../../src/egress/index.js'
import { parseIpAddress, type IpAddress } from '../../src/model/index.js'
import { urlSource } from '../../src/sources/index.js'
import { chance, PatientClock } from './local-internet.js'

let dir = ''
let site: Server
let api: Server
let apiRequests = 0
let siteRequests = 0
let location = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-guard-'))
  apiRequests = 0
  siteRequests = 0
  site = createServer((request, response) => {
    siteRequests += 1
    if (request.url === '/data') response.end('content')
    else response.writeHead(302, { Location: location }).end()
  })
  api = createServer((_, response) => {
    apiRequests += 1
    response.end('{}')
  })
  for (const server of [site, api])
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterEach(async () => {
  for (const server of [site, api]) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  await rm(dir, { recursive: true, force: true })
})

const loopback = parseIpAddress('127.0.0.1') as IpAddress
const port = (server: Server) => (server.address() as AddressInfo).port

const connections = (server: Server) =>
  new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)))

/** A public address, behind which the test's own site answers on any port. */
const PUBLIC = '93.184.216.34'

/** The real guard with real judgement; only the last step, the connection to {@link PUBLIC}, ends at this machine. */
function fetchGuarded(url: string) {
  const dialer = createGuardedDialer({
    resolve: createResolver({
      servers: ['127.0.0.1:1'],
      hosts: {
        'site.example.com': PUBLIC,
        'sneaky.example.com': '127.0.0.1',
        'mixed.example.com': [PUBLIC, '10.0.0.7'],
        'meta.example.com': '169.254.169.254',
      },
    }),
    dial: (address, at, signal) =>
      address.text === PUBLIC ? dialTcp(loopback, port(site), signal) : dialTcp(address, at, signal),
    policy: {
      allow: [],
      deny: ['denied.example.com'],
      privateExceptions: [],
      self: [`orchestrator.example.com:${port(api)}`],
    },
  })
  const source = urlSource({ dialer, clock: new PatientClock(), chance, retries: 0 })
  const input = { Source: { Type: 'urlDownload', Params: { URL: url } }, Alias: '', Target: '/inputs' }
  return source.fetch(input, dir, { bytesMax: 1000 }, new AbortController().signal)
}

/** URLs that lead to the node, its network or the cloud's metadata, in spellings that try to hide it. */
const FORBIDDEN: [string, (api: number) => string][] = [
  ['the metadata address', () => 'http://169.254.169.254/latest/meta-data/'],
  ['a name with the metadata address', () => 'http://meta.example.com/latest/meta-data/'],
  ['loopback', (at) => `http://127.0.0.1:${at}/api/v1/orchestrator/jobs`],
  ['a short spelling of loopback', (at) => `http://127.1:${at}/`],
  ['a hexadecimal spelling of loopback', (at) => `http://0x7f000001:${at}/`],
  ['loopback in circled digits', (at) => `http://%E2%91%A0%E2%91%A1%E2%91%A6.0.0.1:${at}/`],
  ['localhost', (at) => `http://localhost:${at}/`],
  ['a name below localhost', (at) => `http://x.localhost:${at}/`],
  ['IPv6 loopback', (at) => `http://[::1]:${at}/`],
  ['IPv4 loopback in IPv6', (at) => `http://[::ffff:127.0.0.1]:${at}/`],
  ['a name that resolves to loopback', (at) => `http://sneaky.example.com:${at}/`],
  ['the orchestrator by name', (at) => `http://orchestrator.example.com:${at}/`],
  ['a name with one public and one private address', () => 'http://mixed.example.com/'],
  ['a private range', () => 'http://10.0.0.7/'],
  ['all addresses', (at) => `http://0.0.0.0:${at}/`],
  ['a name that the operator denies', () => 'http://denied.example.com/'],
]

describe('fetching through the real address guard', () => {
  it('works for a public address, and leaves no connection behind', async () => {
    await fetchGuarded(`http://site.example.com/data`)
    expect(await readFile(join(dir, 'data'), 'utf8')).toBe('content')
    await expect.poll(() => connections(site)).toBe(0)
  })

  it.each(FORBIDDEN)('is refused for %s', async (_, url) => {
    await expect(fetchGuarded(url(port(api)))).rejects.toMatchObject({
      code: 'source.refused',
      retryable: false,
    })
    expect(apiRequests).toBe(0)
  })

  it.each(FORBIDDEN)('is refused when a redirect leads to %s', async (_, url) => {
    location = url(port(api))
    await expect(fetchGuarded(`http://site.example.com/moved`)).rejects.toMatchObject({
      code: 'source.refused',
    })
    expect([siteRequests, apiRequests]).toEqual([1, 0])
  })

  it('says that a name cannot be resolved', async () => {
    await expect(fetchGuarded('http://unknown.example.com/')).rejects.toMatchObject({
      code: 'source.unavailable',
      message: expect.stringContaining('unknown.example.com'),
    })
  })
})
