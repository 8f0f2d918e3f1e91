/** Upper bounds of the buckets in which durations are counted; what took longer is in one more. */
export const DURATION_BOUNDS_MS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000] as const

/** How often something took how long. */
export interface DurationCounts {
  /** One number more than {@link DURATION_BOUNDS_MS}; not cumulative. */
  counts: number[]
  sumMs: number
}

/** What a gateway process has counted since its start. Bounded: by codes of the catalogue, never by hosts. */
export interface GatewayCounters {
  /** By decision and code, `allow ` or `deny egress.self`. */
  attempts: Record<string, number>
  /** Refusals by whose rule decided. */
  refusedByOwner: Record<string, number>
  bytesUp: number
  bytesDown: number
  auditFailures: number
  /** Executions that were opened to learn. */
  learningLeases: number
  /** Name, lookup and addresses of an attempt that was allowed. */
  decision: DurationCounts
  dial: DurationCounts
  firstByte: DurationCounts
  /** Payload that had to wait for its turn at an execution's rate. */
  rateWait: DurationCounts
}

export function noDurations(): DurationCounts {
  return { counts: Array.from({ length: DURATION_BOUNDS_MS.length + 1 }, () => 0), sumMs: 0 }
}

export function countDuration(durations: DurationCounts, ms: number): void {
  const at = DURATION_BOUNDS_MS.findIndex((bound) => ms <= bound)
  const index = at < 0 ? DURATION_BOUNDS_MS.length : at
  durations.counts[index] = (durations.counts[index] ?? 0) + 1
  durations.sumMs += ms
}
