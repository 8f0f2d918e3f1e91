import { WeirError } from '../errors.js'
import { decodeUtf8 } from './wasm-utf8.js'

const NAME_BYTES_MAX = 100_000

/** How many things may be read from one file, as what is made of them takes many times their room; counted down. */
export interface ReadBudget {
  left: number
  readonly max: number
}

/** Reads one stretch of a WebAssembly file; never past its end. Throws `wasm.invalid`. */
export class WasmReader {
  readonly #bytes: Uint8Array
  readonly #end: number
  readonly #what: string
  readonly #budget: ReadBudget | undefined
  offset: number

  /** With a budget, everything that `count` finds in any part of it is taken out of it. */
  constructor(bytes: Uint8Array, start: number, end: number, what: string, budget?: ReadBudget) {
    this.#budget = budget
    this.#bytes = bytes
    this.#end = end
    this.#what = what
    this.offset = start
  }

  atEnd(): boolean {
    return this.offset >= this.#end
  }

  end(): void {
    if (!this.atEnd()) throw malformed(`the ${this.#what} section is longer than its contents`, this.offset)
  }

  peek(): number | undefined {
    return this.atEnd() ? undefined : this.#bytes[this.offset]
  }

  byte(): number {
    const value = this.peek()
    if (value === undefined) throw malformed(`the ${this.#what} is truncated`, this.offset)
    this.offset++
    return value
  }

  u32(): number {
    const at = this.offset
    let value = 0
    for (let factor = 1; ; factor *= 0x80) {
      const byte = this.byte()
      value += (byte & 0x7f) * factor
      if (byte < 0x80) break
      if (factor === 0x80 ** 4) throw malformed('a number (LEB128) is longer than allowed', at)
    }
    if (value > 0xffffffff) throw malformed('a number (LEB128) is larger than allowed', at)
    return value
  }

  /** As a number: limits beyond 2^53 lose precision, which no check needs. */
  u64(): number {
    const at = this.offset
    let value = 0n
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte()
      value |= BigInt(byte & 0x7f) << BigInt(shift)
      if (byte < 0x80) break
      if (shift + 7 >= 64) throw malformed('a number (LEB128) is longer than allowed', at)
    }
    if (value >> 64n !== 0n) throw malformed('a number (LEB128) is larger than allowed', at)
    return Number(value)
  }

  /** A count of things of at least one byte each. */
  count(max: number, what: string): number {
    const at = this.offset
    const count = this.u32()
    if (count > max) throw invalid(`it has ${count} ${what}, more than the ${max} that are allowed`)
    if (count > this.#end - this.offset)
      throw malformed(`the ${this.#what} section is too short for ${count} ${what}`, at)
    this.spend(count)
    return count
  }

  /** Takes so many things out of the budget. */
  spend(count: number): void {
    const budget = this.#budget
    if (budget === undefined) return
    budget.left -= count
    if (budget.left < 0) throw invalid(`it consists of more than ${budget.max} parts`)
  }

  name(): string {
    const at = this.offset
    const length = this.u32()
    if (length > NAME_BYTES_MAX) throw invalid(`it has a name of ${length} bytes`)
    if (length > this.#end - this.offset) throw malformed(`a name of ${length} bytes does not fit`, at)
    const bytes = this.#bytes.subarray(this.offset, this.offset + length)
    this.offset += length
    const text = decodeUtf8(bytes)
    if (text === undefined) throw malformed('a name is not UTF-8', at)
    return text
  }

  slice(size: number, what: string): WasmReader {
    if (size > this.#end - this.offset) {
      throw malformed(
        `the ${what} section claims ${size} bytes, ${this.#end - this.offset} are left`,
        this.offset,
      )
    }
    const part = new WasmReader(this.#bytes, this.offset, this.offset + size, what, this.#budget)
    this.offset += size
    return part
  }
}

/** `wasm.invalid`, with what is wrong. */
export function invalid(
  problem: string,
  hint = 'Check that the file is a complete WebAssembly module',
): WeirError {
  return new WeirError('wasm.invalid', `Cannot use the WebAssembly module: ${problem}`, { hint })
}

/** The same, with where. */
export function malformed(problem: string, offset: number): WeirError {
  return invalid(`${problem} (at byte ${offset})`)
}

/** `wasm.invalid`: it is well formed, but needs what is not there. */
export function unsupported(what: string, hint = 'Build without this feature'): WeirError {
  return invalid(`it uses ${what}, which is not supported`, hint)
}
