import type { Complaint } from './labels.js'

/**
 * The shape of a JSON value, as data: reading (`shape-reader.ts`) and the JSON Schema (`shape-json-schema.ts`) both
 * follow from it. Absent and null always mean the same: the shape's empty value.
 */
export type Shape =
  | TextShape
  | IntegerShape
  | FlagShape
  | ListShape
  | MapShape
  | ObjectShape
  | VariantShape
  | AlternativeShape

/** Empty value: `''`. */
export interface TextShape {
  kind: 'text'
  description: string
  /** In UTF-16 units. */
  lengthMax: number
  /** Applied before everything else. */
  normalise?: (text: string) => string
  /** Judges text that is not empty. */
  check?: (text: string) => Complaint | undefined
  /** Matched without regard to case; stored as spelt here. */
  choices?: readonly string[]
  /** Words of other clients (lower case) that stand for a choice when unknown fields are tolerated as well. */
  otherWords?: Readonly<Record<string, string>>
  /** The message when the text is none of the choices. */
  wrongChoice?: (text: string) => string
  /** True: numbers are read as their decimal text (`CPU: 2`). */
  numbers?: boolean
  /** What stands for the empty value. */
  fallback?: string
}

/** Empty value: 0. */
export interface IntegerShape {
  kind: 'integer'
  description: string
  min: number
  max: number
  /** The message when the number is below `min`. */
  belowMin?: (value: number) => string
}

/** `true`, `false`, `"true"` or `"false"`. Empty value: false. */
export interface FlagShape {
  kind: 'flag'
  description: string
}

/** Empty value: `[]`. */
export interface ListShape {
  kind: 'list'
  description: string
  of: Shape
  lengthMax: number
}

/** Keys chosen by the user. Empty value: `{}`. */
export interface MapShape {
  kind: 'map'
  description: string
  values: TextShape
  lengthMax: number
  checkKey: (key: string) => Complaint | undefined
}

/** Known keys, matched without regard to case. Empty value: the object of its fields' empty values. */
export interface ObjectShape {
  kind: 'object'
  description: string
  fields: Readonly<Record<string, Field>>
  /** True: fields with empty values are left out of the result (the `Params` of engines, sources, publishers). */
  sparse?: boolean
  /** True: unknown keys are mistakes whatever the reading's options say. */
  closed?: boolean
}

export interface Field {
  shape: Shape
  /** The message when the field is absent or empty. */
  required?: string
  /** True: left out of the result when it is empty, although the object is not sparse. */
  optional?: true
}

/** `{ Type, Params }`: the type chooses the shape of the parameters. Empty value: `{ Type: '' }`. */
export interface VariantShape {
  kind: 'variant'
  description: string
  /** By canonical spelling. Other types are accepted with any parameters: placement refuses them with a reason. */
  types: Readonly<Record<string, ObjectShape>>
  /** The message when the type is missing; absent = an empty type is fine. */
  missingType?: string
  /** The message when the whole value is missing; absent = as `missingType`. */
  missing?: string
}

/** Text or an object; the reader tells them apart. Empty value: `''`. */
export interface AlternativeShape {
  kind: 'alternative'
  description: string
  text: TextShape
  object: ObjectShape
}

type Described<T extends { kind: string; description: string }> = Omit<T, 'kind' | 'description'>

export function text(description: string, rest: Partial<Described<TextShape>> = {}): TextShape {
  return { kind: 'text', description, lengthMax: 1024, ...rest }
}

export function integer(description: string, rest: Described<IntegerShape>): IntegerShape {
  return { kind: 'integer', description, ...rest }
}

export function flag(description: string): FlagShape {
  return { kind: 'flag', description }
}

export function list(description: string, of: Shape, lengthMax: number): ListShape {
  return { kind: 'list', description, of, lengthMax }
}

export function map(description: string, rest: Described<MapShape>): MapShape {
  return { kind: 'map', description, ...rest }
}

export function object(
  description: string,
  fields: Record<string, Field | Shape>,
  rest: Omit<Described<ObjectShape>, 'fields'> = {},
): ObjectShape {
  const entries = Object.entries(fields).map(([key, field]) => [
    key,
    'shape' in field ? field : { shape: field },
  ])
  return {
    kind: 'object',
    description,
    fields: Object.fromEntries(entries) as Record<string, Field>,
    ...rest,
  }
}

/** Parameters of one type of engine, source or publisher: closed and sparse. */
export function params(description: string, fields: Record<string, Field | Shape>): ObjectShape {
  return object(description, fields, { sparse: true, closed: true })
}

export function variant(description: string, rest: Described<VariantShape>): VariantShape {
  return { kind: 'variant', description, ...rest }
}
