import { isLoopback } from '../../model/index.js'
import type { Config } from '../../config/index.js'
import { WeirError } from '../../errors.js'
import type { NodeMembership } from '../../model/index.js'
import { type Chance, type Clock, nudgeSubject, type Transport } from '../../ports/index.js'
import {
  createNatsTransport,
  keyPairOf,
  type LinkStatus,
  type NatsAddress,
  readNatsUrl,
} from '../../transports/index.js'
import type { NodeIdentity } from '../identity.js'
import type { NodeLogger } from '../logger.js'
import { createNodeConnector } from './node-connector.js'
import { watchMembership } from './sync-guard.js'

/** How a compute node without an orchestrator of its own stands with its network. */
export interface NetworkStatus extends LinkStatus {
  /** What the orchestrator said last; undefined before it said anything. */
  membership?: NodeMembership
}

/** The node's side of a network of several machines. */
export interface NodeLink {
  readonly transport: Transport
  status(): NetworkStatus
}

export interface NodeLinkParts {
  config: Config
  identity: NodeIdentity
  /** The join token; absent = `Compute.Auth.Token`. */
  joinSecret?: string
  clock: Clock
  chance: Chance
  logger: NodeLogger
}

/**
 * Begins to connect; the orchestrator need not be there yet, and may go and come back. Throws `config.invalid` for
 * addresses that cannot be used.
 */
export function openNodeLink(parts: NodeLinkParts): NodeLink {
  const { config, identity, clock, chance, logger } = parts
  const { nodeId } = identity
  let membership: NodeMembership | undefined
  const network = createNatsTransport({
    identity: nodeId,
    connect: createNodeConnector({
      nodeId,
      key: keyPairOf(identity.keySeed),
      addresses: readAddresses(config),
      secret: parts.joinSecret ?? config.values['Compute.Auth.Token'],
      clock,
      logger,
    }),
    clock,
    chance,
    logger,
    onStatus: ({ state }) => {
      // What happened while the way was closed is said, and asked for, at once.
      if (state === 'connected') network.deliver(nudgeSubject(nodeId), {}).catch(() => {})
    },
  })
  const transport = watchMembership(network, (heard) => {
    if (heard !== membership) sayMembership(heard, nodeId, logger)
    membership = heard
  })
  return {
    transport,
    status: () => ({ ...network.status(), ...(membership === undefined ? {} : { membership }) }),
  }
}

function sayMembership(membership: NodeMembership, nodeId: string, logger: NodeLogger): void {
  if (membership === 'APPROVED') logger.info({ nodeId }, 'this node takes part in the network')
  else if (membership === 'PENDING')
    logger.warn({ nodeId }, `this node waits until an operator approves it: weir node approve ${nodeId}`)
  else logger.error({ nodeId }, 'an operator has rejected this node; it runs nothing for this network')
}

function readAddresses({ values }: Config): NatsAddress[] {
  const caFile = values['Compute.TLS.CACert']
  if (values['Compute.Orchestrators'].length === 0) {
    throw new WeirError('config.invalid', 'Cannot start a compute node alone: no orchestrator is named', {
      hint: 'Name one: --join nats://host:4222 or Compute.Orchestrators',
    })
  }
  return values['Compute.Orchestrators'].map((url) => {
    const { scheme, host, port } = readNatsUrl(url)
    const isNear = isLoopback({ host: host.replace(/^\[|\]$/g, ''), port })
    const mayBeOpen = isNear || values['Compute.TLS.AllowInsecure']
    const isTlsRequired = values['Compute.TLS.RequireTLS'] || scheme === 'tls' || caFile !== '' || !mayBeOpen
    return { url, isTlsRequired, ...(caFile === '' ? {} : { caFile }) }
  })
}

/** Hosts of the message servers on other machines; what is on this one is closed to jobs anyway. */
export function orchestratorHosts({ values }: Config): string[] {
  return values['Compute.Orchestrators']
    .map((url) => ({ ...readNatsUrl(url) }))
    .map(({ host, port }) => ({ host: host.replace(/^\[|\]$/g, '').toLowerCase(), port }))
    .filter((where) => !isLoopback(where))
    .map(({ host }) => host)
}

/** Throws `config.invalid` when a secret stands where every user of the machine can read it. */
export function refuseVisibleSecrets(config: Config): void {
  const seen = (['Compute.Auth.Token', 'Orchestrator.Auth.Token'] as const).filter(
    (name) => config.origin(name) === 'flag',
  )
  if (seen.length === 0) return
  throw new WeirError(
    'config.invalid',
    `Cannot take ${seen.join(' and ')} from the command line: others see it in \`ps\``,
    {
      hint: 'Use --token-file FILE, the environment (WEIR_COMPUTE_AUTH_TOKEN) or the configuration file',
    },
  )
}
