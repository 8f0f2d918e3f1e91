import { WeirError } from '../errors.js'
import {
  NO_RESOURCES,
  addResources,
  formatResources,
  resourceShortfalls,
  subtractResources,
  type Resources,
} from '../model/resources.js'
import { nextTurn, type Waiting } from './waiting-line.js'

/** Gives capacity back; calling it again does nothing. */
export type Release = () => void

/**
 * Hands out the node's capacity: what is given out never makes what is held exceed `total` in any amount. Executions that do
 * not fit wait in line (see `waiting-line.ts`).
 */
export class CapacityGate {
  readonly total: Resources
  readonly #limits: { queueLengthMax: number; overtakesMax: number }
  readonly #held = new Map<string, Resources>()
  readonly #line = new Map<string, Waiting & { admit: () => void }>()
  #arrivals = 0

  constructor(total: Resources, limits: { queueLengthMax: number; overtakesMax: number }) {
    this.total = total
    this.#limits = limits
  }

  get free(): Resources {
    return subtractResources(this.total, sum(this.#held.values()))
  }

  get queued(): Resources {
    return sum([...this.#line.values()].map(({ resources }) => resources))
  }

  get running(): number {
    return this.#held.size
  }

  get waiting(): number {
    return this.#line.size
  }

  get isFull(): boolean {
    return this.#line.size >= this.#limits.queueLengthMax
  }

  /**
   * Resolves when the execution may use `resources`. Rejects with the signal's reason when it aborts first, and with
   * `compute.resources` when the line is full or the execution could never fit. `onWait` is called once when it does
   * not fit at once.
   */
  async enter(
    who: { id: string; priority: number; resources: Resources },
    signal: AbortSignal,
    onWait?: () => void,
  ): Promise<Release> {
    signal.throwIfAborted()
    this.#refuseImpossible(who.resources)
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        this.#line.delete(who.id)
        reject(signal.reason)
        // Its departure may unblock those it held back.
        this.#advance()
      }
      const admit = () => {
        signal.removeEventListener('abort', leave)
        resolve()
      }
      signal.addEventListener('abort', leave, { once: true })
      this.#line.set(who.id, { ...who, arrival: ++this.#arrivals, overtaken: 0, admit })
      this.#advance()
      if (this.#line.has(who.id)) onWait?.()
    })
    return () => {
      if (this.#held.delete(who.id)) this.#advance()
    }
  }

  /**
   * For an execution that has its resources already, from an earlier process. They are charged whatever else is held, also
   * beyond `total`: then nobody enters until there is room.
   */
  restore(id: string, resources: Resources): Release {
    this.#held.set(id, resources)
    return () => {
      if (this.#held.delete(id)) this.#advance()
    }
  }

  #advance(): void {
    for (;;) {
      const turn = nextTurn([...this.#line.values()], this.free, this.#limits.overtakesMax)
      if (turn === undefined) return
      const { id, resources } = turn.start
      for (const passed of turn.overtaken) {
        const entry = this.#line.get(passed.id)
        if (entry !== undefined) this.#line.set(passed.id, { ...entry, overtaken: entry.overtaken + 1 })
      }
      const admitted = this.#line.get(id)
      this.#line.delete(id)
      this.#held.set(id, resources)
      admitted?.admit()
    }
  }

  #refuseImpossible(asked: Resources): void {
    const shortfalls = resourceShortfalls(asked, this.total)
    if (shortfalls.length > 0) {
      throw new WeirError('compute.resources', `Cannot ever fit ${formatResources(asked)} on this node`, {
        details: { shortfalls },
      })
    }
    if (this.isFull) {
      throw new WeirError(
        'compute.resources',
        `The queue of this node is full (${this.waiting} executions)`,
        {
          hint: 'Try again later or on another node',
          retryable: true,
        },
      )
    }
  }
}

function sum(all: Iterable<Resources>): Resources {
  let total = NO_RESOURCES
  for (const one of all) total = addResources(total, one)
  return total
}
