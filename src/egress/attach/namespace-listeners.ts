import { spawn } from 'node:child_process'
import type { Socket as UdpSocket } from 'node:dgram'
import { createServer, type Server, type Socket } from 'node:net'
import { WeirError } from '../../errors.js'
import { entryPoint } from '../../package-root.js'
import { OWN_SYNTHETIC_ADDRESS } from '../dns/synthetic-addresses.js'
import type { InsideMessage, InsideOrder } from './listen-inside.js'
import {
  DNS_PORT,
  type Listeners,
  NAME_SOCKETS,
  PROXY_PORT,
  PROXY_SOCKETS,
  type SocketPlan,
  transparentSockets,
} from './listeners.js'

/** Where to listen. */
export interface NamespacePaths {
  /** The network namespace, for example `/proc/123/ns/net`. */
  readonly netnsPath: string
  /** The user namespace that owns it; with it no root is needed where this user made that one. */
  readonly usernsPath?: string | undefined
}

/** Sockets made inside a namespace and held here. */
export interface NamespaceListeners extends Listeners {
  /** Why programs that ignore proxy variables cannot be served in this namespace; empty when they can. */
  readonly problem: string
}

/**
 * Creates the gateway's listeners inside the network namespace and returns them held by this process: the
 * proxy on 127.0.0.1:3128 (and [::1]:3128 where there is IPv6), and, unless `transparent` is false, what serves programs
 * that know nothing of proxies: every address is made local, `webPorts` and a name server listen on all of them. Where
 * that cannot be set up `problem` says why, and the proxy works all the same.
 *
 * Costs one short-lived Node process, about 60 ms. Needs root or CAP_SYS_ADMIN (and CAP_NET_ADMIN for the routes),
 * unless `usernsPath` is given; rejects with `egress.unavailable` otherwise, or after 5 s.
 */
export async function listenInNamespace(
  namespace: NamespacePaths,
  { transparent = true, webPorts }: { transparent?: boolean; webPorts: readonly number[] },
): Promise<NamespaceListeners> {
  const made = await makeInside(namespace, {
    required: PROXY_SOCKETS.slice(0, 1),
    optional: PROXY_SOCKETS.slice(1),
    routes: transparent ? ROUTES : [],
    afterRoutes: transparent ? [...NAME_SOCKETS, ...webPorts.flatMap(transparentSockets)] : [],
  })
  if (!transparent) return { ...made, problem: 'it is switched off' }
  if (made.problem !== '' || made.nameSockets.length > 0) return made
  return { ...made, problem: `nothing can listen on port ${DNS_PORT} inside` }
}

/** More ports for a namespace that has its routes already. A port that the job holds itself is left to it. */
export function listenOnMorePorts(
  namespace: NamespacePaths,
  ports: readonly number[],
): Promise<NamespaceListeners> {
  return makeInside(namespace, {
    required: [],
    optional: ports.flatMap(transparentSockets),
    routes: [],
    afterRoutes: [],
  })
}

/** A listener of the gateway's own namespace, for uses without a namespace of their own; port 0: a free one. */
export function listenOn(host: string, port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', ({ message }) =>
      reject(new WeirError('egress.unavailable', `Cannot listen on ${host}:${port}: ${message}`)),
    )
    server.listen({ host, port, backlog: 512 }, () => resolve(server))
  })
}

/**
 * With a local default route every destination is an address of the namespace itself: a listener on all addresses gets
 * every connection, and a port without one refuses at once. The address beside loopback is for programs that ask only
 * for names of those families of which the machine has an address.
 */
const ROUTES: readonly (readonly string[])[] = [
  [`address replace ${OWN_SYNTHETIC_ADDRESS}/32 dev lo`, 'route replace local 0.0.0.0/0 dev lo'],
  ['route replace local ::/0 dev lo'],
]

function makeInside(
  { netnsPath, usernsPath }: NamespacePaths,
  order: InsideOrder,
): Promise<NamespaceListeners> {
  if (![netnsPath, usernsPath ?? netnsPath].every((path) => /^\/[^\0]*$/.test(path)))
    return Promise.reject(failure(netnsPath, 'the path is not absolute'))
  return new Promise((resolve, reject) => {
    const script = entryPoint('egress/attach/listen-inside.js')
    const owner = usernsPath === undefined ? [] : [`--user=${usernsPath}`, '--preserve-credentials']
    const args = [...owner, `--net=${netnsPath}`, '--', process.execPath, script, JSON.stringify(order)]
    const child = spawn('nsenter', args, {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    })
    const held = new HeldSockets()
    let complaint = ''
    let problem: string | undefined
    let exited = false
    let done = false
    const finish = (settle: () => void) => {
      if (done) return
      done = true
      clearTimeout(timer)
      settle()
    }
    const fail = (reason: string) => {
      finish(() => {
        held.close()
        child.kill('SIGKILL')
        reject(failure(netnsPath, reason))
      })
    }
    // The program's own copies of the sockets have to be gone before anybody connects.
    const succeed = (why: string) => finish(() => resolve({ ...held.byRole, problem: why }))
    const timer = setTimeout(() => fail('the listener did not start in time'), 5_000)
    child.stderr?.on('data', (text: Buffer) => {
      complaint = `${complaint}${text.toString()}`.slice(0, 500)
    })
    child.on('error', (error) => fail(error.message))
    child.on('exit', (code) => {
      exited = true
      if (problem !== undefined) succeed(problem)
      else if (code !== 0) fail(complaint.trim().split('\n')[0] || `it ended with status ${code}`)
    })
    child.on('message', (message: InsideMessage, handle) => {
      if ('failed' in message) return fail(explain(message.failed))
      if ('made' in message) {
        if (handle === undefined) return fail('the listener did not arrive')
        return held.add(message.made, handle as Server | UdpSocket)
      }
      problem = message.problem
      if (exited) succeed(problem)
    })
  })
}

/** Sockets as they arrive. */
class HeldSockets {
  readonly byRole = {
    proxy: [] as Server[],
    transparent: [] as Server[],
    names: [] as Server[],
    nameSockets: [] as UdpSocket[],
  }

  add({ role, type }: SocketPlan, socket: Server | UdpSocket): void {
    if (type === 'udp') {
      this.byRole.nameSockets.push(socket as UdpSocket)
      return
    }
    const server = socket as Server
    // It accepts from now on, and nobody serves it yet: who comes is refused, not left without an answer for ever.
    server.on('connection', (early: Socket) => {
      if (server.listenerCount('connection') === 1) early.resetAndDestroy()
    })
    this.byRole[role].push(server)
  }

  close(): void {
    for (const socket of Object.values(this.byRole).flat()) socket.close()
  }
}

function explain(code: string): string {
  if (code === 'EADDRNOTAVAIL') return 'its loopback interface is down'
  return code === 'EADDRINUSE' ? `port ${PROXY_PORT} is taken inside` : code
}

function failure(netnsPath: string, reason: string): WeirError {
  return new WeirError(
    'egress.unavailable',
    `Cannot listen in the network namespace "${netnsPath}": ${reason}`,
    {
      hint: 'The node needs root (CAP_SYS_ADMIN) and the program nsenter of util-linux',
      retryable: true,
    },
  )
}
