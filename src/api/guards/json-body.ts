import { WeirError } from '../../errors.js'

/** Deepest nesting of a request body; a job specification needs about ten levels. */
const DEPTH_MAX = 64

/**
 * Parses a request body. An empty body gives undefined: Bacalhau's clients send none with DELETE. Refuses nesting
 * deeper than 64 levels and keys that would reach a prototype. Throws `api.bad_request`.
 */
export function parseJsonBody(text: string): unknown {
  if (text.trim() === '') return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new WeirError('api.bad_request', `Cannot parse the body as JSON: ${reason.slice(0, 200)}`, {
      hint: 'Send one JSON document.',
    })
  }
  checkShape(value)
  return value
}

/** The value under `key` of a body, matched without regard to case as Go's decoder does; the exact spelling wins. */
export function bodyField(body: unknown, key: string): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return undefined
  const record = body as Record<string, unknown>
  if (Object.hasOwn(record, key)) return record[key]
  const other = Object.keys(record).find((name) => name.toLowerCase() === key.toLowerCase())
  return other === undefined ? undefined : record[other]
}

/** The text under `key`; absent and null give an empty text, anything else is `api.bad_request`. */
export function bodyText(body: unknown, key: string, lengthMax: number): string {
  const value = bodyField(body, key) ?? ''
  if (typeof value !== 'string') {
    throw new WeirError('api.bad_request', `Cannot read "${key}" of the body: it must be a string`)
  }
  if (value.length <= lengthMax) return value
  throw new WeirError(
    'api.bad_request',
    `Cannot take "${key}" of the body: it is longer than ${lengthMax} characters`,
  )
}

/** The boolean under `key`; absent and null are false, anything else is `api.bad_request`. */
export function bodyFlag(body: unknown, key: string): boolean {
  const value = bodyField(body, key) ?? false
  if (typeof value === 'boolean') return value
  throw new WeirError('api.bad_request', `Cannot read "${key}" of the body: it must be true or false`)
}

/** The whole number, 0 or more, under `key`; absent and null are 0, anything else is `api.bad_request`. */
export function bodyCount(body: unknown, key: string): number {
  const value = bodyField(body, key) ?? 0
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw new WeirError('api.bad_request', `Cannot read "${key}" of the body: it must be a whole number`)
}

/** Level by level instead of recursively, so that no depth can exhaust the stack. */
function checkShape(root: unknown): void {
  let level: unknown[] = [root]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEPTH_MAX) {
      throw new WeirError(
        'api.bad_request',
        `Cannot take the body: it is nested deeper than ${DEPTH_MAX} levels`,
      )
    }
    level = level.flatMap(children)
  }
}

function children(value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return []
  if (Object.hasOwn(value, '__proto__')) {
    throw new WeirError('api.bad_request', 'Cannot take the body: it has the key "__proto__"')
  }
  return Object.values(value).filter((child) => typeof child === 'object' && child !== null)
}
