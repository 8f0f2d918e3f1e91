import type { Duplex } from 'node:stream'
import type { EgressEnd } from '../../model/index.js'
import type { Turn } from '../limits/token-bucket.js'
import type { Attempt } from './attempt.js'
import type { ClientConnection } from './connection.js'
import { Backlog } from './backlog.js'
import { giveBack, receive } from './lent-reads.js'
import { CLOSED, type Toll, type Unread } from './socket-stream.js'

/** Looks at bytes on their way; returns those that may go on. Throws to end the tunnel. */
export interface RelayWatch {
  up?: (bytes: Buffer) => Buffer
  down?: (bytes: Buffer) => Buffer
}

/**
 * Streams both ways until both sides have ended; half-closed connections stay half-open. Resolves with who ended
 * first. Rejects when one side breaks, a watch objects, a budget is used up, or the connection is cut.
 *
 * Nothing is read before what came earlier has been passed on, so a tunnel holds one read in each direction at most.
 * `unread` is what came from the origin already.
 */
export function relay(
  client: ClientConnection,
  attempt: Attempt,
  originSocket: Duplex,
  unread: Unread,
  watch: RelayWatch = {},
): Promise<EgressEnd> {
  return new Promise((resolve, reject) => {
    new Relay(client, attempt, { originSocket, watch, resolve, reject }).start(unread)
  })
}

interface RelayParts {
  originSocket: Duplex
  watch: RelayWatch
  resolve: (first: EgressEnd) => void
  reject: (error: Error) => void
}

/** Both directions of a tunnel. */
class Relay {
  readonly #client: ClientConnection
  readonly #parts: RelayParts
  readonly #up: Lane
  readonly #down: Lane
  #first: EgressEnd | undefined
  #over = false

  constructor(client: ClientConnection, attempt: Attempt, parts: RelayParts) {
    const { originSocket, watch } = parts
    this.#client = client
    this.#parts = parts
    this.#up = new Lane(client.socket, originSocket, attempt.up, {
      passes: (bytes) => {
        client.active()
        return watch.up?.(bytes) ?? bytes
      },
      ended: () => this.#ended('client'),
      failed: this.#fail,
    })
    this.#down = new Lane(originSocket, client.socket, attempt.down, {
      passes: (bytes) => {
        client.active()
        attempt.originAnswered()
        return watch.down?.(bytes) ?? bytes
      },
      ended: () => this.#ended('origin'),
      failed: this.#fail,
    })
  }

  start(unread: Unread): void {
    const { signal, reader } = this.#client
    signal.addEventListener('abort', this.#onAbort, { once: true })
    if (signal.aborted) return this.#onAbort()
    this.#up.start(reader.detach())
    if (!this.#over) this.#down.start(unread)
  }

  readonly #onAbort = () => this.#fail(this.#client.signal.reason as Error)

  #ended(side: EgressEnd): void {
    this.#first ??= side
    if (!this.#up.isOver || !this.#down.isOver) return
    this.#stop()
    this.#parts.resolve(this.#first)
  }

  readonly #fail = (error: Error): void => {
    if (this.#over) return
    this.#stop()
    // Whatever else the connection does waits for bytes that nobody will send now.
    this.#client.cut(error)
    this.#parts.reject(error)
  }

  #stop(): void {
    this.#over = true
    this.#client.signal.removeEventListener('abort', this.#onAbort)
    this.#up.stop()
    this.#down.stop()
  }
}

/** Whom a lane tells. */
interface LaneOwner {
  /** Bytes came; those that are returned go on. */
  passes(bytes: Buffer): Buffer
  /** Everything has been passed on, and the end as well. */
  ended(): void
  failed(error: Error): void
}

/** What a piece needs before it can go on: its turn at the meter, or room on the other side. */
type Wait = 'nothing' | 'its turn' | 'room'

/**
 * One direction of a tunnel: what comes from one side is paid for and written to the other, piece by piece. As long as a piece
 * waits for its turn or for room, no other is read.
 */
class Lane implements Turn {
  units = 0
  readonly #from: Duplex
  readonly #to: Duplex
  readonly #toll: Toll
  readonly #owner: LaneOwner
  /** What is being passed on, how much of it has been, and the memory it came in. */
  #bytes: Buffer | undefined
  #at = 0
  #memory: Buffer | undefined
  /** What came before it could be taken. */
  #queue: Backlog | undefined
  #hasEnded = false
  #gone: Error | undefined
  #waitsFor: Wait = 'nothing'
  #isOver = false

  constructor(from: Duplex, to: Duplex, toll: Toll, owner: LaneOwner) {
    this.#from = from
    this.#to = to
    this.#toll = toll
    this.#owner = owner
  }

  get isOver(): boolean {
    return this.#isOver
  }

