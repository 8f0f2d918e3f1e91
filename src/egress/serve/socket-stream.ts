import type { Duplex } from 'node:stream'
import { type Meter, passage } from '../limits/token-bucket.js'
import { Backlog } from './backlog.js'

/** What a client is served on: a connection, or what stands for one. */
export interface ClientSocket extends Duplex {
  readonly remoteAddress?: string | undefined
  /** Ends it, and destroys it once everything written is out. */
  destroySoon(): void
  /** Destroys it so that the other side notices. */
  resetAndDestroy(): this
  setNoDelay(on?: boolean): this
}

/** Raised by reads and writes on a socket that is gone. */
export class SocketGone extends Error {
  override readonly name = 'SocketGone'
}

/** Most connections end: nobody looks where in the program that was noticed. */
export const CLOSED = new SocketGone('the connection was closed')

/** What a reader leaves behind. */
export interface Unread {
  bytes: Backlog
  ended: boolean
  gone: Error | undefined
}

/** Nothing came yet, and nobody has read. */
export function nothingUnread(): Unread {
  return { bytes: new Backlog(), ended: false, gone: undefined }
}

/** Bytes kept for a reader that does not read: then the source is paused. */
const BUFFERED_BYTES_MAX = 64 * 1024

/**
 * Pulls bytes out of a socket. At most 64 KiB (and one segment) wait here; then the peer has to wait. Unlike a paused
 * stream it notices at once when the peer goes away. One read at a time.
 */
export class SocketReader {
  readonly #socket: Duplex
  /** What a reader that waits gets at once. */
  #first: Buffer | undefined
  readonly #queue = new Backlog()
  #ended = false
  #gone: Error | undefined
  #wake: (() => void) | undefined
  #signal: AbortSignal | undefined
  readonly #onAbort = () => this.#wake?.()
  readonly #onData = (bytes: Buffer) => {
    if (this.#wake !== undefined && !this.hasBuffered) {
      this.#first = bytes
      this.#wake()
      return
    }
    this.#queue.add(bytes)
    if (this.#queue.length >= BUFFERED_BYTES_MAX) this.#socket.pause()
  }
  readonly #onEnd = () => {
    this.#ended = true
    this.#wake?.()
  }
  readonly #onError = (error: Error) => {
    this.#gone = new SocketGone(error.message, { cause: error })
    this.#wake?.()
  }
  readonly #onClose = () => {
    this.#gone ??= CLOSED
    this.#wake?.()
    this.release()
  }

  constructor(socket: Duplex) {
    this.#socket = socket
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
  }

  /** True when the peer said it sends nothing more, even if earlier bytes were not read yet. */
  get peerEnded(): boolean {
    return this.#ended
  }

  get hasBuffered(): boolean {
    return this.#first !== undefined || this.#queue.length > 0
  }

  /** The next bytes, or undefined at the end. Rejects with {@link SocketGone} or the signal's reason. */
  async read(signal: AbortSignal): Promise<Buffer | undefined> {
    for (;;) {
      signal.throwIfAborted()
      const bytes = this.#first ?? this.#queue.take()
      this.#first = undefined
      if (bytes !== undefined) {
        if (this.#socket.isPaused() && this.#queue.length < BUFFERED_BYTES_MAX) this.#socket.resume()
        return bytes
      }
      if (this.#ended) return undefined
      if (this.#gone !== undefined) throw this.#gone
      await this.#change(signal)
    }
  }

  /** Puts bytes back to the front. */
  unread(bytes: Buffer): void {
    if (bytes.length === 0) return
    if (this.#first !== undefined) this.#queue.unread(this.#first)
    this.#first = undefined
    this.#queue.unread(bytes)
  }

  /**
   * Reads no more: the socket is paused, and belongs to who asks. Returns what came and was not read, whether the end came
   * behind it, and why the socket is gone if it is.
   */
  detach(): Unread {
    this.release()
    const socket = this.#socket
    socket.pause()
    socket.off('data', this.#onData)
    socket.off('end', this.#onEnd)
    socket.off('error', this.#onError)
    socket.off('close', this.#onClose)
    if (this.#first !== undefined) this.#queue.unread(this.#first)
    this.#first = undefined
    return { bytes: this.#queue, ended: this.#ended, gone: this.#gone }
  }

  /** Forgets the signal of the last read, so that nothing of who read then is held any longer. */
  release(): void {
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#signal = undefined
  }

  #change(signal: AbortSignal): Promise<void> {
    if (this.#signal !== signal) {
      this.release()
      this.#signal = signal
      signal.addEventListener('abort', this.#onAbort)
    }
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined
        resolve()
      }
    })
  }
}

/** What payload in one direction pays on its way, and where it is counted. */
export interface Toll {
  readonly meter: Meter
  /** How many of these bytes the budgets let pass; throws `egress.quota_up` or `egress.quota_down` when none. */
  draw(bytes: number): number
  /** Gives back what was drawn and did not pass. */
  giveBack(bytes: number): void
  count(bytes: number): void
}

/**
 * Writes in slices, each paid for, and waits while the peer does not read. Rejects with `egress.quota_*` after the last byte
 * that the budgets let pass.
 */
export async function writeMetered(
  socket: Duplex,
  bytes: Buffer,
  toll: Toll,
  signal: AbortSignal,
): Promise<void> {
  const { meter } = toll
  for (let at = 0; at < bytes.length; ) {
    const granted = toll.draw(Math.min(meter.sliceBytes, bytes.length - at))
    const slice = granted === bytes.length ? bytes : bytes.subarray(at, at + granted)
    try {
      const turn = passage(meter, granted, signal)
      if (turn !== undefined) await turn
      if (socket.destroyed || !socket.writable) throw CLOSED
    } catch (error) {
      toll.giveBack(granted)
      throw error
    }
    toll.count(granted)
    at += granted
    // Without bytes left over the kernel took all of them, whatever the size of the stream's own buffer.
    if (!socket.write(slice) && socket.writableLength > 0) await drained(socket, signal)
  }
}

function drained(socket: Duplex, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void) => {
      socket.off('drain', onDrain)
      socket.off('close', onClose)
      signal.removeEventListener('abort', onAbort)
      settle()
    }
    const onDrain = () => finish(resolve)
    const onClose = () => finish(() => reject(CLOSED))
    const onAbort = () => finish(() => reject(signal.reason as Error))
    socket.on('drain', onDrain)
    socket.on('close', onClose)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
