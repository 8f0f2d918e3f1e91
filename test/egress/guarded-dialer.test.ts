import { connect, createServer, type AddressInfo } from 'node:net'
import { describe, expect, it } from 'vitest'
import { createGuardedDialer, createResolver, type Dial } from '../../src/egress/index.js'

const never = new AbortController().signal
const NODE = {
  allow: [],
  deny: ['denied.test'],
  privateExceptions: ['data.test:8080', '10.9.9.9:9000'],
  self: ['orchestrator.test:1234'],
}

function dialer(dialled: string[], hosts: Record<string, string | string[]> = {}) {
  const dial: Dial = async (address, port) => {
    dialled.push(`${address.text} ${port}`)
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const socket = connect((server.address() as AddressInfo).port)
    await new Promise((resolve) => socket.once('connect', resolve))
    server.close()
    return socket
  }
  return createGuardedDialer({
    resolve: createResolver({ hosts }),
    policy: NODE,
    dial,
    ownAddresses: () => new Set(['93.184.216.98']),
  })
}

describe('the guarded dialler', () => {
  it('dials the very address that was judged', async () => {
    const dialled: string[] = []
    const socket = await dialer(dialled, { 'data.example.com': '93.184.216.10' }).dial(
      'data.example.com',
      443,
      never,
    )
    socket.destroy()
    expect(dialled).toEqual(['93.184.216.10 443'])
  })

  it.each([
    ['127.0.0.1', 80, 'egress.private_address'],
    ['[::1]', 80, 'egress.private_address'],
    ['::1', 80, 'egress.private_address'],
    ['169.254.169.254', 80, 'egress.private_address'],
    ['meta.test', 80, 'egress.private_address'],
    ['mixed.test', 80, 'egress.private_address'],
    ['localhost', 80, 'egress.private_address'],
    ['orchestrator.test', 1234, 'egress.self'],
    ['me.test', 80, 'egress.self'],
    ['denied.test', 80, 'egress.denied_by_operator'],
    ['data.test', 81, 'egress.private_address'],
    ['10.9.9.9', 8080, 'egress.private_address'],
    ['127.1', 80, 'host.invalid'],
  ])('refuses %s:%i with %s and dials nothing', async (host, port, code) => {
    const dialled: string[] = []
    const hosts = {
      'meta.test': '169.254.169.254',
      'mixed.test': ['93.184.216.10', '10.0.0.1'],
      'me.test': '93.184.216.98',
      'data.test': '10.9.9.9',
      'denied.test': '93.184.216.10',
    }
    await expect(dialer(dialled, hosts).dial(host, port, never)).rejects.toMatchObject({ code })
    expect(dialled).toEqual([])
  })

  it('J-15 honours exact exceptions of the operator, and new rules at once', async () => {
    const dialled: string[] = []
    const guarded = dialer(dialled, { 'data.test': '10.9.9.9' })
    for (const [host, port] of [
      ['data.test', 8080],
      ['10.9.9.9', 9000],
    ] as const)
      (await guarded.dial(host, port, never)).destroy()
    expect(dialled).toEqual(['10.9.9.9 8080', '10.9.9.9 9000'])
    guarded.setNodePolicy({ ...NODE, privateExceptions: [] })
    await expect(guarded.dial('data.test', 8080, never)).rejects.toMatchObject({
      code: 'egress.private_address',
    })
  })
})
