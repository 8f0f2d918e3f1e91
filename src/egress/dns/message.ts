import { type IpAddress, ipAddressFromBytes, readHost } from '../../model/index.js'

export type DnsType = 'A' | 'AAAA'

/** A DNS answer as far as the gateway reads it. */
export interface DnsAnswer {
  /** 0 = NOERROR, 2 = SERVFAIL, 3 = NXDOMAIN, 5 = REFUSED. */
  readonly responseCode: number
  readonly truncated: boolean
  /** Owner name → alias target, both lower case without root dot. */
  readonly aliases: ReadonlyMap<string, string>
  readonly addresses: readonly { readonly name: string; readonly address: IpAddress }[]
}

/** Encodes a question for one name (RFC 1035 §4). Only A and AAAA can be asked: never HTTPS, SVCB, PTR or ANY. */
export function encodeQuery(id: number, name: string, type: DnsType): Buffer {
  const labels = name.split('.').map((label) => {
    const bytes = Buffer.from(label, 'latin1')
    if (bytes.length === 0 || bytes.length > 63) throw new RangeError(`${name} cannot be asked`)
    return Buffer.concat([Buffer.from([bytes.length]), bytes])
  })
  const header = Buffer.alloc(12)
  header.writeUInt16BE(id, 0)
  header.writeUInt16BE(0x0100, 2)
  header.writeUInt16BE(1, 4)
  const tail = Buffer.from([0, 0, CODES[type], 0, 1])
  return Buffer.concat([header, ...labels, tail])
}

/**
 * Decodes the answer to that question. Undefined when it is malformed or answers another question: the caller goes on
 * waiting, so a forged packet cannot end a lookup.
 */
export function decodeAnswer(bytes: Buffer, id: number, name: string, type: DnsType): DnsAnswer | undefined {
  try {
    return decode(bytes, id, name, type)
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

const CODES = { A: 1, AAAA: 28 } as const
const CNAME = 5

function decode(bytes: Buffer, id: number, name: string, type: DnsType): DnsAnswer | undefined {
  if (bytes.length < 12 || bytes.readUInt16BE(0) !== id) return undefined
  const flags = bytes.readUInt16BE(2)
  if ((flags & 0x8000) === 0 || (flags & 0x7800) !== 0 || bytes.readUInt16BE(4) !== 1) return undefined
  const question = readName(bytes, 12)
  if (question.name !== name || bytes.readUInt16BE(question.end) !== CODES[type]) return undefined
  const aliases = new Map<string, string>()
  const addresses: { name: string; address: IpAddress }[] = []
  const truncated = (flags & 0x0200) !== 0
  const records = truncated ? 0 : Math.min(bytes.readUInt16BE(6), 256)
  let at = question.end + 4
  for (let index = 0; index < records; index++) {
    const owner = readName(bytes, at)
    const kind = bytes.readUInt16BE(owner.end)
    const length = bytes.readUInt16BE(owner.end + 8)
    const start = owner.end + 10
    if (start + length > bytes.length) throw new RangeError('record')
    if (kind === CNAME) aliases.set(owner.name, readName(bytes, start).name)
    if (kind === CODES[type]) {
      const address = ipAddressFromBytes(bytes.subarray(start, start + length))
      if (address?.family !== (type === 'A' ? 4 : 6)) throw new RangeError('address')
      addresses.push({ name: owner.name, address })
    }
    at = start + length
  }
  return { responseCode: flags & 0x000f, truncated, aliases, addresses }
}

/** A possibly compressed name. Bounded: at most 32 jumps and 255 bytes. */
function readName(bytes: Buffer, from: number): { name: string; end: number } {
  const labels: string[] = []
  let at = from
  let end: number | undefined
  let total = 0
  for (let jumps = 0; jumps < 32; ) {
    const length = bytes.readUInt8(at)
    if (length === 0) return { name: labels.join('.').toLowerCase(), end: end ?? at + 1 }
    if ((length & 0xc0) === 0xc0) {
      end ??= at + 2
      at = bytes.readUInt16BE(at) & 0x3fff
      jumps++
      continue
    }
    if (length > 63 || (total += length + 1) > 255 || at + 1 + length > bytes.length)
      throw new RangeError('name')
    labels.push(bytes.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  throw new RangeError('name')
}

/** True when an alias target is a name we would accept in a request: nothing odd travels on into records. */
export function isPlainName(name: string): boolean {
  const reading = readHost(name)
  return reading.ok && reading.host.kind === 'name'
}
