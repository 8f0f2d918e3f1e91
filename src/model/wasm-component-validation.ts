import { WeirError } from '../errors.js'
import { isWasi2Function, wasi2Interface, wasi2Provider } from './wasi-preview2.js'
import { compileProblems } from './wasm-compile.js'
import type { ComponentType, InstanceDeclaration } from './wasm-component-types.js'
import { type Definition, type ModuleRange, type WasmComponent, readWasmComponent } from './wasm-component.js'
import { recogniseHost } from './wasm-hosts.js'
import type { ImportGroup } from './wasm-import-groups.js'
import { listSome, quote } from './wasm-lists.js'
import { checkMemories } from './wasm-memories.js'
import { type WasmImport, type WasmModule, moduleBudget, readWasmModule } from './wasm-module.js'
import { invalid } from './wasm-reader.js'
import type { ValidationOptions, ValidationReport, WasmProblem } from './wasm-validation.js'

/** What a component says about itself. */
export interface ComponentReport {
  /** Names of what it exports, which are instances in all that WASI 0.2 knows. */
  exports: string[]
  /** In the order of the file. */
  modules: ComponentModule[]
}

export interface ComponentModule extends ModuleRange {
  module: WasmModule
}

/** Pages of 64 KiB that the module's own memories have at the start; one that it imports is another module's. */
export function ownPages({ imports, memories }: WasmModule): number {
  const imported = imports.filter(({ kind }) => kind === 'memory').length
  return memories.slice(imported).reduce((sum, { min }) => sum + min, 0)
}

/** Where a command begins. */
const RUN = 'wasi:cli/run'

/** What `validateWasm` says of a component. */
export function validateComponent(bytes: Uint8Array, options: ValidationOptions): ValidationReport {
  const problems: WasmProblem[] = []
  const refused = { valid: false, problems, importGroups: [], entryPoints: [], asksForHttp: false }
  const read = complaining(problems, '', () => readWasmComponent(bytes))
  if (read === undefined) return refused
  const modules: ComponentReport['modules'] = []
  const budget = moduleBudget()
  for (const [index, { start, end }] of read.modules.entries()) {
    const what = `the core module ${index} of the component`
    const module = complaining(problems, `; it is ${what}`, () =>
      readWasmModule(bytes.subarray(start, end), budget),
    )
    if (budget.left < 0) break
    if (module === undefined) continue
    modules.push({ start, end, module })
    problems.push(...checkMemories(module, what))
  }
  const exports = read.component.definitions.flatMap((one) => (one.kind === 'export' ? [one.name] : []))
  const entryPoints = exports.filter((name) => wasi2Interface(name) === RUN)
  problems.push(...checkStart(options.entryPoint ?? '_start', exports, entryPoints))
  const given = [...(options.imports ?? []).map(({ name }) => name), ...(options.unknownImports ?? [])]
  if (given.length > 0) {
    problems.push({
      code: 'wasm.imports',
      message: `A component takes no import modules, and there is ${listSome(given.map(quote))}`,
      hint: 'Compose components before: wasm-tools compose, wac plug',
    })
  }
  const importGroups = complaining(problems, '', () => groupsOf(read.component)) ?? []
  problems.push(...importGroups.flatMap(missingFrom))
  if (options.compile === true && problems.length === 0)
    problems.push(...modules.flatMap(({ start, end }) => compileProblems(bytes.subarray(start, end))))
  return {
    valid: problems.length === 0,
    problems,
    component: { exports, modules },
    importGroups,
    entryPoints,
    asksForHttp: importGroups.some(({ module }) => wasi2Interface(module) === 'wasi:http/outgoing-handler'),
  }
}

function complaining<Result>(problems: WasmProblem[], where: string, read: () => Result): Result | undefined {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof WeirError)) throw error
    problems.push({ code: error.code, message: `${error.message}${where}`, hint: error.hint ?? '' })
    return undefined
  }
}

