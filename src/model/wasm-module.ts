import { recogniseForeignFile } from './foreign-file.js'
import { type ReadBudget, WasmReader, invalid, malformed, unsupported } from './wasm-reader.js'

export type WasmExternKind = 'func' | 'table' | 'memory' | 'global' | 'tag'

export interface WasmImport {
  module: string
  name: string
  kind: WasmExternKind
  /** Of a function: `i32,i32->i32`; empty for other kinds. */
  signature: string
}

export interface WasmExport {
  name: string
  kind: WasmExternKind
  /** Of a function: `i32,i32->i32`; empty for other kinds. */
  signature: string
}

/** Sizes in pages of 64 KiB for memories, in elements for tables. */
export interface WasmLimits {
  min: number
  /** Absent when the module states none. */
  max?: number
  shared: boolean
  is64: boolean
}

/** What a module says about itself, without its code. */
export interface WasmModule {
  imports: WasmImport[]
  exports: WasmExport[]
  /** Defined and imported ones. */
  memories: WasmLimits[]
  tables: WasmLimits[]
  functionCount: number
  hasStart: boolean
}

const IMPORTS_MAX = 100_000
const EXPORTS_MAX = 100_000
const TYPES_MAX = 1_000_000
const FUNCTIONS_MAX = 1_000_000
const TABLES_MAX = 100_000
const PARAMS_MAX = 1_000
/** All of these together, and the sections. */
const PARTS_MAX = 4_000_000
/** As how many a section counts, which may be empty. */
export const SECTION_PARTS = 10
/** As how many an import or export counts. */
const NAMED_PARTS = 10

/** For one module, or for several that belong together. */
export function moduleBudget(): ReadBudget {
  return { left: PARTS_MAX, max: PARTS_MAX }
}

/**
 * Reads the imports, exports and limits of a WebAssembly module, without compiling it.
 *
 * Reads the binary format of the WebAssembly core specification 2.0, section 5. Function bodies are not looked at, so
 * a module that passes may still be refused by the compiler. Every count and length is checked against the bytes that
 * are there before anything is stored.
 *
 * @throws WeirError `wasm.invalid` for text, components, truncated or malformed modules, and unsupported proposals.
 */
export function readWasmModule(bytes: Uint8Array, budget = moduleBudget()): WasmModule {
  checkHeader(bytes)
  const reader = new WasmReader(bytes, 8, bytes.length, 'module', budget)
  const found: Sections = {
    types: [],
    functionTypes: [],
    importedFunctions: 0,
    imports: [],
    exports: [],
    memories: [],
    tables: [],
    hasStart: false,
  }
  let last = 0
  while (!reader.atEnd()) {
    const at = reader.offset
    const id = reader.byte()
    const size = reader.u32()
    reader.spend(SECTION_PARTS)
    const section = reader.slice(size, SECTION_NAMES[id] ?? `section ${id}`)
    if (id === 0) {
      section.name()
      continue
    }
    const rank = SECTION_ORDER.indexOf(id)
    if (rank < 0) throw malformed(`section id ${id} is not defined`, at)
    if (rank < last) throw malformed(`the ${SECTION_NAMES[id]} section is out of order or twice`, at)
    last = rank + 1
    readSection(id, section, found)
  }
  const functions = found.functionTypes
  return {
    imports: found.imports,
    exports: found.exports.map((one) => ({
      name: one.name,
      kind: one.kind,
      signature: one.kind === 'func' ? signatureOf(found, functions[one.index]) : '',
    })),
    memories: found.memories,
    tables: found.tables,
    functionCount: functions.length,
    hasStart: found.hasStart,
  }
}

const SECTION_NAMES: Record<number, string> = {
  0: 'custom',
  1: 'type',
  2: 'import',
  3: 'function',
  4: 'table',
  5: 'memory',
  6: 'global',
  7: 'export',
  8: 'start',
  9: 'element',
  10: 'code',
  11: 'data',
  12: 'data count',
  13: 'tag',
}
/** Order of the sections in a module: tags stand before globals, the data count before the code. */
const SECTION_ORDER = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11]
const KINDS: WasmExternKind[] = ['func', 'table', 'memory', 'global', 'tag']
const VALUE_TYPES: Record<number, string> = {
  0x7f: 'i32',
  0x7e: 'i64',
  0x7d: 'f32',
  0x7c: 'f64',
  0x7b: 'v128',
  0x70: 'funcref',
  0x6f: 'externref',
  0x69: 'exnref',
}

interface Sections {
  /** Signatures by type index. */
  types: string[]
  /** Type index by function index, imported functions first. */
  functionTypes: number[]
  importedFunctions: number
  imports: WasmImport[]
  exports: { name: string; kind: WasmExternKind; index: number }[]
  memories: WasmLimits[]
  tables: WasmLimits[]
  hasStart: boolean
}

/** Whether the bytes begin as those of a component do; whether it can be used is not looked at. */
export function isWasmComponent(bytes: Uint8Array): boolean {
  return bytes.length >= 8 && COMPONENT_START.every((byte, at) => at === 4 || bytes[at] === byte)
}

/** `\0asm`, a version of its own, and layer 1. */
const COMPONENT_START = [0, 0x61, 0x73, 0x6d, 0, 0, 1, 0]

