import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import {
  editPatternFile,
  expandPresets,
  HostPatternSet,
  listedPatterns,
  parseJobSpec,
  type Preset,
  readForeignAllowlist,
  readPresets,
} from '../../src/model/index.js'

const FILE = `# hosts of the lab
example.com   # the main one

.data.example.net
`
const RULES = { file: 'hosts' }

describe('a list file', () => {
  it('keeps comments and order, gets new lines at its end, and stays as it is when nothing is new', () => {
    const once = editPatternFile(FILE, { add: ['Example.ORG', 'example.com'], comment: 'for\nAda' }, RULES)
    expect(once.text).toBe(`${FILE}example.org  # for Ada\n`)
    expect(once.change).toMatchObject({
      added: ['example.org'],
      present: [{ pattern: 'example.com', where: 'hosts:2' }],
    })
    expect(editPatternFile(once.text, { add: ['example.org'] }, RULES).text).toBe(once.text)
    const gone = editPatternFile(once.text, { remove: ['example.com', 'www.example.com'] }, RULES)
    expect(gone.text).toBe('# hosts of the lab\n\n.data.example.net\nexample.org  # for Ada\n')
    expect(gone.change).toMatchObject({ removed: ['example.com'], absent: ['www.example.com'] })
  })

  it('says what another pattern allows already, what a new one makes superfluous, and what stays open', () => {
    const { change, text } = editPatternFile(
      FILE,
      { add: ['a.data.example.net', '.example.com', 'https://b.example.com'] },
      RULES,
    )
    expect(change).toMatchObject({
      added: ['.example.com'],
      covered: [
        { pattern: 'a.data.example.net', by: '.data.example.net', where: 'hosts:4' },
        { pattern: 'https://b.example.com', by: '.example.com' },
      ],
      redundant: [{ pattern: 'example.com', by: '.example.com', where: 'hosts:2' }],
    })
    expect(editPatternFile(text, { remove: ['example.com'] }, RULES).change.stillAllowed).toEqual([
      { pattern: 'example.com', by: '.example.com', where: 'hosts:5' },
    ])
  })

  it('is empty on purpose once its last pattern was removed, and says so', () => {
    const { text } = editPatternFile('example.com\n', { remove: ['example.com'] }, RULES)
    expect(text).toBe('(nothing)\n')
    expect(listedPatterns(text, RULES)).toEqual([])
    expect(editPatternFile(text, { add: ['example.org'] }, RULES).text).toBe('example.org\n')
  })

  it('hides no pattern behind a comment that ends with a carriage return alone', () => {
    const listed = (text: string) => listedPatterns(text, RULES).map((one) => one.text)
    expect(() => listed('# denied:\rb.example.com\na.example.com\n')).toThrow(/hosts:1/)
    expect(() => listed('a.example.com # why\rb.example.com\r')).toThrow(/hosts:1/)
    expect(listed('# denied:\r\nb.example.com\r\na.example.com\r')).toEqual([
      'b.example.com',
      'a.example.com',
    ])
  })

  it('is refused with every mistake of the file, by its line, and of the command', () => {
    const broken = `${FILE}*com\n.com\n`
    try {
      editPatternFile(broken, { add: ['@lab', 'https://example.com/x'], remove: ['192.168.0.1'] }, RULES)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(WeirError)
      const { message } = error as WeirError
      for (const part of ['hosts:5: ', 'hosts:6: ', '"@lab"', 'a path', '192.168.0.1'])
        expect(message).toContain(part)
    }
  })

  it('holds after any edits what was added and not removed since, however it is spelled', () => {
    const pattern = fc.constantFrom(
      'a.test.example.com',
      '.example.com',
      '*.example.com',
      'example.com:8080',
      'https://example.com',
      'example.com:443',
      'b.example.org',
    )
    fc.assert(
      fc.property(fc.array(fc.record({ pattern, isAdded: fc.boolean() }), { maxLength: 12 }), (edits) => {
        let text = '# begins with a comment\n'
        for (const { pattern: one, isAdded } of edits) {
          const { text: next, change } = editPatternFile(
            text,
            isAdded ? { add: [one] } : { remove: [one] },
            RULES,
          )
          text = next
          const set = HostPatternSet.parse(listedPatterns(text, RULES).map((line) => line.text))
          if (isAdded) expect(set.uncovered(HostPatternSet.parse([one]))).toEqual([])
          else if (change.stillAllowed.length === 0)
            expect(set.intersect(HostPatternSet.parse([one])).patterns).toEqual([])
        }
        expect(text.startsWith('# begins with a comment\n')).toBe(true)
      }),
    )
  })

  it('of 10,000 patterns is compared with another one in a moment', () => {
    const hosts = (tail: string): string[] => Array.from({ length: 4_900 }, (_, index) => `h${index}.${tail}`)
    const text = `${hosts('example.com').join('\n')}\n`
    const { change } = editPatternFile(
      text,
      { add: [...hosts('example.com'), ...hosts('example.net')] },
      RULES,
    )
    expect([change.added.length, change.present.length]).toEqual([4_900, 4_900])
  })
})

