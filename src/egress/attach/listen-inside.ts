/**
 * A program of its own, started inside a job's network namespace: binds the gateway's sockets there, hands them to its
 * parent over IPC and exits. The namespace of a socket is the one it was created in, so the gateway accepts from inside
 * while it lives outside. Arguments: what to do, as JSON ({@link InsideOrder}). Imports nothing but Node, to start fast.
 */
import { spawnSync } from 'node:child_process'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import type { SocketPlan } from './listeners.js'

/** What the program is told. */
export interface InsideOrder {
  /** Sockets of IPv4 loopback that must be there; without one the program fails. */
  required: readonly SocketPlan[]
  /** Sockets that may fail: IPv6 is off, or the job has taken the port meanwhile. */
  optional: readonly SocketPlan[]
  /** Lines for `ip -batch`, run first, one list per address family; the first family is required for transparent mode. */
  routes: readonly (readonly string[])[]
  /** Made only where the routes could be set. */
  afterRoutes: readonly SocketPlan[]
}

/** What it says for each socket, and once at the end. */
export type InsideMessage =
  | { made: SocketPlan }
  /** `problem`: why programs that ignore proxy variables cannot be served here; empty when they can. */
  | { done: true; problem: string }
  | { failed: string }

const order = JSON.parse(process.argv[2] ?? '') as InsideOrder

try {
  for (const plan of order.required) await hand(plan, await bind(plan))
  const problem = setRoutes()
  const optional = [...order.optional, ...(problem === '' ? order.afterRoutes : [])]
  for (const plan of optional) {
    const socket = await bind(plan).catch(() => undefined)
    if (socket !== undefined) await hand(plan, socket)
  }
  await send({ done: true, problem })
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException
  await send({ failed: code ?? message })
  process.exitCode = 1
}
process.disconnect()
process.exit()

function bind({ type, host, port }: SocketPlan): Promise<Server | UdpSocket> {
  return new Promise((resolve, reject) => {
    const ipv6Only = host.includes(':')
    if (type === 'udp') {
      // The socket of all addresses and those of single ones share the port.
      const socket = createSocket({ type: ipv6Only ? 'udp6' : 'udp4', ipv6Only, reuseAddr: true })
      socket.once('error', reject)
      socket.bind({ address: host, port }, () => resolve(socket))
      return
    }
    const server = createServer()
    server.once('error', reject)
    server.listen({ host, port, backlog: 512, ipv6Only }, () => resolve(server))
  })
}

/** Makes every address local. Says why it could not; IPv6 may be switched off in the namespace. */
function setRoutes(): string {
  const interfaces = [...readFileSync('/proc/self/net/dev', 'latin1').matchAll(/^\s*([^\s:]+):/gm)]
  // In a network that leads somewhere this would cut it off.
  if (order.routes.length > 0 && interfaces.some(([, name]) => name !== 'lo'))
    return 'its network has an interface beside loopback'
  const problems = order.routes.map((lines) => {
    const { status, error, stderr } = spawnSync('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` })
    if (error !== undefined) return `the program ip of iproute2 cannot be run (${error.message})`
    return status === 0 ? '' : stderr.toString().trim().split('\n')[0] || `ip ended with status ${status}`
  })
  return problems[0] ?? ''
}

function hand(made: SocketPlan, socket: Server | UdpSocket): Promise<void> {
  return send({ made }, socket)
}

function send(message: InsideMessage, handle?: Server | UdpSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send?.(message, handle, {}, (error) => (error ? reject(error) : resolve()))
  })
}
