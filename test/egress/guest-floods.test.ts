import { describe, expect, it } from 'vitest'
import { GuestChannel } from '../../src/egress/serve/guest-channel.js'
import { GuestStream } from '../../src/egress/serve/guest-stream.js'
import { SocketReader } from '../../src/egress/serve/socket-stream.js'
import {
  CHANNEL_STREAMS_MAX,
  CHANNEL_WINDOW_BYTES,
  FRAME,
  FRAME_HEAD_BYTES,
  readFrameHead,
} from '../../src/model/index.js'
import { frame, socketPair } from './channel-client.js'
import { until } from './with-gateway.js'

const SLAB_BYTES = 64 * 1024

/** Bytes that a sandbox sends one by one, each the only one of use in as much memory as one read of a socket takes. */
function* singles(count: number): Generator<Buffer> {
  for (let index = 0; index < count; index++) {
    // What nobody keeps is collected; what is kept shows in the sizes below.
    const slab = new ArrayBuffer(index % 64 === 0 ? SLAB_BYTES : 64)
    yield Buffer.from(slab, 7, 1).fill(index % 251)
  }
}

/** How much memory stands behind these pieces. */
function held(pieces: readonly Buffer[]): number {
  return [...new Set(pieces.map(({ buffer }) => buffer))].reduce((sum, { byteLength }) => sum + byteLength, 0)
}

describe('a sandbox that floods its channel', () => {
  it('with bytes one by one that nobody reads makes the gateway keep hardly more than these bytes', async () => {
    const stream = new GuestStream({ send: () => {} })
    const reader = new SocketReader(stream)
    for (const byte of singles(CHANNEL_WINDOW_BYTES / 2)) stream.receive(byte)
    await new Promise((resolve) => setImmediate(resolve))
    for (const byte of singles(CHANNEL_WINDOW_BYTES / 2)) {
      stream.receive(byte)
      if (byte[0] === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    stream.receiveEnd()
    const pieces: Buffer[] = []
    const { signal } = new AbortController()
    for (let bytes = await reader.read(signal); bytes !== undefined; bytes = await reader.read(signal))
      pieces.push(bytes)
    const half = [...singles(CHANNEL_WINDOW_BYTES / 2)].map(([byte]) => byte ?? 0)
    expect(Buffer.concat(pieces).equals(Buffer.from([...half, ...half]))).toBe(true)
    expect(held(pieces)).toBeLessThan(4 * CHANNEL_WINDOW_BYTES)
    expect(pieces.length).toBeLessThan(1_000)
  })

  it('with streams, or with frames that do nothing, has its turn and no more', async () => {
    const [theirs, mine] = await socketPair()
    let opened = 0
    let inTurn = 0
    let most = 0
    const channel = new GuestChannel(theirs, {
      opened: () => {
        opened++
        most = Math.max(most, ++inTurn)
        if (inTurn === 1) setImmediate(() => (inTurn = 0))
      },
      violated: (reason) => expect(reason).toBe(''),
    })
    const pairs = Array.from({ length: 4_000 }, (_none, index) => [
      frame(FRAME.OPEN, index + 1),
      frame(FRAME.CLOSE, index + 1),
    ])
    // Followed by its end: nothing of what was sent before is lost.
    mine.end(Buffer.concat(pairs.flat()))
    mine.resume()
    await until(() => opened === 4_000)
    expect(most).toBeLessThan(50)
    await until(() => mine.destroyed)
    channel.close()
  })

  it('with alarms that it does not take gets one of them, once it reads', async () => {
    const [theirs, mine] = await socketPair()
    const streams: GuestStream[] = []
    const channel = new GuestChannel(theirs, {
      opened: (stream) => streams.push(stream),
      violated: (reason) => expect(reason).toBe(''),
    })
    mine.pause()
    // What the kernel keeps is full before what the gateway may keep is.
    for (let id = 1; !theirs.writableNeedDrain && id <= 60; id++) {
      mine.write(frame(FRAME.OPEN, id))
      await until(() => streams.length === id)
      streams.at(-1)?.write(Buffer.alloc(CHANNEL_WINDOW_BYTES))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(theirs.writableNeedDrain).toBe(true)
    const before = theirs.writableLength
    for (let count = 0; count < 1_000; count++) {
      mine.write(frame(FRAME.ALARM, 1 + count, 0))
      if (count % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 0))
    }
    // Behind them comes a stream: when it is there, they are.
    mine.write(frame(FRAME.OPEN, streams.length + 1))
    const opened = streams.length + 1
    await until(() => streams.length === opened)
    expect(theirs.writableLength).toBe(before)
    const alarms: number[] = []
    let received = Buffer.alloc(0)
    mine.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes])
      for (;;) {
        if (received.length < FRAME_HEAD_BYTES) return
        const view = new DataView(received.buffer, received.byteOffset, FRAME_HEAD_BYTES)
        const { stream, kind, number } = readFrameHead(view, 0)
        const end = FRAME_HEAD_BYTES + (kind === FRAME.DATA ? number : 0)
        if (received.length < end) return
        if (kind === FRAME.ALARM) alarms.push(stream)
        received = received.subarray(end)
      }
    })
    mine.resume()
    await until(() => alarms.length > 0)
    expect(alarms).toEqual([1_000])
    channel.close()
    mine.destroy()
  })

  it('with questions whose answers it does not read ends, before more than a few MiB wait for it', async () => {
    const [theirs, mine] = await socketPair()
    let most = 0
    let reason = ''
    const channel = new GuestChannel(theirs, {
      opened: (stream) => {
        stream.write(Buffer.alloc(CHANNEL_WINDOW_BYTES))
        most = Math.max(most, theirs.writableLength)
      },
      violated: (why) => (reason = why),
    })
    mine.pause()
    for (let id = 1; id <= CHANNEL_STREAMS_MAX; id++) mine.write(frame(FRAME.OPEN, id))
    await until(() => reason !== '')
    expect(reason).toBe('it does not read what it asks for')
    expect(most).toBeLessThan(5 * 1024 * 1024)
    expect(theirs.destroyed).toBe(true)
    channel.close()
    mine.destroy()
  })
})
