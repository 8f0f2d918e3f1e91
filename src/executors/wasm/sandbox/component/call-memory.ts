import { decodeUtf8 } from '../../../../model/wasm-utf8.js'
import type { WasmMemory } from '../web-assembly.js'
import { CanonicalTrap } from './faults.js'

export type Realloc = (old: number, oldSize: number, align: number, size: number) => number

/** The memory that one canonical function reads its values from and places them into, every access checked. */
export class CallMemory {
  readonly #memory: WasmMemory | undefined
  readonly #realloc: Realloc | undefined
  readonly #encoding: 'utf8' | 'utf16'
  #view = new DataView(new ArrayBuffer(0))

  constructor(memory: WasmMemory | undefined, realloc: Realloc | undefined, encoding: 'utf8' | 'utf16') {
    this.#memory = memory
    this.#realloc = realloc
    this.#encoding = encoding
  }

  /** A view of all of the memory, when `length` bytes at the pointer are in it and the pointer is aligned. */
  at(pointer: number, length: number, align: number): DataView {
    const buffer = this.#memory?.buffer
    if (buffer === undefined) throw new CanonicalTrap('a function needs a memory and has none')
    if (this.#view.buffer !== buffer) this.#view = new DataView(buffer)
    if (pointer % align !== 0)
      throw new CanonicalTrap(`the pointer ${pointer} is not aligned to ${align} bytes`)
    if (pointer + length > buffer.byteLength)
      throw new CanonicalTrap(`${length} bytes at ${pointer} are outside of the memory`)
    return this.#view
  }

  /** A copy: the memory may grow while it is in use. */
  bytes(pointer: number, length: number): Uint8Array {
    return new Uint8Array(this.at(pointer, length, 1).buffer.slice(pointer, pointer + length) as ArrayBuffer)
  }

  allocate(size: number, align: number): number {
    if (this.#realloc === undefined) throw new CanonicalTrap('a function needs to allocate memory and cannot')
    const pointer = this.#realloc(0, 0, align, size) >>> 0
    this.at(pointer, size, align)
    return pointer
  }

  /** Places bytes; returns where. */
  place(bytes: Uint8Array, align: number): number {
    const pointer = this.allocate(bytes.length, align)
    new Uint8Array(this.at(pointer, bytes.length, align).buffer).set(bytes, pointer)
    return pointer
  }

  string(pointer: number, units: number): string {
    const isUtf8 = this.#encoding === 'utf8'
    const length = isUtf8 ? units : units * 2
    this.at(pointer, length, isUtf8 ? 1 : 2)
    const bytes = this.bytes(pointer, length)
    const text = isUtf8 ? decodeUtf8(bytes) : Buffer.from(bytes).toString('utf16le')
    if (text === undefined || (!isUtf8 && !isWellFormed(text)))
      throw new CanonicalTrap(`a string is not ${isUtf8 ? 'UTF-8' : 'UTF-16'}`)
    return text
  }

  placeString(text: string): [pointer: number, units: number] {
    const isUtf8 = this.#encoding === 'utf8'
    const bytes = Buffer.from(text, isUtf8 ? 'utf8' : 'utf16le')
    return [this.place(bytes, isUtf8 ? 1 : 2), isUtf8 ? bytes.length : bytes.length / 2]
  }
}

/** Whether every surrogate has its other half. */
function isWellFormed(text: string): boolean {
  return !/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text)
}
