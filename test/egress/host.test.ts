import fc from 'fast-check'
import { isIPv4, isIPv6 } from 'node:net'
import { describe, expect, it } from 'vitest'
import {
  blockEnds,
  classifyIpAddress,
  embeddedIpv4,
  escapeForRecord,
  hostInUrl,
  ipAddressFromBytes,
  isPublicAddress,
  parseIpAddress,
  readHost,
  SPECIAL_ADDRESS_BLOCKS,
} from '../../src/model/index.js'

const latin1 = (text: string) => Buffer.from(text, 'utf8').toString('latin1')

describe('readHost', () => {
  it.each([
    ['example.com', 'example.com'],
    ['EXAMPLE.Com', 'example.com'],
    ['example.com.', 'example.com'],
    ['a_b.example.com', 'a_b.example.com'],
    ['xn--bcher-kva.test', 'xn--bcher-kva.test'],
    ['93.184.216.77', '93.184.216.77'],
    ['[2606:2800::10]', '2606:2800::10'],
    ['[::1]', '::1'],
    ['[0:0:0:0:0:0:0:1]', '::1'],
    ['[::ffff:127.0.0.1]', '::ffff:127.0.0.1'],
    ['[::ffff:7f00:1]', '::ffff:127.0.0.1'],
  ])('reads %s', (text, canonical) => {
    expect(readHost(text)).toMatchObject({ ok: true, host: { text: canonical } })
  })

  it.each([
    '',
    '.',
    '..',
    'example.com..',
    '.example.com',
    '*.example.com',
    'evil.test\0.example.com',
    'ex\tample.com',
    'example.com ',
    'evil.test\\',
    'evil.test;example.com',
    "evil.test'x",
    'a%2eexample.com',
    'xn--a.example.com',
    'xn--.example.com',
    'foo.0x4',
    '1.2.3.4.5',
    'example.123',
    '127.1',
    '2130706433',
    '0x7f.0.0.1',
    '0177.0.0.1',
    '093.184.216.077',
    '93.184.216.77.',
    '[::ffff:93.184.216.77]',
    '[fe80::1%eth0]',
    '[fe80::1%25eth0]',
    '[example.com]',
    '[[example.com]]',
    '[93.184.216.77]',
    '::1',
    '[v1.fe80::a]',
    '[::1',
    '[2606:2800:0::10]',
    latin1('ⓔxample.com'),
    latin1('①②⑦.0.0.1'),
    latin1('exam\u200bple.com'),
    latin1('e\u00adxample.com'),
    'exa\u212Ample.com',
    `${'a'.repeat(64)}.example.com`,
    `${'a.'.repeat(122)}example.com`,
    '-a.example.com',
  ])('refuses %j', (text) => {
    expect(readHost(text).ok).toBe(false)
  })

  it('survives parse, print, parse for whatever it accepts', () => {
    const alphabet = fc.constantFrom(
      ...'aZ09.-_[]:%x \t\0@\\é*'.split(''),
      'xn--',
      '::',
      'ffff:',
      '127.0.0.1',
      'test',
    )
    fc.assert(
      fc.property(fc.array(alphabet, { maxLength: 12 }), (pieces) => {
        const reading = readHost(pieces.join(''))
        if (!reading.ok) return
        const again = readHost(hostInUrl(reading.host))
        if (reading.host.kind === 'name') expect(reading.host.text).toMatch(/^[a-z0-9_.-]+$/)
        // Addresses that are not public are read in any spelling; everything that can be allowed is stable.
        if (reading.host.kind === 'name' || isPublicAddress(reading.host.address))
          expect(again).toEqual(reading)
      }),
      { numRuns: 5_000 },
    )
  })
})

describe('parseIpAddress', () => {
  it('accepts and prints what Node accepts, without zones', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.ipV4(), fc.ipV6(), fc.string({ unit: fc.constantFrom(...'0123456789abcf.:'.split('')) })),
        (text) => {
          const address = parseIpAddress(text)
          expect(address !== undefined).toBe(isIPv4(text) || isIPv6(text))
          if (address === undefined) return
          expect(parseIpAddress(address.text)?.bytes).toEqual(address.bytes)
          if (address.family === 4) expect(address.text).toBe(text)
          else if (!address.text.includes('.') && !text.includes('.'))
            expect(address.text).toBe(new URL(`http://[${text}]/`).hostname.slice(1, -1))
        },
      ),
      { numRuns: 2_000 },
    )
  })
})

describe('classifyIpAddress', () => {
  it.each(SPECIAL_ADDRESS_BLOCKS.map((block) => [block.cidr, block.name] as const))(
    'refuses the first and last address of %s (%s)',
    (cidr) => {
      const { first, last } = blockEnds(cidr)
      expect(classifyIpAddress(first).kind).not.toBe('public')
      expect(classifyIpAddress(last).kind).not.toBe('public')
    },
  )

  it.each([
    '1.0.0.0',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '169.253.255.255',
    '169.255.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '192.0.1.0',
    '192.0.3.0',
    '192.167.255.255',
    '192.169.0.0',
    '198.17.255.255',
    '198.20.0.0',
    '198.51.99.255',
    '198.51.101.0',
    '203.0.112.255',
    '203.0.114.0',
    '223.255.255.255',
    '93.184.216.34',
    '2000::1',
    '2001:200::1',
    '2001:db7:ffff::1',
    '2001:db9::1',
    '2003::1',
    '2606:2800::10',
    '3ffd::1',
    '3fff:1000::1',
  ])('lets the public neighbour %s pass', (text) => {
    const address = parseIpAddress(text)
    expect(address && classifyIpAddress(address).kind).toBe('public')
  })

  it.each([
    ['::ffff:10.9.9.9', '10.9.9.9'],
    ['::10.9.9.9', '10.9.9.9'],
    ['64:ff9b::a09:909', '10.9.9.9'],
    ['64:ff9b:1::a09:909', '10.9.9.9'],
    ['2002:0a09:0909::1', '10.9.9.9'],
    ['2001:0:1:2:3:4:80ff:fffe', '127.0.0.1'],
    ['2606:2800::5efe:a09:909', '10.9.9.9'],
  ])('finds the address hidden in %s and refuses it', (text, hidden) => {
    const address = parseIpAddress(text)
    if (address === undefined) throw new Error('not an address')
    expect(embeddedIpv4(address)?.text).toBe(hidden)
    expect(isPublicAddress(address)).toBe(false)
  })

  it('calls no IPv6 address outside 2000::/3 public', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        const address = ipAddressFromBytes(bytes)
        if (address !== undefined && isPublicAddress(address)) expect((bytes[0] ?? 0) >> 5).toBe(1)
      }),
    )
  })
})

describe('escapeForRecord', () => {
  it('N-01 leaves printable ASCII of at most 256 characters whatever comes in', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 600 }), (text) => {
        expect(escapeForRecord(text)).toMatch(/^[\x20-\x7e]{0,256}$/)
      }),
    )
    expect(escapeForRecord('\x1b[31m"x"\n')).toBe('\\u001b[31m\\u0022x\\u0022\\u000a')
  })
})
