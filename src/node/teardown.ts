import type { NodeLogger } from './logger.js'

/** What was opened, to be closed in reverse order. One part that cannot be closed does not keep the others open. */
export class Teardown {
  readonly #steps: { what: string; close: () => Promise<void> | void }[] = []
  readonly #logger: NodeLogger
  #closing: Promise<void> | undefined

  constructor(logger: NodeLogger) {
    this.#logger = logger
  }

  add(what: string, close: () => Promise<void> | void): void {
    this.#steps.push({ what, close })
  }

  /** Idempotent: later calls wait for the first. */
  run(): Promise<void> {
    this.#closing ??= this.#runOnce()
    return this.#closing
  }

  async #runOnce(): Promise<void> {
    for (const { what, close } of this.#steps.reverse()) {
      try {
        await close()
      } catch (error) {
        this.#logger.error({ err: error }, `${what} could not be closed`)
      }
    }
  }
}
