/** Bounds of one gateway. Every one can be set by the operator; a lease can only ask for less. */
export interface GatewayLimits {
  /** Per execution and direction. Default 10 Mbit/s. */
  bitsPerSecondUp: number
  bitsPerSecondDown: number
  /** Connections of one execution at the same time. Default 256. */
  connectionsMax: number
  /** Payload of one execution; 0 (default) = no bound. */
  bytesUpMax: number
  bytesDownMax: number
  /** Requests and tunnels that one execution begins per second; more wait for their turn. Default 200. */
  requestsPerSecond: number
  /** One that would have to wait longer is refused. Default 5 s. */
  requestWaitMs: number
  /** Connections to one host and port of all executions of one job here; 0 (default) = no bound. */
  hostConnectionsMax: number
  /** Different names that one execution may have looked up. Default 1,000. */
  hostNamesMax: number
  /** Of all executions together, which take turns; 0 (default) = no bound. */
  nodeBitsPerSecondUp: number
  nodeBitsPerSecondDown: number
  /** Connections of all executions. Default 8,192. */
  connectionsTotalMax: number
  /** From the first moment to the end of the request head, and to the first byte of a body. Default 10 s. */
  headTimeoutMs: number
  /** Waiting for a body in which fewer than 6 kB come. Default 60 s. */
  slowBodyMs: number
  /** From `200 Connection Established` to the end of the TLS hello. Default 10 s. */
  helloTimeoutMs: number
  /** All attempts to connect to a host. Default 10 s. */
  dialTimeoutMs: number
  /** A connection without any traffic is closed. Default 10 min. */
  idleTimeoutMs: number
  /** An open client connection between two requests. Default 60 s. */
  keepAliveMs: number
}

export const DEFAULT_GATEWAY_LIMITS: GatewayLimits = {
  bitsPerSecondUp: 10_000_000,
  bitsPerSecondDown: 10_000_000,
  connectionsMax: 256,
  bytesUpMax: 0,
  bytesDownMax: 0,
  requestsPerSecond: 200,
  requestWaitMs: 5_000,
  hostConnectionsMax: 0,
  hostNamesMax: 1_000,
  nodeBitsPerSecondUp: 0,
  nodeBitsPerSecondDown: 0,
  connectionsTotalMax: 8_192,
  headTimeoutMs: 10_000,
  slowBodyMs: 60_000,
  helloTimeoutMs: 10_000,
  dialTimeoutMs: 10_000,
  idleTimeoutMs: 600_000,
  keepAliveMs: 60_000,
}
