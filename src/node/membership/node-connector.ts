import type { NatsConnection } from '@nats-io/transport-node'
import { isWeirError, WeirError } from '../../errors.js'
import type { NodeId } from '../../model/index.js'
import { type Clock, JOIN_SUBJECT } from '../../ports/index.js'
import {
  createNatsTransport,
  joinerName,
  type KeyPair,
  keyPairOfSecret,
  type NatsAddress,
  openNats,
} from '../../transports/index.js'
import { REAL_CHANCE } from '../real-time.js'
import type { NodeLogger } from '../logger.js'
import { type JoinAnswer, type JoinRequest, joinText } from './join-desk.js'

export interface NodeConnectorOptions {
  nodeId: NodeId
  key: KeyPair
  /** Tried in turn, beginning with the one that answered last. */
  addresses: readonly NatsAddress[]
  /** The join token; empty when the node must be known already. */
  secret: string
  clock: Clock
  logger: NodeLogger
}

/**
 * Makes connections for a node: with its own key; where that is not known, it joins with the token first. Rejects with
 * `node.refused`, `node.identity` or `transport.unreachable`; the transport tries again.
 */
export function createNodeConnector(
  options: NodeConnectorOptions,
): (signal: AbortSignal) => Promise<NatsConnection> {
  let first = 0
  return async (signal) => {
    const { addresses } = options
    const failures: unknown[] = []
    for (let index = 0; index < addresses.length && !signal.aborted; index++) {
      const at = (first + index) % addresses.length
      const address = addresses[at]
      if (address === undefined) continue
      try {
        const connection = await connectTo(address, options, signal)
        first = at
        return connection
      } catch (error) {
        failures.push(error)
      }
    }
    // An answer says more than a silence.
    throw (
      failures.find((error) => !isWeirError(error, 'transport.unreachable')) ??
      failures[0] ??
      new WeirError('internal', 'No address was tried')
    )
  }
}

async function connectTo(
  address: NatsAddress,
  options: NodeConnectorOptions,
  signal: AbortSignal,
): Promise<NatsConnection> {
  try {
    return await open(address, options)
  } catch (error) {
    if (!isWeirError(error, 'transport.refused')) throw error
    if (options.secret === '') throw unknown(options.nodeId, error)
  }
  await join(address, options)
  return whenLetIn(address, options, signal)
}

function open(address: NatsAddress, { key, nodeId }: NodeConnectorOptions): Promise<NatsConnection> {
  return openNats({ ...address, key, identity: nodeId })
}

/** One request over a connection that may do nothing else. */
async function join(address: NatsAddress, options: NodeConnectorOptions): Promise<void> {
  const { nodeId, key, secret, clock, logger } = options
  const tokenKey = keyPairOfSecret(secret)
  const identity = joinerName(tokenKey.publicKey)
  const connection = await openNats({ ...address, key: tokenKey, identity }).catch((error: unknown) => {
    throw isWeirError(error, 'transport.refused') ? badToken(error) : error
  })
  const transport = createNatsTransport({
    identity,
    connect: async () => connection,
    clock,
    chance: REAL_CHANCE,
    logger: QUIET,
  })
  try {
    await transport.connected(JOIN_MS)
    const request: JoinRequest = {
      nodeId,
      publicKey: key.publicKey,
      signature: key.sign(joinText(nodeId, tokenKey.publicKey)),
    }
    const { membership } = (await transport.request(JOIN_SUBJECT, request, JOIN_MS)) as JoinAnswer
    logger.info({ nodeId, membership }, 'this node has joined the network')
  } finally {
    await transport.close()
  }
}

/** The server learns of a newcomer a moment after the orchestrator has said yes. */
async function whenLetIn(
  address: NatsAddress,
  options: NodeConnectorOptions,
  signal: AbortSignal,
): Promise<NatsConnection> {
  for (let tries = 1; ; tries++) {
    try {
      return await open(address, options)
    } catch (error) {
      if (!isWeirError(error, 'transport.refused') || tries >= LET_IN_TRIES) throw error
    }
    await options.clock.sleep(LET_IN_MS * tries, signal)
  }
}

const JOIN_MS = 10_000
const LET_IN_TRIES = 10
const LET_IN_MS = 50

function unknown(nodeId: NodeId, cause: unknown): WeirError {
  return new WeirError(
    'node.refused',
    `The orchestrator does not know node "${nodeId}", or has rejected it`,
    {
      hint: 'Join with a token (--token-file FILE or WEIR_COMPUTE_AUTH_TOKEN); an operator makes one with: weir node token create',
      retryable: true,
      cause,
    },
  )
}

function badToken(cause: unknown): WeirError {
  return new WeirError(
    'node.refused',
    'The orchestrator does not accept the join token: it is wrong, revoked, expired or used up',
    {
      hint: 'An operator makes a new one with: weir node token create',
      retryable: true,
      cause,
    },
  )
}

/** The exchange is reported as a whole. */
const QUIET: NodeLogger = { debug() {}, info() {}, warn() {}, error() {} }
