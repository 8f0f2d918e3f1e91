import { networkInterfaces } from 'node:os'
import { classifyIpAddress, parseIpAddress } from '../model/index.js'

/**
 * Returns a function that gives the canonical addresses of this machine: by default those of its interfaces. Read
 * again at most once a second. Loopback is left out: it is refused as what it is.
 */
export function ownInterfaceAddresses(
  read: () => readonly string[] = interfaceAddresses,
  now: () => number = () => performance.now(),
): () => ReadonlySet<string> {
  let known: ReadonlySet<string> | undefined
  let readAt = 0
  return () => {
    if (known !== undefined && now() - readAt < 1_000) return known
    readAt = now()
    const addresses = read().flatMap((text) => parseIpAddress(text.replace(/%.*$/, '')) ?? [])
    known = new Set(
      addresses.filter((one) => classifyIpAddress(one).kind !== 'loopback').map((one) => one.text),
    )
    return known
  }
}

function interfaceAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((entry) => entry.address))
}
