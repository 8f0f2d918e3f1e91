import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import {
  addResources,
  fitsResources,
  formatBytes,
  formatBytesExact,
  formatConstraints,
  formatCpu,
  formatInputArgument,
  isFullId,
  matchConstraints,
  newJobId,
  parseBytes,
  parseConstraints,
  parseCpu,
  parseInputArgument,
  parseLabelSelector,
  parseOutputArgument,
  parsePublisherArgument,
  printable,
  resourceShortfalls,
  shortId,
  subtractResources,
} from '../../src/model/index.js'
import { refusal } from './job-fixture.js'
import type { ConstraintOperator } from '../../src/model/index.js'

const UUID = '0f8fad5b-d9cb-469f-a165-70867728950e'

describe('ids', () => {
  it('shorten to the first eight digits, and node names stay whole', () => {
    expect(newJobId({ uuid: () => UUID })).toBe(`j-${UUID}`)
    expect(shortId(`e-${UUID}`)).toBe('e-0f8fad5b')
    expect(shortId(UUID)).toBe('0f8fad5b')
    expect(shortId('my-node')).toBe('my-node')
    expect([isFullId(`j-${UUID}`), isFullId('j-0f8f')]).toEqual([true, false])
  })
})

describe('quantities', () => {
  it.each<[string, number]>([
    ['0.5', 0.5],
    ['500m', 0.5],
    ['2', 2],
    [' 1 500 M ', 1.5],
    ['', 0],
  ])('%j is %d cores', (text, cores) => expect(parseCpu(text)).toBe(cores))

  it.each<[string, number]>([
    ['512mb', 512_000_000],
    ['1gi', 1_073_741_824],
    ['1 GB', 1e9],
    ['1Gb', 1e9],
    ['100', 100],
    ['1.5k', 1500],
    ['2 KiB', 2048],
    ['0.1b', 0],
  ])('%j is %d bytes', (text, bytes) => expect(parseBytes(text)).toBe(bytes))

  it.each(['x', '-1', '1e9', '1mm', 'NaN', '0x10', '1,5', '99999999pb', 'Infinity'])(
    '%j is refused',
    (text) => {
      expect(refusal(() => parseBytes(text)).code).toBe('spec.invalid')
      expect(refusal(() => parseCpu(text)).code).toBe('spec.invalid')
    },
  )

  it('are read back as they were printed', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (bytes) => parseBytes(formatBytesExact(bytes)) === bytes))
    fc.assert(fc.property(fc.nat(1_000_000), (milli) => parseCpu(formatCpu(milli / 1000)) === milli / 1000))
  })

  it('are shown short', () => {
    expect([formatBytes(0), formatBytes(1e9), formatBytes(512 * 1024 ** 2), formatBytes(1_234_567)]).toEqual([
      '0 B',
      '1 GB',
      '512 MiB',
      '1.2 MB',
    ])
  })

  it('add and subtract without drift', () => {
    const amount = fc.record({
      cpu: fc.nat(100_000).map((milli) => milli / 1000),
      memoryBytes: fc.nat(),
      diskBytes: fc.nat(),
      gpu: fc.nat(8),
    })
    fc.assert(
      fc.property(amount, amount, (a, b) => {
        expect(subtractResources(addResources(a, b), b)).toEqual(a)
        expect(fitsResources(a, addResources(a, b))).toBe(true)
        expect(fitsResources(a, b)).toBe(resourceShortfalls(a, b).length === 0)
      }),
    )
  })
})

