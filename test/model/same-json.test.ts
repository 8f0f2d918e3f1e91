import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isSameJson } from '../../src/model/index.js'

describe('isSameJson', () => {
  it('says what a comparison of the written values says', () => {
    const written = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        expect(isSameJson(a, written(a))).toBe(true)
        if (isSameJson(a, b)) expect(written(a)).toEqual(written(b))
        else expect(written(a)).not.toEqual(written(b))
      }),
      { numRuns: 200 },
    )
  })

  it('does not mind the order of names, nor names without a value, and tells lists from objects', () => {
    expect(isSameJson({ a: 1, b: [2] }, { b: [2], a: 1, c: undefined })).toBe(true)
    expect(isSameJson({ a: 1, c: undefined }, { a: 1 })).toBe(true)
    expect(isSameJson({ a: 1 }, { a: 1, c: null })).toBe(false)
    expect(isSameJson([], {})).toBe(false)
    expect(isSameJson({}, JSON.parse('{"__proto__":1}'))).toBe(false)
  })

  it('leaves names out where that is asked for, at the top only', () => {
    const without = new Set(['load'])
    expect(isSameJson({ load: 1, deep: { a: 1 } }, { load: 2, deep: { a: 1 } }, without)).toBe(true)
    expect(isSameJson({ deep: { load: 1 } }, { deep: { load: 2 } }, without)).toBe(false)
  })
})
