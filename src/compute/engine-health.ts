import { WeirError, toWeirError } from '../errors.js'
import type { Clock, EngineHealth, Executor } from '../ports/index.js'
import { bounded } from './bounded-work.js'

/** The last that was heard of one engine. */
export interface EngineStatus {
  health: EngineHealth
  http: boolean
  full: boolean
  networkProblems: string[]
}

/** Asks engines whether they are available and what networks they can give; remembers the answers. */
export class EngineHealthBoard {
  readonly #executors: ReadonlyMap<string, Executor>
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #known = new Map<string, EngineStatus>()

  constructor(executors: ReadonlyMap<string, Executor>, clock: Clock, timeoutMs: number) {
    this.#executors = executors
    this.#clock = clock
    this.#timeoutMs = timeoutMs
  }

  /** Undefined for an engine that this node does not have. */
  get(engine: string): EngineStatus | undefined {
    return this.#executors.has(engine) ? (this.#known.get(engine) ?? NOT_ASKED) : undefined
  }

  all(): [string, EngineStatus][] {
    return [...this.#executors.keys()].map((engine) => [engine, this.#known.get(engine) ?? NOT_ASKED])
  }

  /** Asks all engines; never rejects. True when an answer differs from the last one. */
  async refresh(signal: AbortSignal): Promise<boolean> {
    const before = JSON.stringify([...this.#known])
    await Promise.all(
      [...this.#executors.values()].map(async (executor) => {
        this.#known.set(executor.engine, await this.#ask(executor, signal))
      }),
    )
    return before !== JSON.stringify([...this.#known])
  }

  async #ask(executor: Executor, signal: AbortSignal): Promise<EngineStatus> {
    const limits = {
      clock: this.#clock,
      signal,
      ms: this.#timeoutMs,
      timeout: () => new WeirError('engine.unavailable', `${executor.engine} does not answer`),
    }
    let health: EngineHealth
    try {
      health = await bounded((inner) => executor.probe(inner), limits)
    } catch (error) {
      const { message, hint = 'See the log of the node' } = toWeirError(error, 'engine.unavailable')
      return { ...NOT_ASKED, health: { available: false, message, hint } }
    }
    if (!health.available || executor.network === undefined) {
      return { health, http: false, full: false, networkProblems: [] }
    }
    const { network } = executor
    try {
      const { http, full, problems } = await bounded(() => network.modes(), {
        ...limits,
        // It may have to try in earnest whether a run can get out.
        ms: NETWORK_TIMEOUT_FACTOR * this.#timeoutMs,
      })
      return { health, http, full, networkProblems: problems }
    } catch (error) {
      return { health, http: false, full: false, networkProblems: [toWeirError(error).message] }
    }
  }
}

const NETWORK_TIMEOUT_FACTOR = 3

const NOT_ASKED: EngineStatus = Object.freeze({
  health: { available: false as const, message: 'The engine was not asked yet', hint: 'Try again' },
  http: false,
  full: false,
  networkProblems: [],
})
