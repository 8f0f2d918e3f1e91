import { createCipheriv, createHash } from 'node:crypto'
import type { Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dialTcp } from '../../src/egress/serve/dial.js'
import { giveBack } from '../../src/egress/serve/lent-reads.js'
import { parseIpAddress } from '../../src/model/index.js'
import { buildServerHello } from './hello.js'
import { TestGateway, tunnel, until } from './with-gateway.js'

const BYTES = 12_000_000
const STREAMS = 6
const HELLO = buildServerHello(false)

/** Bytes that are different at each place and for each stream. */
function contentOf(stream: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16, stream), Buffer.alloc(16)).update(Buffer.alloc(BYTES))
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Reads all; every other begins late, when neither the kernel nor the gateway has room for more. */
async function readAll(socket: Socket, stream: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  const ended = new Promise((resolve) => socket.once('close', resolve))
  socket.on('data', (bytes: Buffer) => {
    pieces.push(bytes)
  })
  if (stream % 2 === 0) {
    socket.pause()
    setTimeout(() => socket.resume(), 300)
  }
  await ended
  return Buffer.concat(pieces).subarray(HELLO.length)
}

describe('streams that are read into memory which all of them share', () => {
  let net: TestGateway
  let streams = 0

  beforeAll(async () => {
    net = await TestGateway.start(
      { bitsPerSecondUp: 1e12, bitsPerSecondDown: 1e12, requestsPerSecond: 1_000 },
      {},
      {
        // The real dialler, to the origin of this test.
        dial: (_, __, signal, readBytes) => {
          const loopback = parseIpAddress('127.0.0.1')
          if (loopback === undefined) throw new Error('it is an address')
          return dialTcp(loopback, net.originPort, signal, readBytes)
        },
      },
    )
    net.onOrigin = (socket) => {
      const content = contentOf(streams++)
      socket.once('data', () => {
        socket.write(HELLO)
        // In pieces of all sizes, so that reads are full and not.
        for (let at = 0, size = 1; at < content.length; at += size, size = (size * 7 + 13) % 150_000)
          socket.write(content.subarray(at, at + size))
        socket.end()
      })
    }
  })
  afterAll(() => net.close())

  it.each([
    ['without a bound', {}],
    ['at a rate at which they wait for their turns', { bitsPerSecondDown: 1_000_000_000 }],
  ])('arrive whole and in order %s, also where clients read slowly', async (name, limits) => {
    const first = streams
    const port = await net.lease(`e-${name.length}`, limits)
    const reading: Promise<Buffer>[] = []
    for (let index = 0; index < STREAMS; index++) {
      reading.push(readAll(await tunnel(port), index))
      await until(() => streams === first + index + 1)
    }
    const arrived = await Promise.all(reading)
    expect(arrived.map(digest)).toEqual(arrived.map((_, index) => digest(contentOf(first + index))))
    const records = await net.audit.read(`e-${name.length}`, 0, 100)
    expect(records.map(({ bytesDown }) => bytesDown)).toEqual(arrived.map(() => BYTES + HELLO.length))
    expect(new Set(records.map(({ end }) => end))).toEqual(new Set(['origin']))
  })

  it('never use memory that was not lent: a part of it may be what somebody else still has to read', () => {
    expect(giveBack(Buffer.allocUnsafeSlow(65_536).subarray(100, 40_000))).toBe(false)
  })

  it('of clients that leave in the middle harm no other', async () => {
    const port = await net.lease('e-leave', { bitsPerSecondDown: 1_000_000_000 })
    const first = streams
    const stays = readAll(await tunnel(port), 0)
    await until(() => streams === first + 1)
    const leave = await Promise.all(Array.from({ length: 6 }, () => tunnel(port)))
    for (const [index, socket] of leave.entries())
      socket.on('data', () => (index % 2 === 0 ? socket.resetAndDestroy() : socket.destroy()))
    expect(digest(await stays)).toBe(digest(contentOf(first)))
    await until(async () => (await net.audit.read('e-leave', 0, 100)).length === 7)
  })
})
