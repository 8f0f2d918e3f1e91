import type { Socket as UdpSocket } from 'node:dgram'
import type { Server } from 'node:net'

/** What a listening socket inside a namespace is for. */
export type ListenerRole = 'proxy' | 'transparent' | 'names'

/** One socket to be made inside a namespace. */
export interface SocketPlan {
  readonly role: ListenerRole
  readonly type: 'tcp' | 'udp'
  readonly host: string
  readonly port: number
}

/** Listeners of one namespace, by what they are for. */
export interface Listeners {
  /** Where programs that know about proxies connect. */
  readonly proxy: readonly Server[]
  /** Where connections of the others arrive, whatever address they dialled. */
  readonly transparent: readonly Server[]
  /** DNS over TCP. */
  readonly names: readonly Server[]
  /** DNS over UDP. */
  readonly nameSockets: readonly UdpSocket[]
}

/** The port of the proxy inside every namespace. */
export const PROXY_PORT = 3128

/** The name server inside every namespace that has one, as written into the job's `/etc/resolv.conf`. */
export const NAME_SERVER = '127.0.0.1'

export const DNS_PORT = 53

/** The ports of a pattern that names none: plain HTTP and TLS. */
export const WEB_PORTS: readonly number[] = [80, 443]

/** Extra ports that a job's list may open for programs that know nothing of proxies; the proxy serves any number. */
export const EXTRA_PORTS_MAX = 32

/** The proxy's sockets: loopback only, in both families. */
export const PROXY_SOCKETS: readonly SocketPlan[] = ['127.0.0.1', '::1'].map((host) => ({
  role: 'proxy',
  type: 'tcp',
  host,
  port: PROXY_PORT,
}))

/**
 * The name server's sockets. Loopback addresses that systems have in their `/etc/resolv.conf` (systemd, Docker) have
 * sockets of their own: from any other one an answer would come from 127.0.0.1, and be dropped. UDP over IPv6 on loopback only: an answer to another address would come from `::1`, and
 * whoever asked would wait for it in vain.
 */
export const NAME_SOCKETS: readonly SocketPlan[] = [
  { role: 'names', type: 'udp', host: '0.0.0.0', port: DNS_PORT },
  { role: 'names', type: 'udp', host: '127.0.0.53', port: DNS_PORT },
  { role: 'names', type: 'udp', host: '127.0.0.11', port: DNS_PORT },
  { role: 'names', type: 'udp', host: '::1', port: DNS_PORT },
  { role: 'names', type: 'tcp', host: '0.0.0.0', port: DNS_PORT },
  { role: 'names', type: 'tcp', host: '::', port: DNS_PORT },
]

/** Sockets on which every connection to `port` arrives, whatever its address. */
export function transparentSockets(port: number): SocketPlan[] {
  return ['0.0.0.0', '::'].map((host) => ({ role: 'transparent', type: 'tcp', host, port }))
}
