import { type ErrorCode, WeirError } from '../errors.js'
import { WASI_MODULE, WASI_SIGNATURES } from './wasi-preview1.js'
import { type WasmImport, type WasmModule, readWasmModule } from './wasm-module.js'

export interface WasmProblem {
  code: ErrorCode
  message: string
  hint: string
}

export interface ValidationReport {
  valid: boolean
  problems: WasmProblem[]
  /** Absent when the entry module cannot be read. */
  module?: WasmModule
  /** Exported functions without parameters and results: everything `entryPoint` may name. */
  entryPoints: string[]
}

export interface ImportModule {
  /** The module name that imports ask for. */
  name: string
  bytes: Uint8Array
}

export interface ValidationOptions {
  /** Default `_start`. */
  entryPoint?: string
  /** Default none. */
  imports?: readonly ImportModule[]
  /** Also lets this machine's compiler check every function body. Default false. */
  compile?: boolean
}

/**
 * Says whether weir can run a module: readable, complete, with its entry point, every import provided by WASI preview 1
 * or by an import module. Never throws for a bad module; the report lists every problem found.
 */
export function validateWasm(bytes: Uint8Array, options: ValidationOptions = {}): ValidationReport {
  const problems: WasmProblem[] = []
  const module = readOrComplain(bytes, 'the entry module', problems)
  const libraries = readLibraries(options.imports ?? [], problems)
  if (module === undefined) return { valid: false, problems, entryPoints: [] }

  const entryPoints = module.exports
    .filter((one) => one.kind === 'func' && one.signature === '->')
    .map((one) => one.name)
  problems.push(...checkEntryPoint(module, options.entryPoint ?? '_start', entryPoints))
  problems.push(...checkImports(module, libraries), ...checkThreads(module, 'the entry module'))
  for (const [name, library] of libraries) {
    problems.push(
      ...checkImports(library, libraries),
      ...checkThreads(library, `the import module ${quote(name)}`),
    )
  }
  problems.push(...checkCycles(libraries))
  if (options.compile === true && problems.length === 0) problems.push(...compileProblems(bytes))
  return { valid: problems.length === 0, problems, module, entryPoints }
}

function readOrComplain(bytes: Uint8Array, what: string, problems: WasmProblem[]): WasmModule | undefined {
  try {
    return readWasmModule(bytes)
  } catch (error) {
    if (!(error instanceof WeirError)) throw error
    const message = what === 'the entry module' ? error.message : `${error.message}; it is ${what}`
    problems.push({ code: error.code, message, hint: error.hint ?? '' })
    return undefined
  }
}

function readLibraries(imports: readonly ImportModule[], problems: WasmProblem[]): Map<string, WasmModule> {
  const libraries = new Map<string, WasmModule>()
  for (const one of imports) {
    if (one.name === WASI_MODULE || one.name === 'wasi_unstable') {
      problems.push({
        code: 'wasm.imports',
        message: `An import module cannot be named ${quote(one.name)}: WASI is provided by the node and cannot be replaced`,
        hint: 'Give the import module another alias',
      })
      continue
    }
    if (libraries.has(one.name)) {
      problems.push({
        code: 'wasm.imports',
        message: `Two import modules are named ${quote(one.name)}`,
        hint: 'Give each import module an alias of its own',
      })
      continue
    }
    const module = readOrComplain(one.bytes, `the import module ${quote(one.name)}`, problems)
    if (module !== undefined) libraries.set(one.name, module)
  }
  return libraries
}

function checkEntryPoint(module: WasmModule, entryPoint: string, candidates: string[]): WasmProblem[] {
  const found = module.exports.find((one) => one.name === entryPoint)
  if (found?.kind === 'func' && found.signature === '->') return []
  const hint =
    candidates.length > 0
      ? `Name one of the functions it exports: ${listSome(candidates)}`
      : 'Build the program as a command, so that it exports _start'
  if (found === undefined) {
    return [
      { code: 'wasm.entry_point', message: `The module exports no function ${quote(entryPoint)}`, hint },
    ]
  }
  const what = found.kind === 'func' ? `has the type ${found.signature}` : `is a ${found.kind}`
  const message = `The export ${quote(entryPoint)} cannot be started: it ${what}, not a function without parameters and results`
  return [{ code: 'wasm.entry_point', message, hint }]
}

/** One problem per foreign module, so that a module for another host does not drown the reader. */
function checkImports(module: WasmModule, libraries: ReadonlyMap<string, WasmModule>): WasmProblem[] {
  const missing = new Map<string, string[]>()
  const problems: WasmProblem[] = []
  for (const one of module.imports) {
    const provided = providedType(one, libraries)
    if (provided === undefined) {
      missing.set(one.module, [...(missing.get(one.module) ?? []), one.name])
    } else if (provided !== typeText(one)) {
      problems.push({
        code: 'wasm.imports',
        message: `The import ${quote(`${one.module}.${one.name}`)} is declared as ${typeText(one)}, but it is ${provided}`,
        hint: 'Build the module against the same interface',
      })
    }
  }
  for (const [name, names] of missing) {
    problems.push({
      code: 'wasm.imports',
      message: `Nobody provides ${listSome(names.map((one) => `${name}.${one}`))}`,
      hint: hintForImport(name, names, libraries),
    })
  }
  return problems
}

