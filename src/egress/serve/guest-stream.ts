import { Duplex } from 'node:stream'
import { CHANNEL_WINDOW_BYTES, FRAME, FRAME_BYTES_MAX } from '../../model/index.js'
import { Backlog } from './backlog.js'
import type { ClientSocket } from './socket-stream.js'

/** How a stream speaks: through its channel. */
export interface StreamWire {
  /** Sends a frame. With bytes, `sent` is called when there is room for more. */
  send(kind: number, number: number, bytes?: Buffer, sent?: () => void): void
}

/**
 * One conversation of a sandbox with the gateway, as a connection: what a container's connection to the proxy is.
 * Neither side holds more than a window of it.
 */
export class GuestStream extends Duplex implements ClientSocket {
  readonly #wire: StreamWire
  #maySend = CHANNEL_WINDOW_BYTES
  #mayReceive = CHANNEL_WINDOW_BYTES
  /** Taken by who reads, and not yet said. */
  #taken = 0
  #isDropped = false
  #hasEnded = false
  /** What came and was not asked for yet. */
  readonly #kept = new Backlog()
  /** Somebody asked for bytes, and there were none. */
  #isAsked = false
  /** What waits until the sandbox gives room. */
  #waiting: { bytes: Buffer; done: () => void } | undefined

  constructor(wire: StreamWire) {
    // What waits to be read is kept here, where small pieces become large ones: one piece at a time is handed on.
    super({ writableHighWaterMark: FRAME_BYTES_MAX, readableHighWaterMark: 1 })
    this.#wire = wire
    this.on('error', () => {})
  }

  /** Bytes of the sandbox; false when it had no right to send so many. */
  receive(bytes: Buffer): boolean {
    this.#mayReceive -= bytes.length
    if (this.#mayReceive < 0 || this.#hasEnded) return false
    if (this.destroyed) return true
    if (this.#isAsked) this.#hand(bytes)
    else this.#kept.add(bytes)
    return true
  }

  /** The sandbox sends no more. */
  receiveEnd(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    if (this.#isAsked && !this.destroyed) this.push(null)
  }

  /** The sandbox takes so many more; false when it never got that many. */
  receiveCredit(bytes: number): boolean {
    this.#maySend += bytes
    if (this.#maySend > CHANNEL_WINDOW_BYTES) return false
    this.#sendWaiting()
    return true
  }

  /** The sandbox has let go of it, or is gone. */
  leave(): void {
    this.#isDropped = true
    this.destroy()
  }

  resetAndDestroy(): this {
    return this.destroy()
  }

  /** As a socket's: what was written goes out first. */
  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }

  setNoDelay(): this {
    return this
  }

  override read(size?: number): unknown {
    const bytes: unknown = super.read(size)
    if (Buffer.isBuffer(bytes)) this.#took(bytes.length)
    return bytes
  }

  override _read(): void {
    const bytes = this.#kept.take()
    if (bytes !== undefined) this.#hand(bytes)
    else if (this.#hasEnded) this.push(null)
    else this.#isAsked = true
  }

  override _write(bytes: Buffer, _encoding: string, done: () => void): void {
    // Whoever has nothing to say at the end ends with nothing.
    if (bytes.length === 0) return done()
    this.#waiting = { bytes, done }
    this.#sendWaiting()
  }

  override _writev(pieces: { chunk: Buffer }[], done: () => void): void {
    this._write(Buffer.concat(pieces.map(({ chunk }) => chunk)), '', done)
  }

  override _final(done: () => void): void {
    this.#wire.send(FRAME.END, 0)
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#waiting = undefined
    this.#kept.clear()
    if (!this.#isDropped) this.#wire.send(FRAME.CLOSE, 0)
    done(error)
  }

  #sendWaiting(): void {
    const waiting = this.#waiting
    if (waiting === undefined || this.destroyed) return
    const part = waiting.bytes.subarray(0, Math.min(this.#maySend, FRAME_BYTES_MAX))
    if (part.length === 0) return
    this.#waiting = undefined
    this.#maySend -= part.length
    const rest = waiting.bytes.subarray(part.length)
    this.#wire.send(FRAME.DATA, part.length, part, () => {
      if (rest.length === 0) return waiting.done()
      this.#waiting = { bytes: rest, done: waiting.done }
      this.#sendWaiting()
    })
  }

  #hand(bytes: Buffer): void {
    this.#isAsked = false
    const before = this.readableLength
    this.push(bytes)
    // A reader that waits gets them at once; then they are not kept.
    this.#took(before + bytes.length - this.readableLength)
  }

  /** In steps of a quarter of a window, so that the sandbox need not stop. */
  #took(bytes: number): void {
    this.#taken += bytes
    if (this.#taken < CHANNEL_WINDOW_BYTES / 4 || this.destroyed) return
    this.#mayReceive += this.#taken
    this.#wire.send(FRAME.CREDIT, this.#taken)
    this.#taken = 0
  }
}
