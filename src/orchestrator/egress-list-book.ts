import { type EgressLists, type NodeId, type NodeInfo, unpackEgressLists } from '../model/index.js'

/**
 * The long egress lists of nodes, each once however many nodes have it. A node says which it has with each message, by
 * digest, and sends the list itself when it is asked. Lives in memory: after a restart nodes are asked again.
 */
export class EgressListBook {
  readonly #lists = new Map<string, { lists: EgressLists; users: Set<NodeId> }>()
  readonly #digestOf = new Map<NodeId, string>()

  /**
   * Takes what a node sent of its lists; only lists whose content has the digest count. Returns its information with the
   * lists in it, as far as they are known, and whether it is to be asked for them.
   */
  heard(info: NodeInfo, packed: unknown): { info: NodeInfo; wanted: boolean } {
    const { nodeId, egress } = info
    const { listsDigest } = egress
    if (listsDigest === undefined) {
      this.forget(nodeId)
      return { info, wanted: false }
    }
    if (this.#digestOf.get(nodeId) !== listsDigest) this.forget(nodeId)
    const lists = this.#lists.get(listsDigest)?.lists ?? this.#unpack(listsDigest, packed)
    if (lists !== undefined) this.#use(nodeId, listsDigest, lists)
    return {
      info: { ...info, egress: { ...egress, ...(lists ?? NOTHING_TOLD) } },
      wanted: lists === undefined,
    }
  }

  /** The node is gone, or has other lists now. */
  forget(nodeId: NodeId): void {
    const digest = this.#digestOf.get(nodeId)
    if (digest === undefined) return
    this.#digestOf.delete(nodeId)
    const known = this.#lists.get(digest)
    known?.users.delete(nodeId)
    if (known?.users.size === 0) this.#lists.delete(digest)
  }

  #unpack(listsDigest: string, packed: unknown): EgressLists | undefined {
    const lists = packed === undefined ? undefined : unpackEgressLists(packed)
    const isMeant = (packed as { digest?: unknown } | undefined)?.digest === listsDigest
    return isMeant ? lists : undefined
  }

  #use(nodeId: NodeId, digest: string, lists: EgressLists): void {
    const known = this.#lists.get(digest) ?? { lists, users: new Set<NodeId>() }
    known.users.add(nodeId)
    this.#lists.set(digest, known)
    this.#digestOf.set(nodeId, digest)
  }
}

/** The same two arrays each time: what is compared by content costs nothing then. */
const NOTHING_TOLD: EgressLists = { allow: [], deny: [] }

/** As it is stored and compared: the digest stands for long lists. */
export function withoutLongLists(info: NodeInfo): NodeInfo {
  const { egress } = info
  if (egress.listsDigest === undefined) return info
  const { keys: _keys, ...rest } = egress
  return { ...info, egress: { ...rest, allow: [], deny: [] } }
}
