import { describe, expect, it } from 'vitest'
import {
  BYTES,
  FLOAT,
  GoDecodeError,
  goDecode,
  INT,
  mapOf,
  slice,
  STRING,
  struct,
  TIME,
  UINT,
} from './contract/go-decode.js'
import { goStructs } from './contract/go-structs.js'

const item = struct('Item', { Count: INT, Amount: UINT, When: TIME, Notes: mapOf(STRING), Share: FLOAT })

describe('the imitation of Go’s decoder', () => {
  it.each([
    ['a fraction for an integer', '{"Count":1.0}'],
    ['an exponent for an integer', '{"Count":1e9}'],
    ['an integer that does not fit', '{"Count":9223372036854775808}'],
    ['a negative unsigned integer', '{"Amount":-1}'],
    ['a number as text', '{"Count":"1"}'],
    ['an empty time', '{"When":""}'],
    ['a time that is not RFC 3339', '{"When":"2024-11-29 10:11:12 +0000 UTC"}'],
    ['a number in a map of texts', '{"Notes":{"a":1}}'],
    ['a list where an object belongs', '[]'],
  ])('refuses %s', (_title, text) => {
    expect(() => goDecode(text, item)).toThrow(GoDecodeError)
  })

  it.each(['{"a":1}x', '{"a" 1}', '{"a":01}', '"\n"', '{"a":1,}', '', '[1', '{a:1}'])(
    'refuses %j, which is not JSON',
    (text) => {
      expect(() => goDecode(text, slice(INT))).toThrow(SyntaxError)
    },
  )

  it('matches keys in any case, skips unknown ones and leaves zero values for null', () => {
    const text = '{"COUNT":9007199254740993,"amount":null,"When":"2024-11-29T10:11:12.123456789Z","X":[1]}'
    expect(goDecode(text, item)).toEqual({
      Count: 9007199254740993n,
      Amount: 0,
      When: '2024-11-29T10:11:12.123456789Z',
      Notes: null,
      Share: 0,
    })
  })

  it('decodes a repeated key into the value that is there already', () => {
    const outer = struct('Outer', { Item: item })
    expect(goDecode('{"Item":{"Count":1},"item":{"Amount":2}}', outer)).toMatchObject({
      Item: { Count: 1, Amount: 2 },
    })
  })

  it('reads base64 as bytes', () => {
    expect(goDecode('"aGk="', BYTES)).toEqual(Buffer.from('hi'))
    expect(() => goDecode('"a"', BYTES)).toThrow(GoDecodeError)
  })

  it('takes network words of its own version only, and unknown job states in every version', () => {
    const text = (network: string) =>
      `{"Items":[{"State":{"StateType":"New"},"Tasks":[{"Network":{"Type":"${network}"}}]}]}`
    expect(() => goDecode(text('Bridge'), goStructs('v1.5.2').listJobs)).toThrow(GoDecodeError)
    expect(goDecode(text('Bridge'), goStructs('v1.9.3').listJobs)).toBeDefined()
    expect(goDecode(text('http'), goStructs('v1.5.2').listJobs)).toBeDefined()
  })
})