function providedType(one: WasmImport, libraries: ReadonlyMap<string, WasmModule>): string | undefined {
  if (one.module === WASI_MODULE) {
    const signature = WASI_SIGNATURES.get(one.name)
    return signature === undefined ? undefined : `func ${signature}`
  }
  const found = libraries.get(one.module)?.exports.find((other) => other.name === one.name)
  return found === undefined ? undefined : typeText(found)
}

function typeText(one: { kind: string; signature: string }): string {
  return one.signature === '' ? one.kind : `${one.kind} ${one.signature}`
}

function hintForImport(name: string, names: string[], libraries: ReadonlyMap<string, WasmModule>): string {
  if (libraries.has(name)) return `The import module ${quote(name)} is given, but does not export this`
  if (name === WASI_MODULE) return 'These are not functions of WASI preview 1'
  if (name === 'wasi_unstable') {
    return 'The module was built for an old draft of WASI; build it again with a toolchain for wasm32-wasip1 (wasm32-wasi)'
  }
  if (name === 'wasi' && names.includes('thread-spawn'))
    return 'Threads are not supported; build for wasm32-wasip1'
  if (name === 'gojs' || name === 'go')
    return 'The module was built by Go for browsers; build it with GOOS=wasip1 GOARCH=wasm'
  if (name.startsWith('wasi:')) return 'The module belongs to a WASI 0.2 component; build for WASI preview 1'
  if (name === '__wbindgen_placeholder__' || name === 'wbg' || name.startsWith('./')) {
    return 'The module was built by wasm-bindgen for JavaScript; build it for wasm32-wasip1'
  }
  const emscripten = names.some(
    (one) => one.startsWith('emscripten_') || one.startsWith('invoke_') || one.startsWith('__syscall'),
  )
  if ((name === 'env' || name === 'a') && emscripten) {
    return 'The module was built by Emscripten for JavaScript; build it with -sSTANDALONE_WASM or with a WASI SDK'
  }
  if (name === 'env' && names.includes('memory')) {
    return 'The module expects its memory from outside (threads or a JavaScript host); build it with a memory of its own'
  }
  return `Give a module that exports it with the alias ${quote(name)}, or build without this import`
}

function checkThreads(module: WasmModule, what: string): WasmProblem[] {
  const problems: WasmProblem[] = []
  if (module.memories.some((one) => one.shared)) {
    problems.push({
      code: 'wasm.invalid',
      message: `Threads are not supported, and ${what} shares its memory`,
      hint: 'Build for wasm32-wasip1, without threads',
    })
  }
  if (module.memories.some((one) => one.is64)) {
    problems.push({
      code: 'wasm.invalid',
      message: `64-bit memories are not supported, and ${what} has one`,
      hint: 'Build for wasm32',
    })
  }
  if (module.memories.length > 1) {
    problems.push({
      code: 'wasm.invalid',
      message: `Only one memory is supported, and ${what} has ${module.memories.length}`,
      hint: 'Build without the multi-memory proposal',
    })
  }
  return problems
}

/** Import modules are instantiated before those that need them, so they cannot need each other in a circle. */
function checkCycles(libraries: ReadonlyMap<string, WasmModule>): WasmProblem[] {
  const done = new Set<string>()
  const visit = (name: string, path: string[]): string[] | undefined => {
    if (path.includes(name)) return [...path.slice(path.indexOf(name)), name]
    if (done.has(name)) return undefined
    for (const next of new Set(libraries.get(name)?.imports.map((one) => one.module))) {
      if (!libraries.has(next)) continue
      const circle = visit(next, [...path, name])
      if (circle !== undefined) return circle
    }
    done.add(name)
    return undefined
  }
  for (const name of libraries.keys()) {
    const circle = visit(name, [])
    if (circle === undefined) continue
    const message = `The import modules need each other in a circle: ${circle.join(' → ')}`
    return [{ code: 'wasm.imports', message, hint: 'Link them into one module' }]
  }
  return []
}

interface WasmCompiler {
  Module: new (bytes: Uint8Array) => unknown
}

function compileProblems(bytes: Uint8Array): WasmProblem[] {
  const { Module } = (globalThis as unknown as { WebAssembly: WasmCompiler }).WebAssembly
  try {
    new Module(bytes)
    return []
  } catch (error) {
    const text = (error instanceof Error ? error.message : String(error)).replace(
      /^WebAssembly\.Module\(\): /,
      '',
    )
    return [
      {
        code: 'wasm.invalid',
        message: `The compiler refuses the module: ${text}`,
        hint: 'Build the module again',
      },
    ]
  }
}

function listSome(names: string[]): string {
  const shown = names.slice(0, 8).map((one) => (one.length > 100 ? `${one.slice(0, 100)}…` : one))
  const more = names.length - shown.length
  return more > 0 ? `${shown.join(', ')} and ${more} more` : shown.join(', ')
}

function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
