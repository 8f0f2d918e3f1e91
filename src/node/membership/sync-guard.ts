import { WeirError } from '../../errors.js'
import type { NodeId, NodeMembership, SyncResponse } from '../../model/index.js'
import { BLOB_SUBJECT, SYNC_SUBJECT, type Transport } from '../../ports/index.js'

/**
 * The orchestrator's transport for other machines: a node speaks for itself only. Rejects with `api.forbidden` when the
 * message names another node than the connection proves, and with `node.refused` when the node was forgotten meanwhile. The
 * key that others are told is the one by which the node is known, whatever it says itself.
 */
export function guardSync(transport: Transport, keyOf: (nodeId: NodeId) => string | undefined): Transport {
  return {
    request: (subject, body, timeoutMs) => transport.request(subject, body, timeoutMs),
    close: () => transport.close(),
    serve: (subject, handler) => {
      if (subject !== SYNC_SUBJECT && subject !== BLOB_SUBJECT) return transport.serve(subject, handler)
      return transport.serve(subject, async (body, signal, from) => {
        const publicKey = from === undefined ? undefined : keyOf(from)
        if (publicKey === undefined) {
          throw new WeirError('node.refused', 'The orchestrator does not know this node any more')
        }
        const { nodeId, info } = (body ?? {}) as { nodeId?: unknown; info?: unknown }
        if (nodeId !== from) {
          throw new WeirError('api.forbidden', `Node "${from}" cannot report for another node`)
        }
        const known = typeof info === 'object' && info !== null ? { ...info, publicKey } : info
        return handler({ ...(body as object), info: known }, signal, from)
      })
    },
  }
}

/** The node's transport, with an ear on what the orchestrator says about the node's membership. */
export function watchMembership(
  transport: Transport,
  heard: (membership: NodeMembership) => void,
): Transport {
  return {
    serve: (subject, handler) => transport.serve(subject, handler),
    close: () => transport.close(),
    request: async (subject, body, timeoutMs) => {
      const answer = await transport.request(subject, body, timeoutMs)
      if (subject === SYNC_SUBJECT) heard((answer as SyncResponse).membership)
      return answer
    },
  }
}
