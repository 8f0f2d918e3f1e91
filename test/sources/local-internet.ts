import { connect, type Socket } from 'node:net'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { WeirError } from '../../src/errors.js'
import type { GuardedDialer } from '../../src/ports/egress-gateway.js'
import type { Chance, Clock } from '../../src/ports/clock.js'

/** A dialer whose internet is a map of `name:port` to ports of this machine; everything else is refused as private. */
export class LocalInternet implements GuardedDialer {
  readonly dialled: string[] = []
  private readonly ports = new Map<string, number>()
  private readonly servers: Server[] = []

  async dial(host: string, port: number, signal: AbortSignal): Promise<Socket> {
    this.dialled.push(`${host}:${port}`)
    const local = this.ports.get(`${host}:${port}`)
    if (local === undefined)
      throw new WeirError('egress.private_address', `"${host}" is not a public address`)
    const socket = connect({ host: '127.0.0.1', port: local, signal })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return socket
  }

  /** Serves `http://host` (port 80, or 443 with a certificate). */
  async serve(host: string, listener: RequestListener, tls?: { key: string; cert: string }): Promise<Server> {
    const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    this.ports.set(`${host}:${tls === undefined ? 80 : 443}`, (server.address() as AddressInfo).port)
    this.servers.push(server)
    return server
  }

  /** A name that resolves to a port nobody listens on. */
  deadEnd(host: string): void {
    this.ports.set(`${host}:80`, 1)
  }

  async close(): Promise<void> {
    for (const server of this.servers) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}

/** Waits take no time, and are remembered. */
export class PatientClock implements Clock {
  readonly waits: number[] = []
  now(): number {
    return 0
  }
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    this.waits.push(ms)
  }
}

export const chance: Chance = { uuid: () => '00000000-0000-4000-8000-000000000000', random: () => 0.5 }
