import { WeirError } from '../../errors.js'
import { checkNodeId, type NodeId, type NodeMembership } from '../../model/index.js'
import type { Clock, Handler } from '../../ports/index.js'
import { isPublicKey, isSignedBy } from '../../transports/index.js'
import type { NodeLogger } from '../logger.js'
import type { Roster } from './roster.js'

/** What a machine sends over the connection that its join token opens. */
export interface JoinRequest {
  nodeId: NodeId
  /** The machine's own key, by which it is known from then on. */
  publicKey: string
  /** {@link joinText}, signed with that key. */
  signature: string
}

export interface JoinAnswer {
  /** What the network has decided about the node. */
  membership: NodeMembership
}

export interface JoinDeskParts {
  roster: Roster
  /** Id of the orchestrator's own node. */
  ownId: NodeId
  /** What is decided about a node; undefined for one that never spoke. */
  membershipOf: (nodeId: NodeId) => Promise<NodeMembership | undefined>
  /** What a new node becomes. */
  newcomer: NodeMembership
  clock: Clock
  logger: NodeLogger
}

/** What a machine signs: its key asks for this name with this token, and with no other. */
export function joinText(nodeId: NodeId, tokenKey: string): string {
  return `weir join\n${nodeId}\n${tokenKey}`
}

/**
 * Puts machines on the roster. Rejects with `node.refused` (token not open, node rejected), `node.identity` (the id is
 * known with another key, or the key with another id) or `api.bad_request`. Asking twice is harmless.
 */
export function createJoinDesk(parts: JoinDeskParts): Handler {
  // One at a time: two machines that ask for the same name at once must not both get it.
  let last: Promise<unknown> = Promise.resolve()
  return (body, _signal, from = '') => {
    const answer = last.then(() => join(body, from.replace(/^_/, ''), parts))
    last = answer.catch(() => {}) // Answered to whoever asked.
    return answer
  }
}

async function join(body: unknown, tokenKey: string, parts: JoinDeskParts): Promise<JoinAnswer> {
  const { roster, clock, logger } = parts
  const tokenId = roster.openToken(tokenKey)
  if (tokenId === undefined) throw closedToken()
  const { nodeId, publicKey } = readJoinRequest(body, tokenKey)
  checkIdentity(nodeId, publicKey, parts)
  const membership = await parts.membershipOf(nodeId)
  if (roster.member(nodeId) === undefined) {
    await roster.add({ nodeId, publicKey, joinTimeMs: clock.now() }, tokenId)
    logger.info({ nodeId, tokenId }, 'a node has joined')
  } else if (membership === 'REJECTED') throw rejected(nodeId)
  return { membership: membership ?? parts.newcomer }
}

function readJoinRequest(body: unknown, tokenKey: string): JoinRequest {
  const { nodeId, publicKey, signature } = (body ?? {}) as Record<string, unknown>
  if (typeof nodeId !== 'string' || typeof signature !== 'string' || !isPublicKey(publicKey))
    throw new WeirError(
      'api.bad_request',
      'Cannot read a request to join: a name, a key or a signature is missing',
    )
  checkNodeId(nodeId)
  if (!isSignedBy(publicKey, joinText(nodeId, tokenKey), signature))
    throw new WeirError('api.bad_request', 'Cannot take a request to join: its key did not sign it')
  return { nodeId, publicKey, signature }
}

function checkIdentity(nodeId: NodeId, publicKey: string, { roster, ownId }: JoinDeskParts): void {
  const named = roster.member(nodeId)
  if (nodeId === ownId || (named !== undefined && named.publicKey !== publicKey)) {
    throw new WeirError('node.identity', `Another machine is known as node "${nodeId}", with another key`, {
      hint: `Start with another --name and data directory; if the old machine is gone, an operator runs: weir node delete ${nodeId}`,
    })
  }
  const keyed = roster.memberWithKey(publicKey)
  if (keyed !== undefined && keyed.nodeId !== nodeId) {
    throw new WeirError('node.identity', `The machine's key is known as node "${keyed.nodeId}"`, {
      hint: 'A data directory belongs to one node: give this one its own',
    })
  }
}

function closedToken(): WeirError {
  return new WeirError('node.refused', 'The join token is revoked, expired or used up', {
    hint: 'An operator makes a new one with: weir node token create',
  })
}

function rejected(nodeId: NodeId): WeirError {
  return new WeirError('node.refused', `Node "${nodeId}" was rejected by an operator`, {
    hint: `An operator can let it in with: weir node approve ${nodeId}`,
    retryable: true,
  })
}
