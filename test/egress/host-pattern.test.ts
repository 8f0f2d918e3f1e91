import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import {
  type HostPattern,
  HostPatternSet,
  parseHostPattern,
  parseHostPatterns,
  PatternMemo,
  type WebScheme,
} from '../../src/model/index.js'

function refusal(text: string, options = {}): WeirError {
  try {
    parseHostPattern(text, options)
  } catch (error) {
    if (error instanceof WeirError) return error
    throw error
  }
  throw new Error(`accepted ${JSON.stringify(text)}`)
}

describe('parseHostPattern', () => {
  it.each([
    ['example.com', 'example.com', 'exact', undefined],
    ['.example.com', '.example.com', 'apex-and-below', undefined],
    ['*.example.com', '*.example.com', 'below', undefined],
    ['api.test:8443', 'api.test:8443', 'exact', 8443],
    ['*.api.test:8443', '*.api.test:8443', 'below', 8443],
    ['93.184.216.77', '93.184.216.77', 'exact', undefined],
    ['93.184.216.77:8080', '93.184.216.77:8080', 'exact', 8080],
    ['2606:2800::10', '2606:2800::10', 'exact', undefined],
    ['[2606:2800::10]', '2606:2800::10', 'exact', undefined],
    ['[2606:2800::10]:444', '[2606:2800::10]:444', 'exact', 444],
    ['a_b.example.com', 'a_b.example.com', 'exact', undefined],
    ['https://ipfs.io', 'https://ipfs.io', 'exact', 443],
    ['HTTPS://IPFS.io:443', 'https://ipfs.io', 'exact', 443],
    ['https://.ipfs.io:8443', 'https://.ipfs.io:8443', 'apex-and-below', 8443],
    ['http://*.api.test', 'http://*.api.test', 'below', 80],
    ['wss://feed.test', 'https://feed.test', 'exact', 443],
    ['ws://feed.test:8080', 'http://feed.test:8080', 'exact', 8080],
    ['https://[2606:2800::10]', 'https://[2606:2800::10]', 'exact', 443],
  ])('reads %s', (text, canonical, reach, port) => {
    const pattern = parseHostPattern(text)
    expect([pattern.text, pattern.reach, pattern.port]).toEqual([canonical, reach, port])
    expect(parseHostPattern(pattern.text)).toEqual(pattern)
  })

  it.each([
    ['EXAMPLE.com.', 'example.com'],
    ['bücher.test', 'xn--bcher-kva.test'],
    ['BÜCHER.test', 'xn--bcher-kva.test'],
    ['faß.test', 'xn--fa-hia.test'],
    ['.bücher.test', '.xn--bcher-kva.test'],
  ])('B-33 stores %s as %s', (text, canonical) => {
    expect(parseHostPattern(text).text).toBe(canonical)
  })

  it.each([
    '',
    '.',
    '*',
    '*.',
    '..example.com',
    'ex*mple.com',
    '*.*.com',
    'a.*.com',
    '*com',
    'a..b',
    '-a.test',
  ])('B-29 refuses %j, which is outside the grammar', (text) => {
    const error = refusal(text)
    expect(error.code).toBe('pattern.invalid')
    expect(error.hint).toBeTruthy()
  })

  it.each(['.com', '.co.uk', '.github.io', '.s3.amazonaws.com', '*.com', '*.github.io'])(
    'B-30 refuses the public suffix %s unless the operator insists',
    (text) => {
      expect(refusal(text).message).toContain('public suffix')
      expect(parseHostPattern(text, { allowPublicSuffix: true }).text).toBe(text)
    },
  )

  it.each([
    'example.com\nevil.test',
    'example.com evil.test',
    'example.com # x',
    'x|.*',
    'example.com\r',
    '\texample.com',
  ])('B-31 refuses %j, where text stands beside a host', (text) => {
    expect(refusal(text).code).toBe('pattern.invalid')
  })

  it.each([
    ['example.com/path', 'example.com'],
    ['user@example.com', 'example.com'],
    ['https://user:pw@example.com/x?y#z', 'https://example.com'],
    ['https://ipfs.io/', 'https://ipfs.io'],
    ['https://ipfs.io/ipfs/bafy', 'https://ipfs.io'],
    ['wss://feed.test?since=1', 'https://feed.test'],
    ['https://ipfs.io#top', 'https://ipfs.io'],
    ['ftp://files.test', 'files.test'],
    ['https://2606:2800::10', 'https://[2606:2800::10]'],
    ['https://xn--bcher-kva.test/', 'https://xn--bcher-kva.test'],
    ['*com.example', '*.com.example'],
    ['**.example.com', '*.example.com'],
    ['example.com:0443', 'example.com'],
    [' example.com', 'example.com'],
    ['..example.com', '.example.com'],
    ['exa\u00admple.com', 'example.com'],
    ['ⓔxample.com', 'example.com'],
    ['2606:2800:0:0::10', '2606:2800::10'],
  ])('B-32 refuses %j and proposes %s', (text, proposal) => {
    expect(refusal(text).hint).toContain(`"${proposal}"`)
  })

  it.each([
    '.localhost',
    '.local',
    '.internal',
    'localhost',
    'host.docker.internal',
    '127.0.0.1',
    '10.0.0.0/8',
    '[::1]',
    '::1',
    '169.254.169.254',
    '[::ffff:93.184.216.77]',
    '127.1',
    '0x7f.1',
    '2130706433',
  ])('B-34 refuses %s, which could never be useful', (text) => {
    expect(refusal(text).code).toBe('pattern.invalid')
  })

  it('B-35 refuses 10,001 entries and an entry of 1 MB, in few words', () => {
    expect(() => parseHostPatterns(Array.from({ length: 10_001 }, (_, i) => `h${i}.test`))).toThrow(
      /too long/,
    )
    expect(refusal('a'.repeat(1_000_000)).message.length).toBeLessThan(300)
  })

  it.each([
    [
      'https://ipfs.io/ipfs/x',
      'it has a path, and a rule is for a whole host: TLS is not opened to look inside',
    ],
    ['https://a.test?x', 'it has a query'],
    ['https://a.test#x', 'it has a fragment'],
    ['https://me:secret@a.test', 'it has credentials'],
    ['gopher://a.test', 'the scheme is none of http, https, ws and wss'],
    ['http://a.test:443', 'port 443 is for TLS only'],
    ['https://a.test:80', 'port 80 is for plain HTTP only'],
  ])('refuses the URL %s and says why', (text, reason) => {
    expect(refusal(text).message).toContain(reason)
  })

  it('accepts private hosts and addresses for an operator', () => {
    expect(parseHostPattern('10.9.9.9:8080', { allowPrivate: true }).text).toBe('10.9.9.9:8080')
    expect(parseHostPattern('data.internal:80', { allowPrivate: true }).text).toBe('data.internal:80')
  })

  it('reports every mistake of a list', () => {
    try {
      parseHostPatterns(['ok.test', 'a..b', '*'])
      expect.unreachable()
    } catch (error) {
      expect((error as WeirError).details.mistakes).toMatchObject([{ index: 1 }, { index: 2 }])
    }
  })
})

