import { readJsonText, type JsonText } from './json-text.js'

/** A Go type as far as `encoding/json` looks at it. */
export type GoType =
  | { kind: 'string' | 'bool' | 'float' | 'time' | 'bytes' | 'any' }
  | { kind: 'int' | 'uint'; bits: 32 | 64 }
  | { kind: 'slice' | 'map' | 'pointer'; of: GoType }
  /** A type with `UnmarshalText`; `accepts` says whether it takes the text, absent = it takes every text. */
  | { kind: 'text'; name: string; accepts?: (text: string) => boolean }
  | { kind: 'struct'; name: string; fields: Record<string, GoType> }

export const STRING: GoType = { kind: 'string' }
export const BOOL: GoType = { kind: 'bool' }
export const INT: GoType = { kind: 'int', bits: 64 }
export const UINT: GoType = { kind: 'uint', bits: 64 }
export const FLOAT: GoType = { kind: 'float' }
export const TIME: GoType = { kind: 'time' }
export const BYTES: GoType = { kind: 'bytes' }
export const ANY: GoType = { kind: 'any' }

export function slice(of: GoType): GoType {
  return { kind: 'slice', of }
}

export function mapOf(of: GoType): GoType {
  return { kind: 'map', of }
}

export function pointer(to: GoType): GoType {
  return { kind: 'pointer', of: to }
}

export function struct(name: string, fields: Record<string, GoType>): GoType {
  return { kind: 'struct', name, fields }
}

/** What Go's decoder says when it gives up; a client shows it instead of the answer. */
export class GoDecodeError extends Error {}

/**
 * Decodes as Go's `encoding/json` decodes into a value of this type, and as strictly: integers without fraction and
 * exponent that fit, unsigned ones without sign, RFC 3339 times, maps with values of one type. Keys match without
 * regard to case (the exact spelling wins), keys that the struct does not have are skipped, null leaves the zero value.
 * The result has every field of every struct, under its own spelling. Throws {@link GoDecodeError}.
 */
export function goDecode(text: string, type: GoType): unknown {
  return decode(readJsonText(text), type, '', zero(type))
}

function decode(json: JsonText, type: GoType, at: string, before: unknown): unknown {
  if (json.kind === 'null') return isNilable(type) ? null : before
  switch (type.kind) {
    case 'any':
      return anyOf(json)
    case 'pointer':
      return decode(json, type.of, at, before ?? zero(type.of))
    case 'struct':
      return decodeStruct(json, type, at, before)
    case 'map':
      return decodeMap(json, type.of, at, before)
    case 'slice':
      if (json.kind !== 'array') throw mismatch(json, type, at)
      return json.items.map((item, index) => decode(item, type.of, `${at}[${index}]`, zero(type.of)))
    case 'bool':
      if (json.kind !== 'bool') throw mismatch(json, type, at)
      return json.value
    case 'int':
    case 'uint':
    case 'float':
      if (json.kind !== 'number') throw mismatch(json, type, at)
      return decodeNumber(json.text, type, at)
    default:
      if (json.kind !== 'string') throw mismatch(json, type, at)
      return decodeText(json.value, type, at)
  }
}

function decodeStruct(
  json: JsonText,
  type: Extract<GoType, { kind: 'struct' }>,
  at: string,
  before: unknown,
): unknown {
  if (json.kind !== 'object') throw mismatch(json, type, at)
  const names = Object.keys(type.fields)
  const value = { ...(before as Record<string, unknown>) }
  for (const [key, item] of json.entries) {
    const name = names.includes(key) ? key : names.find((own) => own.toLowerCase() === key.toLowerCase())
    const field = name === undefined ? undefined : type.fields[name]
    if (name !== undefined && field !== undefined) {
      value[name] = decode(item, field, `${at}.${name}`, value[name])
    }
  }
  return value
}

function decodeMap(json: JsonText, of: GoType, at: string, before: unknown): unknown {
  if (json.kind !== 'object') throw mismatch(json, { kind: 'map', of }, at)
  const value = { ...(before as Record<string, unknown> | null) }
  for (const [key, item] of json.entries) value[key] = decode(item, of, `${at}[${key}]`, zero(of))
  return value
}

function decodeNumber(text: string, type: GoType, at: string): number | bigint {
  if (type.kind === 'float') return Number(text)
  if (type.kind !== 'int' && type.kind !== 'uint') throw new TypeError('not a number type')
  const isWritten = type.kind === 'int' ? /^-?\d+$/.test(text) : /^\d+$/.test(text)
  const bits = BigInt(type.bits)
  const [min, max] =
    type.kind === 'int' ? [-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n] : [0n, 2n ** bits - 1n]
  if (!isWritten || BigInt(text) < min || BigInt(text) > max) {
    throw new GoDecodeError(`json: cannot unmarshal number ${text} into ${at} of type ${type.kind}${bits}`)
  }
  const value = BigInt(text)
  return value >= -MAX_SAFE && value <= MAX_SAFE ? Number(value) : value
}

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER)

function decodeText(text: string, type: GoType, at: string): unknown {
  switch (type.kind) {
    case 'string':
      return text
    case 'time':
      if (!RFC3339.test(text) || Number.isNaN(Date.parse(text.replace(/(\.\d{3})\d+/, '$1')))) {
        throw new GoDecodeError(`parsing time ${JSON.stringify(text)} in ${at} as RFC 3339: cannot parse`)
      }
      return text
    case 'bytes':
      if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) {
        throw new GoDecodeError(`illegal base64 data in ${at}`)
      }
      return Buffer.from(text, 'base64')
    case 'text':
      if (type.accepts?.(text) === false) {
        throw new GoDecodeError(`cannot unmarshal ${JSON.stringify(text)} in ${at} into ${type.name}`)
      }
      return text
    default:
      throw mismatch({ kind: 'string', value: text }, type, at)
  }
}

const RFC3339 =
  /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:[.,]\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/

function anyOf(json: JsonText): unknown {
  switch (json.kind) {
    case 'object':
      return Object.fromEntries(json.entries.map(([key, item]) => [key, anyOf(item)]))
    case 'array':
      return json.items.map(anyOf)
    case 'number':
      return Number(json.text)
    case 'null':
      return null
    default:
      return json.value
  }
}

/** The zero value, with structs filled in. */
export function zero(type: GoType): unknown {
  switch (type.kind) {
    case 'struct':
      return Object.fromEntries(Object.entries(type.fields).map(([name, field]) => [name, zero(field)]))
    case 'string':
    case 'text':
      return ''
    case 'bool':
      return false
    case 'int':
    case 'uint':
    case 'float':
      return 0
    case 'time':
      return '0001-01-01T00:00:00Z'
    default:
      return null
  }
}

function isNilable(type: GoType): boolean {
  return ['any', 'pointer', 'slice', 'map', 'bytes'].includes(type.kind)
}

function mismatch(json: JsonText, type: GoType, at: string): GoDecodeError {
  const name = 'name' in type ? type.name : type.kind
  return new GoDecodeError(`json: cannot unmarshal ${json.kind} into Go value ${at} of type ${name}`)
}
