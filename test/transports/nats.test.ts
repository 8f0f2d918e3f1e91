import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createNatsTransport, openNats, startNatsServer } from '../../src/transports/index.js'
import {
  CHANCE,
  CLOCK,
  eventually,
  newKey,
  noNats,
  ORCHESTRATOR,
  SILENT,
  startNetwork,
  type TestNetwork,
} from './message-server.js'

describe.skipIf(noNats !== '')(
  `the transport between machines${noNats === '' ? '' : ` (skipped: ${noNats})`}`,
  () => {
    let network: TestNetwork
    beforeEach(async () => {
      network = await startNetwork()
    })
    afterEach(() => network.close())

    function pid(): number {
      return (JSON.parse(readFileSync(join(network.dir, 'nats-server.pid'), 'utf8')) as { pid: number }).pid
    }

    describe('what a node may do', () => {
      it('asks the orchestrator, which learns from the connection who asks', async () => {
        const orchestrator = await network.transport(ORCHESTRATOR, network.orchestrator)
        await orchestrator.serve('orchestrator.sync', async (body, _signal, from) => ({ body, from }))
        const a = await network.transport('a', await network.admit('a'))
        const b = await network.transport('b-2_x', await network.admit('b-2_x'))
        expect(await a.request('orchestrator.sync', 1, 10_000)).toEqual({ body: 1, from: 'a' })
        expect(await b.request('orchestrator.sync', 2, 10_000)).toEqual({ body: 2, from: 'b-2_x' })
      })

      it('answers the orchestrator, and only for itself', async () => {
        const orchestrator = await network.transport(ORCHESTRATOR, network.orchestrator)
        const a = await network.transport('a', await network.admit('a'))
        const b = await network.transport('b', await network.admit('b'))
        await a.serve('node.a.nudge', async () => 'a')
        await b.serve('node.b.nudge', async () => 'b')
        // Not its own: the server refuses the subscription.
        await a.serve('node.b.output', async () => 'stolen')
        expect(await orchestrator.request('node.a.nudge', {}, 10_000)).toBe('a')
        expect(await orchestrator.request('node.b.nudge', {}, 10_000)).toBe('b')
        await expect(orchestrator.request('node.b.output', {}, 10_000)).rejects.toMatchObject({
          code: 'transport.no_responder',
        })
      })

      it('asks no other node', async () => {
        const a = await network.transport('a', await network.admit('a'))
        const b = await network.transport('b', await network.admit('b'))
        let heard = 0
        await b.serve('node.b.nudge', async () => {
          heard += 1
        })
        await expect(a.request('node.b.nudge', {}, 500)).rejects.toMatchObject({
          code: 'transport.no_responder',
        })
        expect(heard).toBe(0)
      })
    })

    describe('attacks by a node that was let in', () => {
      /** The bare connection of node `a`, without weir's own manners. */
      async function attacker(): ReturnType<typeof openNats> {
        const key = await network.admit('a')
        return openNats({ url: network.server.url, isTlsRequired: false, key, identity: 'a' })
      }

      it('cannot speak as another node', async () => {
        const orchestrator = await network.transport(ORCHESTRATOR, network.orchestrator)
        const heard: string[] = []
        await orchestrator.serve('orchestrator.sync', async (_body, _signal, from = '') => {
          heard.push(from)
        })
        const raw = await attacker()
        for (const subject of [
          'weir.orchestrator.sync.b',
          'weir.orchestrator.sync._orchestrator',
          'weir.orchestrator.join.a',
        ])
          raw.publish(subject, '{}', { reply: '_INBOX.a.x' })
        raw.publish('weir.orchestrator.sync.a', '{}', { reply: '_INBOX.a.x' })
        await eventually('its own message arrives', () => heard.length > 0)
        expect(heard).toEqual(['a'])
        await raw.close()
      })

      it.each([
        '>',
        'weir.>',
        'weir.orchestrator.>',
        'weir.node.b.*',
        'weir.node.*.output',
        '_INBOX.>',
        '_INBOX.b.>',
        '_INBOX._orchestrator.>',
        '$SYS.>',
      ])('cannot listen to %s', async (subject) => {
        const raw = await attacker()
        const refusal = new Promise<string>((resolve) => {
          raw.subscribe(subject, {
            callback: (error, message) => resolve(error?.message ?? `heard ${message.subject}`),
          })
        })
        const b = await network.transport('b', await network.admit('b'))
        const orchestrator = await network.transport(ORCHESTRATOR, network.orchestrator)
        await orchestrator.serve('orchestrator.sync', async () => 'secret')
        await b.request('orchestrator.sync', {}, 10_000)
        expect(await refusal).toContain('Permissions Violation')
        await raw.close()
      })

      it('cannot make the orchestrator write to somebody else by a false address for the answer', async () => {
        const orchestrator = await network.transport(ORCHESTRATOR, network.orchestrator)
        let asked = 0
        await orchestrator.serve('orchestrator.sync', async () => {
          asked += 1
          return 'answer'
        })
        const b = await network.transport('b', await network.admit('b'))
        let nudged = 0
        await b.serve('node.b.nudge', async () => {
          nudged += 1
        })
        const raw = await attacker()
        for (const reply of ['weir.node.b.nudge', '_INBOX.b.1', 'weir.orchestrator.sync.b', '_INBOX.ab.1'])
          raw.publish('weir.orchestrator.sync.a', '{}', { reply })
        raw.publish('weir.orchestrator.sync.a', '{}', { reply: '_INBOX.a.1' })
        await eventually('the honest message is answered', () => asked > 0)
        await raw.flush()
        expect([asked, nudged]).toEqual([1, 0])
        await raw.close()
      })

      it('cannot answer for others: an answer is allowed only to who asked', async () => {
        const orchestrator = await network.transport(ORCHESTRATOR, network.orchestrator)
        const b = await network.transport('b', await network.admit('b'))
        await orchestrator.serve('orchestrator.sync', () => new Promise(() => undefined))
        const waiting = b.request('orchestrator.sync', {}, 400)
        const raw = await attacker()
        const violations: string[] = []
        void (async () => {
          for await (const status of raw.status())
            if (status.type === 'error') violations.push(status.error.message)
        })()
        raw.publish('_INBOX.b.anything', '"forged"')
        await eventually('the server refuses it', () => violations.some((text) => text.includes('_INBOX.b')))
        await expect(waiting).rejects.toMatchObject({ code: 'transport.timeout' })
        await raw.close()
      })

      it('is not heard for garbage, and everybody else still is', async () => {
        const orchestrator = await network.transport(ORCHESTRATOR, network.orchestrator)
        let handled = 0
        await orchestrator.serve('orchestrator.sync', async (body, _signal, from) => {
          handled += 1
          return { body, from }
        })
        const raw = await attacker()
        for (const garbage of ['', '{', 'null x', '\u0000', '[1,'])
          expect(
            (await raw.request('weir.orchestrator.sync.a', garbage, { timeout: 10_000 })).headers?.has(
              'Weir-Error',
            ),
          ).toBe(true)
        expect(handled).toBe(0)
        const b = await network.transport('b', await network.admit('b'))
        expect(await b.request('orchestrator.sync', 'hello', 10_000)).toEqual({ body: 'hello', from: 'b' })
        await raw.close()
      })

      it('is read only as often as it may speak, and reported when it shouts', async () => {
        let flooding = ''
        const orchestrator = await network.transport(ORCHESTRATOR, network.orchestrator, {
          intake: { floodMessages: 5_000 },
          onFlood: (sender) => {
            flooding = sender
          },
        })
        const handled = new Map<string, number>()
        await orchestrator.serve('orchestrator.sync', async (_body, _signal, from = '') => {
          handled.set(from, (handled.get(from) ?? 0) + 1)
        })
        const raw = await attacker()
        const b = await network.transport('b', await network.admit('b'))
        const beganMs = Date.now()
        for (let index = 0; index < 10_000; index++)
          raw.publish('weir.orchestrator.sync.a', '{"a":1}', { reply: '_INBOX.a.1' })
        await raw.flush()
        await b.request('orchestrator.sync', {}, 10_000)
        await eventually('the flood is noticed', () => flooding !== '')
        expect(flooding).toBe('a')
        const seconds = (Date.now() - beganMs) / 1000
        expect(handled.get('a')).toBeLessThanOrEqual(200 + 100 * (seconds + 1))
        expect(handled.get('b')).toBe(1)
        await raw.close()
      })

      it('is disconnected when it is no longer among the users, and cannot come back', async () => {
        const key = await network.admit('a')
        const a = await network.transport('a', key)
        await network.server.setUsers(network.users.filter((user) => user.kind !== 'node'))
        await eventually('the connection is cut', () => a.status().state === 'connecting')
        await expect(
          openNats({ url: network.server.url, isTlsRequired: false, key, identity: 'a' }),
        ).rejects.toMatchObject({
          code: 'transport.refused',
        })
      })
    })

    it('refuses a key that nobody let in, also one with a borrowed name', async () => {
      await network.admit('a')
      await expect(
        openNats({ url: network.server.url, isTlsRequired: false, key: newKey(), identity: 'a' }),
      ).rejects.toMatchObject({ code: 'transport.refused' })
    })

    it('goes on after the server was killed: it runs again on the same port, and what was served is served again', async () => {
      const orchestrator = await network.transport(ORCHESTRATOR, network.orchestrator)
      const a = await network.transport('a', await network.admit('a'))
      await a.serve('node.a.nudge', async () => 'here')
      await orchestrator.serve('orchestrator.sync', async (_body, _signal, from) => from)
      const { port } = network.server
      const before = pid()
      process.kill(before, 'SIGKILL')
      await eventually('the loss is noticed', () => a.status().state === 'connecting')
      await expect(a.request('orchestrator.sync', {}, 60_000)).rejects.toMatchObject({
        code: 'transport.no_responder',
      })
      await eventually('both are back', () =>
        [a, orchestrator].every((one) => one.status().state === 'connected'),
      )
      expect(pid()).not.toBe(before)
      expect(network.server.port).toBe(port)
      expect(await a.request('orchestrator.sync', {}, 10_000)).toBe('a')
      expect(await orchestrator.request('node.a.nudge', {}, 10_000)).toBe('here')
    })

    it('makes many changes of users at once in few steps, and the last one counts', async () => {
      const keys = Array.from({ length: 50 }, () => newKey())
      const changes = keys.map((key, index) =>
        network.server.setUsers([
          ...network.users,
          { kind: 'node', nodeId: `n-${index}`, publicKey: key.publicKey },
        ]),
      )
      await Promise.all(changes)
      const open = (index: number) =>
        openNats({
          url: network.server.url,
          isTlsRequired: false,
          key: keys[index] ?? newKey(),
          identity: `n-${index}`,
        })
      await (await open(49)).close()
      await expect(open(20)).rejects.toMatchObject({ code: 'transport.refused' })
    })

    it('keeps its configuration to its owner, and no secret in it', () => {
      const file = join(network.dir, 'nats.conf')
      expect(statSync(file).mode & 0o777).toBe(0o600)
      expect(readFileSync(file, 'utf8')).not.toMatch(/\bS[A-Z2-7]{50,}|password|token/i)
    })

    it('ends a server that outlived its owner, and nothing else', async () => {
      const dir = join(network.dir, 'again')
      mkdirSync(dir)
      const start = () =>
        startNatsServer({
          dir,
          listener: { host: '127.0.0.1', port: 0 },
          users: network.users,
          clock: CLOCK,
          logger: SILENT,
        })
      await (await start()).close()
      // The same program with the same file, as if its owner had been killed where the kernel could not help.
      const orphan = spawn('nats-server', ['--config', join(dir, 'nats.conf')], { stdio: 'ignore' })
      // Somebody else's process under a number that was ours once.
      const bystander = spawn('sleep', ['60'], { stdio: 'ignore' })
      const ended = new Promise((resolve) => orphan.once('exit', (_code, signal) => resolve(signal)))
      try {
        note(dir, bystander.pid ?? 0)
        await (await start()).close()
        note(dir, orphan.pid ?? 0, 'another start')
        await (await start()).close()
        expect([orphan.signalCode, bystander.signalCode]).toEqual([null, null])
        note(dir, orphan.pid ?? 0)
        await (await start()).close()
        expect(await ended).toBe('SIGKILL')
        expect(bystander.signalCode).toBeNull()
      } finally {
        orphan.kill('SIGKILL')
        bystander.kill('SIGKILL')
      }
    })
  },
)

