/** Something that waits for its turn. */
export interface Waiting {
  /** At most the queue's quantum. */
  readonly units: number
}

/**
 * Deficit round robin over any number of flows: whoever waits gets the same number of units per round, whatever the size of
 * the pieces it asks for and however many it has in line. Between flows that wait all the time the difference stays below
 * two quanta. A flow that has nothing in line keeps no claim.
 */
export class FairQueue<Flow, Turn extends Waiting> {
  readonly #quantum: number
  /** Flows with something in line, in the order of the round. */
  readonly #active = new Map<Flow, { turns: Turn[]; deficit: number }>()

  constructor(quantum: number) {
    this.#quantum = quantum
  }

  get isEmpty(): boolean {
    return this.#active.size === 0
  }

  add(flow: Flow, turn: Turn): void {
    const own = this.#active.get(flow)
    if (own === undefined) this.#active.set(flow, { turns: [turn], deficit: this.#quantum })
    else own.turns.push(turn)
  }

  remove(flow: Flow, turn: Turn): void {
    const own = this.#active.get(flow)
    const index = own?.turns.indexOf(turn) ?? -1
    if (own === undefined || index < 0) return
    own.turns.splice(index, 1)
    if (own.turns.length === 0) this.#active.delete(flow)
  }

  /** Whose turn it is; undefined when nobody waits. */
  peek(): Turn | undefined {
    for (;;) {
      const [first] = this.#active
      if (first === undefined) return undefined
      const [flow, own] = first
      const [turn] = own.turns
      if (turn !== undefined && turn.units <= own.deficit) return turn
      this.#active.delete(flow)
      this.#active.set(flow, own)
      own.deficit += this.#quantum
    }
  }

  /** Takes the turn that `peek` shows out of the line. */
  shift(): Turn | undefined {
    const turn = this.peek()
    const [first] = this.#active
    if (turn === undefined || first === undefined) return undefined
    const [flow, own] = first
    own.turns.shift()
    own.deficit -= turn.units
    if (own.turns.length === 0) this.#active.delete(flow)
    return turn
  }
}
