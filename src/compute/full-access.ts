import { setMaxListeners } from 'node:events'
import { WeirError } from '../errors.js'
import type { NetworkEgressPolicy } from '../model/egress-lists.js'
import { isLimitedByNetwork, type NetworkRules, refuseFullByRules } from './network-admission.js'

/**
 * Whether jobs have full network access on this node now. No gateway holds such a job to a list, so the node does: when
 * the rules admit no such access any more, it ends. A list of the network counts from the moment it is heard, not only
 * when it is in force everywhere.
 */
export class FullAccess {
  #rules: NetworkRules
  #hasHeardOfLimits = false
  #open = opened()

  constructor(rules: NetworkRules) {
    this.#rules = rules
    this.#judge()
  }

  /** For what begins now: aborts with a `WeirError` when the access is withdrawn; where there is none, it is aborted. */
  get signal(): AbortSignal {
    return this.#open.signal
  }

  /** A list of the network that will be in force: until then it can only withdraw. */
  hear(list: NetworkEgressPolicy): void {
    this.#hasHeardOfLimits = list.allow !== undefined || list.deny.length > 0
    this.#judge()
  }

  replace(rules: NetworkRules): void {
    this.#rules = rules
    this.#judge()
  }

  #judge(): void {
    const isLimited = isLimitedByNetwork(this.#rules) || this.#hasHeardOfLimits
    const [refusal] = refuseFullByRules(this.#rules, isLimited)
    if (refusal !== undefined) {
      const { code, message, hint } = refusal
      this.#open.abort(new WeirError(code, message, { hint, retryable: true }))
    } else if (this.#open.signal.aborted) this.#open = opened()
  }
}

function opened(): AbortController {
  const open = new AbortController()
  // Each run with full access listens.
  setMaxListeners(0, open.signal)
  return open
}
