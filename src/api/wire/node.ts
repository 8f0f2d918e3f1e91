import type { GatewayStanding, NodeInfo, NodeRecord } from '../../model/index.js'
import { resourcesToWire } from './execution.js'
import type { WireObject } from './job.js'
import { rfc3339, ZERO_TIME } from './time.js'

/** A node as the orchestrator knows it. Both forms of the connection are given: 1.5 reads one, later clients the other. */
export function nodeToWire(node: NodeRecord, bacalhauVersion: WireObject): WireObject {
  const isConnected = node.connection === 'CONNECTED'
  return {
    Info: nodeInfoToWire(node.info, bacalhauVersion),
    Membership: node.membership,
    Connection: node.connection,
    ConnectionState: {
      Status: node.connection,
      LastHeartbeat: rfc3339(node.lastSyncMs),
      ConnectedSince: isConnected ? rfc3339(node.connectedSinceMs) : ZERO_TIME,
      DisconnectedSince: isConnected ? ZERO_TIME : rfc3339(node.lastSyncMs),
    },
  }
}

/**
 * What a node says about itself. Go clients decode nothing but `Compute` and `Requester` as type; a node that does
 * both is `Compute`. Engines, sources and publishers are lower case, as Bacalhau reports them.
 */
export function nodeInfoToWire(info: NodeInfo, bacalhauVersion: WireObject): WireObject {
  const isCompute = info.roles.includes('compute')
  return {
    NodeID: info.nodeId,
    NodeType: isCompute ? 'Compute' : 'Requester',
    Labels: info.labels,
    SupportedProtocols: ['bprotocol/v2', 'ncl/v1'],
    ComputeNodeInfo: isCompute ? computeInfoToWire(info) : undefined,
    BacalhauVersion: bacalhauVersion,
    WeirVersion: info.version,
    Roles: info.roles,
    Egress: {
      AcceptsNetworkedJobs: info.egress.acceptsNetworkedJobs,
      Learning:
        info.egress.learning === undefined
          ? undefined
          : {
              Users: info.egress.learning.users,
              TimeoutMaxSeconds: info.egress.learning.timeoutMaxMs / 1000,
            },
      Mode: info.egress.mode ?? 'list',
      Generation: info.egress.generation,
      NetworkVersion: info.egress.networkVersion,
      AllowCount: info.egress.allowCount ?? info.egress.allow.length,
      DenyCount: info.egress.denyCount ?? info.egress.deny.length,
      HTTPEngines: info.egress.httpEngines,
      FullEngines: info.egress.fullEngines,
      Allow: info.egress.allow,
      Deny: info.egress.deny,
      Keys: info.egress.keys?.map(({ name, key, allow }) => ({ Name: name, Key: key, Allow: allow })),
      Problems: info.egress.problems,
      Gateway: info.egress.gateway === undefined ? undefined : gatewayToWire(info.egress.gateway),
    },
    EngineProblems: info.engineProblems,
    EngineDetails: info.engineDetails,
    PublicKey: info.publicKey,
  }
}

function gatewayToWire(gateway: GatewayStanding): WireObject {
  return {
    Running: gateway.running,
    PolicyGeneration: gateway.policyGeneration,
    Leases: gateway.leases,
    Connections: gateway.connections,
  }
}

function computeInfoToWire(info: NodeInfo): WireObject {
  return {
    ExecutionEngines: info.engines.map(lowerCase),
    Publishers: info.publishers.map(lowerCase),
    StorageSources: info.sources.map(lowerCase),
    MaxCapacity: resourcesToWire(info.maxCapacity),
    QueueCapacity: resourcesToWire(info.queuedCapacity),
    AvailableCapacity: resourcesToWire(info.availableCapacity),
    MaxJobRequirements: resourcesToWire(info.maxJobRequirements),
    RunningExecutions: info.runningExecutions,
    EnqueuedExecutions: info.queuedExecutions,
    address: '',
  }
}

function lowerCase(text: string): string {
  return text.toLowerCase()
}