/** What weir writes about the server that it started. */
function note(dir: string, pid: number, startTicks = ticksOf(pid)): void {
  writeFileSync(join(dir, 'nats-server.pid'), JSON.stringify({ pid, startTicks }))
}

function ticksOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
}

describe('a message server that cannot be started', () => {
  it('says what to install when the program is missing', async () => {
    await expect(startNetwork({ program: '/nonexistent/nats-server' })).rejects.toMatchObject({
      code: 'transport.unavailable',
      hint: expect.stringContaining('apt-get install nats-server') as string,
    })
  })

  it.skipIf(noNats !== '')('says that the port is taken', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => holder.once('listening', resolve))
    const { port } = holder.address() as { port: number }
    try {
      await expect(startNetwork({ listener: { host: '127.0.0.1', port } })).rejects.toMatchObject({
        code: 'port.in_use',
        hint: expect.stringContaining('Orchestrator.Port') as string,
      })
    } finally {
      holder.close()
    }
  })

  it.skipIf(noNats !== '')('says what is wrong with a certificate', async () => {
    const tls = { certFile: '/nonexistent.pem', keyFile: '/nonexistent.key', timeoutMs: 1_000 }
    await expect(startNetwork({ listener: { host: '127.0.0.1', port: 0, tls } })).rejects.toMatchObject({
      code: 'transport.unavailable',
      message: expect.stringContaining('/nonexistent.pem') as string,
    })
  })
})

describe('a connection that goes before the server has answered', () => {
  it('is made again, and closing waits for none that is gone', async () => {
    let connections = 0
    const server = createServer((socket) => {
      connections += 1
      let pings = 0
      socket.on('error', () => {})
      socket.write('INFO {"server_id":"test","version":"2.10.0","proto":1,"max_payload":1048576}\r\n')
      socket.setEncoding('utf8').on('data', (text: string) => {
        // The first belongs to the greeting.
        for (const _ of text.matchAll(/PING\r\n/g))
          if (++pings === 1) socket.write('PONG\r\n')
          else if (connections < 3) socket.destroy()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const transport = createNatsTransport({
      identity: 'a',
      connect: () =>
        openNats({ url: `nats://127.0.0.1:${port}`, isTlsRequired: false, key: newKey(), identity: 'a' }),
      clock: CLOCK,
      chance: CHANCE,
      logger: SILENT,
    })
    // The third stays open, and never answers.
    await eventually('it is connected for the third time', () => connections === 3)
    await transport.close()
    expect(transport.status().state).toBe('closed')
    await new Promise((resolve) => server.close(resolve))
  })
})
