import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CHANNEL_WINDOW_BYTES, FRAME, FRAME_BYTES_MAX } from '../../src/model/index.js'
import { ChannelClient, frame, socketPair } from './channel-client.js'
import { get, pour, TestGateway, until } from './with-gateway.js'

let world: TestGateway
let runs = 0

/** A door with the channel of a sandbox; the other end is handed out. */
async function enter(limits = {}) {
  const executionId = `e-channel-${++runs}`
  await world.lease(executionId, limits)
  const [theirs, mine] = await socketPair()
  world.gateway.carry(`door-${executionId}`, theirs)
  let isClosed = false
  mine.on('close', () => {
    isClosed = true
  })
  return {
    mine,
    executionId,
    isClosed: () => isClosed,
    records: () => world.audit.read(executionId, 0, 1_000),
  }
}

beforeAll(async () => {
  world = await TestGateway.start({ bitsPerSecondDown: 1e9, bitsPerSecondUp: 1e9, headTimeoutMs: 500 })
})
afterAll(() => world.close())

const open = frame(FRAME.OPEN, 1)
const data = (bytes: number, stream = 1) => frame(FRAME.DATA, stream, bytes, Buffer.alloc(bytes, 'x'))

describe('the channel of a sandbox', () => {
  it.each([
    ['garbage', Buffer.from('GET http://example.com/ HTTP/1.1\r\n\r\n'), 'a frame of'],
    ['a kind that does not exist', Buffer.concat([open, frame(99, 1)]), 'unknown kind'],
    ['bytes of a stream that is not open', data(4, 7), 'not open'],
    ['a stream out of turn', frame(FRAME.OPEN, 2), 'out of turn'],
    ['the same stream twice', Buffer.concat([open, open]), 'out of turn'],
    ['an empty frame', Buffer.concat([open, frame(FRAME.DATA, 1, 0)]), 'impossible size'],
    [
      'a frame that is too large',
      Buffer.concat([open, frame(FRAME.DATA, 1, FRAME_BYTES_MAX + 1)]),
      'impossible size',
    ],
    ['a number where none belongs', Buffer.concat([open, frame(FRAME.END, 1, 5)]), 'a number where'],
    ['credit for bytes it never got', Buffer.concat([open, frame(FRAME.CREDIT, 1, 1)]), 'more credit'],
    ['bytes after its end', Buffer.concat([open, frame(FRAME.END, 1), data(4)]), 'more bytes'],
    [
      'too many streams',
      Buffer.concat(Array.from({ length: 257 }, (_none, index) => frame(FRAME.OPEN, index + 1))),
      'too many streams',
    ],
    ['half a frame, and the end', Buffer.from([0, 0, 0, 1, 1]), 'inside a frame'],
  ])('ends with %s, and a record says why', async (_what, bytes, reason) => {
    const { mine, records, isClosed } = await enter()
    mine.end(bytes)
    await until(isClosed)
    await until(async () => (await records()).some(({ method }) => method === 'CHANNEL'))
    const violation = (await records()).find(({ method }) => method === 'CHANNEL')
    expect(violation).toMatchObject({
      kind: 'wasm',
      code: 'request.malformed',
      decision: 'deny',
      dialled: '',
      status: 0,
    })
    expect(violation?.hostAsSent).toContain(reason)
    expect((await records()).some(({ decision }) => decision === 'allow')).toBe(false)
  })

  it('ends when more is sent than its window holds, and keeps no more of it', async () => {
    const { mine, records, isClosed } = await enter()
    world.onOrigin = () => {}
    mine.write(open)
    const head = `POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100000000\r\n\r\n`
    mine.write(frame(FRAME.DATA, 1, head.length, Buffer.from(head)))
    // Nobody reads at the other side of the origin for ever, so the windows fill.
    for (let sent = 0; sent < 64 && !mine.destroyed; sent++) mine.write(data(FRAME_BYTES_MAX))
    await until(isClosed)
    await until(async () => (await records()).some(({ hostAsSent }) => hostAsSent.includes('more bytes')))
  })

  it('gives a stream that is not read no more than its window, and the others go on', async () => {
    const { mine } = await enter()
    world.onOrigin = pour
    let arrived = 0
    const client = new ChannelClient(mine)
    mine.on('data', (bytes: Buffer) => (arrived += bytes.length))
    const silent = client.open()
    silent.write(get('example.com'))
    await until(() => arrived >= CHANNEL_WINDOW_BYTES)
    // Whoever reads gets more than a window.
    const other = client.open()
    let read = 0
    other.on('data', (bytes: Buffer) => (read += bytes.length))
    other.write(get('h1.example.com'))
    await until(() => read > 4 * CHANNEL_WINDOW_BYTES)
    expect(silent.readableLength).toBeLessThanOrEqual(CHANNEL_WINDOW_BYTES)
    mine.destroy()
  })

  it('a head that never comes is told so, and silence alone costs nothing', async () => {
    const { mine, records } = await enter()
    const client = new ChannelClient(mine)
    const [half, silent] = [client.open(), client.open()]
    let answer = ''
    let isOver = false
    half.on('data', (bytes: Buffer) => (answer += bytes.toString()))
    silent.on('close', () => (isOver = true)).resume()
    half.write('GET http://example.com/ HT')
    await until(() => answer.includes('408') && isOver)
    expect((await records()).map(({ code }) => code)).toEqual(['request.timeout'])
    mine.destroy()
  })

  it('holds conversations to the limit of connections, and a closed lease ends them', async () => {
    const { mine, executionId, records } = await enter({ connectionsMax: 2 })
    world.onOrigin = () => {}
    const client = new ChannelClient(mine)
    const [one, two] = [client.open(), client.open()]
    for (const stream of [one, two]) stream.write(get('example.com'))
    await until(async () => world.gateway.status.connections >= 2)
    const third = client.open()
    let answer = ''
    third.on('data', (bytes: Buffer) => (answer += bytes.toString()))
    await until(() => answer.includes('429') && answer.includes('egress.connections'))
    await world.gateway.close(executionId)
    await until(() => mine.destroyed)
    expect((await records()).map(({ end }) => end)).toEqual(['limit', 'shutdown', 'shutdown'])
  })

  it('of a sandbox that asks on many streams and never reads holds up no other', async () => {
    const streams = 200
    const { mine, executionId } = await enter({ connectionsMax: streams })
    const other = await enter()
    world.onOrigin = pour
    mine.pause()
    const asked = Buffer.from(get('example.com'))
    for (let stream = 1; stream <= streams; stream++)
      mine.write(Buffer.concat([frame(FRAME.OPEN, stream), frame(FRAME.DATA, stream, asked.length, asked)]))
    await until(() => world.gateway.status.connections >= streams)
    const stream = new ChannelClient(other.mine).open()
    let read = 0
    stream.on('data', (bytes: Buffer) => (read += bytes.length))
    stream.write(get('h1.example.com'))
    await until(() => read > 16 * CHANNEL_WINDOW_BYTES)
    await world.gateway.close(executionId)
    other.mine.destroy()
  })
})
