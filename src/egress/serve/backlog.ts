/** Pieces of at least so many bytes are kept as they came; smaller ones are copied, many into one. */
const KEPT_BYTES_MIN = 16 * 1024
const FIRST_COPY_BYTES = 256

/**
 * Bytes that wait for a reader, in pieces. They take about as much memory as they are bytes, whoever sends them: a piece is
 * often a view of something much larger, and a hundred thousand pieces of one byte cost a hundred times what they say.
 */
export class Backlog {
  readonly #pieces: Buffer[] = []
  #length = 0
  /** The last piece when it is a copy: what it has room for, and how much of it is used. */
  #copy: { bytes: Buffer; used: number } | undefined
  #copyBytes = FIRST_COPY_BYTES

  get length(): number {
    return this.#length
  }

  add(bytes: Buffer): void {
    this.#length += bytes.length
    if (bytes.length >= KEPT_BYTES_MIN) {
      this.#seal()
      this.#pieces.push(bytes)
      return
    }
    for (let at = 0; at < bytes.length; ) {
      const copy = this.#room(bytes.length - at)
      const count = bytes.copy(copy.bytes, copy.used, at)
      copy.used += count
      at += count
    }
  }

  /** The next piece; undefined when there is none. */
  take(): Buffer | undefined {
    if (this.#pieces.length === 0) this.#seal()
    const bytes = this.#pieces.shift()
    this.#length -= bytes?.length ?? 0
    return bytes
  }

  /** Puts bytes back to the front. */
  unread(bytes: Buffer): void {
    this.#pieces.unshift(bytes)
    this.#length += bytes.length
  }

  clear(): void {
    this.#pieces.length = 0
    this.#copy = undefined
    this.#length = 0
  }

  #room(wanted: number): { bytes: Buffer; used: number } {
    if (this.#copy !== undefined && this.#copy.used < this.#copy.bytes.length) return this.#copy
    this.#seal()
    // The more waits, the larger the copies: few of them, and none much larger than what is in it.
    this.#copyBytes =
      this.#length <= wanted ? FIRST_COPY_BYTES : Math.min(KEPT_BYTES_MIN, this.#copyBytes * 2)
    this.#copy = { bytes: Buffer.allocUnsafeSlow(Math.max(wanted, this.#copyBytes)), used: 0 }
    return this.#copy
  }

  #seal(): void {
    const copy = this.#copy
    this.#copy = undefined
    if (copy !== undefined) this.#pieces.push(copy.bytes.subarray(0, copy.used))
  }
}
