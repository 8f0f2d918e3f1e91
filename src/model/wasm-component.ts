import {
  type Alias,
  type ComponentSort,
  type ComponentType,
  type ExternType,
  NESTING_MAX,
  list,
  optional,
  readAlias,
  readComponentType,
  readCoreSort,
  readExternName,
  readExternType,
  readSort,
} from './wasm-component-types.js'
import { SECTION_PARTS } from './wasm-module.js'
import { WasmReader, invalid, malformed, unsupported } from './wasm-reader.js'

/** A component, as the definitions that it is made of, in their order: each may refer to those before it. */
export interface WasmComponent {
  definitions: Definition[]
}

export interface SortIndex {
  sort: ComponentSort
  index: number
}

export type Named = SortIndex & { name: string }

export type Definition =
  /** `number` counts the core modules of the whole file. */
  | { kind: 'core module'; number: number }
  | { kind: 'core instance'; module: number; args: { name: string; instance: number }[] }
  | { kind: 'core exports'; exports: Named[] }
  | { kind: 'component'; component: WasmComponent }
  | { kind: 'instance'; component: number; args: Named[] }
  | { kind: 'exports'; exports: Named[] }
  | { kind: 'alias'; alias: Alias }
  | { kind: 'type'; type: ComponentType }
  | { kind: 'lift'; func: number; type: number; options: CanonicalOptions }
  | { kind: 'lower'; func: number; options: CanonicalOptions }
  | { kind: 'resource'; act: 'new' | 'drop' | 'rep'; type: number }
  | { kind: 'import'; name: string; extern: ExternType }
  | { kind: 'export'; name: string; what: SortIndex }

/** How values pass between a component and its core functions; numbers are indices of core memories and functions. */
export interface CanonicalOptions {
  encoding: 'utf8' | 'utf16'
  memory?: number
  realloc?: number
  postReturn?: number
}

/** Where a core module lies in the file. */
export interface ModuleRange {
  start: number
  end: number
}

const VERSION = 0x0d
const MODULES_MAX = 1_000
const DEFINITIONS_MAX = 100_000
/** Definitions, and everything that is listed in them: members of types, arguments, exports; sections as well. */
const PARTS_MAX = 500_000

/**
 * Reads a component, without its core modules: those are ranges of the file, each a module for `readWasmModule`.
 *
 * Indices are not checked against what is there; whoever follows one does that. The binary format is that of the
 * component model as WASI 0.2 uses it.
 *
 * @throws WeirError `wasm.invalid` for malformed components, and for what only later versions of WASI have.
 */
export function readWasmComponent(bytes: Uint8Array): { component: WasmComponent; modules: ModuleRange[] } {
  const modules: ModuleRange[] = []
  const file = new WasmReader(bytes, 0, bytes.length, 'component', { left: PARTS_MAX, max: PARTS_MAX })
  return { component: readFrom(file, modules, { left: DEFINITIONS_MAX }, 0), modules }
}

function readFrom(
  file: WasmReader,
  modules: ModuleRange[],
  budget: { left: number },
  depth: number,
): WasmComponent {
  const head = file.offset
  if (depth > NESTING_MAX) throw malformed('components are nested too deeply', head)
  const magic = [0, 0x61, 0x73, 0x6d].every((byte) => file.byte() === byte)
  const [version, high, layer, layerHigh] = [file.byte(), file.byte(), file.byte(), file.byte()]
  if (!magic || layer !== 1 || layerHigh !== 0) throw malformed('a component has another head', head)
  if (version !== VERSION || high !== 0)
    throw invalid(
      `version ${version} of the component format is not supported`,
      `Build it with a toolchain for WASI 0.2, whose components have version ${VERSION}`,
    )
  const definitions: Definition[] = []
  const add = (one: Definition): void => {
    if (--budget.left < 0) throw invalid(`it has more than ${DEFINITIONS_MAX} definitions`)
    definitions.push(one)
  }
  while (!file.atEnd()) {
    const at = file.offset
    const id = file.byte()
    const size = file.u32()
    file.spend(SECTION_PARTS)
    const section = file.slice(size, SECTIONS[id] ?? `section ${id}`)
    if (id === 0) section.name()
    else if (id === 1) {
      if (modules.length >= MODULES_MAX) throw invalid(`it has more than ${MODULES_MAX} core modules`)
      add({ kind: 'core module', number: modules.length })
      modules.push({ start: section.offset, end: section.offset + size })
    } else if (id === 4) {
      add({ kind: 'component', component: readFrom(section, modules, budget, depth + 1) })
    } else {
      const read = READERS[id]
      if (read === undefined) throw notSupported(id, at)
      for (const one of list(section, 'definitions', read, DEFINITIONS_MAX)) add(one)
      section.end()
    }
  }
  return { definitions }
}