const label = fc.constantFrom('a', 'b', 'c')
const host = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => [...labels, 'test'].join('.'))
const service = fc.constantFrom(
  ['', ''],
  ['', ':80'],
  ['', ':443'],
  ['', ':8443'],
  ['http://', ''],
  ['http://', ':8443'],
  ['https://', ''],
  ['https://', ':8443'],
)
const pattern: fc.Arbitrary<HostPattern> = fc
  .tuple(fc.constantFrom('', '.', '*.'), host, service)
  .map(([prefix, name, [scheme, port]]) => parseHostPattern(`${scheme}${prefix}${name}${port}`))
const patterns = fc.array(pattern, { maxLength: 6 })

const HOSTS = universe()
const SERVICES: readonly (readonly [WebScheme, number])[] = (['http', 'https'] as const).flatMap((scheme) =>
  [80, 443, 8443, 25].map((port) => [scheme, port] as const),
)

/** Every host of up to four labels over a, b, c, one deeper than patterns reach, so that "below" is told from "at". */
function universe(): string[] {
  let layer = ['test']
  const all: string[] = []
  for (let depth = 0; depth < 4; depth++) {
    layer = layer.flatMap((tail) => ['a', 'b', 'c'].map((head) => `${head}.${tail}`))
    all.push(...layer)
  }
  return all
}

