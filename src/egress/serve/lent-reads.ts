import { connect, type Socket, type TcpNetConnectOpts } from 'node:net'
import type { Duplex } from 'node:stream'

/** One read takes at most so much. */
const READ_BYTES_MAX = 64 * 1024
/** Reads of fewer bytes are copied into memory of their own. */
const LENT_BYTES_MIN = 16 * 1024
/** Pieces that nobody uses are kept up to this number. */
const FREE_MAX = 64

/** Where all connections read to, in turns: nothing waits here. */
const landing = Buffer.allocUnsafeSlow(READ_BYTES_MAX)
const views = new Map<number, Buffer>()
const free: Buffer[] = []
/** Memory of ours, each for one read at a time. Anything else may be a part of what others still look at. */
const ours = new WeakSet<object>()
const receivers = new WeakMap<Duplex, (bytes: Buffer) => void>()

/**
 * Connects without reading: from {@link receive} on its bytes come in pieces of at most `readBytes`, in memory that is used
 * again once {@link giveBack} was told so. Memory for each read of its own costs more than half of the time that a fast
 * stream takes. The connection is paused; it has no `data` events.
 */
export function connectLent(where: TcpNetConnectOpts, readBytes: number): Socket {
  const socket: Socket = connect({
    ...where,
    onread: {
      buffer: landingOf(readBytes),
      callback: (count, bytes) => {
        const receiver = receivers.get(socket)
        // Nobody reads a paused connection; what nobody takes must not be lost in silence.
        if (receiver === undefined) socket.destroy()
        else receiver(copyOf(bytes, count))
        return true
      },
    },
  })
  return socket.pause()
}

/** What comes over a connection goes to `receiver`; undefined: to nobody any more. Nothing happens to one that was not lent. */
export function receive(socket: Duplex, receiver: ((bytes: Buffer) => void) | undefined): void {
  if (receiver === undefined) receivers.delete(socket)
  else receivers.set(socket, receiver)
}

/** Nobody looks at the memory of this piece any more, nor writes it: the next read may use it. False: it was not lent. */
export function giveBack(bytes: Buffer): boolean {
  if (!ours.has(bytes.buffer)) return false
  if (free.length < FREE_MAX) free.push(Buffer.from(bytes.buffer))
  return true
}

function copyOf(bytes: Uint8Array, count: number): Buffer {
  const room = count < LENT_BYTES_MIN ? Buffer.allocUnsafe(count) : (free.pop() ?? newRoom())
  room.set(count === bytes.length ? bytes : bytes.subarray(0, count))
  return room.subarray(0, count)
}

function newRoom(): Buffer {
  const room = Buffer.allocUnsafeSlow(READ_BYTES_MAX)
  ours.add(room.buffer)
  return room
}

function landingOf(readBytes: number): Buffer {
  const count = Math.min(READ_BYTES_MAX, readBytes)
  const known = views.get(count)
  if (known !== undefined) return known
  const view = landing.subarray(0, count)
  views.set(count, view)
  return view
}
