import { connect, createServer, type Socket } from 'node:net'
import {
  FRAME,
  FRAME_HEAD_BYTES,
  type FrameHead,
  readFrameHead,
  writeFrameHead,
} from '../../src/model/index.js'
import { GuestStream } from '../../src/egress/serve/guest-stream.js'

/** Two ends of one connection: the first is the gateway's. */
export async function socketPair(): Promise<[Socket, Socket]> {
  const server = createServer({ allowHalfOpen: false, noDelay: true })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('nobody listens')
  const mine = connect({ port: address.port, host: '127.0.0.1', noDelay: true })
  mine.on('error', () => {})
  const theirs = await accepted
  server.close()
  return [theirs, mine]
}

export function frame(kind: number, stream: number, number = 0, data: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(FRAME_HEAD_BYTES)
  writeFrameHead(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, { stream, kind, number })
  return Buffer.concat([bytes, data])
}

/** The sandbox's side of a channel, without a sandbox: conversations as connections. */
export class ChannelClient {
  readonly socket: Socket
  readonly #streams = new Map<number, GuestStream>()
  #last = 0
  #received: Buffer = Buffer.alloc(0)

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (bytes: Buffer) => {
      this.#received = Buffer.concat([this.#received, bytes])
      while (this.#take());
    })
    socket.on('close', () => {
      for (const stream of this.#streams.values()) stream.leave()
    })
  }

  open(): GuestStream {
    const id = ++this.#last
    const stream: GuestStream = new GuestStream({
      send: (kind, number, data, sent) => {
        this.socket.write(frame(kind, id, number, data))
        sent?.()
      },
    })
    this.#streams.set(id, stream)
    this.socket.write(frame(FRAME.OPEN, id))
    return stream
  }

  #take(): boolean {
    if (this.#received.length < FRAME_HEAD_BYTES) return false
    const { buffer, byteOffset } = this.#received
    const head: FrameHead = readFrameHead(new DataView(buffer, byteOffset, FRAME_HEAD_BYTES), 0)
    const end = FRAME_HEAD_BYTES + (head.kind === FRAME.DATA ? head.number : 0)
    if (this.#received.length < end) return false
    const data = this.#received.subarray(FRAME_HEAD_BYTES, end)
    this.#received = this.#received.subarray(end)
    const stream = this.#streams.get(head.stream)
    if (head.kind === FRAME.DATA) stream?.receive(data)
    if (head.kind === FRAME.CREDIT) stream?.receiveCredit(head.number)
    if (head.kind === FRAME.END) stream?.receiveEnd()
    if (head.kind === FRAME.CLOSE) stream?.destroy()
    return true
  }
}