  start({ bytes, ended, gone }: Unread): void {
    if (bytes.length > 0) this.#queue = bytes
    this.#hasEnded = ended
    this.#gone = gone
    this.#from.on('data', this.#onData)
    this.#from.on('end', this.#onEnd)
    this.#from.on('close', this.#onClose)
    this.#to.on('drain', this.#onRoom)
    this.#to.on('close', this.#onRoom)
    receive(this.#from, this.#onData)
    this.#go('nothing')
  }

  /** Nothing more passes. */
  stop(): void {
    this.#isOver = true
    if (this.#waitsFor === 'its turn') {
      this.#toll.meter.leave(this)
      this.#toll.giveBack(this.units)
    }
    this.#waitsFor = 'nothing'
    this.#bytes = undefined
    this.#memory = undefined
    this.#queue = undefined
    receive(this.#from, undefined)
    this.#from.off('data', this.#onData)
    this.#from.off('end', this.#onEnd)
    this.#from.off('close', this.#onClose)
    this.#to.off('drain', this.#onRoom)
    this.#to.off('close', this.#onRoom)
  }

  grant(): void {
    this.#waitIsOver()
  }

  readonly #onData = (bytes: Buffer): void => {
    if (this.#bytes === undefined && this.#queue === undefined) return this.#go('nothing', bytes)
    // A stream that was paused may hand on what it had in its hands already.
    this.#queue ??= new Backlog()
    this.#queue.add(bytes)
  }

  readonly #onEnd = (): void => {
    this.#hasEnded = true
    this.#go('nothing')
  }

  readonly #onClose = (): void => {
    if (this.#hasEnded) return
    this.#gone ??= CLOSED
    this.#go('nothing')
  }

  readonly #onRoom = (): void => {
    if (this.#waitsFor === 'room') this.#waitIsOver()
  }

  #waitIsOver(): void {
    const waited = this.#waitsFor
    this.#waitsFor = 'nothing'
    this.#go(waited)
  }

  /** Something happened: what was waited for, or bytes came, or the end. */
  #go(waited: Wait, bytes?: Buffer): void {
    if (this.#isOver) return
    try {
      if (bytes !== undefined) this.#take(bytes)
      if (waited === 'its turn') this.#pass()
      if (waited === 'room') this.#finishPiece()
      this.#advance()
    } catch (error) {
      this.#owner.failed(error as Error)
    }
  }

  /** Passes on whatever may pass now. */
  #advance(): void {
    const { meter } = this.#toll
    while (!this.#isOver && this.#waitsFor === 'nothing') {
      if (this.#bytes === undefined) {
        if (!this.#next()) return
        continue
      }
      this.units = this.#toll.draw(Math.min(meter.sliceBytes, this.#bytes.length - this.#at))
      if (meter.ask(this)) this.#pass()
      else this.#wait('its turn')
    }
  }

  /** False when there is nothing to pass on at the moment. */
  #next(): boolean {
    const bytes = this.#queue?.take()
    if (bytes !== undefined) {
      this.#take(bytes)
      return true
    }
    this.#queue = undefined
    if (this.#hasEnded) this.#end()
    else if (this.#gone !== undefined || this.#from.destroyed) throw this.#gone ?? CLOSED
    else if (this.#from.isPaused()) this.#from.resume()
    return false
  }

  #take(bytes: Buffer): void {
    const passing = this.#owner.passes(bytes)
    if (passing.length === 0) return
    this.#bytes = passing
    this.#at = 0
    if (passing === bytes) this.#memory = bytes
  }

  /** Writes what was paid for. */
  #pass(): void {
    const bytes = this.#bytes
    if (bytes === undefined) return
    const { units } = this
    const to = this.#to
    if (to.destroyed || !to.writable) {
      this.#toll.giveBack(units)
      throw CLOSED
    }
    this.#toll.count(units)
    const from = this.#at
    this.#at += units
    const hasRoom = to.write(units === bytes.length ? bytes : bytes.subarray(from, this.#at))
    // Without bytes left over the kernel took all of them, whatever the size of the stream's own buffer.
    if (!hasRoom && to.writableLength > 0) this.#wait('room')
    else this.#finishPiece()
  }

  #wait(what: Wait): void {
    this.#waitsFor = what
    this.#from.pause()
  }

  #finishPiece(): void {
    if (this.#to.destroyed) throw CLOSED
    if (this.#bytes === undefined || this.#at < this.#bytes.length) return
    this.#bytes = undefined
    if (this.#memory !== undefined && this.#to.writableLength === 0) giveBack(this.#memory)
    this.#memory = undefined
  }

  #end(): void {
    this.stop()
    this.#to.end()
    this.#owner.ended()
  }
}
