import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { fromPieces, toPieces } from '../../src/egress/list-pieces.js'
import { compileJobRules, compileNodeRules } from '../../src/egress/policy/egress-policy.js'
import { PatternMemo } from '../../src/model/index.js'
import type { NodeEgressPolicy } from '../../src/ports/index.js'
import { closed, dial, exchange, get, pour, TestGateway, until } from './with-gateway.js'

let net: TestGateway

afterEach(() => net.close())

describe('rules that come with lists of leases', () => {
  it('are in force together, or, when one cannot be read, not at all', async () => {
    net = await TestGateway.start()
    const port = await net.lease('e-1')
    const allow = ['.example.com', '.example.org']
    const put = (list: string[]): void =>
      net.gateway.setNodePolicy({ ...net.node, allow }, undefined, new Map([['e-1', list]]))
    expect(() => put(['a..b'])).toThrow(/a\.\.b/)
    expect(net.gateway.status.policyGeneration).toBe(1)
    put(['.example.org'])
    expect(await exchange(port, get('example.com'))).toContain(' 403 ')
    put(allow)
    expect(await exchange(port, get('example.com'))).toContain(' 200 ')
    // Whose lease is gone asks for nothing.
    net.gateway.setNodePolicy(net.node, undefined, new Map([['e-9', allow]]))
    expect(net.gateway.status.policyGeneration).toBe(4)
  })
})

describe('lists as pieces of a longer one', () => {
  it('come back as they were, whole, in part, in another order, and with what the longer one lacks', () => {
    const whole = ['a.test', 'b.test', 'c.test', 'd.test']
    const lists = [[...whole], ['b.test', 'c.test'], ['d.test', 'a.test', 'b.test'], ['x.test', 'c.test'], []]
    const pieces = toPieces(lists, whole)
    expect(pieces.slice(0, 2)).toEqual([[[0, 4]], [[1, 3]]])
    expect(pieces.map((one) => fromPieces(one, whole))).toEqual(lists)
  })
})

describe('a list that did not change', () => {
  it('is not built again, whatever changed beside it; a job that asks for all of it shares it', () => {
    const memo = new PatternMemo()
    const policy = { allow: ['.a.test'], deny: ['b.a.test'], privateExceptions: [], self: [] }
    const first = compileNodeRules(policy, 1, memo)
    const second = compileNodeRules({ ...policy, allow: ['.a.test', 'c.test'] }, 2, memo, first)
    expect(second.deny).toBe(first.deny)
    expect(second.allow).not.toBe(first.allow)
    expect(second.allow.match('c.test', 443)).toBeDefined()
    expect(compileJobRules({ allow: ['.a.test', 'c.test'] }, memo, second)).toBe(second.allow)
    expect(compileJobRules({ allow: ['.a.test'] }, memo, second).match('c.test', 443)).toBeUndefined()
  })
})

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

describe('the list of a key that signed the job', () => {
  const GRANT = { name: 'release', key: 'U-1', allow: ['h1.example.com', 'h2.example.com'] }
  const OPEN: Partial<NodeEgressPolicy> = { allow: ['example.com'], keys: [GRANT] }
  const HOUR = 3_600_000
  const signed = () => ({ signedBy: [{ key: 'U-1', untilMs: net.nowMs() + HOUR }] })
  const codeOf = async (port: number, host: string): Promise<string> =>
    /^Weir-Egress-Code: (.*)\r$/m.exec(await exchange(port, get(host)))?.[1] ?? 'allowed'
  /** An answer that goes on until it is cut. */
  async function startFlow(port: number): Promise<{ gone: Promise<unknown> }> {
    net.onOrigin = pour
    const socket = await dial(port)
    socket.on('error', () => {})
    socket.on('end', () => socket.end())
    let received = 0
    socket.on('data', (data: Buffer) => {
      received += data.length
    })
    socket.write(get('h1.example.com'))
    await until(() => received > 10_000)
    return { gone: closed(socket) }
  }

  it('opens its hosts to that job and to no other, and the record names it', async () => {
    net = await TestGateway.start({}, OPEN)
    const [plain, port] = [await net.lease('e-1'), await net.lease('e-2', {}, signed())]
    const stranger = await net.lease('e-3', {}, { signedBy: [{ key: 'U-2', untilMs: net.nowMs() + HOUR }] })
    expect(await codeOf(plain, 'h1.example.com')).toBe('egress.not_in_node_list')
    expect(await codeOf(stranger, 'h1.example.com')).toBe('egress.not_in_node_list')
    expect(await codeOf(port, 'h1.example.com')).toBe('allowed')
    expect(await codeOf(port, 'example.com')).toBe('allowed')
    expect(await codeOf(port, 'h3.example.com')).toBe('egress.not_in_node_list')
    expect(await net.audit.read('e-2', 0, 10)).toMatchObject([
      { host: 'h1.example.com', rule: 'h1.example.com', ruleOwner: 'key release' },
      { host: 'example.com', rule: '.example.com', ruleOwner: 'job' },
      { host: 'h3.example.com', ruleOwner: 'node' },
    ])
  })

  it('loses to what is denied, to the list of the network, to self and to the mode', async () => {
    net = await TestGateway.start({}, { ...OPEN, deny: ['h1.example.com'], network: ['example.com'] })
    const port = await net.lease('e-1', {}, signed())
    expect(await codeOf(port, 'h1.example.com')).toBe('egress.denied_by_operator')
    expect(await codeOf(port, 'h2.example.com')).toBe('egress.not_in_network_list')
    net.gateway.setNodePolicy({ ...net.node, self: ['h2.example.com'] })
    expect(await codeOf(port, 'h2.example.com')).toBe('egress.self')
    net.gateway.setNodePolicy({ ...net.node, network: ['.example.com'], mode: 'none' })
    expect(await codeOf(port, 'h2.example.com')).toBe('egress.not_in_node_list')
  })

  it('closes when the key is not trusted any more, also what is under way', async () => {
    net = await TestGateway.start({}, OPEN)
    const port = await net.lease('e-1', {}, signed())
    const { gone } = await startFlow(port)
    net.gateway.setNodePolicy({ ...net.node, keys: [] })
    await gone
    expect((await net.audit.read('e-1', 0, 10))[0]).toMatchObject({
      code: 'egress.revoked',
      end: 'revoked',
      ruleOwner: 'key release',
      revokedByGeneration: 2,
    })
    expect(await codeOf(port, 'h1.example.com')).toBe('egress.not_in_node_list')
  })

  it('closes when the signature expires, also when the clock on the wall is set', async () => {
    net = await TestGateway.start({}, OPEN)
    const port = await net.lease('e-1', {}, signed())
    const { gone } = await startFlow(port)
    const later = Date.now() + HOUR
    net.nowMs = () => later
    await gone
    expect((await net.audit.read('e-1', 0, 10))[0]).toMatchObject({ end: 'revoked' })
    expect(await codeOf(port, 'h1.example.com')).toBe('egress.signature_expired')
    // A gateway that begins anew knows it as well.
    expect(
      await codeOf(
        await net.lease('e-2', {}, { signedBy: [{ key: 'U-1', untilMs: later }] }),
        'h1.example.com',
      ),
    ).toBe('egress.signature_expired')
  })
})
