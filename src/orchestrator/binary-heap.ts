/** A queue whose first element is always the smallest. */
export class BinaryHeap<T> {
  readonly #isBefore: (a: T, b: T) => boolean
  readonly #items: T[] = []

  constructor(isBefore: (a: T, b: T) => boolean) {
    this.#isBefore = isBefore
  }

  get size(): number {
    return this.#items.length
  }

  peek(): T | undefined {
    return this.#items[0]
  }

  push(item: T): void {
    const items = this.#items
    let at = items.push(item) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!this.#isBefore(item, items[parent] as T)) break
      items[at] = items[parent] as T
      at = parent
    }
    items[at] = item
  }

  pop(): T | undefined {
    const items = this.#items
    const first = items[0]
    const last = items.pop()
    if (items.length === 0 || last === undefined) return first
    let at = 0
    for (;;) {
      const child = this.#smallerChild(at)
      if (child === undefined || !this.#isBefore(items[child] as T, last)) break
      items[at] = items[child] as T
      at = child
    }
    items[at] = last
    return first
  }

  #smallerChild(at: number): number | undefined {
    const [left, right] = [2 * at + 1, 2 * at + 2]
    if (left >= this.#items.length) return undefined
    if (right >= this.#items.length) return left
    return this.#isBefore(this.#items[right] as T, this.#items[left] as T) ? right : left
  }
}
