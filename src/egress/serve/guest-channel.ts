import type { Socket } from 'node:net'
import {
  CHANNEL_STREAMS_MAX,
  FRAME,
  FRAME_BYTES_MAX,
  FRAME_HEAD_BYTES,
  type FrameHead,
  readFrameHead,
  writeFrameHead,
} from '../../model/index.js'
import { GuestStream } from './guest-stream.js'

/** Whom a channel tells. */
export interface ChannelOwner {
  /** A conversation began: serve it. */
  opened(stream: GuestStream): void
  /** The sandbox broke the rules of the channel, which is closed now. Called at most once. */
  violated(reason: string): void
}

const NOTHING = Buffer.alloc(0)

/** A sandbox that sends and does not read: what is kept for it stays bounded. */
const UNREAD_BYTES_MAX = 4 * 1024 * 1024

/**
 * What one channel may cost before everybody else has a turn, in frames; a new stream costs more than bytes of one that is
 * there. Frames are eight bytes: else a sandbox that sends many of them would hold up all the others.
 */
const TURN_FRAMES = 256
const OPEN_FRAMES = 16
/** An alarm for a sandbox that does not read waits with it. */
const ALARM_AGAIN_MS = 20

/**
 * The gateway's end of the descriptor that a sandbox has: takes its frames apart and makes a stream of each conversation.
 *
 * Nothing that arrives is trusted. Whoever runs in the sandbox can at most end its own channel: a frame that is not allowed
 * where it stands closes it, with everything in it. It is the windows that hold the sandbox back, and the turns that everybody
 * has.
 */
export class GuestChannel {
  readonly #socket: Socket
  readonly #owner: ChannelOwner
  readonly #streams = new Map<number, GuestStream>()
  #lastStream = 0
  #head: Buffer = Buffer.alloc(0)
  /** Where the bytes that come belong: what is left of a `DATA` frame. */
  #data: { stream: GuestStream | undefined; left: number } | undefined
  /** What has come and waits for the next turn. */
  #rest: Buffer = NOTHING
  #hasRest = false
  #hasEnded = false
  #turnFrames = 0
  #turn: NodeJS.Immediate | undefined
  #alarm: NodeJS.Timeout | undefined
  #drained: (() => void)[] = []
  #isOver = false

