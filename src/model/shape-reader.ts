import { nearestName } from './nearest-name.js'
import { printable, quoted } from './printable.js'
import { fieldPlace, itemPlace } from './spec-problem.js'
import type {
  AlternativeShape,
  Field,
  FlagShape,
  IntegerShape,
  ListShape,
  MapShape,
  ObjectShape,
  Shape,
  TextShape,
  VariantShape,
} from './shape.js'
import type { Place, ProblemList } from './spec-problem.js'

/** How one reading goes about things that are not part of the shape. */
export interface Reading {
  problems: ProblemList
  /** Unknown keys: a mistake that names the nearest known key, or a warning. Closed objects always refuse them. */
  unknownFields: 'error' | 'warn'
  /** Keys, in lower case, that a caller above has dealt with. */
  ignoredKeys?: ReadonlySet<string>
}

/**
 * Reads a value by its shape: canonical keys, empty values filled in, every mistake collected with its place. The
 * result has the shape's structure even where there were mistakes, so reading goes on to the end.
 */
export function readShape(shape: Shape, value: unknown, at: Place, reading: Reading): unknown {
  switch (shape.kind) {
    case 'text':
      return readText(shape, value, at, reading)
    case 'integer':
      return readInteger(shape, value, at, reading)
    case 'flag':
      return readFlag(shape, value, at, reading)
    case 'list':
      return readList(shape, value, at, reading)
    case 'map':
      return readMap(shape, value, at, reading)
    case 'object':
      return readObject(shape, value, at, reading)
    case 'variant':
      return readVariant(shape, value, at, reading)
    case 'alternative':
      return readAlternative(shape, value, at, reading)
  }
}

function readText(shape: TextShape, value: unknown, at: Place, reading: Reading): string {
  const { problems } = reading
  const fallback = shape.fallback ?? ''
  if (value === undefined || value === null) return fallback
  if (typeof value !== 'string' && !(shape.numbers === true && typeof value === 'number')) {
    const isScalar = typeof value === 'number' || typeof value === 'boolean'
    const hint = isScalar ? `Write it in quotes: ${quoted(String(value))}` : undefined
    problems.add(at, { message: `must be text, found ${kindOf(value)}`, hint }, value)
    return fallback
  }
  const text = shape.normalise === undefined ? String(value) : shape.normalise(String(value))
  if (text === '') return fallback
  if (text.length > shape.lengthMax) {
    problems.add(
      at,
      { message: `is ${text.length} characters long, at most ${shape.lengthMax} are allowed` },
      text,
    )
    return fallback
  }
  if (text.includes('\0')) {
    problems.add(at, { message: 'must not contain null characters' }, text)
    return fallback
  }
  return shape.choices === undefined
    ? checkedText(shape, text, at, problems)
    : choice(shape, text, at, reading)
}

function checkedText(shape: TextShape, text: string, at: Place, problems: ProblemList): string {
  const complaint = shape.check?.(text)
  if (complaint !== undefined) problems.add(at, complaint, text)
  return text
}

function choice(shape: TextShape, text: string, at: Place, { problems, unknownFields }: Reading): string {
  const choices = shape.choices ?? []
  const found = choices.find((known) => known.toLowerCase() === text.toLowerCase())
  if (found !== undefined) return found
  const otherWords = new Map(Object.entries(shape.otherWords ?? {}))
  const meant = unknownFields === 'warn' ? otherWords.get(text.toLowerCase()) : undefined
  if (meant !== undefined) {
    problems.warn(`${quoted(text)} is taken as ${quoted(meant)} (${at.path})`)
    return meant
  }
  const nearest = nearestName(text, choices)
  const hint =
    nearest === undefined ? `Use one of: ${choices.join(', ')}` : `Did you mean ${quoted(nearest)}?`
  problems.add(
    at,
    { message: shape.wrongChoice?.(printable(text, 80)) ?? `invalid value: ${quoted(text)}`, hint },
    text,
  )
  return shape.fallback ?? ''
}

function readInteger(shape: IntegerShape, value: unknown, at: Place, { problems }: Reading): number {
  if (value === undefined || value === null) return 0
  if (typeof value !== 'number' || !Number.isInteger(value)) {
    problems.add(at, { message: `must be a whole number, found ${kindOf(value)}` }, value)
    return 0
  }
  if (value < shape.min) {
    problems.add(
      at,
      { message: shape.belowMin?.(value) ?? `must be at least ${shape.min}, found ${value}` },
      value,
    )
  } else if (value > shape.max) {
    problems.add(at, { message: `must be at most ${shape.max}, found ${value}` }, value)
  }
  return value === 0 ? 0 : value
}

