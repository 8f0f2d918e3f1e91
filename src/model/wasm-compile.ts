import type { WasmProblem } from './wasm-validation.js'

interface WasmCompiler {
  Module: new (bytes: Uint8Array) => unknown
}

/** What this machine's compiler says of a module; empty when it takes it. */
export function compileProblems(bytes: Uint8Array): WasmProblem[] {
  const { Module } = (globalThis as unknown as { WebAssembly: WasmCompiler }).WebAssembly
  try {
    new Module(bytes)
    return []
  } catch (error) {
    const text = (error instanceof Error ? error.message : String(error)).replace(
      /^WebAssembly\.Module\(\): /,
      '',
    )
    const feature = FEATURES.find(({ pattern }) => pattern.test(text))
    const engine = `V8 ${process.versions.v8 ?? ''}`.trim()
    const message =
      feature === undefined
        ? `The compiler refuses the module: ${text}`
        : `The module uses ${feature.name}, which the compiler of this machine (${engine}) does not support: ${text}`
    return [{ code: 'wasm.invalid', message, hint: feature?.hint ?? 'Build the module again' }]
  }
}

/** What compilers say of features they do not know, by the words of the feature or the numbers of its instructions. */
const FEATURES: readonly { pattern: RegExp; name: string; hint: string }[] = [
  {
    pattern: /exnref|try_table|throw_ref|opcode 0x1f|opcode 0xa\b/i,
    name: 'the new form of exceptions (exnref)',
    hint: 'Build without exceptions (-fno-exceptions, panic = "abort"), with the old form (-mllvm -wasm-use-legacy-eh=true), or run it on nodes with a newer Node.js',
  },
  {
    pattern: /relaxed|opcode 0xfd1[01]/i,
    name: 'relaxed SIMD',
    hint: 'Build without -mrelaxed-simd (Rust: without target-feature=+relaxed-simd); plain SIMD is supported',
  },
  {
    pattern: /return_call|tail call/i,
    name: 'tail calls',
    hint: 'Build without -mtail-call',
  },
  {
    pattern: /\bstringref|opcode 0xfb|\bgc\b|\bstruct\.|\barray\.|\bref\.(?:test|cast|i31)/i,
    name: 'garbage collection',
    hint: 'Build with a language or target that manages its own memory',
  },
  {
    pattern: /memory64|64-bit memor/i,
    name: '64-bit memories',
    hint: 'Build for wasm32',
  },
  {
    pattern: /multi-memory|multiple memories|memory index/i,
    name: 'several memories',
    hint: 'Build without the multi-memory proposal',
  },
  {
    pattern: /\bshared\b|\batomic|opcode 0xfe/i,
    name: 'threads',
    hint: 'Build for wasm32-wasip1, without -pthread',
  },
]
