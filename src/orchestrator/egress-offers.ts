import { HostPatternSet, NO_NETWORK_POLICY } from '../model/index.js'
import type { EgressOffering, NetworkEgressPolicy, NodeEgressInfo } from '../model/index.js'

/** Offerings that are remembered. */
const OFFERINGS_MAX = 10_000

/** What a node lets jobs reach, in a form that is quick to ask. Nodes with equal lists share one. */
export interface EgressOffer extends EgressOffering {
  readonly mode: 'none' | 'list' | 'all'
  /** True while the node was not heard with its lists: it offers nothing until then. */
  readonly isPending: boolean
}

/** Reads what nodes say of their egress, together with the list of the network. */
export class EgressOffers {
  readonly #known = new Map<string, EgressOffer>()
  #network: Pick<EgressOffer, 'network' | 'networkDeny'> = {}
  /** Changes with the list of the network. */
  #generation = 0

  /** Throws `pattern.invalid`; then the old list stays. */
  setNetwork({ allow, deny }: NetworkEgressPolicy = NO_NETWORK_POLICY): void {
    const network = allow === undefined ? {} : { network: HostPatternSet.parse(allow, OPERATORS) }
    this.#network = { ...network, networkDeny: HostPatternSet.parse(deny, DENYING) }
    this.#generation += 1
    this.#known.clear()
  }

  /** Lists that cannot be read offer nothing. */
  read(egress: NodeEgressInfo): EgressOffer {
    const key = this.keyOf(egress)
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const offer = readEgressOffer(egress, this.#network)
    // Nothing refers to an old one but its nodes: forgetting all only means that equal ones are no longer shared.
    if (this.#known.size >= OFFERINGS_MAX) this.#known.clear()
    this.#known.set(key, offer)
    return offer
  }

  /** Equal keys, equal offers. */
  keyOf(egress: NodeEgressInfo): string {
    const { mode, listsDigest, allow, deny, keys } = egress
    const lists = listsDigest === undefined ? [allow, deny, keys] : [listsDigest, isPending(egress)]
    return JSON.stringify([this.#generation, mode, lists])
  }
}

export function readEgressOffer(
  egress: NodeEgressInfo,
  network: Pick<EgressOffer, 'network' | 'networkDeny'> = {},
): EgressOffer {
  const { mode = 'list', allow, deny, keys = [] } = egress
  return {
    mode,
    isPending: isPending(egress),
    allow: mode === 'all' ? HostPatternSet.everything() : readable(allow),
    deny: readable(deny, DENYING),
    keys: mode === 'none' ? [] : keys.map((grant) => ({ ...grant, allow: readable(grant.allow) })),
    ...network,
  }
}

function isPending({ listsDigest, allow, deny, keys = [], ...counts }: NodeEgressInfo): boolean {
  const { allowCount = 0, denyCount = 0, keyCount = 0 } = counts
  return (
    listsDigest !== undefined && allow.length + deny.length + keys.length < allowCount + denyCount + keyCount
  )
}

const OPERATORS = { allowPrivate: true, allowPublicSuffix: true } as const
const DENYING = { ...OPERATORS, portlessMeans: 'any' } as const

function readable(texts: readonly string[], options: Parameters<typeof HostPatternSet.parse>[1] = OPERATORS) {
  try {
    return HostPatternSet.parse(texts, options)
  } catch {
    // Safe: the node itself is asked again before it runs anything, and an empty list allows nothing.
    return new HostPatternSet([])
  }
}
