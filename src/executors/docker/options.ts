import type { NodeId } from '../../model/index.js'
import type { Clock, GatewayAttachment } from '../../ports/index.js'

/** Amounts and times that no job can exceed; every field has a default (see {@link DEFAULT_LIMITS}). */
export interface DockerLimits {
  /** Processes and threads of one job. */
  pids: number
  /** Size of `/dev/shm`; it counts against the job's memory. */
  shmBytes: number
  /** Open files per process; 0 = as the engine has it, which is the most it can give. */
  openFiles: number
  /** Largest image that is pulled: compressed while it comes in, unpacked afterwards. */
  imageBytesMax: number
  /** How long a pull may take in all. */
  pullTimeoutMs: number
  /** How long the engine may take to say what it is. */
  requestTimeoutMs: number
  /** Namespaces of this node at one time, pooled and in use. */
  holdersMax: number
  /** Used when a run comes without an amount. */
  cpuDefault: number
  memoryBytesDefault: number
}

export const DEFAULT_LIMITS: DockerLimits = Object.freeze({
  pids: 1024,
  shmBytes: 64 * 1024 * 1024,
  openFiles: 0,
  imageBytesMax: 20 * 1024 ** 3,
  pullTimeoutMs: 10 * 60_000,
  requestTimeoutMs: 30_000,
  holdersMax: 256,
  cpuDefault: 0.5,
  memoryBytesDefault: 512 * 1024 * 1024,
})

/** Which registries images may be pulled from, and with which login. */
export interface RegistryOptions {
  /** Registries on private or loopback addresses that may be used, as written in references: `10.0.0.5:5000`. Absent = none. */
  allowPrivate?: string[]
  /** Logins by registry host as written in references; `docker.io` for Docker Hub. Never logged, never given to a job. */
  credentials?: Record<string, { username: string; password: string }>
}

/** The network of mode `full`. */
export interface FullNetworkOptions {
  /**
   * Addresses or names with port that jobs may reach although they are not public, for example `10.9.9.9:8080`. IPv4
   * only; names are looked up when the network is opened. Absent and empty both mean none.
   */
  exceptions?: string[]
  /**
   * Public addresses or names that are the network itself (orchestrator, API, the node's address behind a translating
   * router), with or without port. The addresses of this machine are always refused and need not be listed.
   */
  self?: string[]
  /**
   * Name servers for jobs, at most three. Absent or empty = those of the node that have public addresses, otherwise
   * public ones. A server on a private address works only if it is listed in `exceptions` with port 53.
   */
  dnsServers?: string[]
}

/** What the isolation probe tries to reach beside the addresses of this machine and cloud metadata. */
export interface CanaryOptions {
  /** TCP ports tried on every address of this machine: API, transport, … Default `[1234]`. */
  selfPorts?: number[]
  /** More `address:port` pairs that must not answer. */
  forbidden?: string[]
  /** An address of the internet, `address:port`; must not answer in modes `none` and `http`. Default `1.1.1.1:443`. */
  internet?: string
  /** Default one hour. */
  intervalMs?: number
}

/** The part of a logger that the executor uses; pino fits. */
export interface DockerLog {
  info(details: Record<string, unknown>, message: string): void
  warn(details: Record<string, unknown>, message: string): void
}

export interface DockerExecutorOptions {
  nodeId: NodeId
  /** The engine's Unix socket. Default: `DOCKER_HOST` when it names one, else `/var/run/docker.sock`. */
  socketPath?: string
  /** Creates the gateway's listeners inside a namespace (`EgressGateway.attach`). Absent = mode `http` is not offered. */
  attach?: (netnsPath: string) => Promise<GatewayAttachment>
  /** Gives listeners back that never got a lease (`EgressGateway.detach`). */
  detach?: (attachment: GatewayAttachment) => Promise<void>
  /** Absent = mode `full` is not offered. */
  full?: FullNetworkOptions
  registries?: RegistryOptions
  /**
   * The engine keeps a copy of each container's output, so that a run can be taken up by another process of this node.
   * Default true; false for a node that is never started again.
   */
  survivesRestart?: boolean
  /** Capabilities to take away from the usual ones, for example `['SETUID', 'SETGID']`. */
  dropCapabilities?: string[]
  /** Namespaces kept ready per kind (without and with listeners). Default 2; 0 = made when needed. */
  holderPoolSize?: number
  limits?: Partial<DockerLimits>
  canary?: CanaryOptions
  clock?: Clock
  logger?: DockerLog
}
