/**
 * Several streams as one, in order of arrival. A source is read on only after its item was taken, so memory holds one
 * item per source. Ends when it was told that no source will follow and all have ended; fails with the first that does.
 */
export class MergedStream<T> {
  readonly #ready: { item: T; taken: () => void }[] = []
  #open = 0
  #isFinal = false
  #failure: { error: unknown } | undefined
  #notify: (() => void) | undefined

  add(source: AsyncIterable<T>): void {
    this.#open += 1
    void this.#pump(source)
  }

  /** No source will follow. */
  finish(): void {
    this.#isFinal = true
    this.#notify?.()
  }

  fail(error: unknown): void {
    this.#failure ??= { error }
    this.#notify?.()
  }

  async *items(): AsyncIterable<T> {
    for (;;) {
      const next = this.#ready.shift()
      if (next !== undefined) {
        yield next.item
        next.taken()
      } else if (this.#failure !== undefined) {
        throw this.#failure.error
      } else if (this.#isFinal && this.#open === 0) {
        return
      } else {
        await new Promise<void>((resolve) => {
          this.#notify = resolve
        })
      }
    }
  }

  async #pump(source: AsyncIterable<T>): Promise<void> {
    try {
      for await (const item of source) {
        await new Promise<void>((taken) => {
          this.#ready.push({ item, taken })
          this.#notify?.()
        })
      }
    } catch (error) {
      this.fail(error)
    } finally {
      this.#open -= 1
      this.#notify?.()
    }
  }
}
