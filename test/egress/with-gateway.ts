import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createResolver, Gateway, type GatewayLimits, type GatewayOptions } from '../../src/egress/index.js'
import type { AuditLog, AuditSink, LeasePolicy, NodeEgressPolicy } from '../../src/ports/index.js'
import { createAuditFile } from '../../src/stores/audit-file.js'
import { buildHello } from './hello.js'

const NODE: NodeEgressPolicy = { allow: ['.example.com'], deny: [], privateExceptions: [], self: [] }

/** A gateway in this process, whose internet is one origin on loopback under every name below example.com. */
export class TestGateway {
  readonly dir = mkdtempSync(join(tmpdir(), 'weir-limits-'))
  readonly audit: AuditSink & AuditLog = createAuditFile({ dir: this.dir })
  readonly gateway: Gateway
  readonly node: NodeEgressPolicy
  /** What the origin does with a connection. */
  onOrigin: (socket: Socket) => void = answerOk
  /** The clock on the wall. */
  nowMs: () => number = Date.now
  /** What a lookup waits for. */
  beforeAnswer: (signal: AbortSignal) => Promise<void> = async () => {}
  readonly #origin: Server
  readonly #lookups: string[] = []

  private constructor(
    origin: Server,
    limits: Partial<GatewayLimits>,
    node: Partial<NodeEgressPolicy>,
    more: Partial<GatewayOptions>,
  ) {
    this.#origin = origin
    this.node = { ...NODE, ...node }
    origin.on('connection', (socket: Socket) => {
      socket.on('error', () => {})
      this.onOrigin(socket)
    })
    const resolve = createResolver({
      hosts: Object.fromEntries(NAMES.map((name) => [name, '93.184.216.10'])),
    })
    this.gateway = new Gateway({
      nodeId: 'n-1',
      audit: this.audit,
      resolve: async (name, signal) => {
        this.#lookups.push(name)
        await this.beforeAnswer(signal)
        return resolve(name, signal)
      },
      dial: () => dial(portOf(origin)),
      ownAddresses: () => [],
      now: () => this.nowMs(),
      limits,
      ...more,
    })
    this.gateway.setNodePolicy(this.node)
  }

  get originPort(): number {
    return portOf(this.#origin)
  }

  static async start(
    limits: Partial<GatewayLimits> = {},
    node: Partial<NodeEgressPolicy> = {},
    more: Partial<GatewayOptions> = {},
  ): Promise<TestGateway> {
    return new TestGateway(await listen(), limits, node, more)
  }

  /** Names that were looked up, in order. */
  get lookups(): readonly string[] {
    return this.#lookups
  }

  /** Opens a lease; resolves with the port of its listener. */
  async lease(
    executionId: string,
    limits: LeasePolicy['limits'] = {},
    {
      jobId = 'j-1',
      again = false,
      signedBy,
    }: { jobId?: string; again?: boolean; signedBy?: LeasePolicy['signedBy'] } = {},
  ): Promise<number> {
    const door = await listen()
    this.gateway.hold(`door-${executionId}`, { proxy: [door] })
    const signers = signedBy === undefined ? {} : { signedBy }
    const policy = { mode: 'http' as const, allow: ['.example.com'], limits, ...signers }
    await this.gateway.open({ jobId, executionId }, policy, `door-${executionId}`, { again })
    return portOf(door)
  }

  async close(): Promise<void> {
    await this.gateway.shutdown()
    this.#origin.close()
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** Names below example.com that exist. */
const NAMES = ['example.com', ...Array.from({ length: 10 }, (_, index) => `h${index}.example.com`)]

function answerOk(socket: Socket): void {
  socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK'))
}

/** Sends bytes without end, once it was spoken to. */
export function pour(socket: Socket): void {
  socket.once('data', () => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n')
    const more = () => {
      while (socket.writable && socket.write(Buffer.alloc(65_536)));
    }
    socket.on('drain', more)
    more()
  })
}

export function get(host: string): string {
  return `GET http://${host}/ HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
}

/** Sends the text; resolves with everything that came until the connection ended. */
export async function exchange(port: number, text: string): Promise<string> {
  const socket = await dial(port)
  let received = ''
  socket.on('data', (data: Buffer) => {
    received += data.toString('latin1')
  })
  socket.on('error', () => {})
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.on('end', () => socket.end())
  socket.write(text)
  await closed
  return received
}

/** An open tunnel whose hello went out. */
export async function tunnel(port: number, host = 'example.com'): Promise<Socket> {
  const socket = await dial(port)
  socket.on('error', () => {})
  socket.on('end', () => socket.end())
  socket.write(`CONNECT ${host}:443 HTTP/1.1\r\nHost: ${host}:443\r\n\r\n`)
  await new Promise((resolve) => socket.once('data', resolve).once('close', resolve))
  socket.write(buildHello({ sni: host }))
  return socket
}

export function dial(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    socket.once('connect', () => resolve(socket))
    socket.once('error', reject)
  })
}

export function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve()
    else socket.once('close', () => resolve())
  })
}

/** Waits until it holds; fails after 10 s. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const giveUp = performance.now() + 10_000
  while (!(await holds())) {
    if (performance.now() > giveUp) throw new Error('it did not come true within 10 s')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
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
