/** No answer of a store holds more rows. */
export const ROWS_MAX = 10_000

/** The rows to give: 0 or less means "as many as there may be". */
export function boundedLimit(limit: number): number {
  return limit <= 0 ? ROWS_MAX : Math.min(limit, ROWS_MAX)
}

export function boundedOffset(offset: number): number {
  return Math.max(0, Math.floor(offset))
}
