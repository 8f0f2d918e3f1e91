import type { JobSpec } from '../model/index.js'

/** Meta keys that only servers and client headers set. */
export const RESERVED_META_PREFIX = 'bacalhau.org/'

const VALUE_LENGTH_MAX = 400
const LINES_MAX = 1_000

/**
 * What differs between two specifications, as a user wrote them: one line per value, `- path: old` or `+ path: new`, in
 * the order of the specification. Empty when they are the same. Meta data that servers set does not count. At most 1,000
 * lines, then one that says how many more there are. Absent `before`: everything is new.
 */
export function diffSpecs(before: JobSpec | undefined, after: JobSpec): string[] {
  const lines: string[] = []
  compare('', before === undefined ? undefined : ownParts(before), ownParts(after), lines)
  if (lines.length <= LINES_MAX) return lines
  return [...lines.slice(0, LINES_MAX), `… ${lines.length - LINES_MAX} more`]
}

function ownParts(spec: JobSpec): JobSpec {
  const own = Object.entries(spec.Meta).filter(([key]) => !key.startsWith(RESERVED_META_PREFIX))
  return { ...spec, Meta: Object.fromEntries(own) }
}

function compare(path: string, old: unknown, fresh: unknown, lines: string[]): void {
  const [before, after] = [filled(old), filled(fresh)]
  if (before === after) return
  if (isTree(before) || isTree(after)) {
    const [left, right] = [childrenOf(before), childrenOf(after)]
    // A value that became a tree, or the other way around: the value itself goes or comes.
    if (!isTree(before)) addLine('-', path, before, lines)
    const keys = new Set([...Object.keys(left), ...Object.keys(right)])
    for (const key of keys) compare(pathOf(path, key, after ?? before), left[key], right[key], lines)
    if (!isTree(after)) addLine('+', path, after, lines)
    return
  }
  addLine('-', path, before, lines)
  addLine('+', path, after, lines)
}

function addLine(sign: '-' | '+', path: string, value: unknown, lines: string[]): void {
  if (value === undefined) return
  const text = JSON.stringify(value)
  const cut = text.length > VALUE_LENGTH_MAX ? `${text.slice(0, VALUE_LENGTH_MAX - 1)}…` : text
  lines.push(`${sign} ${path}: ${cut}`)
}

/** Nothing, whether it is said or not. */
function filled(value: unknown): unknown {
  const isEmpty = typeof value === 'object' && value !== null && Object.keys(value).length === 0
  return isEmpty || value === null || value === '' ? undefined : value
}

function isTree(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.keys(value).length > 0
}

function childrenOf(value: unknown): Record<string, unknown> {
  return isTree(value) ? value : {}
}

function pathOf(path: string, key: string, parent: unknown): string {
  if (Array.isArray(parent)) return `${path}[${key}]`
  const name = /^[A-Za-z_][\w-]*$/.test(key) ? key : JSON.stringify(key)
  return path === '' ? name : `${path}.${name}`
}