function readFlag(_shape: FlagShape, value: unknown, at: Place, { problems }: Reading): boolean {
  if (value === undefined || value === null || value === '') return false
  if (typeof value === 'boolean') return value
  const text = typeof value === 'string' ? value.trim().toLowerCase() : ''
  if (text !== 'true' && text !== 'false') {
    problems.add(at, { message: `must be true or false, found ${kindOf(value)}` }, value)
  }
  return text === 'true'
}

function readList(shape: ListShape, value: unknown, at: Place, reading: Reading): unknown[] {
  if (value === undefined || value === null || isEmptyRecord(value)) return []
  if (!Array.isArray(value)) {
    reading.problems.add(at, { message: `must be a list, found ${kindOf(value)}` }, value)
    return []
  }
  if (value.length > shape.lengthMax) {
    reading.problems.add(at, {
      message: `has ${value.length} entries, at most ${shape.lengthMax} are allowed`,
    })
    return []
  }
  return value.map((item: unknown, index) => readShape(shape.of, item, itemPlace(at, index), reading))
}

function readMap(shape: MapShape, value: unknown, at: Place, reading: Reading): Record<string, string> {
  const record = asRecord(value, at, reading)
  const entries = Object.entries(record)
  if (entries.length > shape.lengthMax) {
    reading.problems.add(at, {
      message: `has ${entries.length} entries, at most ${shape.lengthMax} are allowed`,
    })
    return {}
  }
  const read = entries.map(([key, item]): [string, string] => {
    const place = fieldPlace(at, key)
    const complaint = shape.checkKey(key)
    if (complaint !== undefined) reading.problems.add(place, complaint, key)
    return [key, readText(shape.values, item, place, reading)]
  })
  return Object.fromEntries(read)
}

function readObject(
  shape: ObjectShape,
  value: unknown,
  at: Place,
  reading: Reading,
): Record<string, unknown> {
  const spellings = matchKeys(shape, asRecord(value, at, reading), at, reading)
  const inner: Reading = reading.ignoredKeys === undefined ? reading : { ...reading, ignoredKeys: undefined }
  const result: [string, unknown][] = []
  for (const [name, field] of Object.entries(shape.fields)) {
    const [spelling, item] = spellings.get(name) ?? [undefined, undefined]
    const place =
      spelling === undefined ? { ...fieldPlace(at, name), keys: at.keys } : fieldPlace(at, name, spelling)
    const read = readField(field, item, place, inner)
    const isLeftOut = (shape.sparse === true || field.optional === true) && isEmptyValue(read)
    if (!isLeftOut) result.push([name, read])
  }
  return Object.fromEntries(result)
}

function readField({ shape, required }: Field, item: unknown, at: Place, reading: Reading): unknown {
  const blank = shape.kind === 'text' && typeof item === 'string' && (shape.normalise?.(item) ?? item) === ''
  if (required === undefined || !(blank || isEmptyValue(item))) return readShape(shape, item, at, reading)
  reading.problems.add(at, { message: required })
  return emptyValue(shape)
}

/** Pairs the record's keys with the shape's fields; complains about the rest. */
function matchKeys(
  shape: ObjectShape,
  record: Record<string, unknown>,
  at: Place,
  reading: Reading,
): Map<string, [spelling: string, value: unknown]> {
  const names = new Map(Object.keys(shape.fields).map((name) => [name.toLowerCase(), name]))
  const matched = new Map<string, [string, unknown]>()
  const count = Object.keys(record).length
  if (count > OBJECT_KEYS_MAX) {
    reading.problems.add(at, { message: `has ${count} fields, at most ${OBJECT_KEYS_MAX} are read` })
    return matched
  }
  for (const [spelling, value] of Object.entries(record)) {
    const name = names.get(spelling.trim().toLowerCase())
    if (name === undefined) {
      if (reading.ignoredKeys?.has(spelling.toLowerCase()) !== true)
        reportUnknown(shape, spelling, at, reading)
      continue
    }
    if (matched.has(name)) {
      reading.problems.add(fieldPlace(at, name, spelling), { message: `${name} is given twice` })
    }
    matched.set(name, [spelling, value])
  }
  return matched
}

function reportUnknown(shape: ObjectShape, spelling: string, at: Place, reading: Reading): void {
  const place = fieldPlace(at, spelling)
  const nearest = nearestName(spelling, Object.keys(shape.fields))
  const message = `unknown field ${quoted(spelling, 60)}`
  if (reading.unknownFields === 'warn' && shape.closed !== true) {
    reading.problems.warn(`${message} is ignored (${place.path})`)
    return
  }
  const known = Object.keys(shape.fields).join(', ')
  const hint =
    nearest !== undefined
      ? `Did you mean ${quoted(nearest)}?`
      : known === ''
        ? 'This type takes no parameters'
        : `Known fields here: ${known}`
  reading.problems.add(place, { message, hint })
}

