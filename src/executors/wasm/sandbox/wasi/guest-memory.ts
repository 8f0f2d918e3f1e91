import type { WasmMemory } from '../web-assembly.js'
import { WasiError } from './errno.js'

/** Most buffers that one read or write uses, as IOV_MAX; the others are left for the next call. */
const IOVECS_MAX = 1024
/** Most bytes that one read or write moves, as Linux's MAX_RW_COUNT. */
export const TRANSFER_BYTES_MAX = 0x7fff_f000

/**
 * The memory of one instance, with every access checked: outside of it is EFAULT.
 *
 * Pointers and lengths arrive as signed 32-bit numbers and are read as unsigned. The views are kept; a memory that grew
 * leaves them empty, which is noticed because nothing fits into an empty view.
 */
export class GuestMemory {
  #memory: WasmMemory | undefined
  #buffer: ArrayBuffer | undefined
  #view = new DataView(new ArrayBuffer(0))
  #bytes = new Uint8Array(0)

  /** Until this is called, as while a start section runs, every access is EFAULT. */
  attach(memory: WasmMemory): void {
    this.#memory = memory
  }

  /** Returns the pointer as an unsigned number; `length` is unsigned already. */
  check(pointer: number, length: number): number {
    const at = pointer >>> 0
    const size = this.#bytes.length
    if (at + length > size || size === 0) this.#renew(at + length)
    return at
  }

  /** All of the memory, after `check`; whoever allocates nothing for a single buffer needs it. */
  get whole(): Uint8Array {
    return this.#bytes
  }

  bytes(pointer: number, length: number): Uint8Array {
    const at = this.check(pointer, length >>> 0)
    return this.#bytes.subarray(at, at + (length >>> 0))
  }

  /** Bytes as a string with one character per byte, so that names that are not UTF-8 survive. */
  text(pointer: number, length: number): string {
    const at = this.check(pointer, length >>> 0)
    return Buffer.from(this.#bytes.buffer, at, length >>> 0).toString('latin1')
  }

  /**
   * The buffers of a `ciovec_array` or `iovec_array` that one call uses, without empty ones. There may be fewer than
   * asked for: a read or write may always do less.
   */
  buffers(pointer: number, count: number): Uint8Array[] {
    const first = this.check(pointer, (count >>> 0) * 8)
    const end = first + (count >>> 0) * 8
    const buffers: Uint8Array[] = []
    let room = TRANSFER_BYTES_MAX
    for (let at = first; at < end && buffers.length < IOVECS_MAX && room > 0; at += 8) {
      const length = this.#view.getUint32(at + 4, true)
      const start = this.check(this.#view.getUint32(at, true), length)
      if (length === 0) continue
      buffers.push(this.#bytes.subarray(start, start + Math.min(length, room)))
      room -= length
    }
    return buffers
  }

  getU8(pointer: number): number {
    const at = this.check(pointer, 1)
    return this.#view.getUint8(at)
  }

  getU16(pointer: number): number {
    const at = this.check(pointer, 2)
    return this.#view.getUint16(at, true)
  }

  getU32(pointer: number): number {
    const at = this.check(pointer, 4)
    return this.#view.getUint32(at, true)
  }

  getU64(pointer: number): bigint {
    const at = this.check(pointer, 8)
    return this.#view.getBigUint64(at, true)
  }

  setU8(pointer: number, value: number): void {
    const at = this.check(pointer, 1)
    this.#view.setUint8(at, value)
  }

  setU16(pointer: number, value: number): void {
    const at = this.check(pointer, 2)
    this.#view.setUint16(at, value, true)
  }

  setU32(pointer: number, value: number): void {
    const at = this.check(pointer, 4)
    this.#view.setUint32(at, value, true)
  }

  setU64(pointer: number, value: bigint): void {
    const at = this.check(pointer, 8)
    this.#view.setBigUint64(at, value, true)
  }

  #renew(end: number): void {
    const buffer = this.#memory?.buffer
    if (buffer === undefined) throw new WasiError('FAULT')
    if (buffer !== this.#buffer) {
      this.#buffer = buffer
      this.#view = new DataView(buffer)
      this.#bytes = new Uint8Array(buffer)
    }
    if (end > buffer.byteLength) throw new WasiError('FAULT')
  }
}
