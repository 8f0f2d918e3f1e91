import type { NodeId } from '../model/index.js'
import { nudgeSubject, type Transport } from '../ports/index.js'

const ANSWER_MS = 2_000

/** Tells nodes to ask for news. At most one message per node is under way; more wishes meanwhile make one more. */
export class Nudger {
  readonly #transport: Transport
  /** True: somebody wished for another one meanwhile. */
  readonly #underWay = new Map<NodeId, boolean>()
  #isClosed = false

  constructor(transport: Transport) {
    this.#transport = transport
  }

  nudge(nodeId: NodeId): void {
    if (this.#isClosed) return
    if (this.#underWay.has(nodeId)) this.#underWay.set(nodeId, true)
    else void this.#send(nodeId)
  }

  close(): void {
    this.#isClosed = true
  }

  async #send(nodeId: NodeId): Promise<void> {
    do {
      this.#underWay.set(nodeId, false)
      try {
        await this.#transport.request(nudgeSubject(nodeId), {}, ANSWER_MS)
      } catch {
        // A nudge may get lost: the node asks by itself after a while.
      }
    } while (this.#underWay.get(nodeId) === true && !this.#isClosed)
    this.#underWay.delete(nodeId)
  }
}
