import type { PrimitiveType } from '../../../../model/wasm-component-types.js'
import { InvalidComponent } from './faults.js'
import type { ResourceType } from './handles.js'

/** How a type lies in memory, and as which core values it is passed. */
interface Layout {
  size: number
  align: number
  /** One letter per core value: i = i32, l = i64, f = f32, d = f64; undefined when there are too many to pass that way. */
  flat: string | undefined
}

export interface Field {
  /** Empty for the members of a tuple. */
  name: string
  type: ValueType
  offset: number
}

export interface Case {
  name: string
  type: ValueType | undefined
}

/**
 * A type of values with everything it refers to. Values are: numbers, BigInt for 64 bits, strings, also for cases of an
 * enum; lists as arrays, `Uint8Array` for bytes; records as objects, tuples as arrays, flags as sets of names; variants,
 * options and results as `{ tag, value }`; resources as their representations.
 */
export type ValueType = Layout &
  (
    | { kind: PrimitiveType }
    | { kind: 'list'; element: ValueType }
    | { kind: 'record' | 'tuple'; fields: Field[] }
    | { kind: 'variant'; cases: Case[]; payloadOffset: number }
    | { kind: 'enum' | 'flags'; names: string[] }
    | { kind: 'own' | 'borrow'; resource: ResourceType }
  )

export interface Variant {
  tag: string
  value?: unknown
}

export interface FunctionType {
  params: ValueType[]
  result: ValueType | undefined
}

export const FLAT_PARAMS_MAX = 16
const SIZE_MAX = 2 ** 31

const PRIMITIVES: Record<PrimitiveType, [size: number, align: number, flat: string]> = {
  bool: [1, 1, 'i'],
  s8: [1, 1, 'i'],
  u8: [1, 1, 'i'],
  s16: [2, 2, 'i'],
  u16: [2, 2, 'i'],
  s32: [4, 4, 'i'],
  u32: [4, 4, 'i'],
  s64: [8, 8, 'l'],
  u64: [8, 8, 'l'],
  f32: [4, 4, 'f'],
  f64: [8, 8, 'd'],
  char: [4, 4, 'i'],
  string: [8, 4, 'ii'],
}

export function primitive(kind: PrimitiveType): ValueType {
  const [size, align, flat] = PRIMITIVES[kind]
  return { kind, size, align, flat }
}

export function listOf(element: ValueType): ValueType {
  return { kind: 'list', element, size: 8, align: 4, flat: 'ii' }
}

export function handleOf(kind: 'own' | 'borrow', resource: ResourceType): ValueType {
  return { kind, resource, size: 4, align: 4, flat: 'i' }
}

export function record(
  kind: 'record' | 'tuple',
  members: readonly { name: string; type: ValueType }[],
): ValueType {
  let [end, align] = [0, 1]
  const fields = members.map(({ name, type }) => {
    const offset = aligned(end, type.align)
    end = offset + type.size
    align = Math.max(align, type.align)
    return { name, type, offset }
  })
  return {
    kind,
    fields,
    size: checked(aligned(end, align)),
    align,
    flat: flatOf(members.map(({ type }) => type)),
  }
}

export function variant(cases: Case[]): ValueType {
  const discriminant = discriminantSize(cases.length)
  let [size, align, flat] = [0, 1, '' as string | undefined]
  for (const { type } of cases) {
    if (type === undefined) continue
    size = Math.max(size, type.size)
    align = Math.max(align, type.align)
    flat = flat === undefined || type.flat === undefined ? undefined : joined(flat, type.flat)
  }
  const payloadOffset = aligned(discriminant, align)
  align = Math.max(align, discriminant)
  return {
    kind: 'variant',
    cases,
    payloadOffset,
    size: checked(aligned(payloadOffset + size, align)),
    align,
    flat: flat === undefined || flat.length >= FLAT_PARAMS_MAX ? undefined : `i${flat}`,
  }
}

export function named(kind: 'enum' | 'flags', names: string[]): ValueType {
  const size =
    kind === 'enum' ? discriminantSize(names.length) : names.length <= 8 ? 1 : names.length <= 16 ? 2 : 4
  return { kind, names, size, align: size, flat: 'i' }
}

/** The core values of several types one after the other; undefined when there are too many. */
export function flatOf(types: readonly ValueType[]): string | undefined {
  let flat = ''
  for (const type of types) {
    if (type.flat === undefined) return undefined
    flat += type.flat
    if (flat.length > FLAT_PARAMS_MAX) return undefined
  }
  return flat
}

/** Bytes of the number that tells the case. */
export function discriminantSize(cases: number): number {
  if (cases <= 0x100) return 1
  return cases <= 0x1_0000 ? 2 : 4
}

export function aligned(offset: number, align: number): number {
  return Math.ceil(offset / align) * align
}

/** The core types that can hold either of two lists of values. */
function joined(one: string, other: string): string {
  let flat = ''
  for (let at = 0; at < Math.max(one.length, other.length); at++) {
    const [a, b] = [one[at] ?? other[at] ?? '', other[at] ?? one[at] ?? '']
    if (a === b) flat += a
    else flat += 'if'.includes(a) && 'if'.includes(b) ? 'i' : 'l'
  }
  return flat
}

function checked(size: number): number {
  if (size > SIZE_MAX) throw new InvalidComponent('a type has values of more than 2 GiB')
  return size
}
