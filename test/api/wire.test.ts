import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  readEgressToken,
  readPageToken,
  writeEgressToken,
  writeJson,
  writePageToken,
} from '../../src/api/wire/index.js'

describe('JSON for the wire', () => {
  it('says the same as JSON.stringify, plain and indented', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(writeJson(value))).toEqual(JSON.parse(JSON.stringify(value)))
        fc.pre(!/\de\+/.test(JSON.stringify(value)))
        expect(writeJson(value, 2)).toBe(`${JSON.stringify(value, null, 2)}\n`)
      }),
    )
  })

  it('writes every integer without exponent or loss', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 80n }), (value) => {
        expect(writeJson({ value })).toBe(`{"value":${value}}\n`)
        expect(writeJson(Number(value))).toMatch(/^\d+\n$/)
      }),
    )
  })

  it('refuses numbers that are not finite instead of writing null', () => {
    expect(() => writeJson({ a: Number.NaN })).toThrow(RangeError)
    expect(() => writeJson([Number.POSITIVE_INFINITY])).toThrow(RangeError)
  })

  it('leaves out what is undefined', () => {
    expect(writeJson({ a: undefined, b: null, c: [undefined] })).toBe('{"b":null,"c":[null]}\n')
  })
})

describe('page tokens', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('created_at', 'modified_at', 'seq_num'),
        fc.boolean(),
        fc.nat(4_000_000_000),
        fc.maxSafeNat().map((n) => n % 1e15),
        (orderBy, reverse, limit, offset) => {
          const token = { orderBy, reverse, limit, offset }
          expect(readPageToken(writePageToken(token))).toEqual(token)
        },
      ),
    )
    fc.assert(
      fc.property(fc.uuid(), fc.nat(), (uuid, sequence) => {
        const token = { executionId: `e-${uuid}`, sequence }
        expect(readEgressToken(writeEgressToken(token))).toEqual(token)
      }),
    )
  })

  it('are refused with api.bad_request when they are anything else', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        for (const read of [readPageToken, readEgressToken]) {
          try {
            read(text)
          } catch (error) {
            expect(error).toMatchObject({ code: 'api.bad_request' })
          }
        }
      }),
    )
    expect(() => readPageToken('AAAA')).toThrow()
  })
})