  constructor(socket: Socket, owner: ChannelOwner) {
    this.#socket = socket
    this.#owner = owner
    socket.on('error', () => this.#gone())
    socket.on('close', () => this.#gone())
    socket.on('end', () => this.#ended())
    socket.on('drain', () => {
      for (const sent of this.#drained.splice(0)) sent()
    })
    socket.on('data', (bytes: Buffer) => this.#receive(bytes))
  }

  /** Ends every conversation and the channel. Idempotent. */
  close(): void {
    if (this.#isOver) return
    this.#isOver = true
    clearTimeout(this.#alarm)
    clearImmediate(this.#turn)
    this.#drained = []
    this.#socket.destroy()
    for (const stream of this.#streams.values()) stream.leave()
    this.#streams.clear()
  }

  #receive(bytes: Buffer): void {
    // It is paused while something is left of its last turn, and yet a piece may be under way.
    if (this.#hasRest) this.#rest = Buffer.concat([this.#rest, bytes])
    else this.#work(bytes)
  }

  #work(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length && !this.#isOver && this.#turnFrames < TURN_FRAMES) {
      if (this.#data !== undefined) at += this.#takeData(this.#data, bytes.subarray(at))
      else at += this.#takeHead(bytes.subarray(at))
    }
    if (this.#isOver) return
    this.#hasRest = at < bytes.length
    this.#rest = this.#hasRest ? bytes.subarray(at) : NOTHING
    if (this.#hasRest) this.#socket.pause()
    else if (this.#socket.isPaused() && !this.#hasEnded) this.#socket.resume()
    // Whatever comes before everybody had a turn belongs to this one.
    this.#turn ??= setImmediate(() => this.#nextTurn())
    if (!this.#hasRest && this.#hasEnded) this.#ended()
  }

  #nextTurn(): void {
    this.#turn = undefined
    this.#turnFrames = 0
    if (this.#hasRest) this.#work(this.#rest)
  }

  #takeHead(bytes: Buffer): number {
    const missing = FRAME_HEAD_BYTES - this.#head.length
    const part = bytes.subarray(0, missing)
    this.#head = this.#head.length === 0 ? part : Buffer.concat([this.#head, part])
    if (this.#head.length < FRAME_HEAD_BYTES) return part.length
    const { buffer, byteOffset } = this.#head
    const head = readFrameHead(new DataView(buffer, byteOffset, FRAME_HEAD_BYTES), 0)
    this.#head = Buffer.alloc(0)
    this.#take(head)
    return part.length
  }

  #take({ stream: id, kind, number }: FrameHead): void {
    this.#turnFrames += kind === FRAME.OPEN ? OPEN_FRAMES : 1
    if (kind === FRAME.ALARM) return this.#setAlarm(id, number)
    if (kind === FRAME.OPEN) return this.#open(id, number)
    const stream = this.#streams.get(id)
    if (stream === undefined) return this.#violated('a frame of a stream that is not open')
    if (kind === FRAME.CREDIT) {
      if (!stream.receiveCredit(number)) this.#violated('more credit than there were bytes')
    } else if (kind === FRAME.DATA) {
      if (number === 0 || number > FRAME_BYTES_MAX) return this.#violated('a frame of an impossible size')
      this.#data = { stream, left: number }
    } else if (number !== 0) this.#violated('a number where none belongs')
    else if (kind === FRAME.END) stream.receiveEnd()
    else if (kind === FRAME.CLOSE) {
      this.#streams.delete(id)
      stream.leave()
    } else this.#violated('a frame of an unknown kind')
  }

  #open(id: number, number: number): void {
    if (id !== this.#lastStream + 1 || number !== 0) return this.#violated('a stream out of turn')
    if (this.#streams.size >= CHANNEL_STREAMS_MAX) return this.#violated('too many streams')
    this.#lastStream = id
    const stream: GuestStream = new GuestStream({
      send: (kind, size, bytes, sent) => this.#send({ stream: id, kind, number: size }, bytes, sent),
    })
    this.#streams.set(id, stream)
    this.#owner.opened(stream)
  }

  #takeData(data: { stream: GuestStream | undefined; left: number }, bytes: Buffer): number {
    const part = bytes.subarray(0, data.left)
    data.left -= part.length
    if (data.left === 0) this.#data = undefined
    if (data.stream?.receive(part) === false) this.#violated('more bytes than it may send')
    return part.length
  }

  /** One at a time: a new one takes the place of the old one. */
  #setAlarm(id: number, ms: number): void {
    this.#ringIn(ms, { stream: id, kind: FRAME.ALARM, number: ms })
  }

  #ringIn(ms: number, head: FrameHead): void {
    clearTimeout(this.#alarm)
    this.#alarm = setTimeout(() => {
      if (this.#socket.writableNeedDrain) this.#ringIn(ALARM_AGAIN_MS, head)
      else this.#send(head)
    }, ms)
    this.#alarm.unref()
  }

  #send(head: FrameHead, bytes?: Buffer, sent?: () => void): void {
    if (this.#isOver || this.#socket.destroyed) return
    const start = Buffer.alloc(FRAME_HEAD_BYTES)
    writeFrameHead(new DataView(start.buffer, start.byteOffset, FRAME_HEAD_BYTES), 0, head)
    this.#socket.cork()
    let hasRoom = this.#socket.write(start)
    if (bytes !== undefined) hasRoom = this.#socket.write(bytes)
    this.#socket.uncork()
    if (this.#socket.writableLength > UNREAD_BYTES_MAX)
      return this.#violated('it does not read what it asks for')
    if (sent === undefined) return
    if (hasRoom || !this.#socket.writableNeedDrain) sent()
    else this.#drained.push(sent)
  }

  /** A sandbox that is stopped while it sends leaves half a frame; garbage is one that belongs to nothing. */
  #ended(): void {
    this.#hasEnded = true
    if (this.#hasRest) return
    if (this.#head.length > 0 && this.#streams.size === 0) this.#violated('it ended inside a frame')
    else this.close()
  }

  /** What it has said before counts all the same. */
  #gone(): void {
    this.#hasEnded = true
    if (!this.#hasRest) this.close()
  }

  #violated(reason: string): void {
    if (this.#isOver) return
    this.close()
    this.#owner.violated(reason)
  }
}
