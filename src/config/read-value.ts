import type { ConfigKey } from './schema.js'

/** What `readValue` found: a value, or a sentence that says what was expected. */
export type ReadValue = { value: unknown } | { problem: string }

/** Reads one value, given as text (environment, flag) or as YAML data, as the key's kind demands. */
export function readValue(key: ConfigKey, raw: unknown): ReadValue {
  switch (key.kind) {
    case 'text':
      return readText(key, raw)
    case 'path':
      return readPath(raw)
    case 'amount':
      return readAmount(raw)
    case 'boolean':
      return readBoolean(raw)
    case 'integer':
      return within(key, wholeNumber(raw), 'a whole number')
    case 'durationMs':
      return within(key, durationMs(raw), 'a duration such as 30s, 5m or 1h30m')
    case 'bytes':
      return within(key, byteCount(raw), 'a size such as 512mb, 1gi or a number of bytes')
    case 'list':
      return readList(raw)
    case 'map':
      return readMap(raw)
    case 'records':
      return readRecords(raw)
    case 'lists':
      return readLists(raw)
  }
}

/** The text form of a value, which `readValue` reads back. */
export function writeValue(key: ConfigKey, value: unknown): string {
  if (key.kind === 'list') return (value as readonly string[]).join(',')
  if (key.kind === 'map')
    return Object.entries(value as Record<string, string>)
      .map(([name, text]) => `${name}=${text}`)
      .join(',')
  if (key.kind === 'records' || key.kind === 'lists') return JSON.stringify(value)
  if (key.kind === 'durationMs') return writeDuration(value as number)
  return String(value)
}

function readText(key: ConfigKey, raw: unknown): ReadValue {
  if (typeof raw === 'number' || typeof raw === 'boolean') return readText(key, String(raw))
  if (raw === null) return { value: '' }
  if (typeof raw !== 'string') return { problem: 'expected text' }
  if (raw.includes('\0')) return { problem: 'the text contains a NUL character' }
  if (key.words === undefined) return { value: raw }
  const word = key.words.find((candidate) => candidate === raw.trim().toLowerCase())
  return word === undefined ? { problem: `expected one of ${key.words.join(', ')}` } : { value: word }
}

function readPath(raw: unknown): ReadValue {
  if (raw === null || raw === '') return { value: '' }
  if (typeof raw !== 'string' || raw.includes('\0')) return { problem: 'expected a path' }
  if (raw.includes('$')) return { problem: 'variables are not expanded in paths; write the path itself' }
  if (!raw.startsWith('/') && !raw.startsWith('~/'))
    return { problem: 'expected an absolute path (or one below ~/)' }
  return { value: raw }
}

function readAmount(raw: unknown): ReadValue {
  if (typeof raw !== 'string' && typeof raw !== 'number') return { problem: 'expected a share or an amount' }
  const text = String(raw).trim()
  const share = /^(\d{1,3}(?:\.\d+)?)%$/.exec(text)
  if (share !== null) {
    return Number(share[1]) <= 100 ? { value: text } : { problem: 'a share can be at most 100%' }
  }
  return /^\d+(\.\d+)?\s*[a-z]{0,3}$/i.test(text)
    ? { value: text }
    : { problem: 'expected a share such as 70% or an amount such as 2, 500m or 4gb' }
}

function readBoolean(raw: unknown): ReadValue {
  if (typeof raw === 'boolean') return { value: raw }
  const text = String(raw).trim().toLowerCase()
  if (['true', 't', '1', 'yes', 'on'].includes(text)) return { value: true }
  if (['false', 'f', '0', 'no', 'off'].includes(text)) return { value: false }
  return { problem: 'expected true or false' }
}

function readList(raw: unknown): ReadValue {
  if (raw === null || raw === '') return { value: [] }
  const items = typeof raw === 'string' ? listIn(raw) : raw
  if (!Array.isArray(items)) return { problem: 'expected a list: texts separated by commas, or JSON' }
  if (items.length > 100_000) return { problem: 'the list has more than 100,000 entries' }
  if (items.some((item) => typeof item !== 'string' && typeof item !== 'number'))
    return { problem: 'expected a list of texts' }
  return { value: items.map((item) => String(item).trim()).filter((item) => item !== '') }
}

