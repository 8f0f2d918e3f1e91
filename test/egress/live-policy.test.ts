import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { closed, dial, exchange, get, pour, TestGateway, until } from './with-gateway.js'

let net: TestGateway

afterEach(() => net.close())

describe('a permission that is withdrawn', () => {
  it('stops an attempt whose name is still being looked up, before anything is dialled', async () => {
    net = await TestGateway.start()
    let dialled = 0
    net.onOrigin = () => dialled++
    net.beforeAnswer = async (signal) => {
      await sleep(60_000, undefined, { signal })
    }
    const port = await net.lease('e-1')
    const answer = exchange(port, get('example.com'))
    await until(() => net.lookups.length === 1)
    net.gateway.setNodePolicy({ ...net.node, deny: ['example.com'] })
    expect(await answer).toContain('Weir-Egress-Code: egress.revoked')
    expect(dialled).toBe(0)
    const [record] = await net.audit.read('e-1', 0, 10)
    expect(record).toMatchObject({
      code: 'egress.revoked',
      end: 'revoked',
      policyGeneration: 1,
      revokedByGeneration: 2,
    })
  })

  it('cuts an answer that is under way, and nothing of it comes later', async () => {
    net = await TestGateway.start()
    net.onOrigin = pour
    const socket = await dial(await net.lease('e-1'))
    socket.on('error', () => {})
    socket.on('end', () => socket.end())
    let received = 0
    socket.on('data', (data: Buffer) => {
      received += data.length
    })
    socket.write(get('example.com'))
    await until(() => received > 10_000)
    const gone = closed(socket)
    net.gateway.setNodePolicy({ ...net.node, allow: ['.example.org'] })
    await gone
    expect((await net.audit.read('e-1', 0, 10))[0]).toMatchObject({ code: 'egress.revoked', end: 'revoked' })
  })

  it('holds for the next request of a connection that is kept alive', async () => {
    net = await TestGateway.start()
    net.onOrigin = (socket) =>
      socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK'))
    const socket = await dial(await net.lease('e-1'))
    socket.on('error', () => {})
    const request = 'GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n'
    socket.write(request)
    const [first] = (await once(socket, 'data')) as [Buffer]
    expect(first.toString()).toMatch(/^HTTP\/1\.1 200 /)
    await until(async () => (await net.audit.read('e-1', 0, 10)).length === 1)
    net.gateway.setNodePolicy({ ...net.node, allow: ['.example.org'] })
    let rest = ''
    socket.on('data', (data: Buffer) => {
      rest += data.toString()
    })
    socket.write(request)
    await until(() => rest.includes('egress.not_in_node_list'))
    socket.destroy()
  })
})
