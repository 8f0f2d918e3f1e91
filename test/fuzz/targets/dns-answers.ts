import fc from 'fast-check'
import { decodeAnswer, encodeQuery } from '../../../src/egress/dns/message.js'
import type { FuzzTarget } from '../target.js'
import { byteChanges, changed } from '../texts.js'

const NAME = 'www.example.com'
const OTHER = 'evil.test'

const record = fc.record({
  owner: fc.constantFrom('pointer', 'name', 'other'),
  type: fc.constantFrom(1, 28, 5, 16, 41),
  data: fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
  ),
})

/** Answers of name servers, honest ones and changed ones. */
export const dnsAnswers: FuzzTarget = {
  name: 'dns-answers',
  promise:
    'an answer is read without error, in bounded time, and gives only addresses that it holds, of the family asked for',
  open: () => ({
    property: fc.property(
      fc.constantFrom('A' as const, 'AAAA' as const),
      fc.array(record, { maxLength: 20 }),
      byteChanges,
      fc.nat(65_535),
      (type, records, changes, id) => {
        const bytes = changed(message(id, type, records), changes)
        const answer = decodeAnswer(bytes, id, NAME, type)
        if (answer === undefined) {
          const isHonest = changes.length === 0 && records.every((one) => fits(one, type))
          if (isHonest) throw new Error('an honest answer is refused')
          return
        }
        if (answer.addresses.length > 256) throw new Error('more addresses than the bound')
        for (const { address } of answer.addresses) {
          if (address.family !== (type === 'A' ? 4 : 6)) throw new Error('an address of the other family')
          if (!bytes.includes(Buffer.from(address.bytes)))
            throw new Error('an address that the answer does not hold')
        }
        if (decodeAnswer(bytes, (id + 1) % 65_536, NAME, type) !== undefined)
          throw new Error('the answer to another question is taken')
        if (decodeAnswer(bytes, id, OTHER, type) !== undefined)
          throw new Error('the answer for another name is taken')
      },
    ),
  }),
}

interface RecordOf {
  owner: 'pointer' | 'name' | 'other'
  type: number
  data: Uint8Array
}

function fits({ type, data }: RecordOf, asked: 'A' | 'AAAA'): boolean {
  if (type === 5) return false // Its data here is noise, not a name.
  return type !== (asked === 'A' ? 1 : 28) || data.length === (asked === 'A' ? 4 : 16)
}

function message(id: number, type: 'A' | 'AAAA', records: readonly RecordOf[]): Buffer {
  const question = encodeQuery(id, NAME, type)
  question.writeUInt16BE(0x8180, 2)
  question.writeUInt16BE(records.length, 6)
  return Buffer.concat([question, ...records.map(recordBytes)])
}

function recordBytes({ owner, type, data }: RecordOf): Buffer {
  const name = owner === 'pointer' ? Buffer.from([0xc0, 12]) : encodedName(owner === 'name' ? NAME : OTHER)
  const fixed = Buffer.alloc(10)
  fixed.writeUInt16BE(type, 0)
  fixed.writeUInt16BE(1, 2)
  fixed.writeUInt16BE(data.length, 8)
  return Buffer.concat([name, fixed, data])
}

function encodedName(name: string): Buffer {
  return encodeQuery(0, name, 'A').subarray(12, -4)
}
