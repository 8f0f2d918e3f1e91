import { describe, expect, it } from 'vitest'
import { GuestChannel } from '../../src/egress/serve/guest-channel.js'
import { GuestStream } from '../../src/egress/serve/guest-stream.js'
import { SocketReader } from '../../src/egress/serve/socket-stream.js'
import { CHANNEL_WINDOW_BYTES, FRAME } from '../../src/model/index.js'
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
})
