import { readSync, writeSync } from 'node:fs'
import {
  CHANNEL_WINDOW_BYTES,
  FRAME,
  FRAME_BYTES_MAX,
  FRAME_HEAD_BYTES,
  type FrameHead,
  readFrameHead,
  writeFrameHead,
} from '../../../../model/guest-channel.js'

/** The gateway has ended the conversation, or is gone: nothing leaves any more. */
export class ChannelGone extends Error {
  override readonly name = 'ChannelGone'
}

/**
 * The descriptor to the egress gateway and the streams in it. Every call blocks: the sandbox has one thread, and while one
 * stream is waited for, what arrives for others is kept, as much as their windows hold.
 */
export class GatewayChannel {
  readonly #fd: number
  readonly #streams = new Map<number, GatewayStream>()
  #lastStream = 0
  #received: Uint8Array = new Uint8Array(0)
  /** Frames that go out together with the next one, or before anything is waited for. */
  #held: FrameHead[] = []
  #isGone = false
  /** Number of the newest alarm, and of the newest that rang. */
  #alarm = 0
  #rang = 0

  constructor(fd: number) {
    this.#fd = fd
  }

  get openStreams(): number {
    return this.#streams.size
  }

  /** True once it was noticed that the gateway is gone. */
  get isGone(): boolean {
    return this.#isGone
  }