function checkHeader(bytes: Uint8Array): void {
  if (bytes.length === 0) throw invalid('the file is empty')
  const magic = bytes[0] === 0 && bytes[1] === 0x61 && bytes[2] === 0x73 && bytes[3] === 0x6d
  if (!magic) {
    const foreign = recogniseForeignFile(bytes)
    if (foreign !== undefined) throw invalid(foreign.problem, foreign.hint)
    throw invalid('the file does not start with the bytes 00 61 73 6d ("\\0asm")')
  }
  if (bytes.length < 8) throw invalid('the module is truncated after its first bytes')
  const version = bytes.subarray(4, 8)
  if (isWasmComponent(bytes)) {
    throw invalid(
      'this is a component (WASI 0.2), where a core module is needed',
      'Components are programs of their own: `weir wasm run` starts them. Import modules must be core modules',
    )
  }
  if (version[0] !== 1 || version[1] !== 0 || version[2] !== 0 || version[3] !== 0) {
    throw invalid(`version ${[...version].join('.')} of the binary format is not supported`)
  }
}

function readSection(id: number, section: WasmReader, found: Sections): void {
  if (id === 1) readTypes(section, found)
  else if (id === 2) readImports(section, found)
  else if (id === 3) readFunctions(section, found)
  else if (id === 4) readTables(section, found)
  else if (id === 5) readMemories(section, found)
  else if (id === 7) readExports(section, found)
  else if (id === 8) {
    section.u32()
    found.hasStart = true
    section.end()
  }
}

function readTypes(section: WasmReader, found: Sections): void {
  for (let left = section.count(TYPES_MAX, 'types'); left > 0; left--) {
    const form = section.byte()
    if (form !== 0x60)
      throw unsupported(
        'garbage collected types',
        'Kotlin, Dart, Java (TeaVM) and OCaml (wasm_of_ocaml) need them; build with a language that manages its own memory, or run the program in a container with `weir docker run`',
      )
    const params = readValueTypes(section)
    found.types.push(`${params}->${readValueTypes(section)}`)
  }
  section.end()
}

function readValueTypes(section: WasmReader): string {
  const types: string[] = []
  for (let left = section.count(PARAMS_MAX, 'parameters'); left > 0; left--)
    types.push(readValueType(section))
  return types.join(',')
}

function readValueType(section: WasmReader): string {
  const code = section.byte()
  const name = VALUE_TYPES[code]
  if (name !== undefined) return name
  throw unsupported(`the value type 0x${code.toString(16)}`)
}

function readImports(section: WasmReader, found: Sections): void {
  const count = section.count(IMPORTS_MAX, 'imports')
  section.spend(count * (NAMED_PARTS - 1))
  for (let left = count; left > 0; left--) {
    const module = section.name()
    const name = section.name()
    const at = section.offset
    const kind = KINDS[section.byte()]
    if (kind === undefined) throw malformed('an import is of no known kind', at)
    let signature = ''
    if (kind === 'func') {
      const type = section.u32()
      signature = signatureOf(found, type)
      found.functionTypes.push(type)
      found.importedFunctions++
    } else if (kind === 'table') {
      readValueType(section)
      found.tables.push(readLimits(section))
    } else if (kind === 'memory') {
      found.memories.push(readLimits(section))
    } else if (kind === 'global') {
      readValueType(section)
      section.byte()
    } else {
      section.byte()
      section.u32()
    }
    found.imports.push({ module, name, kind, signature })
  }
  section.end()
}

function readFunctions(section: WasmReader, found: Sections): void {
  for (let left = section.count(FUNCTIONS_MAX, 'functions'); left > 0; left--) {
    found.functionTypes.push(section.u32())
  }
  section.end()
}

function readTables(section: WasmReader, found: Sections): void {
  // A table with an initialiser carries an expression; only its start is read, the rest is left to the compiler.
  for (let left = section.count(TABLES_MAX, 'tables'); left > 0; left--) {
    if (section.peek() === 0x40) throw unsupported('tables with initialisers')
    readValueType(section)
    found.tables.push(readLimits(section))
  }
  section.end()
}

function readMemories(section: WasmReader, found: Sections): void {
  for (let left = section.count(100, 'memories'); left > 0; left--) found.memories.push(readLimits(section))
  section.end()
}

function readExports(section: WasmReader, found: Sections): void {
  const seen = new Set<string>()
  const count = section.count(EXPORTS_MAX, 'exports')
  section.spend(count * (NAMED_PARTS - 1))
  for (let left = count; left > 0; left--) {
    const at = section.offset
    const name = section.name()
    if (seen.has(name)) throw malformed(`the export ${JSON.stringify(name.slice(0, 80))} is there twice`, at)
    seen.add(name)
    const kind = KINDS[section.byte()]
    if (kind === undefined) throw malformed('an export is of no known kind', at)
    found.exports.push({ name, kind, index: section.u32() })
  }
  section.end()
}

function readLimits(section: WasmReader): WasmLimits {
  const at = section.offset
  const flags = section.byte()
  if (flags > 7) throw malformed(`limits have the flags ${flags}`, at)
  const is64 = (flags & 4) !== 0
  const min = is64 ? section.u64() : section.u32()
  const limits: WasmLimits = { min, shared: (flags & 2) !== 0, is64 }
  if ((flags & 1) !== 0) limits.max = is64 ? section.u64() : section.u32()
  return limits
}

function signatureOf(found: Sections, type: number | undefined): string {
  const signature = type === undefined ? undefined : found.types[type]
  if (signature === undefined)
    throw invalid(`it refers to the type or function ${String(type)}, which it does not define`)
  return signature
}
