import type { GatewayLimits } from '../egress/index.js'

/** A machine's own line: what nobody asks for is not held back. */
export const NO_BOUND: Partial<GatewayLimits> = {
  bitsPerSecondUp: 10_000_000_000,
  bitsPerSecondDown: 10_000_000_000,
  requestsPerSecond: 10_000,
  connectionsMax: 4_096,
}
