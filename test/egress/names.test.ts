import { type AddressInfo, connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { transparentPorts } from '../../src/egress/attach/transparent-ports.js'
import { decodeAnswer } from '../../src/egress/dns/message.js'
import { encodeReply, RCODE, readQuestion } from '../../src/egress/dns/query.js'
import { SYNTHETIC_NAMES_MAX, SyntheticAddresses } from '../../src/egress/dns/synthetic-addresses.js'
import { NameServer } from '../../src/egress/serve/name-server.js'
import { parseHostPattern, parseIpAddress } from '../../src/model/index.js'
import { encodeQuestion } from './dns-questions.js'

const name = fc
  .array(fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/), { minLength: 1, maxLength: 5 })
  .map((labels) => [...labels, 'test'].join('.'))

describe('questions for names', () => {
  it('of any bytes are read or refused, never thrown at', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        expect(['ok', 'bad', 'drop']).toContain(readQuestion(Buffer.from(bytes)).state)
      }),
      { numRuns: 2_000 },
    )
  })

  it('with one byte changed still give an answer that repeats them, or a code', () => {
    fc.assert(
      fc.property(name, fc.nat(), fc.nat(255), (text, at, byte) => {
        const bytes = encodeQuestion(text, 'A', 0)
        bytes[at % bytes.length] = byte
        const reading = readQuestion(bytes)
        if (reading.state !== 'ok') return
        const reply = encodeReply(reading.question, { code: RCODE.unknownName })
        const end = 12 + reading.question.section.length
        expect(reply.subarray(12, end).equals(bytes.subarray(12, end))).toBe(true)
      }),
      { numRuns: 1_000 },
    )
  })

  it('are answered in a way that a resolver understands', () => {
    fc.assert(
      fc.property(name, (text) => {
        const reading = readQuestion(encodeQuestion(text, 'A'))
        if (reading.state !== 'ok') throw new Error(reading.state)
        expect(reading.question.name).toBe(text)
        const reply = encodeReply(reading.question, { code: RCODE.ok, address: { bytes: [198, 18, 1, 2] } })
        const answer = decodeAnswer(reply, reading.question.id, text, 'A')
        expect(answer).toMatchObject({ responseCode: 0, truncated: false })
        expect(answer?.addresses.map(({ address }) => address.text)).toEqual(['198.18.1.2'])
      }),
    )
  })
})

describe('a client that asks over TCP and never reads', () => {
  it('is cut, and its answers do not pile up', async () => {
    let now = 0
    const names = new NameServer({ lease: () => undefined, hasIpv6: () => false, now: () => (now += 1_000) })
    const server = createServer()
    names.serveTcp(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const question = encodeQuestion(Array(4).fill('a'.repeat(55)).join('.'), 'A')
    const framed = Buffer.concat([Buffer.from([0, question.length]), question])
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').pause()
    let isClosed = false
    socket.on('error', () => {}).on('close', () => (isClosed = true))
    try {
      // More than the kernel holds for both sides.
      for (let batch = 0; batch < 400 && !isClosed; batch++)
        await new Promise<void>((resolve) => {
          socket.write(Buffer.concat(Array<Buffer>(200).fill(framed)), () => resolve())
        })
      for (let waited = 0; !isClosed && waited < 2_000; waited += 20) await sleep(20)
      expect(isClosed).toBe(true)
    } finally {
      socket.destroy()
      names.close()
      server.close()
    }
  })
})

describe('addresses that stand for names', () => {
  it('are one pair per name, lead back to it, and are the same in another life', () => {
    fc.assert(
      fc.property(fc.uniqueArray(name, { minLength: 1, maxLength: 40 }), (names) => {
        const pool = new SyntheticAddresses()
        const pairs = names.map((text) => pool.addressesOf(text))
        for (const [index, pair] of pairs.entries()) {
          expect(pool.addressesOf(names[index] ?? '')).toEqual(pair)
          for (const address of [pair?.four, pair?.six])
            expect(address && pool.nameOf(address)).toBe(names[index])
        }
        expect(new Set(pairs.map((pair) => pair?.four.text)).size).toBe(names.length)
        expect(new SyntheticAddresses().addressesOf(names[0] ?? '')).toEqual(pairs[0])
      }),
      { numRuns: 50 },
    )
  })

  it('are bounded, avoid ends of blocks, and stand for nothing else', () => {
    const pool = new SyntheticAddresses()
    for (let count = 0; count < SYNTHETIC_NAMES_MAX; count++) {
      const { four } = pool.addressesOf(`h${count}.test`) ?? {}
      expect(four?.text).toMatch(/^198\.1[89]\.\d+\.\d+$/)
      expect([0, 255]).not.toContain(four?.bytes[3])
    }
    expect(pool.addressesOf('one-more.test')).toBeUndefined()
    expect(pool.addressesOf('h7.test')).toBeDefined()
    for (const text of [
      '198.18.0.1',
      '198.17.1.1',
      '93.184.216.10',
      '::1',
      'fd77:6569:7200::1',
      '2606:2800::10',
    ]) {
      const address = parseIpAddress(text)
      expect(address && pool.nameOf(address)).toBeUndefined()
    }
  })
})

describe('ports for programs that know nothing of proxies', () => {
  const portsOf = (...texts: string[]) => [...transparentPorts(texts.map((text) => parseHostPattern(text)))]

  it('are those that the list opens, so that a job keeps the others for itself', () => {
    expect(portsOf('.example.com')).toEqual([80, 443])
    expect(portsOf('https://example.com')).toEqual([443])
    expect(portsOf('http://example.com', 'api.test:8443')).toEqual([80, 8443])
    expect(portsOf()).toEqual([])
  })

  it("are never the gateway's own, nor that of mail, and no more than 32 beside those of the web", () => {
    expect(portsOf('a.test:53', 'a.test:3128', 'a.test:25')).toEqual([])
    expect(
      portsOf('a.test', ...Array.from({ length: 50 }, (_, index) => `a.test:${9000 + index}`)),
    ).toHaveLength(34)
  })
})
