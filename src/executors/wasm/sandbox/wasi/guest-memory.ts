import type { WasmMemory } from '../web-assembly.js'
import { WasiError } from './errno.js'

/** Most buffers in one read or write, as IOV_MAX. */
const IOVECS_MAX = 1024

/**
 * The memory of one instance, with every access checked: outside of it is EFAULT.
 *
 * Pointers and lengths arrive as signed 32-bit numbers and are read as unsigned.
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

  bytes(pointer: number, length: number): Uint8Array {
    const at = this.#check(pointer, length >>> 0)
    return this.#bytes.subarray(at, at + (length >>> 0))
  }

  /** Bytes as a string with one character per byte, so that names that are not UTF-8 survive. */
  text(pointer: number, length: number): string {
    return Buffer.from(this.bytes(pointer, length)).toString('latin1')
  }

  /** The buffers of a `ciovec_array` or `iovec_array`. */
  buffers(pointer: number, count: number): Uint8Array[] {
    if (count >>> 0 > IOVECS_MAX) throw new WasiError('INVAL')
    const first = this.#check(pointer, (count >>> 0) * 8)
    const buffers: Uint8Array[] = []
    for (let index = 0; index < count; index++) {
      const at = first + index * 8
      buffers.push(this.bytes(this.#view.getUint32(at, true), this.#view.getUint32(at + 4, true)))
    }
    return buffers
  }

  getU8(pointer: number): number {
    const at = this.#check(pointer, 1)
    return this.#view.getUint8(at)
  }

  getU16(pointer: number): number {
    const at = this.#check(pointer, 2)
    return this.#view.getUint16(at, true)
  }

  getU32(pointer: number): number {
    const at = this.#check(pointer, 4)
    return this.#view.getUint32(at, true)
  }

  getU64(pointer: number): bigint {
    const at = this.#check(pointer, 8)
    return this.#view.getBigUint64(at, true)
  }

  setU8(pointer: number, value: number): void {
    const at = this.#check(pointer, 1)
    this.#view.setUint8(at, value)
  }

  setU16(pointer: number, value: number): void {
    const at = this.#check(pointer, 2)
    this.#view.setUint16(at, value, true)
  }

  setU32(pointer: number, value: number): void {
    const at = this.#check(pointer, 4)
    this.#view.setUint32(at, value, true)
  }

  setU64(pointer: number, value: bigint): void {
    const at = this.#check(pointer, 8)
    this.#view.setBigUint64(at, value, true)
  }

  /** Returns the pointer as an unsigned number. */
  #check(pointer: number, length: number): number {
    const buffer = this.#memory?.buffer
    // Growing detaches the old buffer, so the views are made again.
    if (buffer !== this.#buffer || buffer === undefined) {
      if (buffer === undefined) throw new WasiError('FAULT')
      this.#buffer = buffer
      this.#view = new DataView(buffer)
      this.#bytes = new Uint8Array(buffer)
    }
    const at = pointer >>> 0
    if (at + length > buffer.byteLength) throw new WasiError('FAULT')
    return at
  }
}
