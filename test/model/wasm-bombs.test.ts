import { describe, expect, it } from 'vitest'
import { validateWasm } from '../../src/model/index.js'

const MODULE = Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0])
const COMPONENT = Buffer.from([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0])

function leb(value: number): Buffer {
  const bytes: number[] = []
  for (let left = value; ; left >>>= 7) {
    bytes.push(left < 0x80 ? left : (left & 0x7f) | 0x80)
    if (left < 0x80) return Buffer.from(bytes)
  }
}

function section(id: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([id]), leb(content.length), content])
}

function times(count: number, ...bytes: number[]): Buffer {
  return Buffer.alloc(count * bytes.length, Buffer.from(bytes))
}

/** So many definitions of the same type. */
function types(count: number, one: Buffer): Buffer {
  return section(7, leb(count), ...Array.from({ length: count }, () => one))
}

const importingModule = Buffer.concat([
  MODULE,
  section(1, Buffer.from([1, 0x60, 0, 0])),
  section(2, leb(100_000), times(100_000, 0, 0, 0, 0)),
])
const parameters = Buffer.concat([Buffer.from([0x60]), leb(1_000), times(1_000, 0x7f), Buffer.from([0])])

describe('a file that is small and would become large when it is read', () => {
  it.each([
    [
      'records',
      [COMPONENT, types(60, Buffer.concat([Buffer.from([0x72]), leb(10_000), times(10_000, 0, 0x7f)]))],
    ],
    [
      'types of instances',
      [COMPONENT, types(60, Buffer.concat([Buffer.from([0x42]), leb(10_000), times(10_000, 1, 0x7f)]))],
    ],
    [
      'types of components',
      [COMPONENT, types(60, Buffer.concat([Buffer.from([0x41]), leb(10_000), times(10_000, 1, 0x7f)]))],
    ],
    ['sections of a component', [COMPONENT, times(60_000, 0, 1, 0)]],
    [
      'core modules with imports',
      [COMPONENT, ...Array.from({ length: 5 }, () => section(1, importingModule))],
    ],
    ['parameters', [MODULE, section(1, leb(4_100), ...Array.from({ length: 4_100 }, () => parameters))]],
    ['sections of a module', [MODULE, times(410_000, 0, 1, 0)]],
  ])('is refused for its many %s', (_what, parts) => {
    const { valid, problems } = validateWasm(Buffer.concat(parts))
    expect(valid).toBe(false)
    const [problem] = problems.filter(({ message }) => /consists of more than \d+ parts/.test(message))
    expect(problem?.code).toBe('wasm.invalid')
  })
})