/** A pattern may begin with the `[` of an IPv6 address, so that only `["` is the begin of JSON. */
function listIn(text: string): unknown {
  return /^\s*\[\s*["\]]/.test(text) ? jsonIn(text) : text.split(',')
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // No JSON: then the caller says what it expected.
  }
}

function readMap(raw: unknown): ReadValue {
  if (raw === null || raw === '') return { value: {} }
  if (typeof raw === 'string' && raw.trim().startsWith('{')) {
    const value = jsonIn(raw)
    return typeof value === 'object' ? readMap(value) : { problem: 'expected k=v pairs, or a map as JSON' }
  }
  if (typeof raw === 'string') {
    const pairs = raw.split(',').filter((pair) => pair.trim() !== '')
    const broken = pairs.find((pair) => !pair.includes('=') || pair.trim().startsWith('='))
    if (broken !== undefined) return { problem: `expected k=v pairs, found ${JSON.stringify(broken)}` }
    return {
      value: Object.fromEntries(
        pairs.map((pair) => [
          pair.slice(0, pair.indexOf('=')).trim(),
          pair.slice(pair.indexOf('=') + 1).trim(),
        ]),
      ),
    }
  }
  if (typeof raw !== 'object' || Array.isArray(raw)) return { problem: 'expected a map' }
  const entries = Object.entries(raw)
  if (entries.some(([, value]) => value !== null && typeof value === 'object'))
    return { problem: 'expected a map of texts' }
  return { value: Object.fromEntries(entries.map(([name, value]) => [name, String(value ?? '')])) }
}

const RECORDS_MAX = 10_000

/** What is in the maps is read by whoever needs them. */
function readRecords(raw: unknown): ReadValue {
  if (raw === null || raw === '') return { value: [] }
  let value = raw
  if (typeof raw === 'string') {
    try {
      value = JSON.parse(raw)
    } catch {
      return { problem: 'expected a list of maps, as JSON' }
    }
  }
  const isList =
    Array.isArray(value) &&
    value.length <= RECORDS_MAX &&
    value.every((one) => typeof one === 'object' && one !== null && !Array.isArray(one))
  return isList ? { value } : { problem: 'expected a list of maps' }
}

/** A list may also be written with commas. */
function readLists(raw: unknown): ReadValue {
  if (raw === null || raw === '') return { value: {} }
  let value = raw
  if (typeof raw === 'string') {
    try {
      value = JSON.parse(raw)
    } catch {
      return { problem: 'expected a map of lists, as JSON' }
    }
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { problem: 'expected a map of lists' }
  const read = Object.entries(value).map(([name, list]) => [name, readList(list)] as const)
  const broken = read.find(([, list]) => 'problem' in list)
  if (broken !== undefined) return { problem: `expected a list for ${JSON.stringify(broken[0])}` }
  return { value: Object.fromEntries(read.map(([name, list]) => [name, 'value' in list ? list.value : []])) }
}

function within(key: ConfigKey, value: number | undefined, expected: string): ReadValue {
  if (value === undefined) return { problem: `expected ${expected}` }
  if (key.minimum !== undefined && value < key.minimum)
    return { problem: `the smallest value is ${writeValue(key, key.minimum)}` }
  if (key.maximum !== undefined && value > key.maximum)
    return { problem: `the largest value is ${writeValue(key, key.maximum)}` }
  return { value }
}

function wholeNumber(raw: unknown): number | undefined {
  const text = String(raw).trim()
  return /^-?\d{1,15}$/.test(text) ? Number(text) : undefined
}

const DURATION_UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** Go's duration notation without fractions of a millisecond; a bare number is seconds. */
function durationMs(raw: unknown): number | undefined {
  const text = String(raw).trim().toLowerCase()
  if (/^\d{1,10}$/.test(text)) return Number(text) * 1000
  if (!/^(\d{1,10}(\.\d{1,6})?(ms|s|m|h))+$/.test(text)) return undefined
  let total = 0
  for (const part of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g))
    total += Number(part[1]) * (DURATION_UNITS[part[2] ?? ''] ?? Number.NaN)
  return Math.round(total)
}

function writeDuration(ms: number): string {
  if (ms === 0) return '0s'
  let rest = ms
  let text = ''
  for (const [unit, size] of [
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
    ['ms', 1],
  ] as const) {
    const count = Math.floor(rest / size)
    if (count > 0) text += `${count}${unit}`
    rest -= count * size
  }
  return text
}

const BYTE_POWERS: Record<string, number> = { k: 1, m: 2, g: 3, t: 4, p: 5 }

function byteCount(raw: unknown): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,6})?)\s*([kmgtp]?)(i?)b?$/.exec(String(raw).trim().toLowerCase())
  if (match === null || (match[2] === '' && match[3] === 'i')) return undefined
  const base = match[3] === 'i' ? 1024 : 1000
  return Math.round(Number(match[1]) * base ** (BYTE_POWERS[match[2] ?? ''] ?? 0))
}
