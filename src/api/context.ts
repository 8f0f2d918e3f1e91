import type { JobDefaults, NodeId, NodeInfo, NodeRecord, Presets } from '../model/index.js'
import type {
  Access,
  AccessRequestDesk,
  AdminLog,
  JobService,
  NetworkListDesk,
  NodeTokenService,
} from '../ports/index.js'
import type { AuthMethod } from './authentication.js'
import type { ClientVersion } from './guards/client-version.js'
import type { OpenStreams } from './open-streams.js'
import type { BuildInfo, WireObject } from './wire/index.js'

/** What the server writes to its log; pino's loggers fit. */
export interface ApiLogger {
  debug(details: object, message: string): void
  warn(details: object, message: string): void
  error(details: object, message: string): void
}

/** Who this server is. */
export interface ServerIdentity {
  nodeId: NodeId
}

/** The list of the network, and requests to change it. */
export interface EgressDesk {
  list: NetworkListDesk
  requests: AccessRequestDesk
}

/** What the routes work with. */
export interface ApiContext {
  /** Absent on a node that is not an orchestrator: its routes do not exist then. */
  jobs: JobService | undefined
  /** Absent on an orchestrator that takes no other machines. */
  nodeTokens: NodeTokenService | undefined
  /** Where those join. */
  joinUrl: string | undefined
  /** Absent where nobody decides on egress through the API. */
  egressDesk: EgressDesk | undefined
  /** How the node stands with its network; absent: it is its own. */
  standing: (() => Pick<NodeRecord, 'membership' | 'connection'>) | undefined
  identity: ServerIdentity
  build: BuildInfo
  nodeInfo: () => NodeInfo | Promise<NodeInfo>
  config: () => WireObject
  debug: () => WireObject | Promise<WireObject>
  metrics: (() => Promise<string>) | undefined
  jobDefaults: JobDefaults
  /** What `@name` stands for in jobs. */
  presets: Presets
  authMethods: readonly AuthMethod[]
  /** Absent where nobody has to authenticate. */
  access: Access | undefined
  /** Absent where administrative actions are not recorded. */
  adminLog: AdminLog | undefined
  streams: OpenStreams
  logger: ApiLogger
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Undefined for clients that do not say, and for development versions. */
    clientVersion: ClientVersion | undefined
    /** The request's own id as sent, empty when it had none. */
    sentRequestId: string
  }
  interface FastifyContextConfig {
    /** True for routes that may answer for as long as a job runs. */
    isStream?: boolean
    /** True for the route whose websocket handshakes are accepted. */
    isWebsocket?: boolean
  }
}
