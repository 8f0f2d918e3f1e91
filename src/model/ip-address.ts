/** An IP address that was read by {@link parseIpAddress}: bytes in network order and the one canonical spelling. */
export interface IpAddress {
  readonly family: 4 | 6
  /** 4 or 16 numbers from 0 to 255. */
  readonly bytes: readonly number[]
  /** Canonical: dotted quad, or RFC 5952 (lower case, longest zero run shortened; IPv4-mapped keeps its dots). */
  readonly text: string
}

/** What an address is for, by the IANA special-purpose registries. Only `public` may be dialled for a job. */
export type AddressKind =
  | 'public'
  | 'loopback'
  | 'private'
  | 'link-local'
  | 'metadata'
  | 'multicast'
  | 'unspecified'
  | 'documentation'
  | 'embedding'
  | 'reserved'

/** One block of the registries. */
export interface AddressBlock {
  readonly cidr: string
  readonly kind: Exclude<AddressKind, 'public'>
  readonly name: string
}

/**
 * Every block that is not the public internet.
 *
 * Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries, IPv4 and IPv6 address space registries (multicast,
 * class E), and the addresses of cloud metadata services that look public. Blocks the registry calls globally
 * reachable (AS112, AMT) are refused as well: no job needs them. For IPv6 everything outside 2000::/3 is refused
 * whether or not a line here names it. The first matching line gives the name, so narrow blocks come first.
 */
export const SPECIAL_ADDRESS_BLOCKS: readonly AddressBlock[] = [
  { cidr: '169.254.169.254/32', kind: 'metadata', name: 'cloud metadata' },
  { cidr: '168.63.129.16/32', kind: 'metadata', name: 'Azure platform service' },
  { cidr: '100.100.100.200/32', kind: 'metadata', name: 'Alibaba metadata' },
  { cidr: '0.0.0.0/32', kind: 'unspecified', name: 'unspecified' },
  { cidr: '0.0.0.0/8', kind: 'reserved', name: 'this network' },
  { cidr: '10.0.0.0/8', kind: 'private', name: 'private use' },
  { cidr: '100.64.0.0/10', kind: 'private', name: 'shared address space' },
  { cidr: '127.0.0.0/8', kind: 'loopback', name: 'loopback' },
  { cidr: '169.254.0.0/16', kind: 'link-local', name: 'link-local' },
  { cidr: '172.16.0.0/12', kind: 'private', name: 'private use' },
  { cidr: '192.0.0.0/24', kind: 'reserved', name: 'IETF protocol assignments' },
  { cidr: '192.0.2.0/24', kind: 'documentation', name: 'TEST-NET-1' },
  { cidr: '192.31.196.0/24', kind: 'reserved', name: 'AS112-v4' },
  { cidr: '192.52.193.0/24', kind: 'reserved', name: 'AMT' },
  { cidr: '192.88.99.0/24', kind: 'embedding', name: '6to4 relay anycast' },
  { cidr: '192.168.0.0/16', kind: 'private', name: 'private use' },
  { cidr: '192.175.48.0/24', kind: 'reserved', name: 'direct delegation AS112' },
  { cidr: '198.18.0.0/15', kind: 'private', name: 'benchmarking' },
  { cidr: '198.51.100.0/24', kind: 'documentation', name: 'TEST-NET-2' },
  { cidr: '203.0.113.0/24', kind: 'documentation', name: 'TEST-NET-3' },
  { cidr: '224.0.0.0/4', kind: 'multicast', name: 'multicast' },
  { cidr: '255.255.255.255/32', kind: 'reserved', name: 'limited broadcast' },
  { cidr: '240.0.0.0/4', kind: 'reserved', name: 'reserved' },

  { cidr: '::/128', kind: 'unspecified', name: 'unspecified' },
  { cidr: '::1/128', kind: 'loopback', name: 'loopback' },
  { cidr: '::/96', kind: 'embedding', name: 'IPv4-compatible' },
  { cidr: '::ffff:0:0/96', kind: 'embedding', name: 'IPv4-mapped' },
  { cidr: '::ffff:0:0:0/96', kind: 'embedding', name: 'IPv4-translated' },
  { cidr: '64:ff9b::/96', kind: 'embedding', name: 'NAT64' },
  { cidr: '64:ff9b:1::/48', kind: 'embedding', name: 'local-use NAT64' },
  { cidr: '100::/64', kind: 'reserved', name: 'discard-only' },
  { cidr: '100:0:0:1::/64', kind: 'reserved', name: 'dummy prefix' },
  { cidr: '2001::/32', kind: 'embedding', name: 'Teredo' },
  { cidr: '2001:db8::/32', kind: 'documentation', name: 'documentation' },
  { cidr: '2001::/23', kind: 'reserved', name: 'IETF protocol assignments' },
  { cidr: '2002::/16', kind: 'embedding', name: '6to4' },
  { cidr: '2620:4f:8000::/48', kind: 'reserved', name: 'direct delegation AS112' },
  { cidr: '3ffe::/16', kind: 'reserved', name: '6bone, returned' },
  { cidr: '3fff::/20', kind: 'documentation', name: 'documentation' },
  { cidr: '5f00::/16', kind: 'reserved', name: 'segment routing SIDs' },
  { cidr: 'fd00:ec2::254/128', kind: 'metadata', name: 'cloud metadata' },
  { cidr: 'fc00::/7', kind: 'private', name: 'unique local' },
  { cidr: 'fe80::/10', kind: 'link-local', name: 'link-local' },
  { cidr: 'fec0::/10', kind: 'private', name: 'site-local, deprecated' },
  { cidr: 'ff00::/8', kind: 'multicast', name: 'multicast' },
]