describe('constraints', () => {
  it.each<[string, string, string, string[]]>([
    ['k', 'k', 'exists', []],
    ['!k', 'k', '!', []],
    ['k=v', 'k', '=', ['v']],
    ['k == v', 'k', '==', ['v']],
    ['k!=v', 'k', '!=', ['v']],
    ['k in (a, b)', 'k', 'in', ['a', 'b']],
    ['k notin (a)', 'k', 'notin', ['a']],
    ['k>1', 'k', 'gt', ['1']],
    ['example.com/k < 5', 'example.com/k', 'lt', ['5']],
  ])('reads %s', (text, Key, Operator, Values) => {
    expect(parseConstraints(text)).toEqual([{ Key, Operator, Values }])
  })

  it('reads lists joined by commas', () => {
    expect(parseConstraints('a=1,b in (x,y),!c')).toHaveLength(3)
    expect(parseConstraints('  ')).toEqual([])
  })

  it.each([
    '=',
    'k=v,',
    'k in',
    'k in (',
    'k in (a',
    'k>x',
    'k=a b',
    '-k',
    'k=(a)',
    ',',
    'k!v',
    'k='.repeat(3),
  ])('refuses %s', (text) => {
    expect(refusal(() => parseConstraints(text)).message).toContain('Cannot parse constraints')
  })

  it('hold or say why not', () => {
    const labels = { region: 'eu', cores: '8' }
    expect(matchConstraints(parseConstraints('region in (eu,us),cores>4,!gpu,zone!=a'), labels).matches).toBe(
      true,
    )
    expect(matchConstraints(parseConstraints('region=us,gpu'), labels)).toEqual({
      matches: false,
      reasons: ['label region is "eu", wanted region=us', 'label gpu is missing, wanted gpu'],
      favoured: 0,
    })
  })

  it('only rank with the prefix favour_', () => {
    const labels = { region: 'eu' }
    expect(matchConstraints(parseConstraints('favour_region=eu,favour_gpu'), labels)).toEqual({
      matches: true,
      reasons: [],
      favoured: 1,
    })
  })

  it('do not take inherited names for labels', () => {
    expect(matchConstraints(parseConstraints('constructor'), {}).matches).toBe(false)
  })

  const word = fc.stringMatching(/^[a-z]([a-z0-9._-]{0,5}[a-z0-9])?$/)
  const constraint = fc.oneof(
    fc.record({
      Key: word,
      Operator: fc.constantFrom<ConstraintOperator>('=', '==', '!='),
      Values: word.map((one): string[] => [one]),
    }),
    fc.record({
      Key: word,
      Operator: fc.constantFrom<ConstraintOperator>('in', 'notin'),
      Values: fc.array(word, { minLength: 1, maxLength: 4 }),
    }),
    fc.record({
      Key: word,
      Operator: fc.constantFrom<ConstraintOperator>('exists', '!'),
      Values: fc.constant<string[]>([]),
    }),
    fc.record({
      Key: word,
      Operator: fc.constantFrom<ConstraintOperator>('gt', 'lt'),
      Values: fc.nat().map((one): string[] => [String(one)]),
    }),
  )

  it('are read back as they were printed', () => {
    fc.assert(
      fc.property(fc.array(constraint, { maxLength: 5 }), (constraints) => {
        expect(parseConstraints(formatConstraints(constraints))).toEqual(constraints)
      }),
    )
  })

  it('contradict each other in pairs, and a list is the conjunction of its parts', () => {
    const labels = fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('x', 'y', '1', '2'))
    const key = fc.constantFrom('a', 'b', 'c')
    const values = fc.uniqueArray(fc.constantFrom('x', 'y', '1', '2'), { minLength: 1 })
    const holds = (
      Key: string,
      Operator: ConstraintOperator,
      Values: string[],
      on: Record<string, string>,
    ): boolean => matchConstraints([{ Key, Operator, Values }], on).matches
    fc.assert(
      fc.property(labels, key, values, fc.array(constraint), (on, Key, Values, list) => {
        expect(holds(Key, 'in', Values, on)).toBe(!holds(Key, 'notin', Values, on))
        expect(holds(Key, 'exists', [], on)).toBe(!holds(Key, '!', [], on))
        expect(holds(Key, '=', Values.slice(0, 1), on)).toBe(!holds(Key, '!=', Values.slice(0, 1), on))
        const each = list.every((one) => matchConstraints([one], on).matches)
        expect(matchConstraints(list, on).matches).toBe(each)
      }),
    )
  })

  it('throw nothing but WeirError on any text', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', '=', '!', '(', ')', ',', ' ', 'in', '>', '<', 'é') }),
        (text) => {
          try {
            parseConstraints(text)
          } catch (error) {
            expect(error).toBeInstanceOf(WeirError)
          }
        },
      ),
    )
  })
})

describe('label selectors', () => {
  it('join repeated parameters', () => {
    const selector = parseLabelSelector(['a=1', '', 'b!=2'])
    expect([selector.matches({ a: '1' }), selector.matches({ a: '1', b: '2' })]).toEqual([true, false])
    expect(parseLabelSelector([]).matches({})).toBe(true)
  })
})

const CID = 'QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWxyzAB'

