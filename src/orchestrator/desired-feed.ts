import { isTerminalObservedState } from '../model/index.js'
import type { Execution, ExecutionId, NodeId, TimeMs } from '../model/index.js'

/** What a node has to hear. */
export interface DesiredChanges {
  /** In the order in which they changed. */
  ids: { id: ExecutionId; revision: number }[]
  /** What the node knows after applying all of them. */
  revision: number
  /** True when `ids` is everything that is wanted on the node. */
  complete: boolean
}

/**
 * Numbers the changes of desired state, so that each node can be told what it does not know yet.
 *
 * The numbers start at the time of the start, so they are higher than all that an earlier process gave out; a node that
 * knows less than the first of them, or more than the last, gets everything.
 */
export class DesiredFeed {
  readonly #first: number
  #last: number
  /** Per node, in ascending order of revision: executions that are not over. */
  readonly #byNode = new Map<NodeId, Map<ExecutionId, { revision: number; desired: string }>>()

  constructor(startMs: TimeMs) {
    this.#first = this.#last = Math.floor(startMs) * 1024
  }

  get revision(): number {
    return this.#last
  }

  /** Takes a stored execution in. True when the node has something to hear. */
  note(execution: Execution): boolean {
    const { id, nodeId, desired, observed } = execution
    const known = this.#byNode.get(nodeId)
    if (isTerminalObservedState(observed.state)) {
      this.forget(execution)
      return false
    }
    if (known?.get(id)?.desired === desired.state) return false
    const entries = known ?? new Map<ExecutionId, { revision: number; desired: string }>()
    this.#byNode.set(nodeId, entries)
    entries.delete(id)
    entries.set(id, { revision: ++this.#last, desired: desired.state })
    return true
  }

  /** For executions that nobody here will speak of again. */
  forget({ id, nodeId }: Execution): void {
    const known = this.#byNode.get(nodeId)
    if (known?.delete(id) === true && known.size === 0) this.#byNode.delete(nodeId)
  }

  /** `everything` is for a node that spoke of executions nobody here knows. */
  since(nodeId: NodeId, known: number, everything = false): DesiredChanges {
    const complete = everything || known < this.#first || known > this.#last
    const ids: DesiredChanges['ids'] = []
    for (const [id, { revision }] of this.#byNode.get(nodeId) ?? []) {
      if (complete || revision > known) ids.push({ id, revision })
    }
    return { ids, revision: this.#last, complete }
  }
}
