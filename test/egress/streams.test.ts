import type { Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { buildHello, buildServerHello } from './hello.js'
import { dial, exchange, TestGateway, until } from './with-gateway.js'

/** What one side has heard. */
class Ear {
  text = ''
  ended = false
  readonly socket: Socket

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('data', (data: Buffer) => {
      this.text += data.toString('latin1')
    })
    socket.on('end', () => {
      this.ended = true
    })
  }

  hears(text: string): Promise<void> {
    return until(() => this.text.includes(text))
  }
}

describe('what streams through the gateway', () => {
  let net: TestGateway
  let port = 0
  let origins: Ear[] = []

  beforeAll(async () => {
    net = await TestGateway.start()
    port = await net.lease('e-1')
  })
  afterAll(() => net.close())
  beforeEach(() => {
    origins = []
    net.onOrigin = (socket) => origins.push(new Ear(socket))
  })

  async function client(text: string | Buffer): Promise<Ear> {
    const ear = new Ear(await dial(port))
    ear.socket.write(text, 'latin1')
    return ear
  }

  async function origin(): Promise<Ear> {
    await until(() => origins.length > 0)
    const [first] = origins
    if (first === undefined) throw new Error('nobody came')
    return first
  }

  const upgrade = [
    'GET http://example.com/chat HTTP/1.1',
    'Host: example.com',
    'Connection: keep-alive, Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    '\r\n',
  ].join('\r\n')
  const accepted =
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n'

  it('is a WebSocket in plain HTTP: both ways, in any order, with frames right behind the answer', async () => {
    const browser = await client(upgrade)
    const server = await origin()
    await server.hears('\r\n\r\n')
    expect(server.text).toContain('Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n')
    server.socket.write(`${accepted}first frame`)
    await browser.hears('first frame')
    browser.socket.write('a question')
    await server.hears('a question')
    server.socket.write('an answer')
    await browser.hears('an answer')
    // Each side may stop first and still hear the other.
    browser.socket.end('that is all')
    await until(() => server.ended)
    expect(server.text).toContain('that is all')
    server.socket.end('a late word')
    await until(() => browser.ended)
    expect(browser.text).toContain('a late word')
  })

  it('is no WebSocket when the origin does not agree', async () => {
    const browser = await client(upgrade)
    const server = await origin()
    await server.hears('\r\n\r\n')
    server.socket.end('HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno')
    await browser.hears('no')
    expect(browser.text).toMatch(/^HTTP\/1\.1 426 /)
  })

  it.each(['client', 'origin'] as const)(
    'is a tunnel that the %s closes in one direction only',
    async (who) => {
      const hello = buildHello({ sni: 'example.com' })
      const browser = await client(
        Buffer.concat([
          Buffer.from('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n'),
          hello,
        ]),
      )
      const server = await origin()
      // the hello came with the request, and is not lost.
      await until(() => server.text.length >= hello.length)
      server.socket.write(buildServerHello(false))
      await until(() => browser.text.length > 60)
      const [first, second] = who === 'client' ? [browser, server] : [server, browser]
      first.socket.end()
      await until(() => second.ended)
      second.socket.write('still there')
      await first.hears('still there')
      second.socket.end()
      await until(() => first.ended)
    },
  )

  it('A-12 is a body that waits for 100 Continue, with its trailers', async () => {
    const uploader = await client(
      'PUT http://example.com/up HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n',
    )
    const server = await origin()
    await server.hears('Expect: 100-continue\r\n')
    expect(server.text).not.toContain('body')
    server.socket.write('HTTP/1.1 100 Continue\r\n\r\n')
    await uploader.hears('100 Continue')
    uploader.socket.write('4\r\nbody\r\n0\r\nX-Sum: 9\r\n\r\n')
    await server.hears('0\r\nX-Sum: 9\r\n\r\n')
    server.socket.end(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Took: 1\r\n\r\n',
    )
    await uploader.hears('0\r\nX-Took: 1\r\n\r\n')
  })

  it('is the refusal of a body that the origin does not want, before it was sent', async () => {
    const uploader = await client(
      'PUT http://example.com/up HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n',
    )
    const server = await origin()
    await server.hears('\r\n\r\n')
    server.socket.end('HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
    await uploader.hears('413 Content Too Large')
    await until(() => uploader.ended)
    expect(server.text).not.toContain('body')
  })

  it('is a request whose client says at once that it sends no more', async () => {
    net.onOrigin = (socket) =>
      socket.once('data', () => setTimeout(() => socket.end('HTTP/1.1 200 OK\r\n\r\nlate'), 50))
    const asker = await client(
      'GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n',
    )
    asker.socket.end()
    await asker.hears('late')
    expect(await exchange(port, 'GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n')).toContain(
      ' 403 ',
    )
  })
})
