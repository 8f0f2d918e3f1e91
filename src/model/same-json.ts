/**
 * True when both would be written as the same JSON, whatever the order of names. `without`: names that do not count, at the top
 * only. Quicker than writing both, and than the comparison of Node.js, which looks at prototypes and more.
 */
export function isSameJson(a: unknown, b: unknown, without: ReadonlySet<string> = NOTHING): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  if (Array.isArray(a) || Array.isArray(b)) {
    return (
      Array.isArray(a) &&
      Array.isArray(b) &&
      a.length === b.length &&
      a.every((one, at) => isSameJson(one, b[at]))
    )
  }
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>]
  for (const name of Object.keys(left)) {
    if (!without.has(name) && !isSameJson(left[name], Object.hasOwn(right, name) ? right[name] : undefined))
      return false
  }
  for (const name of Object.keys(right)) {
    if (right[name] !== undefined && !without.has(name) && !Object.hasOwn(left, name)) return false
  }
  return true
}

const NOTHING: ReadonlySet<string> = new Set()