/**
 * Reads one IP address strictly: four decimal numbers without leading zeros, or RFC 4291 text. Zone ids, brackets,
 * short forms such as `127.1`, octal and hexadecimal IPv4 are not addresses. Returns undefined when it is none.
 */
export function parseIpAddress(text: string): IpAddress | undefined {
  const four = parseIpv4(text)
  if (four !== undefined) return { family: 4, bytes: four, text }
  const six = text.includes(':') ? parseIpv6(text) : undefined
  return six === undefined ? undefined : { family: 6, bytes: six, text: printIpv6(six) }
}

/** Makes an address from 4 or 16 bytes, for example of a DNS answer. Undefined for any other length. */
export function ipAddressFromBytes(bytes: ArrayLike<number>): IpAddress | undefined {
  const copy = Array.from(bytes)
  if (copy.length === 4) return { family: 4, bytes: copy, text: copy.join('.') }
  return copy.length === 16 ? { family: 6, bytes: copy, text: printIpv6(copy) } : undefined
}

/** What the address is for; `name` is the registry's word for the block. */
export function classifyIpAddress(address: IpAddress): { kind: AddressKind; name: string } {
  for (const block of BLOCKS) {
    if (block.family === address.family && startsWith(address.bytes, block.bytes, block.bits)) {
      return { kind: block.kind, name: block.name }
    }
  }
  if (address.family === 6) {
    if (((address.bytes[0] ?? 0) & 0xe0) !== 0x20) return { kind: 'reserved', name: 'not global unicast' }
    if (isIsatap(address.bytes)) return { kind: 'embedding', name: 'ISATAP' }
  }
  return { kind: 'public', name: 'public' }
}

/** True for an address of the public internet: the only kind a job may reach without an operator's exception. */
export function isPublicAddress(address: IpAddress): boolean {
  return classifyIpAddress(address).kind === 'public'
}

/**
 * The IPv4 address hidden in an IPv6 one (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP), or undefined.
 * Such addresses are never public; this is for recognising the network's own addresses in disguise.
 */
export function embeddedIpv4(address: IpAddress): IpAddress | undefined {
  if (address.family !== 6) return undefined
  const { bytes } = address
  const within = (cidr: string) => {
    const block = BLOCKS.find((candidate) => candidate.cidr === cidr)
    return block !== undefined && startsWith(bytes, block.bytes, block.bits)
  }
  if (within('2002::/16')) return ipAddressFromBytes(bytes.slice(2, 6))
  if (within('2001::/32')) return ipAddressFromBytes(bytes.slice(12).map((byte) => byte ^ 0xff))
  const tail = ['::/96', '::ffff:0:0/96', '::ffff:0:0:0/96', '64:ff9b::/96', '64:ff9b:1::/48'].some(within)
  return tail || isIsatap(bytes) ? ipAddressFromBytes(bytes.slice(12)) : undefined
}

