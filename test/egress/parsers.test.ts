import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ClientHelloReader,
  decideAddresses,
  decideHost,
  compileJobRules,
  compileNodeRules,
  readRequest,
} from '../../src/egress/index.js'
import { decodeAnswer, encodeQuery } from '../../src/egress/dns/message.js'
import { ChunkedDecoder, ChunkedSyntaxError } from '../../src/egress/http/chunked.js'
import { readHost } from '../../src/model/index.js'
import { readCorpus } from './corpus-row.js'
import { buildHello } from './hello.js'

const LIST = ['.example.com', 'exact.test', 'api.test:8443', '93.184.216.77']
const RULES = {
  mode: 'http' as const,
  job: compileJobRules({ mode: 'http', allow: LIST }),
  node: compileNodeRules(
    { allow: LIST, deny: [], privateExceptions: [], self: ['orchestrator.example.com'] },
    1,
  ),
  ownAddresses: new Set(['93.184.216.98']),
}

/** Rows of the corpus whose first bytes are a request. */
const HEADS = readCorpus()
  .map((row) => row.send[0]?.text ?? '')
  .filter((text) => text.length > 0 && text.length < 2_000)

const mutation = fc.record({
  head: fc.constantFrom(...HEADS),
  at: fc.nat(120),
  insert: fc.constantFrom(
    '%00',
    '\t',
    '@',
    '\\',
    '[',
    ']',
    '.',
    '%2e',
    ' ',
    '\r',
    '\n',
    ':',
    'xn--',
    '\0',
    ';',
    ',',
    '/',
    '#',
    '..',
    'A',
    '127.0.0.1',
  ),
  flipCase: fc.nat(120),
})

describe('mutated requests of the corpus', () => {
  it('are allowed only when the canonical host is in the list', () => {
    let allowed = 0
    fc.assert(
      fc.property(mutation, ({ head, at, insert, flipCase }) => {
        const mutated = flip(head.slice(0, at) + insert + head.slice(at), flipCase)
        const reading = readRequest(Buffer.from(mutated, 'utf8'))
        if (reading.state !== 'ok') return
        const { host, port, kind } = reading.request
        const decision = decideHost({ kind, host, port }, RULES)
        if (!decision.allowed) return
        allowed++
        expect(isListed(host.text, port)).toBe(true)
        expect(readHost(host.text)).toMatchObject({ ok: true, host: { text: host.text } })
        // What an ordinary parser makes of the same authority is the same host.
        if (kind === 'http') expect(new URL(`http://${host.text}/`).hostname).toBe(host.text)
      }),
      { numRuns: 20_000 },
    )
    expect(allowed).toBeGreaterThan(100)
  })

  it('never throw, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        readRequest(Buffer.from(bytes))
        readRequest(Buffer.concat([Buffer.from('GET http://example.com/ HTTP/1.1\r\n'), bytes]))
      }),
      { numRuns: 5_000 },
    )
  })
})

describe('the hello parser', () => {
  const good = buildHello({ sni: 'example.com', alpn: ['h2'], padAfter: 50 })

  it('reads the same hello however it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 30 }),
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 5 }),
        (segments, records) => {
          const bytes = buildHello({ sni: 'example.com', alpn: ['h2'], recordSplit: records })
          const reader = new ClientHelloReader()
          let reading = reader.push(Buffer.alloc(0))
          for (let at = 0, index = 0; at < bytes.length; index++) {
            const size = segments[index % segments.length] ?? 1
            reading = reader.push(bytes.subarray(at, at + size))
            at += size
            if (at < bytes.length) expect(reading.state).toBe('more')
          }
          expect(reading).toMatchObject({
            state: 'ok',
            hello: { serverName: 'example.com', alpn: ['h2'] },
            consumed: bytes.length,
          })
        },
      ),
      { numRuns: 300 },
    )
  })

  it('never throws and never invents a name when bytes are changed', () => {
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), (at, value) => {
        const bytes = Buffer.from(good)
        bytes[at] = value
        const reading = new ClientHelloReader().push(bytes)
        if (reading.state === 'ok' && reading.hello.serverName !== undefined)
          expect(bytes.includes(Buffer.from(reading.hello.serverName, 'latin1'))).toBe(true)
      }),
      { numRuns: 5_000 },
    )
  })

  it('never throws on noise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        new ClientHelloReader().push(Buffer.concat([Buffer.from([22, 3, 1, 1, 0, 1]), bytes]))
      }),
      { numRuns: 3_000 },
    )
  })
})

