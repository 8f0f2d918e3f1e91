/** No answer of a store holds more rows. */
export const ROWS_MAX = 10_000

/** Lines of history that are kept for one job, where nothing else is said. */
export const HISTORY_PER_JOB_MAX = 10_000

/** The rows to give: 0 or less means "as many as there may be". */
export function boundedLimit(limit: number): number {
  return limit > 0 ? Math.min(Math.ceil(limit), ROWS_MAX) : ROWS_MAX
}

export function boundedOffset(offset: number): number {
  return offset > 0 ? Math.min(Math.floor(offset), Number.MAX_SAFE_INTEGER) : 0
}
