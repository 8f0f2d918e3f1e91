import type { NetworkEgressPolicy } from '../model/index.js'
import type { NodeEgressPolicy } from '../ports/index.js'

/** The rules of a node with those of its network. */
export interface EgressRulesInForce extends NodeEgressPolicy {
  /** Version of the network's list; absent: none is known. */
  networkVersion?: number
}

/** Someone who has to know the rules: the gateway, the address guard, admission. Rejects when it cannot take them. */
type Target = (rules: EgressRulesInForce) => Promise<void> | void

/** Puts the operator's rules and the network's in force together, wherever they count, one change after the other. */
export class EgressInForce {
  readonly #targets: Target[] = []
  #own: NodeEgressPolicy
  #network: NetworkEgressPolicy | undefined
  #turn: Promise<void> = Promise.resolve()

  constructor(own: NodeEgressPolicy, network: NetworkEgressPolicy | undefined) {
    this.#own = own
    this.#network = network
  }

  get rules(): EgressRulesInForce {
    return together(this.#own, this.#network)
  }

  /** Told of each change, in the order in which targets were added; the rules of now it has to take itself. */
  add(target: Target): void {
    this.#targets.push(target)
  }

  /** Resolves when the change is in force everywhere. Rejects with what a target rejects with; then the old rules count. */
  async replace(change: { own?: NodeEgressPolicy; network?: NetworkEgressPolicy }): Promise<void> {
    const done = this.#turn.then(async () => {
      const own = change.own ?? this.#own
      const network = change.network ?? this.#network
      const rules = together(own, network)
      for (const target of this.#targets) await target(rules)
      this.#own = own
      this.#network = network
    })
    this.#turn = done.catch(() => undefined)
    await done
  }
}

function together(own: NodeEgressPolicy, network: NetworkEgressPolicy | undefined): EgressRulesInForce {
  if (network === undefined) return own
  const { version, allow, deny } = network
  return {
    ...own,
    ...(allow === undefined ? {} : { network: allow }),
    networkDeny: deny,
    networkVersion: version,
  }
}