  /** Nothing is sent yet: the stream opens with the first bytes that are written into it. @throws ChannelGone */
  open(): GatewayStream {
    if (this.#isGone) throw new ChannelGone()
    const stream = ++this.#lastStream
    this.#held.push({ stream, kind: FRAME.OPEN, number: 0 })
    const opened = new GatewayStream(this, stream)
    this.#streams.set(stream, opened)
    return opened
  }

  /** Blocks until `holds`, looking again whenever something has arrived. @throws ChannelGone */
  waitUntil(holds: () => boolean): void {
    while (!holds()) this.#receive()
  }

  /** The same, for at most so long (at most 2^24 − 1 ms). False when the time is over. @throws ChannelGone */
  waitAtMost(ms: number, holds: () => boolean): boolean {
    if (holds()) return true
    const alarm = ++this.#alarm
    this.send({ stream: alarm, kind: FRAME.ALARM, number: ms })
    this.waitUntil(() => this.#rang === alarm || holds())
    return holds()
  }

  /** Sends what was held back, and a frame: in one piece, so that the gateway is woken once. @throws ChannelGone */
  send(head: FrameHead, data?: Uint8Array): void {
    this.#held.push(head)
    this.#sendHeld(data)
  }

  /** Says that the stream is not used any more. Never throws. With `soon` it may be said together with what comes next. */
  drop(stream: number, soon: boolean): void {
    if (!this.#streams.delete(stream) || this.#isGone) return
    this.#held.push({ stream, kind: FRAME.CLOSE, number: 0 })
    if (soon && this.#held.length < HELD_MAX) return
    try {
      this.#sendHeld()
    } catch {
      // Who is gone needs not be told.
    }
  }

  /** The data belongs to the last of the frames. */
  #sendHeld(data?: Uint8Array): void {
    if (this.#isGone) throw new ChannelGone()
    const heads = this.#held.splice(0)
    const bytes = Buffer.allocUnsafeSlow(heads.length * FRAME_HEAD_BYTES + (data?.length ?? 0))
    const view = new DataView(bytes.buffer)
    for (const [index, head] of heads.entries()) writeFrameHead(view, index * FRAME_HEAD_BYTES, head)
    if (data !== undefined) bytes.set(data, heads.length * FRAME_HEAD_BYTES)
    try {
      for (let sent = 0; sent < bytes.length; ) sent += writeSync(this.#fd, bytes, sent)
    } catch {
      // The other end is closed.
      throw this.#lose()
    }
  }

  #receive(): void {
    if (this.#isGone) throw new ChannelGone()
    if (this.#held.length > 0) this.#sendHeld()
    // Memory of its own each time: what is in it is kept by the streams, not copied.
    const bytes = Buffer.allocUnsafeSlow(this.#received.length + FRAME_BYTES_MAX + FRAME_HEAD_BYTES)
    bytes.set(this.#received)
    const have = this.#received.length
    let count = 0
    try {
      count = readSync(this.#fd, bytes, have, bytes.length - have, null)
    } catch {
      // Reset: as good as closed.
    }
    if (count === 0) throw this.#lose()
    this.#received = this.#take(bytes.subarray(0, have + count))
  }

  /** Hands out what is there whole; returns the rest. */
  #take(bytes: Uint8Array): Uint8Array {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    let at = 0
    while (bytes.length - at >= FRAME_HEAD_BYTES) {
      const head = readFrameHead(view, at)
      const length = head.kind === FRAME.DATA ? head.number : 0
      const from = at + FRAME_HEAD_BYTES
      if (bytes.length - from < length) break
      if (head.kind === FRAME.ALARM) this.#rang = head.stream
      // Of a stream that was dropped something may still be under way.
      else this.#streams.get(head.stream)?.take(head, bytes.subarray(from, from + length))
      at = from + length
    }
    return bytes.subarray(at)
  }

  #lose(): ChannelGone {
    this.#isGone = true
    this.#received = new Uint8Array(0)
    return new ChannelGone()
  }
}

/** Frames that may be held back. */
const HELD_MAX = 16

/** One conversation with the gateway. */
export class GatewayStream {
  readonly #channel: GatewayChannel
  readonly #number: number
  #queue: Uint8Array[] = []
  #queuedBytes = 0
  #mayReceive = CHANNEL_WINDOW_BYTES
  #maySend = CHANNEL_WINDOW_BYTES
  #hasEnded = false
  #isClosed = false

  constructor(channel: GatewayChannel, number: number) {
    this.#channel = channel
    this.#number = number
  }

  /** Bytes that can be sent without waiting. */
  get maySend(): number {
    return this.#isClosed ? 0 : this.#maySend
  }

  /** True when the gateway does not read any more. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  /** True once it was noticed that the gateway is gone; what has arrived can be read all the same. */
  get isLost(): boolean {
    return this.#channel.isGone
  }

  /** True when `read` does not block. */
  get isReadable(): boolean {
    return this.#queuedBytes > 0 || this.#hasEnded
  }

  /** Blocks until the gateway has room for all of it; false when it does not read any more. @throws ChannelGone */
  write(bytes: Uint8Array): boolean {
    for (let at = 0; at < bytes.length; ) {
      this.#channel.waitUntil(() => this.#isClosed || this.#maySend > 0)
      if (this.#isClosed) return false
      const part = bytes.subarray(at, at + Math.min(this.#maySend, FRAME_BYTES_MAX))
      this.#channel.send({ stream: this.#number, kind: FRAME.DATA, number: part.length }, part)
      this.#maySend -= part.length
      at += part.length
    }
    return true
  }

  /** Blocks for the next bytes, at most `most`; undefined at the end. @throws ChannelGone */
  read(most: number): Uint8Array | undefined {
    this.#channel.waitUntil(() => this.isReadable)
    const first = this.#queue.shift()
    if (first === undefined) return undefined
    const bytes = first.subarray(0, most)
    if (bytes.length < first.length) this.#queue.unshift(first.subarray(bytes.length))
    this.#queuedBytes -= bytes.length
    this.#giveCredit()
    return bytes
  }

  /** Puts bytes back to the front. */
  unread(bytes: Uint8Array): void {
    if (bytes.length === 0) return
    this.#queue.unshift(bytes)
    this.#queuedBytes += bytes.length
  }

  /** With `soon` there is no hurry to tell the gateway: nothing of it is under way any more. */
  close(soon: boolean): void {
    this.#isClosed = true
    this.#queue = []
    this.#channel.drop(this.#number, soon)
  }

  /** What the gateway sent. */
  take({ kind, number }: FrameHead, data: Uint8Array): void {
    if (kind === FRAME.CREDIT) this.#maySend += number
    if (kind === FRAME.END || kind === FRAME.CLOSE) this.#hasEnded = true
    if (kind === FRAME.CLOSE) this.#isClosed = true
    if (kind !== FRAME.DATA) return
    this.#queue.push(data)
    this.#queuedBytes += data.length
    this.#mayReceive -= data.length
  }

  /** In steps of half a window, so that the gateway need not stop. */
  #giveCredit(): void {
    const credit = CHANNEL_WINDOW_BYTES - this.#mayReceive - this.#queuedBytes
    if (this.#hasEnded || credit < CHANNEL_WINDOW_BYTES / 2) return
    this.#mayReceive += credit
    try {
      this.#channel.send({ stream: this.#number, kind: FRAME.CREDIT, number: credit })
    } catch {
      // What has arrived can be read all the same; whoever waits for more is told.
    }
  }
}
