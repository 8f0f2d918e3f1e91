import type { ComputeLogger } from './options.js'

/** Things that were opened, closed in reverse order whatever happens. */
export class ClosingStack {
  readonly #closers: { what: string; close: () => unknown }[] = []
  readonly #logger: ComputeLogger

  constructor(logger: ComputeLogger) {
    this.#logger = logger
  }

  add(what: string, close: () => unknown): void {
    this.#closers.push({ what, close })
  }

  /** Never rejects: what cannot be closed is logged, and the rest is closed nevertheless. */
  async close(): Promise<void> {
    for (;;) {
      const closer = this.#closers.pop()
      if (closer === undefined) return
      try {
        await closer.close()
      } catch (error) {
        this.#logger.error({ error, what: closer.what }, 'could not be closed')
      }
    }
  }
}