function holds(one: HostPattern, name: string, [scheme, port]: readonly [WebScheme, number]): boolean {
  const apex = name === one.host
  const below = name.endsWith(`.${one.host}`)
  const byHost = one.reach === 'exact' ? apex : one.reach === 'below' ? below : apex || below
  const never = port === (scheme === 'http' ? 443 : 80)
  const byPort = one.port === undefined ? port === 80 || port === 443 : one.port === port
  return byHost && byPort && !never && (one.scheme ?? scheme) === scheme
}

describe('HostPatternSet agrees with a brute-force model', () => {
  it('in match', () => {
    fc.assert(
      fc.property(patterns, fc.constantFrom(...HOSTS), fc.constantFrom(...SERVICES), (list, name, to) => {
        const set = new HostPatternSet(list)
        const match = set.match(name, to[1], to[0])
        expect(match !== undefined).toBe(list.some((one) => holds(one, name, to)))
        if (match !== undefined) expect(holds(match, name, to)).toBe(true)
        const either = SERVICES.filter(([, port]) => port === to[1])
        expect(set.match(name, to[1]) !== undefined).toBe(
          list.some((one) => either.some((service) => holds(one, name, service))),
        )
      }),
      { numRuns: 500 },
    )
  })

  it('in covers: covered means every triple is held, uncovered means some triple is not', () => {
    fc.assert(
      fc.property(patterns, pattern, (list, one) => {
        const inside = HOSTS.flatMap((name) => SERVICES.map((to) => [name, to] as const))
          .filter(([name, to]) => holds(one, name, to))
          .every(([name, to]) => list.some((other) => holds(other, name, to)))
        // The model sees a finite universe, where "below" can be exhausted by listing; suffixes at the last depth only.
        const exhaustible = one.reach !== 'exact' && one.host.split('.').length >= 4
        if (!exhaustible || !inside) expect(new HostPatternSet(list).covers(one) && !inside).toBe(false)
        if (one.reach === 'exact') expect(new HostPatternSet(list).covers(one)).toBe(inside)
      }),
      { numRuns: 500 },
    )
  })

  it('in intersect', () => {
    fc.assert(
      fc.property(patterns, patterns, (left, right) => {
        const both = new HostPatternSet(left).intersect(new HostPatternSet(right))
        for (const name of HOSTS) {
          for (const to of SERVICES) {
            const expected =
              left.some((one) => holds(one, name, to)) && right.some((one) => holds(one, name, to))
            expect(both.match(name, to[1], to[0]) !== undefined).toBe(expected)
          }
        }
      }),
      { numRuns: 100 },
    )
  })

  it('in the laws of sets: the intersection is covered by both sides, a set covers itself', () => {
    fc.assert(
      fc.property(patterns, patterns, (left, right) => {
        const a = new HostPatternSet(left)
        const b = new HostPatternSet(right)
        const both = a.intersect(b)
        expect(a.uncovered(both)).toEqual([])
        expect(b.uncovered(both)).toEqual([])
        expect(a.uncovered(a)).toEqual([])
        if (b.uncovered(a).length === 0) expect(both.uncovered(a)).toEqual([])
      }),
      { numRuns: 300 },
    )
  })

  it('in deny lists, where a pattern without port holds every port and scheme', () => {
    fc.assert(
      fc.property(patterns, fc.constantFrom(...HOSTS), fc.constantFrom(...SERVICES), (list, name, to) => {
        const deny = new HostPatternSet(list, { portlessMeans: 'any' })
        const expected = list.some((one) =>
          one.port === undefined
            ? holds(one, name, ['http', 80])
            : SERVICES.some((service) => service[1] === to[1] && holds(one, name, service)),
        )
        expect(deny.match(name, to[1]) !== undefined).toBe(expected)
      }),
      { numRuns: 300 },
    )
  })

  it('where parsing what was printed changes nothing', () => {
    fc.assert(
      fc.property(patterns, patterns, (left, right) => {
        for (const one of new HostPatternSet(left).intersect(new HostPatternSet(right)).patterns)
          expect(parseHostPattern(one.text)).toEqual(one)
        for (const one of left) expect(parseHostPattern(one.text)).toEqual(one)
      }),
      { numRuns: 200 },
    )
  })

  it('where the short way of reading a plain pattern comes to the same as the long way', () => {
    const names = fc.constantFrom('a.test', 'a-.test', 'a_b.test', '1.test', 'a.1', 'a.0x1', 'x.local', 'com')
    const long = fc.constantFrom(
      ...['a'.repeat(63), 'a'.repeat(64), 'b.'.repeat(126)].map((head) => `${head}.test`),
    )
    const before = fc.constantFrom('', '.', '*.', '..', 'http://', 'https://', 'https://*.')
    const after = fc.constantFrom('', ':1', ':80', ':443', ':8443', ':65536', ':08', ':')
    const told = (text: string): unknown => {
      try {
        return parseHostPattern(text)
      } catch (error) {
        return (error as WeirError).code
      }
    }
    fc.assert(
      fc.property(before, fc.oneof(names, long), after, (head, name, tail) => {
        // A capital letter makes it take the long way.
        const capital = `${head}${name.charAt(0).toUpperCase()}${name.slice(1)}${tail}`
        expect(told(`${head}${name}${tail}`)).toEqual(told(capital))
      }),
      { numRuns: 1_000 },
    )
  })

  it('and the set of everything is neutral: it holds what a service can be, covers all and changes no intersection', () => {
    const everything = HostPatternSet.everything()
    fc.assert(
      fc.property(patterns, (list) => {
        const set = new HostPatternSet(list)
        expect(everything.uncovered(set)).toEqual([])
        expect(set.intersect(everything)).toBe(set)
        expect(everything.intersect(set)).toBe(set)
        expect(set.uncovered(everything)).not.toEqual([])
      }),
    )
    expect(everything.match('anything.test', 8443, 'https')).toBeDefined()
    expect(everything.match('anything.test', 443, 'http')).toBeUndefined()
  })
})

