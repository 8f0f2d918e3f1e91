import type { Server, Socket } from 'node:net'
import { type IpAddress, parseIpAddress } from '../model/index.js'
import { buildServerHello } from './hello.js'

/** A scripted DNS answer. `after` counts the queries of this name and type before it is used (answers in order). */
export interface DnsScript {
  A?: string[]
  AAAA?: string[]
  cname?: string[]
  rcode?: number
  /** Never answer. */
  silent?: boolean
  delayMs?: number
}

/** How the OK origin behaves for one row. */
export interface OriginScript {
  /** Raw answers, one per request; the last repeats. */
  answer?: string[]
  /** After the first bytes on a TLS port: `hello` (default), `retry`, or raw hex. */
  tls?: 'hello' | 'retry' | 'silent'
  /** Close after the answer. */
  close?: boolean
}

export const OK_ADDRESSES = ['93.184.216.10', '93.184.216.77', '2606:2800::10']
export const EVIL_ADDRESSES = ['93.184.216.66']
export const ORCHESTRATOR_ADDRESS = '93.184.216.99'
export const OWN_ADDRESS = '93.184.216.98'
const TLS_PORTS = [443, 8443, 444]

/** Everything that could be contacted, and what it saw. */
export class Witnesses {
  ok: { connections: number; bytes: Buffer; ports: number[] } = {
    connections: 0,
    bytes: Buffer.alloc(0),
    ports: [],
  }
  evil = 0
  internal = 0
  /** Names asked for, `name type`. */
  queries: string[] = []
  origin: OriginScript = {}
  zone: Record<string, DnsScript[]> = {}
  readonly #sockets = new Set<Socket>()
  #counts = new Map<string, number>()

  reset(origin: OriginScript, zone: Record<string, DnsScript | DnsScript[]>): void {
    for (const socket of this.#sockets) socket.destroy()
    this.ok = { connections: 0, bytes: Buffer.alloc(0), ports: [] }
    this.evil = 0
    this.internal = 0
    this.queries = []
    this.origin = origin
    this.zone = Object.fromEntries(Object.entries(zone).map(([name, script]) => [name, [script].flat()]))
    this.#counts = new Map()
  }

  get touched(): string[] {
    return [
      ...(this.ok.connections > 0 ? ['OK'] : []),
      ...(this.evil > 0 ? ['EVIL'] : []),
      ...(this.internal > 0 ? ['internal'] : []),
    ]
  }

  watch(server: Server, role: 'ok' | 'ok-tls' | 'evil' | 'internal'): void {
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('end', () => socket.end())
      if (role === 'evil') this.evil++
      if (role === 'internal') this.internal++
      if (role === 'ok' || role === 'ok-tls') this.#serveOk(socket, role === 'ok-tls')
      else socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL'))
    })
  }

  /** The scripted answer to one question. */
  dns(name: string, type: 'A' | 'AAAA'): DnsScript {
    this.queries.push(`${name} ${type}`)
    const scripts = this.zone[name] ?? defaultZone(name)
    const count = this.#counts.get(`${name} ${type}`) ?? 0
    this.#counts.set(`${name} ${type}`, count + 1)
    return scripts[Math.min(count, scripts.length - 1)] ?? { rcode: 3 }
  }

  #serveOk(socket: Socket, tls: boolean): void {
    this.ok.connections++
    let received = Buffer.alloc(0)
    let answered = 0
    const { origin } = this
    socket.on('data', (bytes: Buffer) => {
      this.ok.bytes = Buffer.concat([this.ok.bytes, bytes])
      received = Buffer.concat([received, bytes])
      if (tls) {
        if (answered++ === 0 && origin.tls !== 'silent')
          socket.write(buildServerHello(origin.tls === 'retry'))
        return
      }
      if (answered === 0 && !isWholeRequest(received)) {
        if (
          /expect: 100-continue/i.test(received.toString('latin1')) &&
          received.includes('\r\n\r\n') &&
          !received.toString('latin1').endsWith('\r\n0\r\n\r\n') &&
          !this.#continued.has(socket)
        ) {
          this.#continued.add(socket)
          socket.write('HTTP/1.1 100 Continue\r\n\r\n')
        }
        return
      }
      if (answered++ > 0) return
      const answers = origin.answer ?? ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK']
      socket.write(Buffer.from(answers.join(''), 'latin1'))
      if (origin.close === true) socket.end()
      // Who did not announce that it closes may ask again.
      if (/\r\nconnection: close\r\n/i.test(received.toString('latin1'))) return
      received = Buffer.alloc(0)
      answered = 0
    })
  }
  readonly #continued = new WeakSet<Socket>()
}

function isWholeRequest(bytes: Buffer): boolean {
  const text = bytes.toString('latin1')
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return false
  const length = /\r\ncontent-length: (\d+)/i.exec(text.slice(0, end))
  if (length !== null) return bytes.length >= end + 4 + Number(length[1])
  if (/\r\ntransfer-encoding: chunked/i.test(text.slice(0, end)))
    return /\r\n0\r\n(?:[^\r\n]+\r\n)*\r\n$/.test(text)
  return true
}

function defaultZone(name: string): DnsScript[] {
  const ok = ['exact.test', 'api.test', 'xn--bcher-kva.test', 'example.com', 'example.org']
  if (ok.includes(name) || name.endsWith('.example.com')) return [{ A: ['93.184.216.10'] }]
  if (name.endsWith('evil.test') || name.includes('evil')) return [{ A: ['93.184.216.66'] }]
  return [{ rcode: 3 }]
}

/** Which witness listens behind an address and port. */
export function roleOf(address: string, port: number): 'ok' | 'ok-tls' | 'evil' | 'internal' {
  if (OK_ADDRESSES.includes(address)) return TLS_PORTS.includes(port) ? 'ok-tls' : 'ok'
  return EVIL_ADDRESSES.includes(address) ? 'evil' : 'internal'
}

export function addressOf(text: string): IpAddress {
  const address = parseIpAddress(text)
  if (address === undefined) throw new Error(`${text} is not an address`)
  return address
}
