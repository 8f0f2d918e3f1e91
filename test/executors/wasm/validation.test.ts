import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isWeirError } from '../../../src/errors.js'
import { readWasmModule, validateWasm } from '../../../src/model/index.js'
import { wat } from './harness.js'

const read = (name: string): Buffer => readFileSync(wat(name))

describe('reading and validating modules', () => {
  it('lists imports, exports and limits without compiling', () => {
    expect(readWasmModule(read('uses-math'))).toEqual({
      imports: [
        { module: 'math', name: 'add', kind: 'func', signature: 'i32,i32->i32' },
        { module: 'wasi_snapshot_preview1', name: 'proc_exit', kind: 'func', signature: 'i32->' },
      ],
      exports: [
        { name: 'memory', kind: 'memory', signature: '' },
        { name: '_start', kind: 'func', signature: '->' },
      ],
      memories: [{ min: 1, shared: false, is64: false }],
      tables: [],
      functionCount: 3,
      hasStart: false,
    })
  })

  it('accepts a module whose imports are all provided', () => {
    const imports = [{ name: 'math', bytes: read('math') }]
    expect(validateWasm(read('uses-math'), { imports, compile: true })).toMatchObject({
      valid: true,
      problems: [],
    })
  })

  it('reports every problem at once', () => {
    const report = validateWasm(read('bad-imports'), { entryPoint: 'main' })
    expect(report.valid).toBe(false)
    expect(report.problems.map((one) => one.code)).toEqual([
      'wasm.entry_point',
      'wasm.imports',
      'wasm.imports',
    ])
    expect(report.entryPoints).toEqual(['_start'])
  })

  it('names what a file is when it is not a module', () => {
    const first = (bytes: Uint8Array) => validateWasm(bytes).problems[0]
    expect(first(Buffer.from('(module)'))?.message).toContain('WebAssembly text')
    expect(first(Buffer.from('0061736d0d000100', 'hex'))?.message).toContain('component')
    expect(first(Buffer.from('\x7fELF\x02\x01\x01\x00', 'latin1'))?.message).toContain('native program')
    expect(first(Buffer.alloc(0))?.message).toContain('empty')
    expect(first(Buffer.from('hello'))?.code).toBe('wasm.invalid')
  })

  it('O-23 a section that claims a gigabyte, and numbers that never end, are refused', () => {
    const head = '0061736d01000000'
    const tryHex = (hex: string) => validateWasm(Buffer.from(head + hex, 'hex')).problems[0]?.message
    expect(tryHex('0080808080040161')).toContain('claims 1073741824 bytes')
    expect(tryHex('018080808080808000')).toContain('LEB128')
    expect(tryHex('01ffffffff7f')).toContain('LEB128')
    expect(tryHex('0105ffffffff0f')).toContain('types')
    expect(tryHex('3000')).toContain('section id 48')
    expect(tryHex('03010001010060')).toContain('out of order')
  })

  it('finds circles among import modules', () => {
    // (module (import "a" "f" (func)) (export "f" (func 0)))
    const needs = (other: string): Buffer =>
      Buffer.concat([
        Buffer.from('0061736d01000000' + '010401600000', 'hex'),
        Buffer.from([2, 7, 1, 1, other.charCodeAt(0), 1, 0x66, 0, 0]),
        Buffer.from('0705010166' + '0000', 'hex'),
      ])
    const imports = [
      { name: 'a', bytes: needs('b') },
      { name: 'b', bytes: needs('a') },
    ]
    const report = validateWasm(read('noop'), { imports })
    expect(report.problems.map((one) => one.message)).toEqual([
      'The import modules need each other in a circle: a → b → a',
    ])
  })

  it('never throws anything but a refusal, whatever the bytes are', () => {
    const seeds = ['hello', 'uses-math', 'other-entry', 'table-bomb'].map(read)
    fc.assert(
      fc.property(
        fc.constantFrom(...seeds),
        fc.array(fc.record({ at: fc.nat(), to: fc.nat(255) }), { maxLength: 6 }),
        fc.nat(),
        (seed, changes, cut) => {
          const bytes = Buffer.from(seed)
          for (const { at, to } of changes) bytes[at % bytes.length] = to
          const report = validateWasm(bytes.subarray(0, 1 + (cut % bytes.length)))
          expect(report.valid).toBe(report.problems.length === 0)
          try {
            readWasmModule(bytes)
          } catch (error) {
            expect(isWeirError(error, 'wasm.invalid')).toBe(true)
          }
        },
      ),
      { numRuns: 500 },
    )
  })
})
