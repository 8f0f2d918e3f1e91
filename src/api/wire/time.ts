import type { TimeMs } from '../../model/index.js'

/** Go's zero time: what a Go client expects where a time is not set. An empty string would fail its decoder. */
export const ZERO_TIME = '0001-01-01T00:00:00Z'

/** Integer nanoseconds since the epoch. */
export function nanoseconds(timeMs: TimeMs): bigint {
  return BigInt(Math.round(timeMs)) * 1_000_000n
}

/** RFC 3339 in UTC; 0 gives {@link ZERO_TIME}. */
export function rfc3339(timeMs: TimeMs): string {
  return timeMs === 0 ? ZERO_TIME : new Date(timeMs).toISOString()
}
