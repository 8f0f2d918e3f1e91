import { AsyncLocalStorage } from 'node:async_hooks'
import { WeirError } from '../errors.js'
import type { Principal } from '../model/access.js'

/** On whose behalf a request is handled. */
export interface Caller {
  principal: Principal
  /** Aborts when the principal loses its rights while the request is still being answered. */
  ended: AbortSignal
  /** Empty over a Unix socket. */
  address: string
}

/**
 * Carries the caller from the guard to the jobs without the routes between them: a route cannot forget to pass it on, and
 * where there is none nothing is answered.
 */
export class CallerScope {
  readonly #storage = new AsyncLocalStorage<Caller>()

  /** Runs `work`, and everything it starts, on behalf of the caller. */
  run(caller: Caller, work: () => void): void {
    this.#storage.run(caller, work)
  }

  /** Throws when nobody was recognised: that is a defect, and the request fails. */
  current(): Caller {
    const caller = this.#storage.getStore()
    if (caller === undefined) throw new WeirError('internal', 'A request is handled on behalf of nobody')
    return caller
  }
}