function checkStart(entryPoint: string, exports: string[], found: string[]): WasmProblem[] {
  const problem = (message: string, hint: string): WasmProblem[] => [
    { code: 'wasm.entry_point', message, hint },
  ]
  if (found.length > 0) {
    if (entryPoint === '_start' || found.includes(entryPoint) || entryPoint === RUN) return []
    return problem(`A component is started at ${RUN}, not at ${quote(entryPoint)}`, 'Leave out --entry-point')
  }
  if (exports.some((name) => name.startsWith('wasi:http/incoming-handler')))
    return problem(
      'The component is a server: it exports wasi:http/incoming-handler, and nothing that could be run to its end',
      'weir runs programs, not servers: export wasi:cli/run (a main function; Rust: not crate-type cdylib with the proxy world)',
    )
  const other = exports.find((name) => name.startsWith(`${RUN}@`))
  if (other !== undefined)
    return problem(`The component exports ${quote(other)}, and only ${RUN}@0.2 can be started`, BUILD)
  return problem(
    `The component exports no ${RUN}: it is a library`,
    exports.length === 0 ? BUILD : `It exports ${listSome(exports)}. ${BUILD}`,
  )
}

const BUILD = 'Build a command for WASI 0.2: cargo build --target wasm32-wasip2, with a main function'

/** Many imports may refer to the same long list of functions. */
const IMPORTS_MAX = 100_000

/** The imports of the component by interface. Throws `wasm.invalid` when there are too many. */
function groupsOf({ definitions }: WasmComponent): ImportGroup[] {
  const types = typesOf(definitions)
  let count = 0
  return definitions.flatMap((one): ImportGroup[] => {
    if (one.kind !== 'import') return []
    const type = one.extern.sort === 'instance' ? types[one.extern.type] : undefined
    const declarations = type?.kind === 'instance' ? type.declarations : undefined
    const imports =
      declarations === undefined ? [importOf(one.name, '')] : functionsOf(one.name, declarations)
    count += imports.length
    if (count > IMPORTS_MAX) throw invalid(`it imports more than ${IMPORTS_MAX} functions`)
    const interfaceName = declarations === undefined ? undefined : wasi2Interface(one.name)
    const isWhole =
      interfaceName !== undefined && imports.every(({ name }) => isWasi2Function(interfaceName, name))
    const providedBy = isWhole ? wasi2Provider(interfaceName) : undefined
    const belongsTo = providedBy === undefined ? recogniseHost(one.name, imports)?.host : undefined
    return [{ module: one.name, imports, providedBy, belongsTo }]
  })
}

/** The index space of types, as far as the component defines them itself. */
function typesOf(definitions: readonly Definition[]): (ComponentType | undefined)[] {
  const types: (ComponentType | undefined)[] = []
  for (const one of definitions) {
    if (one.kind === 'type') types.push(one.type)
    else if (
      (one.kind === 'import' && one.extern.sort === 'type') ||
      (one.kind === 'alias' && one.alias.sort === 'type') ||
      (one.kind === 'export' && one.what.sort === 'type')
    )
      types.push(undefined)
  }
  return types
}

function functionsOf(module: string, declarations: readonly InstanceDeclaration[]): WasmImport[] {
  return declarations.flatMap((one) =>
    one.kind === 'export' && one.extern.sort === 'func' ? [importOf(module, one.name)] : [],
  )
}

function importOf(module: string, name: string): WasmImport {
  return { module, name, kind: 'func', signature: '' }
}

function missingFrom({ module, imports, providedBy }: ImportGroup): WasmProblem[] {
  if (providedBy !== undefined) return []
  const interfaceName = wasi2Interface(module)
  if (interfaceName !== undefined && wasi2Provider(interfaceName) !== undefined) {
    const missing = imports.filter(({ name }) => !isWasi2Function(interfaceName, name))
    const message = `Nobody provides ${listSome(missing.map(({ name }) => `${module}#${name}`))}`
    return [
      {
        code: 'wasm.imports',
        message,
        hint: 'Build it without these functions, which WASI 0.2 calls unstable',
      },
    ]
  }
  const known = recogniseHost(module, imports)
  if (known !== undefined) {
    const message = `Nobody provides ${quote(module)}: this belongs to ${known.host}`
    return [{ code: 'wasm.imports', message, hint: known.advice }]
  }
  const hint = module.startsWith('wasi:')
    ? `Components find WASI 0.2 (versions 0.2.0 and later, below 0.3); ${BUILD.charAt(0).toLowerCase()}${BUILD.slice(1)}`
    : 'Compose it with the component that exports this (wasm-tools compose, wac plug), or build without this import'
  return [{ code: 'wasm.imports', message: `Nobody provides ${quote(module)}`, hint }]
}
