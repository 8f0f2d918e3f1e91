import { malformed, unsupported, type WasmReader } from './wasm-reader.js'

/** The index spaces of a component. */
export type ComponentSort =
  | 'core func'
  | 'core table'
  | 'core memory'
  | 'core global'
  | 'core module'
  | 'core instance'
  | 'func'
  | 'type'
  | 'component'
  | 'instance'

export type PrimitiveType =
  | 'bool'
  | 's8'
  | 'u8'
  | 's16'
  | 'u16'
  | 's32'
  | 'u32'
  | 's64'
  | 'u64'
  | 'f32'
  | 'f64'
  | 'char'
  | 'string'

/** A type of values: a primitive one, or the index of another. */
export type TypeRef = PrimitiveType | number

export interface Labelled {
  name: string
  type: TypeRef
}

/** A type as it is written in a component, with the indices of others. */
export type ComponentType =
  | { kind: 'primitive'; type: PrimitiveType }
  | { kind: 'record'; members: Labelled[] }
  /** A case may have no value. */
  | { kind: 'variant'; members: (Omit<Labelled, 'type'> & { type?: TypeRef })[] }
  | { kind: 'tuple'; members: TypeRef[] }
  | { kind: 'flags' | 'enum'; names: string[] }
  | { kind: 'list' | 'option'; type: TypeRef }
  | { kind: 'result'; ok?: TypeRef; err?: TypeRef }
  | { kind: 'own' | 'borrow'; type: number }
  | { kind: 'func'; params: Labelled[]; result?: TypeRef }
  | { kind: 'resource'; destructor?: number }
  | { kind: 'instance'; declarations: InstanceDeclaration[] }
  /** Its inside is of no use here: what is instantiated is the component itself. */
  | { kind: 'component' }

export type InstanceDeclaration =
  | { kind: 'type'; type: ComponentType }
  | { kind: 'alias'; alias: Alias }
  | { kind: 'export'; name: string; extern: ExternType }

/** What an import or export is. */
export type ExternType =
  | { sort: 'func' | 'component' | 'instance'; type: number }
  | { sort: 'type'; equals?: number }
  | { sort: 'core module' }

export type Alias =
  | { from: 'export'; sort: ComponentSort; instance: number; name: string }
  | { from: 'core export'; sort: ComponentSort; instance: number; name: string }
  | { from: 'outer'; sort: ComponentSort; count: number; index: number }

/** Deeper nesting of types and components is refused. */
export const NESTING_MAX = 32
const MEMBERS_MAX = 10_000
/** The component model has no more. */
const FLAGS_MAX = 32

const PRIMITIVES: Record<number, PrimitiveType> = {
  0x7f: 'bool',
  0x7e: 's8',
  0x7d: 'u8',
  0x7c: 's16',
  0x7b: 'u16',
  0x7a: 's32',
  0x79: 'u32',
  0x78: 's64',
  0x77: 'u64',
  0x76: 'f32',
  0x75: 'f64',
  0x74: 'char',
  0x73: 'string',
}
const CORE_SORTS: Record<number, ComponentSort> = {
  0x00: 'core func',
  0x01: 'core table',
  0x02: 'core memory',
  0x03: 'core global',
  0x11: 'core module',
  0x12: 'core instance',
}
const SORTS: Record<number, ComponentSort> = {
  0x01: 'func',
  0x03: 'type',
  0x04: 'component',
  0x05: 'instance',
}
const ASYNC = 'asynchronous functions, streams or futures (WASI 0.3)'
const ASYNC_HINT = 'Build for WASI 0.2: cargo build --target wasm32-wasip2'

/** One type definition (the component model's binary format, `deftype`). */
export function readComponentType(reader: WasmReader, depth = 0): ComponentType {
  const at = reader.offset
  if (depth > NESTING_MAX) throw malformed('types are nested too deeply', at)
  const code = reader.byte()
  const primitive = PRIMITIVES[code]
  if (primitive !== undefined) return { kind: 'primitive', type: primitive }
  switch (code) {
    case 0x72:
      return { kind: 'record', members: some(labelled(reader, 'fields'), at) }
    case 0x71:
      return { kind: 'variant', members: some(list(reader, 'cases', readCase), at) }
    case 0x70:
      return { kind: 'list', type: readTypeRef(reader) }
    case 0x6f:
      return { kind: 'tuple', members: some(list(reader, 'members', readTypeRef), at) }
    case 0x6e: {
      const names = some(list(reader, 'flags', readName), at)
      if (names.length > FLAGS_MAX) throw malformed(`a type has ${names.length} flags`, at)
      return { kind: 'flags', names }
    }
    case 0x6d:
      return { kind: 'enum', names: some(list(reader, 'cases', readName), at) }
    case 0x6b:
      return { kind: 'option', type: readTypeRef(reader) }
    case 0x6a:
      return { kind: 'result', ok: optional(reader, readTypeRef), err: optional(reader, readTypeRef) }
    case 0x69:
      return { kind: 'own', type: reader.u32() }
    case 0x68:
      return { kind: 'borrow', type: reader.u32() }
    case 0x40:
      return { kind: 'func', params: labelled(reader, 'parameters'), result: readResult(reader) }
    case 0x3f:
      if (reader.byte() !== 0x7f) throw malformed('a resource is represented by no 32-bit number', at)
      return { kind: 'resource', destructor: optional(reader, (one) => one.u32()) }
    case 0x41:
      list(reader, 'declarations', (one) => readDeclaration(one, depth, true))
      return { kind: 'component' }
    case 0x42: {
      const declarations = list(reader, 'declarations', (one) => readDeclaration(one, depth, false))
      return { kind: 'instance', declarations: declarations.filter((one) => one !== undefined) }
    }
    case 0x43:
    case 0x64:
    case 0x65:
    case 0x66:
      throw unsupported(ASYNC, ASYNC_HINT)
    default:
      throw unsupported(`the component type 0x${code.toString(16)}`)
  }
}

