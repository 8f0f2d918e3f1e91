/**
 * Writes JSON for the wire, with a trailing newline.
 *
 * Differs from `JSON.stringify` in what Go's decoder needs: bigint is written as an integer (nanoseconds since the
 * epoch exceed 2^53), an integral number never has an exponent, and a number that is not finite is refused with a
 * RangeError instead of turning into null. Properties that are undefined are left out.
 */
export function writeJson(value: unknown, indent = 0): string {
  return `${writeValue(value, ' '.repeat(indent), '\n')}\n`
}

function writeValue(value: unknown, step: string, line: string): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value)
    case 'bigint':
    case 'boolean':
      return String(value)
    case 'number':
      return writeNumber(value)
    case 'object':
      if (value === null) return 'null'
      return Array.isArray(value) ? writeList(value, step, line) : writeRecord(value, step, line)
    default:
      return 'null'
  }
}

function writeNumber(value: number): string {
  if (!Number.isFinite(value)) throw new RangeError(`Cannot write ${value} as JSON`)
  return Number.isInteger(value) && Math.abs(value) >= 1e21 ? BigInt(value).toString() : String(value)
}

function writeList(list: readonly unknown[], step: string, line: string): string {
  if (list.length === 0) return '[]'
  const inner = line + step
  const parts = list.map((item) => writeValue(item, step, inner))
  return step === '' ? `[${parts.join(',')}]` : `[${inner}${parts.join(`,${inner}`)}${line}]`
}

function writeRecord(record: object, step: string, line: string): string {
  const inner = line + step
  const parts: string[] = []
  for (const [key, item] of Object.entries(record)) {
    if (item === undefined) continue
    parts.push(`${JSON.stringify(key)}:${step === '' ? '' : ' '}${writeValue(item, step, inner)}`)
  }
  if (parts.length === 0) return '{}'
  return step === '' ? `{${parts.join(',')}}` : `{${inner}${parts.join(`,${inner}`)}${line}}`
}
