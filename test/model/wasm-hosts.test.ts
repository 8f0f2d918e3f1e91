import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { validateWasm } from '../../src/model/index.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'

type Types = 'none' | 'abort'

/** A command that imports functions, by hand: no toolchain for the half of these hosts can be had. */
function moduleWith(imports: readonly (readonly [module: string, name: string, type?: Types])[]): Buffer {
  const text = (value: string): number[] => [...leb(Buffer.byteLength(value)), ...Buffer.from(value)]
  const entries = imports.flatMap(([module, name, type]) => [
    ...text(module),
    ...text(name),
    0,
    type === 'abort' ? 1 : 0,
  ])
  return Buffer.from([
    ...HEAD,
    ...section(1, [2, 0x60, 0, 0, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 0]),
    ...section(2, [...leb(imports.length), ...entries]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...text('_start'), 0, ...leb(imports.length)]),
    ...section(10, [1, 2, 0, 0x0b]),
  ])
}

const HEAD = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
const leb = (value: number): number[] =>
  value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >> 7)]
const section = (id: number, content: readonly number[]): number[] => [id, ...leb(content.length), ...content]
const WASI = 'wasi_snapshot_preview1'

describe('a module for another host', () => {
  it.each<[host: string, advice: string, ...imports: [module: string, name: string, type?: Types][]]>([
    ['Go for browsers', 'GOOS=wasip1', ['gojs', 'runtime.wasmExit'], ['gojs', 'syscall/js.valueGet']],
    ['Go for browsers', 'GOOS=wasip1', ['go', 'runtime.wasmWrite']],
    [
      'TinyGo for browsers',
      'tinygo build -target=wasip1',
      ['gojs', 'runtime.ticks'],
      ['gojs', 'syscall/js.valueGet'],
    ],
    ['an old draft of WASI', 'wasm32-wasip1', ['wasi_unstable', 'fd_write']],
    ['threads', 'without -pthread', ['wasi', 'thread-spawn']],
    ['WASIX', 'cargo-wasix', ['wasix_32v1', 'thread_spawn_v2']],
    ['sockets (WasmEdge', '--input https://', [WASI, 'sock_open'], [WASI, 'sock_connect']],
    ['machine learning', 'weir docker run', ['wasi_ephemeral_nn', 'load']],
    ['HTTP calls', '--input https://', ['wasi_experimental_http', 'req']],
    ['HTTP calls', '--input https://', ['wasi:http/outgoing-handler@0.2.0', 'handle']],
    ['a proposal for WASI', 'preview 1', ['wasi_ephemeral_crypto_common', 'array_output_len']],
    ['a WASI 0.2 component', 'wasm32-wasip2', ['wasi:cli/exit@0.2.0', 'exit']],
    ['wasm-bindgen', 'wasm-pack', ['wbg', '__wbindgen_throw']],
    ['wasm-bindgen', 'wasm-pack', ['./main_bg.js', '__wbg_log_1']],
    ['Kotlin, Dart', 'container', ['dart2wasm', '_1']],
    ['.NET for browsers', 'wasi-experimental', ['env', 'mono_wasm_invoke_js']],
    ['Cheerp', 'clang', ['cheerp', 'memory_grow']],
    ['dynamic linking', 'link statically', ['GOT.mem', '__heap_base']],
    ['a plug-in host', 'main function', ['extism:host/env', 'input_length']],
    ['a plug-in host', 'main function', ['env', 'proxy_log']],
    ['Emscripten for JavaScript', 'STANDALONE_WASM', ['env', 'emscripten_memcpy_js'], ['env', 'invoke_vi']],
    ['Emscripten, minified', 'STANDALONE_WASM', ['a', 'a'], ['a', 'b']],
    ['AssemblyScript', '--use abort=', ['env', 'abort', 'abort']],
    ['AssemblyScript', '--use abort=', ['env', 'console.log']],
    ['JavaScript', 'bindings', ['Math', 'sin']],
    ['functions that were never linked', '--import-module env=', ['env', 'my_function']],
  ])('of %s is recognised, with what to do: %s', (host, advice, ...imports) => {
    const { problems, importGroups } = validateWasm(moduleWith(imports))
    expect(problems).toHaveLength(1)
    expect(problems[0]?.message).toContain(`this belongs to ${host}`)
    expect(problems[0]?.hint).toContain(advice)
    for (const [module, name] of imports) expect(problems[0]?.message).toContain(`${module}.${name}`)
    expect(importGroups).toMatchObject([{ providedBy: undefined, belongsTo: expect.stringContaining(host) }])
  })

  it('that is nobody’s is asked for as an import module', () => {
    const { problems } = validateWasm(moduleWith([['math', 'add']]))
    expect(problems).toMatchObject([{ hint: expect.stringContaining('--import-module math=FILE') }])
    expect(validateWasm(moduleWith([['math', 'add']]), { unknownImports: ['math'] }).valid).toBe(true)
    expect(validateWasm(moduleWith([['math', 'add']]), { unknownImports: [''] }).valid).toBe(true)
    expect(validateWasm(moduleWith([['maths', 'add']]), { unknownImports: ['math'] }).valid).toBe(false)
    // Whatever is linked, WASI is the node's.
    expect(validateWasm(moduleWith([[WASI, 'sock_open']]), { unknownImports: [''] }).valid).toBe(false)
  })
})