export function readTypeRef(reader: WasmReader): TypeRef {
  const primitive = PRIMITIVES[reader.peek() ?? 0]
  if (primitive === undefined) return reader.u32()
  reader.byte()
  return primitive
}

/** Undefined for an import of a component type, which has no use here. */
function readDeclaration(
  reader: WasmReader,
  depth: number,
  isComponent: boolean,
): InstanceDeclaration | undefined {
  const at = reader.offset
  const code = reader.byte()
  if (code === 0x01) return { kind: 'type', type: readComponentType(reader, depth + 1) }
  if (code === 0x02) return { kind: 'alias', alias: readAlias(reader) }
  if (code === 0x04) return { kind: 'export', name: readExternName(reader), extern: readExternType(reader) }
  if (code === 0x03 && isComponent) {
    readExternName(reader)
    readExternType(reader)
    return undefined
  }
  if (code === 0x00) throw unsupported('types of core modules')
  throw malformed('a declaration is of no known kind', at)
}

/** The name of an import or export; newer forms carry a byte for how it is written. */
export function readExternName(reader: WasmReader): string {
  const at = reader.offset
  if (reader.byte() > 0x01) throw malformed('a name is of no known kind', at)
  return reader.name()
}

export function readExternType(reader: WasmReader): ExternType {
  const at = reader.offset
  const code = reader.byte()
  if (code === 0x00) {
    if (reader.byte() !== 0x11) throw malformed('an import is of no known kind', at)
    reader.u32()
    return { sort: 'core module' }
  }
  if (code === 0x01) return { sort: 'func', type: reader.u32() }
  if (code === 0x03) return reader.byte() === 0x00 ? { sort: 'type', equals: reader.u32() } : { sort: 'type' }
  if (code === 0x04) return { sort: 'component', type: reader.u32() }
  if (code === 0x05) return { sort: 'instance', type: reader.u32() }
  throw malformed('an import is of no known kind', at)
}

export function readAlias(reader: WasmReader): Alias {
  const sort = readSort(reader)
  const at = reader.offset
  const code = reader.byte()
  const first = code <= 0x02 ? reader.u32() : 0
  if (code === 0x00) return { from: 'export', sort, instance: first, name: reader.name() }
  if (code === 0x01) return { from: 'core export', sort, instance: first, name: reader.name() }
  if (code === 0x02) return { from: 'outer', sort, count: first, index: reader.u32() }
  throw malformed('an alias is of no known kind', at)
}

export function readSort(reader: WasmReader): ComponentSort {
  const at = reader.offset
  const code = reader.byte()
  const sort = code === 0x00 ? readCoreSort(reader) : SORTS[code]
  if (sort === undefined) throw malformed(`the sort ${code} is not known`, at)
  return sort
}

export function readCoreSort(reader: WasmReader): ComponentSort {
  const code = reader.byte()
  const sort = CORE_SORTS[code]
  if (sort === undefined) throw unsupported(`the core sort 0x${code.toString(16)}`)
  return sort
}

/** A vector; each of its items has at least one byte. */
export function list<Item>(
  reader: WasmReader,
  what: string,
  read: (reader: WasmReader) => Item,
  max = MEMBERS_MAX,
): Item[] {
  const items: Item[] = []
  for (let left = reader.count(max, what); left > 0; left--) items.push(read(reader))
  return items
}

function labelled(reader: WasmReader, what: string): Labelled[] {
  return list(reader, what, (one) => ({ name: one.name(), type: readTypeRef(one) }))
}

function readCase(reader: WasmReader): { name: string; type?: TypeRef } {
  const name = reader.name()
  const type = optional(reader, readTypeRef)
  const at = reader.offset
  if (reader.byte() !== 0x00) throw malformed('a case refines another one', at)
  return type === undefined ? { name } : { name, type }
}

/** Types without any member have no size, so that nothing would bound how many of them there are. */
function some<Item>(items: Item[], at: number): Item[] {
  if (items.length === 0) throw malformed('a type has no members', at)
  return items
}

function readResult(reader: WasmReader): TypeRef | undefined {
  const at = reader.offset
  const code = reader.byte()
  if (code === 0x00) return readTypeRef(reader)
  if (code === 0x01 && reader.byte() === 0x00) return undefined
  throw malformed('a function has named results', at)
}

export function optional<Item>(reader: WasmReader, read: (reader: WasmReader) => Item): Item | undefined {
  const at = reader.offset
  const code = reader.byte()
  if (code > 0x01) throw malformed('something optional is neither there nor absent', at)
  return code === 0x01 ? read(reader) : undefined
}

function readName(reader: WasmReader): string {
  return reader.name()
}
