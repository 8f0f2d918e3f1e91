/** Work under one key goes one after the other; under different keys, side by side. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>()

  /** Runs `work` when what came before under the key is over, however that ended. */
  async take<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key)
    const turn = (async () => {
      await before?.catch(() => undefined)
      return work()
    })()
    this.#last.set(key, turn)
    try {
      return await turn
    } finally {
      if (this.#last.get(key) === turn) this.#last.delete(key)
    }
  }
}
