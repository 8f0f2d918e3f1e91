import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PACKAGE_ROOT } from '../../../src/package-root.js'
import type { JsonText } from './json-text.js'

/** One operation of a published description of the API; see `scripts/derive-api-facts.mjs`. */
export interface OperationFacts {
  method: string
  path: string
  /** Parameter → type; `!` at the end = described as required. */
  query?: Record<string, string>
  body?: string
  responses: Record<string, string>
}

export interface ApiFacts {
  source: string
  version: string
  operations: OperationFacts[]
  definitions: Record<
    string,
    { properties?: Record<string, string>; enum?: (string | number)[]; type?: string }
  >
}

export function readFacts(version: 'v1.5.2' | 'v1.9.3'): ApiFacts {
  return JSON.parse(
    readFileSync(join(PACKAGE_ROOT, 'test/fixtures/api', `bacalhau-${version}.json`), 'utf8'),
  ) as ApiFacts
}

/**
 * Definitions that the published descriptions get wrong, with what is true. Clients decode what servers send, not what
 * the description says, so the right-hand side is the contract.
 */
export const WRONG_DEFINITIONS: Readonly<Record<string, { reason: string; words: readonly string[] }>> = {
  'models.JobStateType': {
    reason: 'numeric in the description, a word on the wire',
    words: ['Undefined', 'Pending', 'Queued', 'Running', 'Completed', 'Failed', 'Stopped'],
  },
  'models.JobHistoryType': {
    reason: 'numeric in the description, a word on the wire',
    words: ['JobLevel', 'ExecutionLevel'],
  },
  'models.NodeType': {
    reason: 'numeric in the description, a word on the wire',
    words: ['Requester', 'Compute'],
  },
  'models.Network': {
    reason: 'numeric in the description, a word on the wire; a client of 1.5 decodes these three only',
    words: ['None', 'Full', 'HTTP'],
  },
  'models.NodeConnectionState': {
    reason: 'an object with a number in the description, a word on the wire',
    words: ['CONNECTED', 'DISCONNECTED'],
  },
  'models.NodeMembershipState': {
    reason: 'an object with a number in the description, a word on the wire',
    words: ['PENDING', 'APPROVED', 'REJECTED'],
  },
}

/** Fields that are strings in the description and RFC 3339 times in truth. */
const TIMES = new Set([
  'Time',
  'Timestamp',
  'BuildDate',
  'LastHeartbeat',
  'ConnectedSince',
  'DisconnectedSince',
])

/**
 * Holds an answer against a type of the description; returns one line per difference. A key that differs from a
 * documented one in case only must have its kind too: Go's decoder takes either for the field.
 */
export function deviations(json: JsonText, type: string, facts: ApiFacts, at = '$'): string[] {
  if (type === 'any' || type === '{}any') return type === '{}any' ? needs(json, 'object', at) : []
  if (type.startsWith('#')) return againstDefinition(json, type.slice(1), facts, at)
  if (json.kind === 'null') return isNullable(type) ? [] : [`${at} is null, not ${type}`]
  if (type.startsWith('[]')) {
    if (json.kind !== 'array') return needs(json, 'array', at)
    return json.items.flatMap((item, index) => deviations(item, type.slice(2), facts, `${at}[${index}]`))
  }
  if (type.startsWith('{}')) {
    if (json.kind !== 'object') return needs(json, 'object', at)
    return json.entries.flatMap(([key, item]) => deviations(item, type.slice(2), facts, `${at}.${key}`))
  }
  return againstScalar(json, type, at)
}

function againstDefinition(json: JsonText, name: string, facts: ApiFacts, at: string): string[] {
  const words = WRONG_DEFINITIONS[name]?.words
  if (words !== undefined) {
    return json.kind === 'string' && words.includes(json.value)
      ? []
      : [`${at} is ${show(json)}, not one of ${words.join(', ')}`]
  }
  const definition = facts.definitions[name]
  if (definition === undefined) return [`${at}: the description has no ${name}`]
  if (definition.enum !== undefined) {
    const value = json.kind === 'number' ? Number(json.text) : json.kind === 'string' ? json.value : undefined
    return value !== undefined && definition.enum.includes(value)
      ? againstScalar(json, definition.type ?? 'any', at)
      : [`${at} is ${show(json)}, not one of ${definition.enum.join(', ')}`]
  }
  if (json.kind === 'null') return []
  if (json.kind !== 'object') return needs(json, 'object', at)
  const properties = Object.entries(definition.properties ?? {})
  return json.entries.flatMap(([key, item]) => {
    const known =
      properties.find(([own]) => own === key) ??
      properties.find(([own]) => own.toLowerCase() === key.toLowerCase())
    if (known === undefined) return []
    const time = TIMES.has(known[0]) && known[1] === 'string' ? 'time' : known[1]
    return deviations(item, time, facts, `${at}.${key}`)
  })
}

function againstScalar(json: JsonText, type: string, at: string): string[] {
  switch (type) {
    case 'integer':
      return json.kind === 'number' && /^-?\d{1,19}$/.test(json.text) ? [] : needs(json, 'integer', at)
    case 'number':
      return needs(json, 'number', at)
    case 'boolean':
      return needs(json, 'bool', at)
    case 'time':
      return json.kind === 'string' && RFC3339.test(json.value) ? [] : needs(json, 'RFC 3339 time', at)
    default:
      return needs(json, type, at)
  }
}

const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/

function needs(json: JsonText, kind: string, at: string): string[] {
  return json.kind === kind ? [] : [`${at} is ${show(json)}, not ${kind}`]
}

/** Go's clients and the Python client take null for lists, maps and objects. */
function isNullable(type: string): boolean {
  return type.startsWith('[]') || type.startsWith('{}') || type.startsWith('#')
}

function show(json: JsonText): string {
  if (json.kind === 'number') return json.text
  return 'value' in json ? JSON.stringify(json.value) : json.kind
}