describe('a module without _start', () => {
  const read = (name: string): Buffer =>
    readFileSync(join(PACKAGE_ROOT, 'test/fixtures/wasm/bin', `${name}.wasm`))

  it('that is a library names what can be run of it', () => {
    const reactor = Buffer.from([
      ...HEAD,
      ...section(1, [1, 0x60, 0, 0]),
      ...section(3, [2, 0, 0]),
      ...section(7, [2, 11, ...Buffer.from('_initialize'), 0, 0, 3, ...Buffer.from('run'), 0, 1]),
      ...section(10, [2, 2, 0, 0x0b, 2, 0, 0x0b]),
    ])
    expect(validateWasm(reactor, { compile: true }).problems).toEqual([
      {
        code: 'wasm.entry_point',
        message: 'The module is a library (a reactor: it exports _initialize and no _start)',
        hint: 'Name one of its functions: --entry-point run',
      },
    ])
    expect(validateWasm(reactor, { entryPoint: 'run' }).valid).toBe(true)
    expect(validateWasm(reactor, { entryPoint: 'rnu' }).problems[0]?.hint).toBe(
      'Did you mean --entry-point run?',
    )
  })

  it('that needs arguments says how programs are linked', () => {
    expect(validateWasm(read('math')).problems[0]).toMatchObject({
      message: 'The module exports no function "_start"',
      hint: expect.stringContaining('as a command'),
    })
  })
})

describe('a file that is no module', () => {
  it.each<[what: string, words: string, content: Buffer | string]>([
    ['a program of Linux', 'ELF', '\x7fELF\x02\x01\x01'],
    ['a program of Windows', 'native program', 'MZ\x90\0'],
    ['an error page', 'curl', '\n<!DOCTYPE html><title>404 Not Found</title>'],
    ['an error in JSON', 'JSON', '{"message":"Not Found"}'],
    ['a gzip file', 'gunzip', Buffer.from('1f8b0800', 'hex')],
    ['a zip archive', 'zip', 'PK\x03\x04'],
    ['LLVM bitcode', '-emit-llvm', Buffer.from('4243c0de', 'hex')],
    ['a pointer of Git LFS', 'git lfs pull', 'version https://git-lfs.github.com/spec/v1\n'],
    ['WebAssembly text', 'wat2wasm', '(module)'],
    ['a script', 'weir docker run', '#!/bin/sh\necho'],
    ['a text', 'text file', 'hello\n'],
    ['nothing', 'empty', ''],
    ['a component of another version', '0.2', Buffer.from('0061736d0e000100', 'hex')],
  ])('%s is called so: %s', (_what, words, content) => {
    const bytes = typeof content === 'string' ? Buffer.from(content, 'latin1') : content
    const [problem] = validateWasm(bytes).problems
    expect(problem?.code).toBe('wasm.invalid')
    expect(`${problem?.message} ${problem?.hint}`).toContain(words)
  })
})

describe('what the compiler of this machine does not know', () => {
  const zero128 = [0xfd, 0x0c, ...Array.from({ length: 16 }, () => 0)]
  const features: [feature: string, code: number[]][] = [
    ['the new form of exceptions', [0x1f, 0x40, 0, 0x0b]],
    ['relaxed SIMD', [...zero128, ...zero128, 0xfd, 0x80, 0x02, 0x1a]],
  ]
  for (const [feature, code] of features) {
    const body = [0, ...code, 0x0b]
    const bytes = Buffer.from([
      ...HEAD,
      ...section(1, [1, 0x60, 0, 0]),
      ...section(3, [1, 0]),
      ...section(7, [1, 6, ...Buffer.from('_start'), 0, 0]),
      ...section(10, [1, body.length, ...body]),
    ])
    const isKnown = validateWasm(bytes, { compile: true }).valid
    it.skipIf(isKnown)(`is named: ${feature}${isKnown ? ' (skipped: this Node.js knows it)' : ''}`, () => {
      const { problems } = validateWasm(bytes, { compile: true })
      expect(problems).toHaveLength(1)
      expect(problems[0]?.message).toContain(feature)
      expect(problems[0]?.hint).not.toBe('Build the module again')
    })
  }
})
