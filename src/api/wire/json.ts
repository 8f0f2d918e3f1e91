import { randomUUID } from 'node:crypto'

/** Stands before the digits of a number that `JSON.stringify` cannot write; nobody outside can guess it. */
const MARK = `${randomUUID()}:`
const MARKED = new RegExp(`"${MARK}(-?\\d+)"`, 'g')

/**
 * Writes JSON for the wire, with a trailing newline.
 *
 * Differs from `JSON.stringify` in what Go's decoder needs: bigint is written as an integer (nanoseconds since the
 * epoch exceed 2^53), an integral number never has an exponent, and a number that is not finite is refused with a
 * RangeError instead of turning into null. Properties that are undefined are left out.
 */
export function writeJson(value: unknown, indent = 0): string {
  let isMarked = false
  const exact = (_key: string, item: unknown): unknown => {
    if (typeof item === 'bigint') {
      isMarked = true
      return `${MARK}${item}`
    }
    if (typeof item !== 'number') return item
    if (!Number.isFinite(item)) throw new RangeError(`Cannot write ${item} as JSON`)
    if (!Number.isInteger(item) || Math.abs(item) < 1e21) return item
    isMarked = true
    return `${MARK}${BigInt(item)}`
  }
  const text = JSON.stringify(value, exact, indent) ?? 'null'
  return `${isMarked ? text.replace(MARKED, '$1') : text}\n`
}