describe('HostPatternSet', () => {
  it('B-37 covers a.example.com by .example.com', () => {
    expect(HostPatternSet.parse(['.example.com']).covers(parseHostPattern('a.example.com'))).toBe(true)
  })

  it('B-38 does not cover .example.com by *.example.com, because the apex is missing', () => {
    const below = HostPatternSet.parse(['*.example.com'])
    expect(below.covers(parseHostPattern('.example.com'))).toBe(false)
    expect(
      HostPatternSet.parse(['*.example.com', 'example.com']).covers(parseHostPattern('.example.com')),
    ).toBe(true)
  })

  it('the empty set holds nothing', () => {
    expect(HostPatternSet.parse([]).match('example.com', 443)).toBeUndefined()
  })

  it('M-18 decides in microseconds with 10,000 hostile patterns and hosts of 127 labels', () => {
    const deep = Array.from({ length: 126 }, () => 'a').join('.')
    const set = HostPatternSet.parse([
      `.${deep.slice(0, 200)}a.test`,
      ...Array.from({ length: 9_999 }, (_, i) => `*.${'a.'.repeat(i % 100)}x${i}.test`),
    ])
    const started = performance.now()
    for (let i = 0; i < 2_000; i++) set.match(`${deep}`, 443)
    expect((performance.now() - started) / 2_000).toBeLessThan(2)
  })

  it('explains a miss by the other port or the nearest pattern', () => {
    const set = HostPatternSet.parse(['api.test:8443', 'www.example.com'])
    expect(set.explain('api.test', 443).otherPort?.text).toBe('api.test:8443')
    expect(set.explain('cdn.example.com', 443).nearest?.text).toBe('www.example.com')
    expect(set.explain('www.example.com', 443).match?.text).toBe('www.example.com')
  })
})

describe('PatternMemo', () => {
  it('parses only what the last list did not hold, and judges by the rules of each list', () => {
    const memo = new PatternMemo()
    const strict = {}
    const first = memo.read('.a.test', strict)
    memo.forgetUnused()
    expect(memo.read('.a.test', strict)).toBe(first)
    expect(memo.readOnce('.a.test', strict)).toBe(first)
    expect(memo.readOnce('.com', { allowPublicSuffix: true }).text).toBe('.com')
    expect(() => memo.read('.com', strict)).toThrow(/public suffix/)
    memo.forgetUnused()
    memo.forgetUnused()
    expect(memo.read('.a.test', strict)).not.toBe(first)
    expect(memo.read('.a.test', strict)).toEqual(first)
  })
})
