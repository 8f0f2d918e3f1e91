import { createHash } from 'node:crypto'
import { type IpAddress, ipAddressFromBytes } from '../../model/index.js'

/** The one address of the pool that a namespace has on its loopback interface; never given to a name. */
export const OWN_SYNTHETIC_ADDRESS = '198.18.0.1'

/** Names of one execution that get an address. Whoever needs more uses the proxy, which needs none. */
export const SYNTHETIC_NAMES_MAX = 4_096

/**
 * Stands in for the addresses of names inside one namespace: each name gets an IPv4 address of 198.18.0.0/15
 * (benchmarking, RFC 2544: never on the internet, and no private network of the job's own) and the IPv6 address that
 * holds it. So it is known which name a program means when it connects, and no question has to leave the machine.
 *
 * An address follows from the hash of its name, so that it means the same to a program that remembers it after the
 * gateway was restarted; of two names with the same hash the later one takes the next free address.
 */
export class SyntheticAddresses {
  readonly #byName = new Map<string, number>()
  readonly #byIndex = new Map<number, string>()

  /** The pair for a canonical name; undefined when there are too many names. */
  addressesOf(name: string): { four: IpAddress; six: IpAddress } | undefined {
    const known = this.#byName.get(name)
    if (known !== undefined) return pairOf(known)
    if (this.#byName.size >= SYNTHETIC_NAMES_MAX) return undefined
    let index = firstIndex(name)
    while (!isGiven(index) || this.#byIndex.has(index)) index = (index + 1) % POOL_SIZE
    this.#byName.set(name, index)
    this.#byIndex.set(index, name)
    return pairOf(index)
  }

  /** The name an address of the pool stands for; undefined for any other address. */
  nameOf({ family, bytes }: IpAddress): string | undefined {
    const prefix = family === 6 ? SIX_PREFIX : []
    if (!prefix.every((byte, at) => bytes[at] === byte)) return undefined
    const [first = 0, second = 0, third = 0, fourth = 0] = bytes.slice(prefix.length)
    if (first !== 198 || (second & 0xfe) !== 18) return undefined
    return this.#byIndex.get(((second & 1) << 16) | (third << 8) | fourth)
  }
}

const POOL_SIZE = 1 << 17

/** A unique local prefix (RFC 4193); namespaces share it, but no packet leaves them. */
const SIX_PREFIX: readonly number[] = [0xfd, 0x77, 0x65, 0x69, 0x72, 0, 0, 0, 0, 0, 0, 0]

function firstIndex(name: string): number {
  return createHash('sha256').update(name).digest().readUInt32BE(0) % POOL_SIZE
}

/** Some programs take addresses that end in 0 or 255 for networks; the first block holds the namespace's own one. */
function isGiven(index: number): boolean {
  const last = index & 0xff
  return index > 0xff && last !== 0 && last !== 0xff
}

function pairOf(index: number): { four: IpAddress; six: IpAddress } {
  const four = [198, 18 | (index >> 16), (index >> 8) & 0xff, index & 0xff]
  return { four: addressOf(four), six: addressOf([...SIX_PREFIX, ...four]) }
}

function addressOf(bytes: readonly number[]): IpAddress {
  const address = ipAddressFromBytes(bytes)
  if (address === undefined) throw new RangeError('an address has 4 or 16 bytes')
  return address
}
