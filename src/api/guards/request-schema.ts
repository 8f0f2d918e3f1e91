import { WeirError } from '../../errors.js'

function parametersOf(schema: object): Record<string, ParameterSchema> {
  return (schema as { properties?: Record<string, ParameterSchema> }).properties ?? {}
}

interface ParameterSchema {
  type?: string
  enum?: readonly string[]
  maximum?: number
  maxLength?: number
}

/**
 * Reads query parameters by their schema (a flat object schema, the same that the OpenAPI document shows), as Bacalhau's server binds them: an empty value counts as absent, booleans
 * take Go's spellings (`True`, `1`, `t`), parameters that are not declared are ignored, and a repeated parameter
 * counts once unless its schema is an array. Throws `api.bad_request` naming the parameter.
 */
export function readQuery(schema: object, query: unknown): Record<string, unknown> {
  const given = typeof query === 'object' && query !== null ? (query as Record<string, unknown>) : {}
  const values: Record<string, unknown> = {}
  for (const [name, parameter] of Object.entries(parametersOf(schema))) {
    const texts = [Object.hasOwn(given, name) ? given[name] : undefined]
      .flat()
      .filter((text): text is string => typeof text === 'string' && text.trim() !== '')
    const first = texts[0]
    if (first !== undefined) {
      values[name] = parameter.type === 'array' ? bounded(name, texts) : readParameter(name, first, parameter)
    }
  }
  return values
}

/** Go's `strconv.ParseBool`, without regard to case. */
export function readBoolean(name: string, text: string): boolean {
  switch (text.trim().toLowerCase()) {
    case '1':
    case 't':
    case 'true':
      return true
    case '0':
    case 'f':
    case 'false':
      return false
    default:
      throw invalid(name, text, 'Use true or false.')
  }
}

function readParameter(name: string, text: string, schema: ParameterSchema): unknown {
  if (schema.type === 'boolean') return readBoolean(name, text)
  if (schema.type === 'integer') return readInteger(name, text, schema.maximum ?? Number.MAX_SAFE_INTEGER)
  if (text.length > (schema.maxLength ?? 4096)) throw invalid(name, `${text.slice(0, 80)}…`, 'Shorten it.')
  return readWord(name, text, schema)
}

/** Words are matched without regard to case. */
function readWord(name: string, text: string, schema: ParameterSchema): string {
  if (schema.enum === undefined) return text
  const word = schema.enum.find((candidate) => candidate.toLowerCase() === text.trim().toLowerCase())
  if (word === undefined) throw invalid(name, text, `Use one of: ${schema.enum.join(', ')}.`)
  return word
}

function readInteger(name: string, text: string, maximum: number): number {
  const value = /^\d{1,16}$/.test(text.trim()) ? Number(text) : Number.NaN
  if (value <= maximum) return value
  throw invalid(name, text, `Use a whole number from 0 to ${maximum}.`)
}

function bounded(name: string, texts: string[]): string[] {
  if (texts.length <= 100) return texts
  throw invalid(name, `${texts.length} values`, 'Give at most 100 values.')
}

function invalid(name: string, text: string, hint: string): WeirError {
  return new WeirError('api.bad_request', `invalid ${name}: ${JSON.stringify(text.slice(0, 120))}`, { hint })
}
