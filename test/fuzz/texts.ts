import fc from 'fast-check'

/** Pieces that parsers of host names, addresses and URLs read differently from each other. */
const ODD = [
  '.',
  '..',
  '-',
  '_',
  '*',
  '*.',
  ':',
  '::',
  ':80',
  ':443',
  ':0443',
  '[',
  ']',
  '[::1]',
  '@',
  '/',
  '\\',
  '?',
  '#',
  '%',
  '%2e',
  '%00',
  '%25',
  ' ',
  '\t',
  '\r',
  '\n',
  '\0',
  '\u007f',
  '\u00a0',
  '\u00ad',
  '\u200b',
  '\u202e',
  '\u3002',
  '\uff0e',
  '\u212a',
  '\u017f',
  'ⓔ',
  'ß',
  'ü',
  'xn--',
  'xn--a',
  'xn--bcher-kva',
  'http://',
  'https://',
  'HTTPS://',
  'user:pw@',
  '0x7f',
  '127',
  '0',
  '00',
  '1',
  '256',
  '4294967295',
  '2130706433',
  '::ffff:',
  'fe80::1%eth0',
  'localhost',
  'internal',
  'example',
  'com',
  'test',
  'co.uk',
  'github.io',
]

/** Texts around host names: mostly plausible, with odd pieces in odd places. */
export const hostish: fc.Arbitrary<string> = fc.oneof(
  { weight: 6, arbitrary: fc.array(fc.constantFrom(...ODD), { minLength: 1, maxLength: 7 }).map(joined) },
  { weight: 2, arbitrary: fc.domain() },
  {
    weight: 1,
    arbitrary: fc.oneof(
      fc.ipV4(),
      fc.ipV4Extended(),
      fc.ipV6().map((text) => `[${text}]`),
    ),
  },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
  { weight: 1, arbitrary: fc.domain().chain((name) => fc.nat(name.length).map((at) => flipped(name, at))) },
)

/** One change of a byte string: at a place (modulo its length), some bytes set, put in, taken out or said twice. */
export interface ByteChange {
  at: number
  how: 'set' | 'insert' | 'remove' | 'repeat'
  value: number
  count: number
}

export const byteChanges: fc.Arbitrary<ByteChange[]> = fc.array(
  fc.record({
    at: fc.nat(4_000),
    how: fc.constantFrom('set', 'insert', 'remove', 'repeat'),
    value: fc.nat(255),
    count: fc.integer({ min: 1, max: 8 }),
  }),
  { maxLength: 4 },
)

export function changed(bytes: Buffer, changes: readonly ByteChange[]): Buffer {
  let result = Buffer.from(bytes)
  for (const { at, how, value, count } of changes) {
    const place = result.length === 0 ? 0 : at % result.length
    const [before, after] = [result.subarray(0, place), result.subarray(place)]
    if (how === 'set') result = Buffer.concat([before, Buffer.from([value]), after.subarray(1)])
    else if (how === 'insert') result = Buffer.concat([before, Buffer.alloc(count, value), after])
    else if (how === 'remove') result = Buffer.concat([before, after.subarray(count)])
    else result = Buffer.concat([before, after.subarray(0, count), after])
  }
  return result
}

function joined(parts: string[]): string {
  return parts.join('')
}

function flipped(text: string, at: number): string {
  return text.slice(0, at) + text.charAt(at).toUpperCase() + text.slice(at + 1)
}