describe('a list of another system', () => {
  it("is Bacalhau's when it is lines of hosts", () => {
    const { format, taken, refused } = readForeignAllowlist(
      '# public\nexample.com\n\n.b.example.net # all\n198.51.100.7\n93.184.216.34\n^example\\.org$\n',
    )
    expect(format).toBe('text')
    expect(taken.map(({ line, pattern }) => [line, pattern])).toEqual([
      [2, 'example.com'],
      [4, '.b.example.net'],
      [6, '93.184.216.34'],
      [7, 'example.org'],
    ])
    expect(refused).toMatchObject([{ line: 5, text: '198.51.100.7' }])
  })

  it("is Golem's when it is JSON; only anchored expressions with a meaning of ours are taken, the rest gets advice", () => {
    const entries = [
      ['a.example.com', 'strict'],
      ['*.example.com', 'strict'],
      ['^geth\\.example\\.com$', 'regex'],
      ['^(.*\\.)?Example\\.net$', 'regex'],
      ['^.+\\.example\\.org$', 'regex'],
      ['^bor[0-9]*\\.example\\.com$', 'regex'],
      ['.*\\.dev\\.example\\.com$', 'regex'],
      ['example.com', 'regex'],
      ['^example.com$', 'regex'],
      ['^www\\.example\\.com', 'regex'],
      ['^a|b\\.example\\.com$', 'regex'],
      ['^.*\\.com$', 'regex'],
    ] as const
    const text = JSON.stringify(
      {
        patterns: [...entries.map(([domain, match]) => ({ domain, match })), { domain: 'b.example.com' }, 7],
      },
      null,
      1,
    )
    const { format, taken, refused } = readForeignAllowlist(text)
    expect(format).toBe('golem')
    expect(taken.map(({ pattern }) => pattern)).toEqual([
      'a.example.com',
      'geth.example.com',
      '.example.net',
      '*.example.org',
      'b.example.com',
    ])
    expect(Object.fromEntries(refused.map((one) => [one.text, `${one.reason}. ${one.advice}`]))).toEqual({
      '*.example.com': expect.stringContaining('opens nothing there'),
      '^bor[0-9]*\\.example\\.com$': expect.stringMatching(/one by one; "\*\.example\.com" would hold every/),
      '.*\\.dev\\.example\\.com$': expect.stringMatching(/open in front.*Write "\*\.dev\.example\.com"/),
      'example.com': expect.stringMatching(/"evilexample\.com\.evil\.example".*Write "example\.com"/),
      '^example.com$': expect.stringMatching(/any character\. Write "example\.com"/),
      '^www\\.example\\.com': expect.stringMatching(/open behind.*"www\.example\.com\.evil\.example"/),
      '^a|b\\.example\\.com$': expect.stringContaining('no pattern means exactly the same'),
      '^.*\\.com$': expect.stringContaining('no pattern means exactly the same'),
      '7': expect.stringContaining('no entry with a "domain"'),
    })
    expect(refused[0]?.line).toBe(7)
  })

  it('takes over no expression whose pattern allows a host that the expression does not hold', () => {
    const piece = fc.constantFrom(
      '^',
      '$',
      '.',
      '\\.',
      '*',
      '+',
      '(',
      ')',
      '?',
      '.*',
      'a',
      'b',
      '.*\\.',
      'com',
      ' ',
      '-',
    )
    const host = fc.constantFrom(
      'a.b.com',
      'b.com',
      'x.b.com',
      'a.com',
      'ab.com',
      'b.com.a',
      'x.a.b.com',
      'com.b',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 9 }), host, (pieces, name) => {
        const expression = pieces.join('')
        const list = JSON.stringify({ patterns: [{ domain: `^${expression}\\.com$`, match: 'regex' }] })
        const [entry] = readForeignAllowlist(list).taken
        if (entry === undefined) return
        const meant = new RegExp(`^${expression}\\.com$`.replace(/\s+/g, ''), 'i')
        expect(HostPatternSet.parse([entry.pattern]).match(name, 443) !== undefined).toBe(meant.test(name))
      }),
      { numRuns: 500 },
    )
  })

  it.each([
    ['', 'holds no entry'],
    ['{"patterns": [', 'begins like JSON'],
    ['{"rules": []}', 'without a list'],
  ])('is refused when it is none: %s', (text, reason) => {
    expect(() => readForeignAllowlist(text)).toThrow(reason)
  })
})