describe('the DNS and chunk decoders', () => {
  it('never throw anything but their own refusal', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const query = encodeQuery(7, 'example.com', 'A')
        query[2] = 0x81
        decodeAnswer(Buffer.concat([query, bytes]), 7, 'example.com', 'A')
        decodeAnswer(Buffer.from(bytes), 7, 'example.com', 'A')
        try {
          new ChunkedDecoder().decode(Buffer.from(bytes))
        } catch (error) {
          expect(error).toBeInstanceOf(ChunkedSyntaxError)
        }
      }),
      { numRuns: 5_000 },
    )
  })
})

describe('decisions', () => {
  it('refuse every answer with one address that is not public, and every address of the network itself', () => {
    const address = fc
      .oneof(fc.ipV4(), fc.ipV6())
      .map((text) => readHost(text.includes(':') ? `[${text}]` : text))
    fc.assert(
      fc.property(fc.array(address, { minLength: 1, maxLength: 4 }), (readings) => {
        const addresses = readings.flatMap((reading) =>
          reading.ok && reading.host.kind === 'address' ? [reading.host.address] : [],
        )
        const own = readHost('93.184.216.98')
        if (!own.ok || own.host.kind !== 'address') throw new Error('unreadable')
        const request = {
          kind: 'http' as const,
          host: { kind: 'name' as const, text: 'a.example.com' },
          port: 80,
        }
        expect(
          decideAddresses(request, { addresses: [...addresses, own.host.address], aliases: [] }, RULES),
        ).toMatchObject({ allowed: false, code: 'egress.self' })
        expect(decideAddresses(request, { addresses, aliases: ['x.internal'] }, RULES).allowed).toBe(false)
      }),
    )
  })

  it('a denied host is denied on every port, whatever else is listed', () => {
    const node = compileNodeRules(
      { allow: ['a.test:9000'], deny: ['.test', 'a.test:8443'], privateExceptions: [], self: [] },
      1,
    )
    const rules = { ...RULES, node, job: compileJobRules({ mode: 'http', allow: ['a.test:9000'] }) }
    const request = { kind: 'connect' as const, host: { kind: 'name' as const, text: 'a.test' }, port: 9000 }
    expect(decideHost(request, rules)).toMatchObject({
      allowed: false,
      code: 'egress.denied_by_operator',
      rule: '.test',
    })
  })

  it('refuse what the network list leaves out, also when job and node allow it', () => {
    const node = compileNodeRules(
      { allow: LIST, deny: [], privateExceptions: [], self: [], network: ['exact.test'] },
      1,
    )
    const request = { kind: 'http' as const, host: { kind: 'name' as const, text: 'example.com' }, port: 80 }
    expect(decideHost(request, { ...RULES, node })).toMatchObject({
      allowed: false,
      code: 'egress.not_in_network_list',
      owner: 'network',
    })
  })
})

function isListed(host: string, port: number): boolean {
  if (host === 'example.com' || host.endsWith('.example.com')) return port === 80 || port === 443
  if (host === 'exact.test' || host === '93.184.216.77') return port === 80 || port === 443
  return host === 'api.test' && port === 8443
}

function flip(text: string, at: number): string {
  const letter = text.charAt(at)
  const flipped = letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase()
  return text.slice(0, at) + flipped + text.slice(at + 1)
}
