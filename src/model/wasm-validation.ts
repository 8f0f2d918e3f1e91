import { type ErrorCode, WeirError } from '../errors.js'
import { nearestName } from './nearest-name.js'
import { WASI_MODULE } from './wasi-preview1.js'
import { HOST_MODULES } from './wasm-host-modules.js'
import { WEIR_HTTP_MODULE } from './weir-http.js'
import { compileProblems } from './wasm-compile.js'
import { groupImports, type ImportGroup } from './wasm-import-groups.js'
import { type ComponentReport, validateComponent } from './wasm-component-validation.js'
import { recogniseHost } from './wasm-hosts.js'
import { listSome, quote } from './wasm-lists.js'
import { checkMemories } from './wasm-memories.js'
import { type WasmImport, type WasmModule, isWasmComponent, readWasmModule } from './wasm-module.js'

export interface WasmProblem {
  code: ErrorCode
  message: string
  hint: string
}

export interface ValidationReport {
  valid: boolean
  problems: WasmProblem[]
  /** Absent when the entry module cannot be read, and for a component. */
  module?: WasmModule
  /** Absent when it is no component that can be read. */
  component?: ComponentReport
  /** What it imports, by where from. */
  importGroups: ImportGroup[]
  /** Everything `entryPoint` may name: exported functions without parameters and results, `wasi:cli/run` of a component. */
  entryPoints: string[]
  /** It, or a module it is made of, asks for HTTP: without a network it is told `denied`. */
  asksForHttp: boolean
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
  /** Names of import modules that are given as well, but whose content is not known here; empty text: some name. */
  unknownImports?: readonly string[]
  /** Also lets this machine's compiler check every function body. Default false. */
  compile?: boolean
}

/**
 * Says whether weir can run a module: readable, complete, with its entry point, every import provided by the node (WASI
 * preview 1, HTTP; for a component WASI 0.2) or by an import module. Never throws for a bad module; the report lists every
 * problem found.
 */
