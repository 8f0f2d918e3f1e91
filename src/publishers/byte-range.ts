/** Inclusive, as HTTP counts. */
export interface ByteRange {
  start: number
  end: number
}

/**
 * Reads a Range header for content of `size` bytes (RFC 9110 §14.2). One range is honoured; several, other units and
 * malformed headers count as no range (`undefined`: send everything); a range that begins after the end is
 * `unsatisfiable`.
 */
export function readByteRange(
  header: string | undefined,
  size: number,
): ByteRange | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '')
  if (match === null) return undefined
  const [, first = '', last = ''] = match
  if (first === '' && last === '') return undefined
  if (first === '') {
    const length = Math.min(Number(last), size)
    return length === 0 ? 'unsatisfiable' : { start: size - length, end: size - 1 }
  }
  const start = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < start) return undefined
  return start >= size ? 'unsatisfiable' : { start, end }
}
