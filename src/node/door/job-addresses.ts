import { existsSync } from 'node:fs'
import { BlockList, isIP, isIPv6 } from 'node:net'
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os'
import type { NodeRecord } from '../../model/index.js'

/** What is known about where jobs run. */
export interface JobAddressOptions {
  /** Nodes of the network with the addresses that they report. */
  nodes: () => Promise<readonly NodeRecord[]>
  /** Default: those of this machine. */
  interfaces?: () => NodeJS.Dict<NetworkInterfaceInfo[]>
  /** True for an interface that joins containers or virtual machines. Default: what the kernel says. */
  isBridge?: (name: string) => boolean
  /** Milliseconds, ascending. Default: the monotonic clock. */
  now?: () => number
}

const FRESH_MS = 2_000

/**
 * Returns a test for addresses from which a job could call: this machine's own, those behind its bridges, and those of
 * every node. Loopback is never among them: a job's loopback is its own, so what comes over ours is a user of this
 * machine. What changes is noticed within seconds.
 */
export function jobAddresses(options: JobAddressOptions): (address: string) => boolean {
  const { nodes, now = () => performance.now() } = options
  let readAt = Number.NEGATIVE_INFINITY
  let own = new BlockList()
  let ofNodes = new BlockList()
  let isReading = false
  const refresh = (): void => {
    if (now() - readAt < FRESH_MS) return
    readAt = now()
    own = ownAddresses(options)
    if (isReading) return
    isReading = true
    nodes()
      .then((records) => {
        ofNodes = addressesOf(records)
      })
      .catch(() => {
        // The store is closing; what was known stays.
      })
      .finally(() => {
        isReading = false
      })
  }
  refresh()
  return (address) => {
    refresh()
    const plain = plainAddress(address)
    const family = familyOf(plain)
    if (family === undefined || isLoopbackAddress(plain)) return false
    return own.check(plain, family) || ofNodes.check(plain, family)
  }
}

/** What a node reports about itself: every address that is neither loopback nor tied to a link. */
export function ownReachableAddresses(
  interfaces: () => NodeJS.Dict<NetworkInterfaceInfo[]> = networkInterfaces,
): string[] {
  const all = Object.values(interfaces()).flatMap((list) => list ?? [])
  return all
    .map(({ address }) => plainAddress(address))
    .filter((one) => !isLoopbackAddress(one) && !isLinkLocal(one))
}

function ownAddresses({
  interfaces = networkInterfaces,
  isBridge = isKernelBridge,
}: JobAddressOptions): BlockList {
  const list = new BlockList()
  for (const [name, entries = []] of Object.entries(interfaces())) {
    for (const { address, cidr } of entries) {
      const plain = plainAddress(address)
      const family = familyOf(plain)
      if (family === undefined || isLoopbackAddress(plain)) continue
      list.addAddress(plain, family)
      const prefix = Number(cidr?.split('/')[1])
      if (isBridge(name) && Number.isInteger(prefix)) list.addSubnet(plain, prefix, family)
    }
  }
  return list
}

function addressesOf(nodes: readonly NodeRecord[]): BlockList {
  const list = new BlockList()
  for (const { info } of nodes) {
    for (const address of info.addresses ?? []) {
      const plain = plainAddress(address)
      const family = familyOf(plain)
      if (family !== undefined && !isLoopbackAddress(plain)) list.addAddress(plain, family)
    }
  }
  return list
}

/** Containers and virtual machines hang on bridges; a cable of the local network does not. */
function isKernelBridge(name: string): boolean {
  return /^[^/]{1,15}$/.test(name) && existsSync(`/sys/class/net/${name}/bridge`)
}

/** A server that listens on `::` sees IPv4 callers as `::ffff:10.0.0.1`. */
function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '')
}

function familyOf(address: string): 'ipv4' | 'ipv6' | undefined {
  if (isIP(address) === 0) return undefined
  return isIPv6(address) ? 'ipv6' : 'ipv4'
}

function isLoopbackAddress(address: string): boolean {
  return address === '::1' || address.startsWith('127.')
}

function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/i.test(address)
}
