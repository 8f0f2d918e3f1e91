import { WasiError } from './errno.js'

/** What the program may still add to its writable directories. The kernel's own limits stand behind this one. */
export class DiskBudget {
  readonly #bytesMax: number
  readonly #filesMax: number
  #bytes = 0
  #files = 0
  #refused = false

  constructor(bytesMax: number, filesMax: number) {
    this.#bytesMax = bytesMax
    this.#filesMax = filesMax
  }

  /** True once something was refused for lack of room. */
  get refused(): boolean {
    return this.#refused
  }

  /** How many further bytes fit. */
  get bytesLeft(): number {
    return Math.max(0, this.#bytesMax - this.#bytes)
  }

  /** ENOSPC when `count` further bytes do not fit. */
  checkBytes(count: number): void {
    if (count > this.bytesLeft) this.refuse()
  }

  /** A negative count gives bytes back. */
  takeBytes(count: number): void {
    this.giveBytes(-count)
  }

  giveBytes(count: number): void {
    this.#bytes = Math.max(0, this.#bytes - count)
  }

  checkFile(): void {
    if (this.#files >= this.#filesMax) this.refuse()
  }

  takeFile(): void {
    this.#files++
  }

  giveFile(): void {
    this.#files = Math.max(0, this.#files - 1)
  }

  refuse(): never {
    this.#refused = true
    throw new WasiError('NOSPC')
  }
}
