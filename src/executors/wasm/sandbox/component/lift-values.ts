import type { CallMemory } from './call-memory.js'
import { CanonicalTrap } from './faults.js'
import type { CallScope, ComponentInstance } from './handles.js'
import { type Case, type ValueType, type Variant, discriminantSize } from './value-types.js'

/** Whose values, out of which memory, for the time of which call. */
export interface ValueContext {
  memory: CallMemory
  instance: ComponentInstance
  scope: CallScope
}

export type CoreValue = number | bigint

/** Reads a value of the type that lies in memory. */
export function load(type: ValueType, at: number, context: ValueContext): unknown {
  const { memory } = context
  const view = memory.at(at, type.size, type.align)
  switch (type.kind) {
    case 'bool':
    case 'u8':
      return number(type, view.getUint8(at))
    case 's8':
      return view.getInt8(at)
    case 'u16':
      return view.getUint16(at, true)
    case 's16':
      return view.getInt16(at, true)
    case 'u32':
    case 'char':
      return number(type, view.getUint32(at, true))
    case 's32':
      return view.getInt32(at, true)
    case 'u64':
      return view.getBigUint64(at, true)
    case 's64':
      return view.getBigInt64(at, true)
    case 'f32':
      return view.getFloat32(at, true)
    case 'f64':
      return view.getFloat64(at, true)
    case 'string':
      return memory.string(view.getUint32(at, true), view.getUint32(at + 4, true))
    case 'list':
      return loadList(type.element, view.getUint32(at, true), view.getUint32(at + 4, true), context)
    case 'tuple':
      return type.fields.map((one) => load(one.type, at + one.offset, context))
    case 'record':
      return recordOf(
        type.fields,
        type.fields.map((one) => load(one.type, at + one.offset, context)),
      )
    case 'variant': {
      const chosen = caseAt(type.cases, loadSmall(view, at, discriminantSize(type.cases.length)))
      if (chosen.type === undefined) return { tag: chosen.name }
      return { tag: chosen.name, value: load(chosen.type, at + type.payloadOffset, context) }
    }
    case 'enum':
      return caseAt(type.names, loadSmall(view, at, type.size))
    case 'flags':
      return flagsOf(type.names, loadSmall(view, at, type.size))
    case 'own':
    case 'borrow':
      return handle(type, view.getUint32(at, true), context)
  }
}

/** Core values in their order; what a variant holds may be of another core type than it is passed as. */
export class FlatValues {
  readonly #next: (passedAs: string) => CoreValue
  readonly #types: string
  #at = 0

  constructor(types: string, next: (passedAs: string) => CoreValue) {
    this.#types = types
    this.#next = next
  }

  static of(types: string, values: readonly CoreValue[]): FlatValues {
    let at = 0
    return new FlatValues(types, () => values[at++] ?? 0)
  }

  next(wanted: string): CoreValue {
    const passedAs = this.#types[this.#at++] ?? wanted
    return unpacked(this.#next(passedAs), passedAs, wanted)
  }

  i32(): number {
    return Number(this.next('i')) | 0
  }

  skipRest(): void {
    while (this.#at < this.#types.length) this.#next(this.#types[this.#at++] ?? 'i')
  }
}

/** Reads a value of the type from core values. */
export function liftFlat(type: ValueType, values: FlatValues, context: ValueContext): unknown {
  switch (type.kind) {
    case 's8':
      return (values.i32() << 24) >> 24
    case 's16':
      return (values.i32() << 16) >> 16
    case 's32':
      return values.i32()
    case 'bool':
    case 'char':
    case 'u32':
      return number(type, values.i32() >>> 0)
    case 'u8':
      return values.i32() & 0xff
    case 'u16':
      return values.i32() & 0xffff
    case 'u64':
      return BigInt.asUintN(64, BigInt(values.next('l')))
    case 's64':
      return BigInt.asIntN(64, BigInt(values.next('l')))
    case 'f32':
      return values.next('f')
    case 'f64':
      return values.next('d')
    case 'string': {
      const pointer = values.i32() >>> 0
      return context.memory.string(pointer, values.i32() >>> 0)
    }
    case 'list': {
      const pointer = values.i32() >>> 0
      return loadList(type.element, pointer, values.i32() >>> 0, context)
    }
    case 'tuple':
      return type.fields.map((one) => liftFlat(one.type, values, context))
    case 'record':
      return recordOf(
        type.fields,
        type.fields.map((one) => liftFlat(one.type, values, context)),
      )
    case 'variant':
      return liftVariant(type.cases, (type.flat ?? '').slice(1), values, context)
    case 'enum':
      return caseAt(type.names, values.i32() >>> 0)
    case 'flags':
      return flagsOf(type.names, values.i32() >>> 0)
    case 'own':
    case 'borrow':
      return handle(type, values.i32() >>> 0, context)
  }
}

function liftVariant(cases: Case[], types: string, values: FlatValues, context: ValueContext): Variant {
  const chosen = caseAt(cases, values.i32() >>> 0)
  const inner = new FlatValues(types, (passedAs) => values.next(passedAs))
  const value = chosen.type === undefined ? undefined : liftFlat(chosen.type, inner, context)
  inner.skipRest()
  return chosen.type === undefined ? { tag: chosen.name } : { tag: chosen.name, value }
}

function loadList(element: ValueType, pointer: number, length: number, context: ValueContext): unknown {
  if (element.kind === 'u8') return context.memory.bytes(pointer, length)
  context.memory.at(pointer, length * element.size, element.align)
  const items: unknown[] = []
  for (let index = 0; index < length; index++)
    items.push(load(element, pointer + index * element.size, context))
  return items
}

function loadSmall(view: DataView, at: number, size: number): number {
  if (size === 1) return view.getUint8(at)
  return size === 2 ? view.getUint16(at, true) : view.getUint32(at, true)
}

function number(type: ValueType, value: number): unknown {
  if (type.kind === 'bool') return value !== 0
  if (type.kind !== 'char') return value
  if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
    throw new CanonicalTrap(`${value} is no character of Unicode`)
  return String.fromCodePoint(value)
}

function caseAt<Item>(cases: readonly Item[], index: number): Item {
  const chosen = cases[index]
  if (chosen === undefined) throw new CanonicalTrap(`a type has no case ${index}`)
  return chosen
}

function flagsOf(names: readonly string[], bits: number): Set<string> {
  return new Set(names.filter((_, index) => ((bits >>> index) & 1) === 1))
}

function recordOf(fields: readonly { name: string }[], values: readonly unknown[]): Record<string, unknown> {
  const made = Object.create(null) as Record<string, unknown>
  fields.forEach(({ name }, index) => {
    made[name] = values[index]
  })
  return made
}

function handle(
  type: ValueType & { kind: 'own' | 'borrow' },
  index: number,
  { instance, scope }: ValueContext,
): unknown {
  if (type.kind === 'own') return instance.take(index, type.resource)
  return instance.lend(index, type.resource, scope)
}

const bits = new DataView(new ArrayBuffer(8))

/** A value out of the core type that several cases share. */
function unpacked(value: CoreValue, passedAs: string, wanted: string): CoreValue {
  if (passedAs === wanted) return value
  if (passedAs === 'l' && wanted === 'd') {
    bits.setBigInt64(0, BigInt.asIntN(64, BigInt(value)))
    return bits.getFloat64(0)
  }
  const low = passedAs === 'l' ? Number(BigInt.asIntN(32, BigInt(value))) : Number(value)
  if (wanted !== 'f') return low
  bits.setInt32(0, low)
  return bits.getFloat32(0)
}