export function validateWasm(bytes: Uint8Array, options: ValidationOptions = {}): ValidationReport {
  if (isWasmComponent(bytes)) return validateComponent(bytes, options)
  const problems: WasmProblem[] = []
  const module = readOrComplain(bytes, 'the entry module', problems)
  const libraries = readLibraries(options.imports ?? [], problems)
  if (module === undefined)
    return { valid: false, problems, importGroups: [], entryPoints: [], asksForHttp: false }

  const entryPoints = module.exports
    .filter((one) => one.kind === 'func' && one.signature === '->')
    .map((one) => one.name)
  problems.push(...checkEntryPoint(module, options.entryPoint ?? '_start', entryPoints))
  const unknown = new Set(options.unknownImports ?? [])
  problems.push(...checkImports(module, libraries, unknown), ...checkMemories(module, 'the entry module'))
  for (const [name, library] of libraries) {
    problems.push(
      ...checkImports(library, libraries, unknown),
      ...checkMemories(library, `the import module ${quote(name)}`),
    )
  }
  problems.push(...checkCycles(libraries))
  if (options.compile === true && problems.length === 0) problems.push(...compileProblems(bytes))
  const importGroups = groupImports(module, libraries)
  const asksForHttp = [module, ...libraries.values()].some(({ imports }) =>
    imports.some((one) => one.module === WEIR_HTTP_MODULE),
  )
  return { valid: problems.length === 0, problems, module, importGroups, entryPoints, asksForHttp }
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
    if (HOST_MODULES.has(one.name) || one.name === 'wasi_unstable') {
      problems.push({
        code: 'wasm.imports',
        message: `An import module cannot be named ${quote(one.name)}: that is provided by the node and cannot be replaced`,
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
  const problem = (message: string): WasmProblem[] => [
    { code: 'wasm.entry_point', message, hint: entryPointHint(module, entryPoint, candidates) },
  ]
  if (found !== undefined) {
    const what = found.kind === 'func' ? `has the type ${found.signature}` : `is a ${found.kind}`
    return problem(
      `The export ${quote(entryPoint)} cannot be started: it ${what}, not a function without parameters and results`,
    )
  }
  const isReactor = module.exports.some((one) => one.name === '_initialize')
  if (entryPoint === '_start' && isReactor)
    return problem('The module is a library (a reactor: it exports _initialize and no _start)')
  return problem(`The module exports no function ${quote(entryPoint)}`)
}

function entryPointHint(module: WasmModule, entryPoint: string, candidates: readonly string[]): string {
  const others = candidates.filter((name) => !INITIALISERS.includes(name))
  const near = nearestName(entryPoint, others)
  if (entryPoint !== '_start' && near !== undefined) return `Did you mean --entry-point ${near}?`
  if (others.length > 0) return `Name one of its functions: --entry-point ${listSome(others)}`
  const hasMain = module.exports.some(
    (one) => one.kind === 'func' && /^_*(?:main|__main_argc_argv)$/.test(one.name),
  )
  if (hasMain)
    return 'Its main was not linked as that of a command: let the compiler driver link it, without --no-entry, -nostartfiles and -mexec-model=reactor'
  return 'None of its functions takes and returns nothing. Build the program as a command, so that it exports _start (Rust: a main function, not crate-type cdylib; C: without --no-entry)'
}

/** Functions that prepare a library, and are no programs. */
const INITIALISERS = ['_initialize', '__wasm_call_ctors']

/** One problem per foreign module, so that a module for another host does not drown the reader. */
function checkImports(
  module: WasmModule,
  libraries: ReadonlyMap<string, WasmModule>,
  unknown: ReadonlySet<string>,
): WasmProblem[] {
  const missing = new Map<string, WasmImport[]>()
  const problems: WasmProblem[] = []
  for (const one of module.imports) {
    const isElsewhere = !HOST_MODULES.has(one.module) && !libraries.has(one.module)
    if (isElsewhere && (unknown.has(one.module) || unknown.has(''))) continue
    const provided = providedType(one, libraries)
    if (provided === undefined) {
      const others = missing.get(one.module)
      if (others === undefined) missing.set(one.module, [one])
      else others.push(one)
    } else if (provided !== typeText(one)) {
      problems.push({
        code: 'wasm.imports',
        message: `The import ${quote(`${one.module}.${one.name}`)} is declared as ${typeText(one)}, but it is ${provided}`,
        hint: 'Build the module against the same interface',
      })
    }
  }
  problems.push(...[...missing].map(([name, imports]) => missingProblem(name, imports, libraries)))
  return problems
}

function providedType(one: WasmImport, libraries: ReadonlyMap<string, WasmModule>): string | undefined {
  const host = HOST_MODULES.get(one.module)
  if (host !== undefined) {
    const signature = host.functions.get(one.name)
    return signature === undefined ? undefined : `func ${signature}`
  }
  const found = libraries.get(one.module)?.exports.find((other) => other.name === one.name)
  return found === undefined ? undefined : typeText(found)
}

function typeText(one: { kind: string; signature: string }): string {
  return one.signature === '' ? one.kind : `${one.kind} ${one.signature}`
}

/** What the imports of one module that nobody provides belong to, and what to do. */
function missingProblem(
  name: string,
  imports: readonly WasmImport[],
  libraries: ReadonlyMap<string, WasmModule>,
): WasmProblem {
  const shown = listSome(imports.map((one) => `${name}.${one.name}`))
  if (libraries.has(name)) {
    const hint = `The import module ${quote(name)} is given, but does not export this`
    return { code: 'wasm.imports', message: `Nobody provides ${shown}`, hint }
  }
  const known = recogniseHost(name, imports)
  if (known !== undefined) {
    const message = `Nobody provides ${shown}: this belongs to ${known.host}`
    return { code: 'wasm.imports', message, hint: known.advice }
  }
  const hint =
    name === WEIR_HTTP_MODULE
      ? 'These are not functions of this version of it: see docs/wasm-http.md'
      : name === WASI_MODULE
        ? 'These are not functions of WASI preview 1; build for wasm32-wasip1 (wasm32-wasi)'
        : `Give the module that exports it: --import-module ${/^[\w.-]+$/.test(name) ? name : 'NAME'}=FILE, or build without this import`
  return { code: 'wasm.imports', message: `Nobody provides ${shown}`, hint }
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
