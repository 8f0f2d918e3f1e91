import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WeirClient } from '../../src/client/index.js'
import { blobCid } from '../../src/model/index.js'
import { startServer, type Server } from './with-server.js'

const PATH = '/api/v1/orchestrator/blobs'
const cidOf = (content: Uint8Array): string => blobCid(createHash('sha256').update(content).digest())

let server: Server
let client: WeirClient
beforeAll(async () => {
  server = await startServer({
    limits: { readTimeoutMs: 500, uploadTimeoutMs: 20_000, bodyBytesMax: 10_000 },
  })
  client = new WeirClient({ baseUrl: server.url })
})
afterAll(async () => {
  client.close()
  await server.close()
})

/** Sends a head and then pieces with pauses; resolves with everything that was answered. */
async function drip(head: string, pieces: readonly Buffer[], pauseMs: number): Promise<string> {
  const socket = connect(server.port, '127.0.0.1')
  let received = ''
  socket.on('data', (data) => (received += data.toString()))
  socket.on('error', () => {})
  await once(socket, 'connect')
  const closed = once(socket, 'close')
  socket.write(`${head}Host: localhost\r\nConnection: close\r\n`)
  socket.write(`Content-Length: ${pieces.reduce((sum, one) => sum + one.length, 0)}\r\n\r\n`)
  for (const piece of pieces) {
    if (socket.destroyed) break
    socket.write(piece)
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
  await closed
  return received
}

describe('uploads', () => {
  it('may be larger than other bodies, and are streamed in both directions', async () => {
    const content = randomBytes(900_000)
    const cid = cidOf(content)
    const half = content.length / 2
    const stream = Readable.from([content.subarray(0, half), content.subarray(half)])
    expect(await client.storeBlob(cid, { stream, bytes: content.length })).toMatchObject({
      CID: cid,
      Bytes: 900_000,
    })
    expect(content.equals(await client.blobContent(cid))).toBe(true)
    expect((await server.call('HEAD', `${PATH}/${cid}`)).status).toBe(200)
    expect((await client.blobs()).Items.map(({ CID }) => CID)).toContain(cid)
  })

  it('that are too large, or other content than their CID, are answered and not cut off', async () => {
    const content = randomBytes(3_000_000)
    const send = (cid: string, bytes: Buffer): Promise<unknown> =>
      client.storeBlob(cid, { stream: Readable.from([bytes]), bytes: bytes.length })
    await expect(send(cidOf(content), content)).rejects.toMatchObject({ code: 'blob.too_large' })
    await expect(send(cidOf(content), randomBytes(10))).rejects.toMatchObject({ code: 'blob.mismatch' })
    await expect(send('bafybeigdyrzt5', content)).rejects.toMatchObject({ code: 'api.bad_request' })
    const json = await server.call('PUT', `${PATH}/${cidOf(content)}`, { a: 1 })
    expect([json.status, json.json.Message]).toEqual([400, 'Cannot store JSON as a blob'])
  })

  it('may take longer than other requests as long as they come steadily', async () => {
    const pieces = Array.from({ length: 12 }, () => randomBytes(10))
    const head = `PUT ${PATH}/${cidOf(Buffer.concat(pieces))} HTTP/1.1\r\nContent-Type: application/octet-stream\r\n`
    expect(await drip(head, pieces, 100)).toContain('200 OK')
    // The same bytes to another route, and an upload that stops.
    const elsewhere = 'PUT /api/v1/orchestrator/jobs HTTP/1.1\r\nContent-Type: application/json\r\n'
    expect(await drip(elsewhere, pieces, 100)).toContain('408')
    expect(await drip(head, [randomBytes(10), randomBytes(10)], 5_000)).toContain('408')
  })

  it('are the only requests whose body may be anything but JSON', async () => {
    const answer = await server.call('PUT', '/api/v1/orchestrator/jobs', 'x', {
      'content-type': 'application/octet-stream',
    })
    expect(answer.status).toBe(400)
  })
})