describe('presets', () => {
  it('cost no more the more often a short text names them, known or not', () => {
    let read = 0
    const lab = {
      name: 'lab',
      digest: '',
      get domains() {
        read++
        return ['example.com', 'example.org']
      },
    }
    const presets = new Map([['lab', lab]])
    const texts = Array<string>(10_000).fill('@lab')
    expect(expandPresets(texts, presets)).toEqual({ domains: lab.domains, used: [lab] })
    expect(read).toBeLessThan(10)

    const Domains = texts.map((text, index) => `${text}-${index}`)
    const Engine = { Type: 'docker', Params: { Image: 'example' } }
    const job = { Name: 'n', Tasks: [{ Name: 'main', Engine, Network: { Type: 'HTTP', Domains } }] }
    let asked = 0
    class Watched extends Map<string, Preset> {
      override keys() {
        asked++
        return super.keys()
      }
    }
    expect(() => parseJobSpec(job, { presets: new Watched(presets) })).toThrow('10000 unknown presets')
    expect(asked).toBeLessThan(200)

    asked = 0
    const rules = { file: 'hosts', presets: new Watched(presets) }
    expect(() => listedPatterns(Domains.join('\n'), rules)).toThrow(
      'hosts:100: Cannot find preset "@lab-99"\n',
    )
    expect(() => editPatternFile('', { add: Domains }, rules)).toThrow('"@lab-99"')
    expect(asked).toBeLessThan(400)
  })

  it('are no hosts where hosts are named one by one', () => {
    expect(() => HostPatternSet.parse(['@lab'])).toThrow('it is the name of a preset')
  })

  it('are read with every mistake at once; none holds another', () => {
    expect(() =>
      readPresets({ Lab: ['example.com'], a: [], b: ['@a', '*com'], 'ok-1': ['example.com'] }),
    ).toThrow(
      /Presets\.Lab: a name.*\n.*Presets\.a: it holds no pattern\n.*Presets\.b\[0\]: "@a" is a preset.*\n.*Presets\.b\[1\]/s,
    )
    const lists = readPresets({ lab: ['Example.com', 'example.com', '.example.net'] })
    expect(lists.get('lab')?.domains).toEqual(['example.com', '.example.net'])
  })
})
