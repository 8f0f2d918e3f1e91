import { CanonicalTrap } from './faults.js'
import type { CoreValue, ValueContext } from './lift-values.js'
import { type Case, type ValueType, type Variant, discriminantSize } from './value-types.js'

/** Places a value of the type into memory. */
export function store(type: ValueType, value: unknown, at: number, context: ValueContext): void {
  const { memory } = context
  // Taken anew each time: placing a part may have made the memory grow.
  const view = (): DataView => memory.at(at, type.size, type.align)
  switch (type.kind) {
    case 'bool':
      return view().setUint8(at, value === true ? 1 : 0)
    case 's8':
    case 'u8':
      return view().setUint8(at, Number(value))
    case 's16':
    case 'u16':
      return view().setUint16(at, Number(value), true)
    case 's32':
    case 'u32':
      return view().setUint32(at, Number(value), true)
    case 'char':
      return view().setUint32(at, codePoint(value), true)
    case 's64':
    case 'u64':
      return view().setBigUint64(at, BigInt.asUintN(64, integer(value)), true)
    case 'f32':
      return view().setFloat32(at, Number(value), true)
    case 'f64':
      return view().setFloat64(at, Number(value), true)
    case 'string':
      return storePair(memory.placeString(text(value)), at, view)
    case 'list':
      return storePair(placeList(type.element, value, context), at, view)
    case 'tuple':
    case 'record':
      return type.fields.forEach((one, index) =>
        store(one.type, member(value, one.name, index), at + one.offset, context),
      )
    case 'variant': {
      const [index, chosen] = caseOf(type.cases, value)
      storeSmall(view(), at, discriminantSize(type.cases.length), index)
      if (chosen.type !== undefined)
        store(chosen.type, (value as Variant).value, at + type.payloadOffset, context)
      return
    }
    case 'enum':
    case 'flags':
      return storeSmall(view(), at, type.size, numberOf(type, value))
    case 'own':
    case 'borrow':
      return view().setUint32(at, handle(type, value, context), true)
  }
}

/** The core values for a value of the type. */
export function lowerFlat(type: ValueType, value: unknown, context: ValueContext): CoreValue[] {
  switch (type.kind) {
    case 'bool':
      return [value === true ? 1 : 0]
    case 'char':
      return [codePoint(value)]
    case 's8':
    case 'u8':
    case 's16':
    case 'u16':
    case 's32':
    case 'u32':
    case 'f32':
    case 'f64':
      return [Number(value)]
    case 's64':
    case 'u64':
      return [integer(value)]
    case 'string':
      return context.memory.placeString(text(value))
    case 'list':
      return placeList(type.element, value, context)
    case 'tuple':
    case 'record':
      return type.fields.flatMap((one, index) => lowerFlat(one.type, member(value, one.name, index), context))
    case 'variant':
      return lowerVariant(type.cases, type.flat ?? 'i', value, context)
    case 'enum':
    case 'flags':
      return [numberOf(type, value)]
    case 'own':
    case 'borrow':
      return [handle(type, value, context)]
  }
}

function lowerVariant(cases: Case[], flat: string, value: unknown, context: ValueContext): CoreValue[] {
  const [index, { type }] = caseOf(cases, value)
  const inner = type === undefined ? [] : lowerFlat(type, (value as Variant).value, context)
  const lowered: CoreValue[] = [index]
  for (let at = 1; at < flat.length; at++) {
    const passedAs = flat[at] ?? 'i'
    const one = inner[at - 1]
    lowered.push(
      one === undefined ? (passedAs === 'l' ? 0n : 0) : packed(one, type?.flat?.[at - 1] ?? 'i', passedAs),
    )
  }
  return lowered
}

function placeList(
  element: ValueType,
  value: unknown,
  context: ValueContext,
): [pointer: number, length: number] {
  const { memory } = context
  if (element.kind === 'u8' && value instanceof Uint8Array) return [memory.place(value, 1), value.length]
  if (!Array.isArray(value)) throw unfitting('list')
  const pointer = memory.allocate(value.length * element.size, element.align)
  value.forEach((one, index) => store(element, one, pointer + index * element.size, context))
  return [pointer, value.length]
}

/** Where something lies and how long it is. */
function storePair(
  [pointer, length]: [pointer: number, length: number],
  at: number,
  view: () => DataView,
): void {
  view().setUint32(at, pointer, true)
  view().setUint32(at + 4, length, true)
}

function storeSmall(view: DataView, at: number, size: number, value: number): void {
  if (size === 1) view.setUint8(at, value)
  else if (size === 2) view.setUint16(at, value, true)
  else view.setUint32(at, value, true)
}

function caseOf(cases: Case[], value: unknown): [index: number, chosen: Case] {
  const tag = (value as Variant | undefined)?.tag
  const index = cases.findIndex(({ name }) => name === tag)
  const chosen = cases[index]
  if (chosen === undefined) throw unfitting('variant')
  return [index, chosen]
}

function numberOf(type: ValueType & { kind: 'enum' | 'flags' }, value: unknown): number {
  if (type.kind === 'enum') {
    const index = type.names.indexOf(value as string)
    if (index < 0) throw unfitting('enum')
    return index
  }
  if (!(value instanceof Set)) throw unfitting('flags')
  return type.names.reduce((bits, name, index) => (value.has(name) ? bits | (1 << index) : bits), 0)
}

function member(value: unknown, name: string, index: number): unknown {
  if (typeof value !== 'object' || value === null) throw unfitting('record')
  return name === '' ? (value as unknown[])[index] : (value as Record<string, unknown>)[name]
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw unfitting('string')
  return value
}

function codePoint(value: unknown): number {
  return text(value).codePointAt(0) ?? 0
}

function integer(value: unknown): bigint {
  if (typeof value !== 'bigint') throw unfitting('64-bit number')
  return value
}

function handle(
  type: ValueType & { kind: 'own' | 'borrow' },
  value: unknown,
  { instance, scope }: ValueContext,
): number {
  const { resource } = type
  if (resource.owner === undefined ? typeof value !== 'object' || value === null : typeof value !== 'number')
    throw unfitting('resource')
  if (type.kind === 'own') return instance.add(resource, value)
  // Whoever defines the resource is given what it knows it by.
  return resource.owner === instance ? Number(value) : instance.add(resource, value, scope)
}

/** The component declares a function of the host with another type than it has. */
function unfitting(what: string): CanonicalTrap {
  return new CanonicalTrap(`a function is declared with a ${what} that it does not have`)
}

const bits = new DataView(new ArrayBuffer(8))

/** A value in the core type that several cases share. */
function packed(value: CoreValue, type: string, passedAs: string): CoreValue {
  if (type === passedAs) return value
  if (type === 'd') {
    bits.setFloat64(0, Number(value))
    return bits.getBigInt64(0)
  }
  let low = Number(value)
  if (type === 'f') {
    bits.setFloat32(0, low)
    low = bits.getInt32(0)
  }
  return passedAs === 'l' ? BigInt(low >>> 0) : low
}
