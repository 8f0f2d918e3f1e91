import { BlockList, isIP } from 'node:net'
import fc from 'fast-check'
import {
  SPECIAL_ADDRESS_BLOCKS,
  classifyIpAddress,
  ipAddressFromBytes,
  parseIpAddress,
} from '../../../src/model/ip-address.js'
import type { FuzzTarget } from '../target.js'
import { hostish } from '../texts.js'

const text = fc.oneof(
  fc.ipV4(),
  fc.ipV4Extended(),
  fc.ipV6(),
  hostish,
  // Around the ends of every special block, where a mistake of one bit hides.
  fc
    .tuple(fc.constantFrom(...SPECIAL_ADDRESS_BLOCKS), fc.integer({ min: -2, max: 2 }))
    .map(([{ cidr }, step]) => near(cidr, step)),
)

/** Addresses, beside the system's own reading and a block list of Node's. */
export const addresses: FuzzTarget = {
  name: 'addresses',
  promise:
    'an address is one for the system as well, has one spelling, and is public only outside every special block',
  open: () => {
    // A list each: Node's finds an IPv4 address also in the block of IPv4-mapped ones.
    const special = { ipv4: new BlockList(), ipv6: new BlockList() }
    for (const { cidr } of SPECIAL_ADDRESS_BLOCKS) {
      const [network = '', bits = ''] = cidr.split('/')
      const family = network.includes(':') ? 'ipv6' : 'ipv4'
      special[family].addSubnet(network, Number(bits), family)
    }
    return {
      property: fc.property(text, (one) => {
        const address = parseIpAddress(one)
        if (address === undefined) return
        if (isIP(one) !== address.family)
          throw new Error(`"${one}" is no IPv${address.family} for the system`)
        const again = parseIpAddress(address.text)
        if (again?.text !== address.text || again.bytes.join() !== address.bytes.join())
          throw new Error(`"${address.text}" is not read as itself`)
        if (ipAddressFromBytes(address.bytes)?.text !== address.text) throw new Error('bytes and text differ')
        const family = address.family === 4 ? 'ipv4' : 'ipv6'
        const isSpecial = special[family].check(address.text, family)
        const { kind } = classifyIpAddress(address)
        if (isSpecial && kind === 'public') throw new Error(`${address.text} is special, and called public`)
      }),
    }
  },
}

/** The first address of a block, or one a few steps beside it. */
function near(cidr: string, step: number): string {
  const bytes = [...(parseIpAddress(cidr.split('/')[0] ?? '')?.bytes ?? [])]
  let carry = step
  for (let index = bytes.length - 1; index >= 0 && carry !== 0; index--) {
    const sum = (bytes[index] ?? 0) + carry
    bytes[index] = ((sum % 256) + 256) % 256
    carry = Math.floor(sum / 256)
  }
  return ipAddressFromBytes(bytes)?.text ?? ''
}
