import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, vi } from 'vitest'
import { type GatewayClient, type GatewayClientOptions, startGateway } from '../../../src/egress/index.js'
import { ip, Namespace } from '../../../src/conformance/index.js'
import type { AuditLog, AuditSink, EgressLease, LeasePolicy, NetworkSlot } from '../../../src/ports/index.js'
import { createAuditFile } from '../../../src/stores/audit-file.js'
import { TestAuthority } from '../../egress/test-authority.js'
import { Bench, type Finished, type ProgramOptions } from './harness.js'

const SITE = '93.184.217.2'
const HOSTS = ['www.example.com', 'api.example.com', 'other.example.net', 'evil.test']

/**
 * A gateway process with an uplink of its own, behind which are web servers on an address that looks public, and an executor of
 * WebAssembly programs that has that gateway. Nothing leaves this machine.
 */
export class HttpWorld {
  readonly dir: string
  readonly audit: AuditSink & AuditLog
  readonly bench: Bench
  readonly gateway: GatewayClient
  /** `METHOD scheme://host/path` of each request that arrived. */
  readonly seen: string[] = []
  readonly #namespaces: Namespace[]
  #runs = 0

  private constructor(dir: string, gateway: GatewayClient, namespaces: Namespace[]) {
    this.dir = dir
    this.audit = createAuditFile({ dir: join(dir, 'audit') })
    this.gateway = gateway
    this.#namespaces = namespaces
    this.bench = new Bench({ gateway })
  }

  static async create(options: Partial<GatewayClientOptions> = {}): Promise<HttpWorld> {
    const tag = `wh${process.pid % 10_000}`
    const dir = mkdtempSync(join(tmpdir(), 'weir-wasm-http-'))
    const [sites, uplink] = [Namespace.create(`${tag}s`), Namespace.create(`${tag}u`)]
    ip(
      'link',
      'add',
      `${tag}a`,
      'netns',
      uplink.name,
      'type',
      'veth',
      'peer',
      'name',
      `${tag}b`,
      'netns',
      sites.name,
    )
    for (const [namespace, device, address] of [
      [uplink, `${tag}a`, '93.184.217.1/30'],
      [sites, `${tag}b`, `${SITE}/30`],
    ] as const) {
      ip('-n', namespace.name, 'addr', 'add', address, 'dev', device)
      ip('-n', namespace.name, 'link', 'set', device, 'up')
    }
    const authority = new TestAuthority()
    const gateway = await startGateway({
      nodeId: 'n-test',
      auditDir: join(dir, 'audit'),
      audit: createAuditFile({ dir: join(dir, 'audit') }),
      hosts: Object.fromEntries(HOSTS.map((name) => [name, SITE])),
      authorities: authority.pem,
      launcher: ['ip', 'netns', 'exec', uplink.name],
      ...options,
      limits: { bitsPerSecondUp: 1e10, bitsPerSecondDown: 1e10, ...options.limits },
    })
    await gateway.setNodePolicy(NODE)
    const world = new HttpWorld(dir, gateway, [sites, uplink])
    await world.#serve(sites, authority)
    authority.close()
    await world.#startFromSnapshot()
    return world
  }

  /** Opens a lease and runs a program in it. */
  async run(
    module: string,
    args: string[],
    { policy = {}, ...options }: Partial<ProgramOptions> & { policy?: Partial<LeasePolicy> } = {},
  ): Promise<Finished & { executionId: string; lease: EgressLease }> {
    const { slot, lease, executionId } = await this.enter(policy)
    try {
      const finished = await this.bench.run(module, { args, network: slot, ...options })
      return { ...finished, executionId, lease }
    } finally {
      await lease.close()
      await slot.release()
    }
  }

  async enter(
    policy: Partial<LeasePolicy> = {},
  ): Promise<{ slot: NetworkSlot; lease: EgressLease; executionId: string }> {
    const executionId = `e-${++this.#runs}`
    const { network } = this.bench.executor
    if (network === undefined) throw new Error('the executor has no network')
    const slot = await network.acquire('http', { executionId }, AbortSignal.timeout(10_000))
    if (slot.attachment === undefined) throw new Error('no attachment')
    const wanted: LeasePolicy = { mode: 'http', allow: ['.example.com'], ...policy }
    const lease = await this.gateway.open({ jobId: 'j-test', executionId }, wanted, slot.attachment)
    return { slot, lease, executionId }
  }

  async close(): Promise<void> {
    await this.bench.close()
    await this.gateway.close()
    for (const namespace of this.#namespaces) namespace.close()
    rmSync(this.dir, { recursive: true, force: true })
  }

  /** As the sandboxes of a node do but in its first seconds. */
  async #startFromSnapshot(): Promise<void> {
    const isSo = async () =>
      expect(await this.bench.executor.probe(new AbortController().signal)).toMatchObject({
        details: { start: 'snapshot' },
      })
    await vi.waitFor(isSo, { timeout: 20_000, interval: 100 })
  }

  async #serve(sites: Namespace, authority: TestAuthority): Promise<void> {
    const tls = authority.certify(['*.example.com'])
    const own = authority.certifyItself(['*.example.com'])
    for (const [port, server] of [
      [80, createServer(this.#answer('http'))],
      [443, createTlsServer(tls, this.#answer('https'))],
      [8443, createTlsServer(own, this.#answer('https'))],
    ] as const) {
      const listener = await sites.listen(SITE, port)
      listener.on('connection', (socket) => server.emit('connection', socket))
    }
  }

  #answer(scheme: string) {
    return (request: IncomingMessage, response: ServerResponse): void => {
      const { method = '', url = '', headers } = request
      this.seen.push(`${method} ${scheme}://${headers.host}${url}`)
      if (url.startsWith('/big/')) return pour(response, Number(url.slice(5)))
      if (url === '/moved') return void response.writeHead(302, { location: 'http://evil.test/' }).end()
      if (url === '/cut')
        return void response.writeHead(200, { 'content-length': 10 }).write('half', () => response.destroy())
      if (url === '/hang') return
      let bytes = 0
      request.on('data', (data: Buffer) => (bytes += data.length))
      request.on('end', () => {
        const framing = headers['transfer-encoding'] ?? headers['content-length'] ?? 'none'
        response.end(`${method} ${scheme}://${headers.host}${url} ${bytes} ${framing}`)
      })
    }
  }
}

export const NODE = {
  allow: ['.example.com', '.example.net', 'www.example.com:8443'],
  deny: [],
  privateExceptions: [],
  self: [],
}

function pour(response: ServerResponse, bytes: number): void {
  response.writeHead(200, { 'content-length': bytes })
  const piece = Buffer.alloc(65_536, 'x')
  let left = bytes
  const more = (): void => {
    while (left > 0) {
      const part = piece.subarray(0, Math.min(left, piece.length))
      left -= part.length
      if (!response.write(part)) return void response.once('drain', more)
    }
    response.end()
  }
  more()
}
