import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isWeirError } from '../../../src/errors.js'
import { InvalidComponent, MissingImport } from '../../../src/executors/wasm/sandbox/component/faults.js'
import { HttpClient } from '../../../src/executors/wasm/sandbox/http/http-client.js'
import { linkComponent } from '../../../src/executors/wasm/sandbox/wasi2/program.js'
import { wasmApi } from '../../../src/executors/wasm/sandbox/web-assembly.js'
import { readWasmModule, validateWasm } from '../../../src/model/index.js'
import { readWasmComponent } from '../../../src/model/wasm-component.js'
import { HELLO_COMPONENT, wat } from './harness.js'
import { WasiProgram } from './wasi-program.js'

const read = (name: string): Buffer => readFileSync(wat(name))
const hello = readFileSync(HELLO_COMPONENT)

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
    expect(first(Buffer.from('0061736d0e000100', 'hex'))?.message).toContain('component format')
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

  it('says what a component imports, and what of it nobody provides', () => {
    const report = validateWasm(read('component-c-files'), { compile: true })
    expect(report).toMatchObject({ valid: true, problems: [], entryPoints: ['wasi:cli/run@0.2.12'] })
    expect(report.component?.modules).toHaveLength(4)
    const streams = report.importGroups.find(({ module }) => module.startsWith('wasi:io/streams'))
    expect(streams?.providedBy).toBe('WASI 0.2')
    expect(streams?.imports.map(({ name }) => name)).toContain('[method]output-stream.check-write')

    const foreign = validateWasm(read('component-foreign-imports'), { entryPoint: 'main' })
    expect(foreign.problems.map(({ code, message }) => [code, message])).toEqual([
      ['wasm.entry_point', 'A component is started at wasi:cli/run, not at "main"'],
      ['wasm.imports', 'Nobody provides "example:billing/pay@1.0.0"'],
      ['wasm.imports', expect.stringContaining('Nobody provides "wasi:cli/environment@0.3.0"')],
      ['wasm.imports', 'Nobody provides wasi:clocks/wall-clock@0.2.0#leap-seconds'],
    ])
    const library = validateWasm(Buffer.from('0061736d0d000100', 'hex')).problems[0]
    expect(library?.message).toContain('exports no wasi:cli/run')
    const asImport = { imports: [{ name: 'math', bytes: hello }] }
    expect(validateWasm(read('uses-math'), asImport).problems[0]?.message).toContain('this is a component')
  })

  it('refuses a component in which many imports share a long list of functions', () => {
    const number = (value: number): number[] => [(value & 0x7f) | 0x80, (value >> 7) & 0x7f]
    const text = (name: string): number[] => [name.length, ...Buffer.from(name)]
    const section = (id: number, content: number[]): number[] => {
      const { length } = content
      return [id, (length & 0x7f) | 0x80, ((length >> 7) & 0x7f) | 0x80, (length >> 14) & 0x7f, ...content]
    }
    const exported = Array.from({ length: 6_000 }, (_, index) => [4, 0, ...text(`f${index}`), 1, 0]).flat()
    // An instance type with one type of functions, and a function of it under each name.
    const type = [1, 0x42, ...number(6_001), 1, 0x40, 0, 1, 0, ...exported]
    const imported = Array.from({ length: 20 }, (_, index) => [
      0,
      ...text(`a:b/i${index}@0.2.0`),
      5,
      0,
    ]).flat()
    const head = [...Buffer.from('0061736d0d000100', 'hex')]
    const bytes = Buffer.from([...head, ...section(7, type), ...section(10, [20, ...imported])])
    expect(validateWasm(bytes).problems.map(({ message }) => message)).toContainEqual(
      expect.stringContaining('imports more than 100000 functions'),
    )
  })

  it('links whatever component it is given, or refuses it, and nothing else happens', () => {
    const seeds = [hello, ...['passes-values', 'resources'].map((name) => read(`component-${name}`))]
    const program = new WasiProgram()
    fc.assert(
      fc.property(
        fc.constantFrom(...seeds),
        fc.array(fc.record({ at: fc.nat(), to: fc.nat(255) }), { minLength: 1, maxLength: 3 }),
        (seed, changes) => {
          // Its core modules stay as they are: what they do is bounded by the sandbox, not by the linker.
          const { modules: ranges } = readWasmComponent(seed)
          const outside = [...seed.keys()].filter(
            (at) => !ranges.some(({ start, end }) => at >= start && at < end),
          )
          const bytes = Buffer.from(seed)
          for (const { at, to } of changes) bytes[outside[at % outside.length] ?? 0] = to
          const report = validateWasm(bytes)
          expect(report.valid).toBe(report.problems.length === 0)
          try {
            const { component, modules } = readWasmComponent(bytes)
            const parts = modules.map(({ start, end }) => ({
              module: new wasmApi.Module(bytes.subarray(start, end)),
              tableElements: 0,
            }))
            linkComponent(component, parts, program.state, new HttpClient(undefined))
          } catch (error) {
            const isRefusal =
              isWeirError(error, 'wasm.invalid') ||
              error instanceof InvalidComponent ||
              error instanceof MissingImport ||
              error instanceof wasmApi.CompileError ||
              error instanceof wasmApi.LinkError
            if (!isRefusal) throw error
          }
        },
      ),
      { numRuns: 150 },
    )
    program.remove()
  })

  it('never throws anything but a refusal, whatever the bytes are', () => {
    const names = ['hello', 'uses-math', 'other-entry', 'table-bomb', 'component-passes-values']
    const seeds = names.map(read)
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