describe('--input', () => {
  it.each<[string, string, Record<string, unknown>, string]>([
    [`ipfs://${CID}`, 'ipfs', { CID }, '/inputs'],
    [`ipfs://${CID}:/data`, 'ipfs', { CID }, '/data'],
    ['https://host/file.csv', 'urlDownload', { URL: 'https://host/file.csv' }, '/inputs'],
    ['https://host:8080/f', 'urlDownload', { URL: 'https://host:8080/f' }, '/inputs'],
    ['https://host:8080/f:/path', 'urlDownload', { URL: 'https://host:8080/f' }, '/path'],
    ['http://[::1]:80/f:/p', 'urlDownload', { URL: 'http://[::1]:80/f' }, '/p'],
    ['http://h/a?u=http://x/y', 'urlDownload', { URL: 'http://h/a?u=http://x/y' }, '/inputs'],
    ['http://h/a?b=c,d=e', 'urlDownload', { URL: 'http://h/a?b=c,d=e' }, '/inputs'],
    ['src=http://h/a?x=1,2&y=3,dst=/d', 'urlDownload', { URL: 'http://h/a?x=1,2&y=3' }, '/d'],
    ['"src=http://h/a,dst=no",dst=/d', 'urlDownload', { URL: 'http://h/a,dst=no' }, '/d'],
    ['http://h/a,dst=/d,opt=max-bytes=10', 'urlDownload', { URL: 'http://h/a', MaxBytes: 10 }, '/d'],
    [
      'src=s3://b/prefix*,dst=/in,opt=region=us-east-1',
      's3',
      { Bucket: 'b', Key: 'prefix*', Region: 'us-east-1' },
      '/in',
    ],
    ['s3://b/logs-2023-04*:/input', 's3', { Bucket: 'b', Key: 'logs-2023-04*' }, '/input'],
    ['file:///data/logs:/logs', 'localDirectory', { SourcePath: '/data/logs' }, '/logs'],
    ['file:///data,opt=rw=true', 'localDirectory', { SourcePath: '/data', ReadWrite: true }, '/inputs'],
    ['data:text/plain,a=b:/c', 'inline', { URL: 'data:text/plain,a=b:/c' }, '/inputs/data'],
  ])('reads %s', (text, Type, Params, Target) => {
    const input = parseInputArgument(text)
    expect([input.Source, input.Target]).toEqual([{ Type, Params }, Target])
    expect(parseInputArgument(formatInputArgument(input))).toEqual(input)
  })

  it.each<[string, string]>([
    ['', 'it is empty'],
    ['/etc', 'has no scheme'],
    ['ftp://x/y', 'unknown storage schema "ftp"'],
    ['http://host', 'URL must have a path'],
    ['http://h/x:/a/../b', '"." or ".."'],
    ['dst=/x', 'the source is missing'],
    ['src=http://h/a,src=http://h/b', 'the source is given twice'],
    ['src=http://h/a,opt=region', 'is not NAME=VALUE'],
    ['src=s3://b/k,opt=colour=red', 'unknown option "colour"'],
    [`ipfs://${CID}/sub/path`, 'a path below a CID'],
    ['ipfs://nope', 'invalid CID'],
    ['"src=http://h/a', 'a quote is not closed'],
    ['http://h/x\u001b', 'invalid URL'],
  ])('refuses %s', (text, words) => {
    const error = refusal(() => parseInputArgument(text))
    expect(error.code).toBe('input.invalid')
    expect(error.message).toContain(words)
    expect(error.message).toBe(printable(error.message))
  })

  it('reads back what it prints, for URLs with anything in them', () => {
    const part = fc.string({
      unit: fc.constantFrom(...'abz09-._~%20:/?#[]@!$&\'()*+,;="'.split('')),
      maxLength: 20,
    })
    fc.assert(
      fc.property(part, fc.stringMatching(/^\/[a-z]{1,5}$/), (rest, Target) => {
        const URL = `https://host.test:8080/${rest}`
        const input = { Source: { Type: 'urlDownload', Params: { URL } }, Alias: URL, Target }
        expect(parseInputArgument(formatInputArgument(input))).toEqual(input)
      }),
    )
  })

  it('throws nothing but WeirError on any text', () => {
    const unit = fc.constantFrom(
      'src=',
      'dst=',
      'opt=',
      'http://',
      's3://',
      'data:',
      ':/',
      ',',
      '"',
      '=',
      'a',
      '/',
      ' ',
    )
    fc.assert(
      fc.property(fc.string({ unit }), (text) => {
        try {
          parseInputArgument(text)
        } catch (error) {
          expect(error).toBeInstanceOf(WeirError)
        }
      }),
    )
  })
})

describe('--publisher and --output', () => {
  it('read the documented forms', () => {
    expect(parsePublisherArgument('local')).toEqual({ Type: 'local' })
    expect(parsePublisherArgument('s3://b/k/{jobID}')).toEqual({
      Type: 's3',
      Params: { Bucket: 'b', Key: 'k/{jobID}' },
    })
    expect(parsePublisherArgument('s3,opt=bucket=b,opt=key=k,opt=region=eu-1')).toEqual({
      Type: 's3',
      Params: { Bucket: 'b', Key: 'k', Region: 'eu-1' },
    })
    expect(parseOutputArgument('outputs:/outputs')).toEqual({ Name: 'outputs', Path: '/outputs' })
  })

  it.each(['', 'estuary', 's3', 's3://b', 'local,opt=a=b', 's3://b/k,opt=x=y'])(
    'refuse the publisher %j',
    (text) => {
      expect(refusal(() => parsePublisherArgument(text)).code).toBe('publisher.invalid')
    },
  )

  it.each(['', 'outputs', 'a:b:c', ':/x', 'a:x', '..:/x', 'a:/proc'])('refuse the output %j', (text) => {
    expect(refusal(() => parseOutputArgument(text)).code).toBe('cli.usage')
  })
})
