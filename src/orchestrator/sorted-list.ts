/**
 * A list that stays in order. Equal items must be the same item. Finding takes a logarithm of its length, putting in and
 * taking out moves what lies behind: quick up to some ten thousand items.
 */
export class SortedList<T> {
  readonly items: T[] = []
  readonly #compare: (a: T, b: T) => number

  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare
  }

  get size(): number {
    return this.items.length
  }

  /** True when it was not there. */
  add(item: T): boolean {
    const at = this.#position(item)
    const there = this.items[at]
    if (there !== undefined && this.#compare(there, item) === 0) return false
    this.items.splice(at, 0, item)
    return true
  }

  /** True when it was there. */
  remove(item: T): boolean {
    const at = this.#position(item)
    const there = this.items[at]
    if (there === undefined || this.#compare(there, item) !== 0) return false
    this.items.splice(at, 1)
    return true
  }

  /** Index of the first item for which it is false that it comes before; `comesBefore` is true for the first items only. */
  firstNot(comesBefore: (item: T) => boolean): number {
    let [low, high] = [0, this.items.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (comesBefore(this.items[middle] as T)) low = middle + 1
      else high = middle
    }
    return low
  }

  #position(item: T): number {
    return this.firstNot((other) => this.#compare(other, item) < 0)
  }
}