const SECTIONS: Record<number, string> = {
  0: 'custom',
  1: 'core module',
  2: 'core instance',
  3: 'core type',
  4: 'component',
  5: 'instance',
  6: 'alias',
  7: 'type',
  8: 'canonical function',
  9: 'start',
  10: 'import',
  11: 'export',
  12: 'value',
}

const READERS: Record<number, (section: WasmReader) => Definition> = {
  2: readCoreInstance,
  5: readInstance,
  6: (section) => ({ kind: 'alias', alias: readAlias(section) }),
  7: (section) => ({ kind: 'type', type: readComponentType(section) }),
  8: readCanonical,
  10: (section) => ({ kind: 'import', name: readExternName(section), extern: readExternType(section) }),
  11: readExport,
}

function notSupported(id: number, at: number): Error {
  const name = SECTIONS[id]
  return name === undefined
    ? malformed(`section id ${id} is not defined`, at)
    : unsupported(`a ${name} section`)
}

function readCoreInstance(section: WasmReader): Definition {
  const at = section.offset
  const code = section.byte()
  if (code === 0x00) {
    const module = section.u32()
    const args = list(section, 'arguments', (one) => {
      const name = one.name()
      if (one.byte() !== 0x12) throw malformed('an argument of a core module is no instance', at)
      return { name, instance: one.u32() }
    })
    return { kind: 'core instance', module, args }
  }
  if (code !== 0x01) throw malformed('a core instance is of no known kind', at)
  const read = (one: WasmReader): Named => ({ name: one.name(), sort: readCoreSort(one), index: one.u32() })
  return { kind: 'core exports', exports: list(section, 'exports', read) }
}

function readInstance(section: WasmReader): Definition {
  const at = section.offset
  const code = section.byte()
  if (code === 0x00) {
    const component = section.u32()
    const read = (one: WasmReader): Named => ({ name: one.name(), sort: readSort(one), index: one.u32() })
    return { kind: 'instance', component, args: list(section, 'arguments', read) }
  }
  if (code !== 0x01) throw malformed('an instance is of no known kind', at)
  const read = (one: WasmReader): Named => ({
    name: readExternName(one),
    sort: readSort(one),
    index: one.u32(),
  })
  return { kind: 'exports', exports: list(section, 'exports', read) }
}

function readExport(section: WasmReader): Definition {
  const name = readExternName(section)
  const what = { sort: readSort(section), index: section.u32() }
  optional(section, readExternType)
  return { kind: 'export', name, what }
}

function readCanonical(section: WasmReader): Definition {
  const at = section.offset
  const code = section.byte()
  if (code === 0x00 || code === 0x01) {
    if (section.byte() !== 0x00) throw malformed('a canonical function is of no known kind', at)
    const func = section.u32()
    const options = readOptions(section)
    return code === 0x00
      ? { kind: 'lift', func, options, type: section.u32() }
      : { kind: 'lower', func, options }
  }
  if (code === 0x02) return { kind: 'resource', act: 'new', type: section.u32() }
  if (code === 0x03) return { kind: 'resource', act: 'drop', type: section.u32() }
  if (code === 0x04) return { kind: 'resource', act: 'rep', type: section.u32() }
  throw unsupported(
    `the canonical function 0x${code.toString(16)} (threads, or asynchronous functions of WASI 0.3)`,
    'Build for WASI 0.2: cargo build --target wasm32-wasip2',
  )
}

function readOptions(section: WasmReader): CanonicalOptions {
  const options: CanonicalOptions = { encoding: 'utf8' }
  list(section, 'options', (one) => {
    const code = one.byte()
    if (code === 0x00) options.encoding = 'utf8'
    else if (code === 0x01) options.encoding = 'utf16'
    else if (code === 0x03) options.memory = one.u32()
    else if (code === 0x04) options.realloc = one.u32()
    else if (code === 0x05) options.postReturn = one.u32()
    else if (code === 0x02)
      throw unsupported('strings that are sometimes Latin-1', 'Build it with UTF-8 strings')
    else throw unsupported(`the canonical option 0x${code.toString(16)}`, 'Build for WASI 0.2')
  })
  return options
}