function readVariant(
  shape: VariantShape,
  value: unknown,
  at: Place,
  reading: Reading,
): Record<string, unknown> {
  if (value === undefined || value === null) {
    const message = shape.missing ?? shape.missingType
    if (message !== undefined) reading.problems.add(at, { message })
    return { Type: '' }
  }
  const raw = asRecord(value, at, reading)
  const paramsKey = Object.keys(raw).find((key) => key.trim().toLowerCase() === 'params') ?? 'Params'
  // Which shape the parameters have depends on the type, so the type is read first, without them.
  const envelope = readObject(VARIANT_ENVELOPE, { ...raw, [paramsKey]: undefined }, at, reading) as {
    Type: string
  }
  const place = fieldPlace(at, 'Params', paramsKey)
  const wanted = envelope.Type.toLowerCase()
  if (wanted === '') {
    if (shape.missingType !== undefined)
      reading.problems.add(fieldPlace(at, 'Type'), { message: shape.missingType })
    else if (!isEmptyValue(raw[paramsKey]))
      reading.problems.add(place, { message: 'parameters without a type' })
    return { Type: '' }
  }
  const known = Object.keys(shape.types).find((name) => name.toLowerCase() === wanted)
  const params = known === undefined ? undefined : shape.types[known]
  const read =
    params === undefined
      ? readOpenParams(raw[paramsKey], place, reading)
      : readObject(params, raw[paramsKey], place, reading)
  return Object.keys(read).length === 0
    ? { Type: known ?? envelope.Type }
    : { Type: known ?? envelope.Type, Params: read }
}

function readAlternative(shape: AlternativeShape, value: unknown, at: Place, reading: Reading): unknown {
  const isText = value === undefined || value === null || typeof value === 'string'
  return readShape(isText ? shape.text : shape.object, value, at, reading)
}

/** Parameters of a type that this version does not know: copied, bounded in depth and number. */
function readOpenParams(value: unknown, at: Place, reading: Reading): Record<string, unknown> {
  const budget = { nodes: OPEN_NODES_MAX }
  const copy = (item: unknown, depth: number): unknown => {
    if (--budget.nodes < 0 || depth > OPEN_DEPTH_MAX) throw new RangeError('too large')
    if (Array.isArray(item)) return item.map((inner: unknown) => copy(inner, depth + 1))
    if (!isRecord(item)) return item
    return Object.fromEntries(Object.entries(item).map(([key, inner]) => [key, copy(inner, depth + 1)]))
  }
  try {
    return copy(asRecord(value, at, reading), 0) as Record<string, unknown>
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    reading.problems.add(at, { message: 'is nested too deeply or has too many values' })
    return {}
  }
}

const OBJECT_KEYS_MAX = 200
const OPEN_NODES_MAX = 10_000
const OPEN_DEPTH_MAX = 32
const TYPE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

const VARIANT_ENVELOPE: ObjectShape = {
  kind: 'object',
  description: 'A type and its parameters',
  fields: {
    Type: {
      shape: {
        kind: 'text',
        description: 'Name of the type',
        lengthMax: 64,
        normalise: (typed) => typed.trim(),
        check: (typed) =>
          TYPE_NAME.test(typed) ? undefined : { message: `invalid type name: ${quoted(typed)}` },
      },
    },
    // Only makes the key known: what it holds is read by the shape that the type chooses.
    Params: { shape: { kind: 'object', description: '', fields: {}, sparse: true } },
  },
}

function asRecord(value: unknown, at: Place, reading: Reading): Record<string, unknown> {
  if (value === undefined || value === null || (Array.isArray(value) && value.length === 0)) return {}
  if (isRecord(value)) return value
  reading.problems.add(at, { message: `must be an object, found ${kindOf(value)}` }, value)
  return {}
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isEmptyRecord(value: unknown): boolean {
  return isRecord(value) && Object.keys(value).length === 0
}

function isEmptyValue(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === false || value === 0) return true
  return (Array.isArray(value) && value.length === 0) || isEmptyRecord(value)
}

function emptyValue(shape: Shape): unknown {
  switch (shape.kind) {
    case 'text':
    case 'alternative':
      return ''
    case 'integer':
      return 0
    case 'flag':
      return false
    case 'list':
      return []
    case 'map':
      return {}
    case 'variant':
      return { Type: '' }
    case 'object':
      return Object.fromEntries(
        Object.entries(shape.fields)
          .filter(([, field]) => field.optional !== true)
          .map(([name, field]) => [name, emptyValue(field.shape)]),
      )
  }
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  switch (typeof value) {
    case 'string':
      return `the text ${quoted(value)}`
    case 'number':
      return `the number ${value}`
    case 'boolean':
      return String(value)
    case 'object':
      return 'an object'
    default:
      return `a ${typeof value}`
  }
}