/** First and last address of a block written as `address/bits`; for tests over the registries. */
export function blockEnds(cidr: string): { first: IpAddress; last: IpAddress } {
  const { bytes, bits } = parseCidr(cidr)
  const last = bytes.map((byte, index) => byte | (0xff >> Math.min(8, Math.max(0, bits - index * 8))))
  return { first: required(ipAddressFromBytes(bytes), cidr), last: required(ipAddressFromBytes(last), cidr) }
}

const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]

const BLOCKS = SPECIAL_ADDRESS_BLOCKS.map((block) => ({ ...block, ...parseCidr(block.cidr) }))

function parseCidr(cidr: string): { family: 4 | 6; bytes: readonly number[]; bits: number } {
  const [text = '', bits = ''] = cidr.split('/')
  const address = required(parseIpAddress(text), cidr)
  return { family: address.family, bytes: address.bytes, bits: Number(bits) }
}

function required<T>(value: T | undefined, cidr: string): T {
  if (value === undefined) throw new TypeError(`${cidr} is not an address block`)
  return value
}

function startsWith(bytes: readonly number[], prefix: readonly number[], bits: number): boolean {
  const whole = bits >> 3
  for (let index = 0; index < whole; index++) if (bytes[index] !== prefix[index]) return false
  const rest = bits & 7
  if (rest === 0) return true
  const mask = 0xff & (0xff << (8 - rest))
  return ((bytes[whole] ?? 0) & mask) === ((prefix[whole] ?? 0) & mask)
}

/** RFC 5214: interface identifier 0000:5efe or 0200:5efe, then an IPv4 address. */
function isIsatap(bytes: readonly number[]): boolean {
  return ((bytes[8] ?? 0) & 0xfd) === 0 && bytes[9] === 0 && bytes[10] === 0x5e && bytes[11] === 0xfe
}

function parseIpv4(text: string): number[] | undefined {
  if (text.length < 7 || text.length > 15) return undefined
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  const bytes: number[] = []
  for (const part of parts) {
    if (!/^(?:0|[1-9][0-9]{0,2})$/.test(part)) return undefined
    const value = Number(part)
    if (value > 255) return undefined
    bytes.push(value)
  }
  return bytes
}

function parseIpv6(text: string): number[] | undefined {
  if (text.length < 2 || text.length > 45) return undefined
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const [headText = '', tailText] = halves
  const head = parseGroups(headText, tailText === undefined)
  const tail = tailText === undefined ? [] : parseGroups(tailText, true)
  if (head === undefined || tail === undefined) return undefined
  const missing = 16 - head.length - tail.length
  // A double colon stands for at least one group of zeros (RFC 4291 §2.2).
  if (tailText === undefined ? missing !== 0 : missing < 2) return undefined
  return [...head, ...Array.from<number>({ length: missing }).fill(0), ...tail]
}

/** Groups between colons as bytes; the last may be a dotted quad when it ends the address. */
function parseGroups(text: string, endsAddress: boolean): number[] | undefined {
  if (text === '') return []
  const bytes: number[] = []
  const groups = text.split(':')
  for (const [index, group] of groups.entries()) {
    if (endsAddress && index === groups.length - 1 && group.includes('.')) {
      const four = parseIpv4(group)
      if (four === undefined) return undefined
      bytes.push(...four)
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined
      const value = Number.parseInt(group, 16)
      bytes.push(value >> 8, value & 0xff)
    }
  }
  return bytes.length <= 16 ? bytes : undefined
}

/** RFC 5952. */
function printIpv6(bytes: readonly number[]): string {
  if (startsWith(bytes, MAPPED_PREFIX, 96)) return `::ffff:${bytes.slice(12).join('.')}`
  const groups: number[] = []
  for (let index = 0; index < 16; index += 2)
    groups.push(((bytes[index] ?? 0) << 8) | (bytes[index + 1] ?? 0))
  const run = longestZeroRun(groups)
  const hex = (part: number[]) => part.map((group) => group.toString(16)).join(':')
  if (run.length < 2) return hex(groups)
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`
}

function longestZeroRun(groups: number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  for (let start = 0; start < groups.length; start++) {
    let length = 0
    while (groups[start + length] === 0) length++
    if (length > best.length) best = { start, length }
  }
  return best
}
