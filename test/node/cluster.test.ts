import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { WeirClient } from '../../src/client/index.js'
import { loadConfig } from '../../src/config/index.js'
import { type RunningNode, startNode, type StartNodeOptions } from '../../src/node/index.js'
import { loadIdentity } from '../../src/node/identity.js'
import type { NodeRecord } from '../../src/model/index.js'
import { openNats, keyPairOf } from '../../src/transports/index.js'
import { CHANCE, eventually, noNats } from '../transports/message-server.js'
import { testSettings } from './running-node.js'

const NO_ENGINES = ['Engines.Disabled=docker,wasm', 'Compute.Heartbeat.Interval=200ms']

// Several whole processes each; a busy machine takes its time.
vi.setConfig({ testTimeout: 90_000 })

describe.skipIf(noNats !== '')(
  `a network of several machines${noNats === '' ? '' : ` (skipped: ${noNats})`}`,
  () => {
    let dir: string
    const running: RunningNode[] = []
    beforeEach(async () => {
      dir = await mkdtemp(join(tmpdir(), 'weir-cluster-'))
    })
    afterEach(async () => {
      for (const node of running.splice(0).reverse()) await node.close()
      await rm(dir, { recursive: true, force: true })
    })

    async function start(
      name: string,
      settings: string[],
      more: Partial<StartNodeOptions>,
    ): Promise<RunningNode> {
      const config = loadConfig({
        dataDir: join(dir, name),
        settings: testSettings([...NO_ENGINES, ...settings]),
      })
      const node = await startNode({ config, logLevel: 'silent', ...more })
      running.push(node)
      return node
    }

    function startOrchestrator(
      settings: string[] = [],
      compute = false,
      more: Partial<StartNodeOptions> = {},
    ): Promise<RunningNode> {
      return start('orchestrator', ['Orchestrator.Port=0', ...settings], {
        roles: { orchestrator: true, compute },
        ...more,
      })
    }

    function startMember(
      name: string,
      url: string,
      more: Partial<StartNodeOptions> = {},
      settings: string[] = [],
    ): Promise<RunningNode> {
      return start(name, [`Compute.Orchestrators=${url}`, ...settings], {
        roles: { orchestrator: false, compute: true },
        name,
        ...more,
      })
    }

    function networkOf(node: RunningNode): NonNullable<RunningNode['network']> {
      if (node.network === undefined) throw new Error('the node is not open to others')
      return node.network
    }

    async function record(orchestrator: RunningNode, id: string): Promise<NodeRecord | undefined> {
      return (await orchestrator.jobs?.nodes({}))?.find(({ info }) => info.nodeId === id)
    }

    async function stands(
      orchestrator: RunningNode,
      id: string,
      membership: string,
      connection: string,
    ): Promise<void> {
      await eventually(`${id} is ${membership} and ${connection}`, async () => {
        const found = await record(orchestrator, id)
        return found?.membership === membership && found.connection === connection
      })
    }

    async function token(orchestrator: RunningNode, usesMax = 1): Promise<string> {
      return (await networkOf(orchestrator).tokens.create({ usesMax })).secret
    }

    it('takes a machine with a token, and knows it by its key from then on', async () => {
      const orchestrator = await startOrchestrator()
      const { joinUrl } = networkOf(orchestrator)
      const member = await startMember('a', joinUrl, { joinSecret: await token(orchestrator) })
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
      await member.close()
      await stands(orchestrator, 'a', 'APPROVED', 'DISCONNECTED')
      // No token any more.
      const again = await startMember('a', joinUrl)
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
      expect(again.networkStatus?.()).toMatchObject({ state: 'connected', membership: 'APPROVED' })
      const identity = join(dir, 'a', 'node.json')
      expect(statSync(identity).mode & 0o777).toBe(0o600)
      expect(JSON.parse(readFileSync(identity, 'utf8'))).toMatchObject({ nodeId: 'a' })
    })

    it('answers about itself only, with where it stands', async () => {
      const orchestrator = await startOrchestrator(['Orchestrator.NodeManager.ManualApproval=true'])
      const member = await startMember('a', networkOf(orchestrator).joinUrl, {
        joinSecret: await token(orchestrator),
      })
      await stands(orchestrator, 'a', 'PENDING', 'CONNECTED')
      const client = new WeirClient({ baseUrl: member.apiUrl })
      try {
        await eventually(
          'it heard that it waits',
          async () => (await client.agentNode()).Membership === 'PENDING',
        )
        await expect(client.nodes()).rejects.toMatchObject({ code: 'api.not_found' })
        expect(existsSync(join(dir, 'a', 'jobs.db'))).toBe(false)
      } finally {
        client.close()
      }
    })

    it('gives a pending machine no work until an operator approves it', async () => {
      const lines: string[] = []
      const orchestrator = await startOrchestrator(['Orchestrator.NodeManager.ManualApproval=true'])
      const member = await startMember('a', networkOf(orchestrator).joinUrl, {
        joinSecret: await token(orchestrator),
        logLevel: 'info',
        logTo: (line) => lines.push(line),
      })
      await stands(orchestrator, 'a', 'PENDING', 'CONNECTED')
      await eventually('its log says what it waits for', () =>
        lines.some((line) => line.includes('weir node approve a')),
      )
      await orchestrator.jobs?.updateNode('a', 'approve', '')
      await eventually(
        'it hears of it at once',
        () => member.networkStatus?.().membership === 'APPROVED',
        2_000,
      )
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
    })

    it('approves by id and by label where approval is manual', async () => {
      const orchestrator = await startOrchestrator([
        'Orchestrator.NodeManager.ManualApproval=true',
        'Orchestrator.NodeManager.AutoApprove=a,rack=7',
      ])
      const { joinUrl } = networkOf(orchestrator)
      const secret = await token(orchestrator, 0)
      await startMember('a', joinUrl, { joinSecret: secret })
      await startMember('b', joinUrl, { joinSecret: secret }, ['Labels=rack=7'])
      await startMember('c', joinUrl, { joinSecret: secret }, ['Labels=rack=8'])
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
      await stands(orchestrator, 'b', 'APPROVED', 'CONNECTED')
      await stands(orchestrator, 'c', 'PENDING', 'CONNECTED')
    })

    it('disconnects a rejected machine, which hears why; it comes back when it is approved', async () => {
      const orchestrator = await startOrchestrator()
      const member = await startMember('a', networkOf(orchestrator).joinUrl, {
        joinSecret: await token(orchestrator, 0),
      })
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
      await orchestrator.jobs?.updateNode('a', 'reject', 'unknown machine')
      await eventually('it is cut off', () => member.networkStatus?.().state === 'connecting')
      expect(member.networkStatus?.().membership).toBe('REJECTED')
      await eventually(
        'it knows the reason',
        () => member.networkStatus?.().problem?.message.includes('rejected') === true,
      )
      await orchestrator.jobs?.updateNode('a', 'approve', '')
      await eventually('it is back', () => {
        const { state, membership } = member.networkStatus?.() ?? {}
        return state === 'connected' && membership === 'APPROVED'
      })
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
    })

    it('keeps a rejected machine out after a restart of the orchestrator', async () => {
      const orchestrator = await startOrchestrator()
      const { joinUrl } = networkOf(orchestrator)
      const member = await startMember('a', joinUrl, { joinSecret: await token(orchestrator) })
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
      await orchestrator.jobs?.updateNode('a', 'reject', '')
      await orchestrator.close()
      const again = await startOrchestrator([`Orchestrator.Port=${new URL(joinUrl).port}`])
      await eventually('it is refused', () => member.networkStatus?.().problem?.code === 'node.refused')
      expect((await record(again, 'a'))?.membership).toBe('REJECTED')
    })

    it('forgets a deleted machine; with a token the same name may join again, also with another key', async () => {
      const orchestrator = await startOrchestrator()
      const { joinUrl } = networkOf(orchestrator)
      const member = await startMember('a', joinUrl, { joinSecret: await token(orchestrator) })
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
      const secret = await token(orchestrator, 0)
      // The data directory is lost: the name is taken until an operator deletes the old machine.
      const second = await start('b', [`Compute.Orchestrators=${joinUrl}`], {
        roles: { orchestrator: false, compute: true },
        name: 'a',
        joinSecret: secret,
      })
      await eventually('it is refused', () => second.networkStatus?.().problem?.code === 'node.identity')
      expect(second.networkStatus?.().problem?.hint).toContain('weir node delete a')
      await orchestrator.jobs?.updateNode('a', 'delete', '')
      await eventually(
        'the old one is cut off',
        () => member.networkStatus?.().problem?.code === 'node.refused',
      )
      await eventually('the new one is in', () => second.networkStatus?.().membership === 'APPROVED')
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
    })

    it.each([
      ['a wrong token', async () => 'weir-join_wrong'],
      [
        'a revoked token',
        async (orchestrator: RunningNode) => {
          const { token: made, secret } = await networkOf(orchestrator).tokens.create({ usesMax: 0 })
          await networkOf(orchestrator).tokens.revoke(made.id)
          return secret
        },
      ],
      [
        'an expired token',
        async (orchestrator: RunningNode) =>
          (await networkOf(orchestrator).tokens.create({ expiresAfterMs: 1 })).secret,
      ],
      ['no token', async () => ''],
    ])('refuses a machine with %s, and says what to do', async (_what, secretOf) => {
      const orchestrator = await startOrchestrator()
      const joinSecret = await secretOf(orchestrator)
      const member = await startMember('a', networkOf(orchestrator).joinUrl, { joinSecret })
      await eventually('it is refused', () => member.networkStatus?.().problem !== undefined)
      expect(member.networkStatus?.().problem).toMatchObject({
        code: 'node.refused',
        hint: expect.stringContaining('weir node token create') as string,
      })
      expect(await record(orchestrator, 'a')).toBeUndefined()
    })

    it('takes the shared token of the configuration any number of times', async () => {
      const shared = 'a shared secret of some length'
      const config = (name: string, settings: string[]) =>
        loadConfig({
          dataDir: join(dir, name),
          settings: testSettings([...NO_ENGINES, ...settings]),
          environment: { WEIR_ORCHESTRATOR_AUTH_TOKEN: shared, WEIR_COMPUTE_AUTH_TOKEN: shared },
        })
      const orchestrator = await startOrchestrator([], false, {
        config: config('orchestrator', ['Orchestrator.Port=0']),
      })
      for (const name of ['a', 'b']) {
        const url = `Compute.Orchestrators=${networkOf(orchestrator).joinUrl}`
        await startMember(name, '', { config: config(name, [url]) })
        await stands(orchestrator, name, 'APPROVED', 'CONNECTED')
      }
      expect(await networkOf(orchestrator).tokens.list()).toEqual([])
      expect(readFileSync(join(dir, 'orchestrator/orchestrator/members.json'), 'utf8')).not.toContain(shared)
    })

    it('lets a machine speak for itself only, whatever it writes into its messages', async () => {
      const orchestrator = await startOrchestrator()
      const { joinUrl } = networkOf(orchestrator)
      const secret = await token(orchestrator, 0)
      await startMember('victim', joinUrl, { joinSecret: secret })
      const attacker = await startMember('attacker', joinUrl, { joinSecret: secret })
      await stands(orchestrator, 'victim', 'APPROVED', 'CONNECTED')
      await stands(orchestrator, 'attacker', 'APPROVED', 'CONNECTED')
      const info = attacker.nodeInfo()
      await attacker.close()
      const { keySeed } = await loadIdentity(join(dir, 'attacker'), CHANCE)
      const raw = await openNats({
        url: joinUrl,
        isTlsRequired: false,
        key: keyPairOf(keySeed),
        identity: 'attacker',
      })
      const before = await record(orchestrator, 'victim')
      const request = {
        nodeId: 'victim',
        incarnation: 'x',
        info: { ...info, nodeId: 'victim', labels: { stolen: 'yes' } },
        knownRevision: 0,
        observed: [],
        leaving: false,
      }
      const answer = await raw.request('weir.orchestrator.sync.attacker', JSON.stringify(request), {
        timeout: 10_000,
      })
      expect(answer.json()).toMatchObject({ code: 'api.forbidden' })
      expect((await record(orchestrator, 'victim'))?.incarnation).toBe(before?.incarnation)
      // Its own name in the message and another one inside: the connection counts.
      const own = { ...request, nodeId: 'attacker' }
      const accepted = await raw.request('weir.orchestrator.sync.attacker', JSON.stringify(own), {
        timeout: 10_000,
      })
      expect(accepted.json()).toMatchObject({ membership: 'APPROVED' })
      expect((await record(orchestrator, 'victim'))?.info.labels).not.toHaveProperty('stolen')
      await raw.close()
    })

    it('cuts off a machine that floods it, and goes on listening to the others', async () => {
      const orchestrator = await startOrchestrator()
      const { joinUrl } = networkOf(orchestrator)
      const secret = await token(orchestrator, 0)
      await startMember('quiet', joinUrl, { joinSecret: secret })
      await (await startMember('loud', joinUrl, { joinSecret: secret })).close()
      const { keySeed } = await loadIdentity(join(dir, 'loud'), CHANCE)
      const raw = await openNats({
        url: joinUrl,
        isTlsRequired: false,
        key: keyPairOf(keySeed),
        identity: 'loud',
      })
      let isCut = false
      void raw.closed().then(() => {
        isCut = true
      })
      for (let index = 0; index < 25_000 && !isCut; index++)
        raw.publish('weir.orchestrator.sync.loud', '{"nodeId":"quiet"}', { reply: '_INBOX.loud.1' })
      await eventually('it is disconnected', () => isCut)
      const before = (await record(orchestrator, 'quiet'))?.lastSyncMs ?? 0
      await eventually(
        'the other is heard',
        async () => ((await record(orchestrator, 'quiet'))?.lastSyncMs ?? 0) > before,
      )
    })

    it('is found again by its nodes after the orchestrator was away, at whichever address answers', async () => {
      const orchestrator = await startOrchestrator()
      const { joinUrl } = networkOf(orchestrator)
      const member = await startMember('a', `nats://127.0.0.1:1,${joinUrl}`, {
        joinSecret: await token(orchestrator),
      })
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
      await orchestrator.close()
      await eventually('the node notices', () => member.networkStatus?.().state === 'connecting')
      const again = await startOrchestrator([`Orchestrator.Port=${new URL(joinUrl).port}`])
      await stands(again, 'a', 'APPROVED', 'CONNECTED')
    })

    it('starts a node before its orchestrator', async () => {
      const orchestrator = await startOrchestrator()
      const { joinUrl } = networkOf(orchestrator)
      const secret = await token(orchestrator)
      await orchestrator.close()
      const member = await startMember('a', joinUrl, { joinSecret: secret })
      expect(member.networkStatus?.().state).toBe('connecting')
      const again = await startOrchestrator([`Orchestrator.Port=${new URL(joinUrl).port}`])
      await stands(again, 'a', 'APPROVED', 'CONNECTED')
    })

    it('runs jobs in the orchestrator’s own process as well', async () => {
      const orchestrator = await startOrchestrator([], true)
      await startMember('a', networkOf(orchestrator).joinUrl, { joinSecret: await token(orchestrator) })
      await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
      await stands(orchestrator, orchestrator.nodeId, 'APPROVED', 'CONNECTED')
    })

    it('opens nothing for other machines unless somebody asked for it', async () => {
      const alone = await start('alone', [], {})
      expect(alone.network).toBeUndefined()
      expect(existsSync(join(dir, 'alone', 'orchestrator'))).toBe(false)
      const client = new WeirClient({ baseUrl: alone.apiUrl })
      try {
        await expect(client.createNodeToken({})).rejects.toMatchObject({
          code: 'api.not_found',
          hint: expect.stringContaining('weir serve --orchestrator') as string,
        })
      } finally {
        client.close()
      }
    })

    it('makes, lists and revokes tokens over the API, and shows the secret once', async () => {
      const orchestrator = await startOrchestrator()
      const client = new WeirClient({ baseUrl: orchestrator.apiUrl })
      try {
        const made = await client.createNodeToken({
          description: 'rack',
          usesMax: 3,
          expiresAfterSeconds: 60,
        })
        expect(made).toMatchObject({
          JoinURL: networkOf(orchestrator).joinUrl,
          Token: { UsesMax: 3, Uses: 0 },
        })
        const listed = await client.nodeTokens()
        expect(listed).toEqual([made.Token])
        expect(JSON.stringify(listed)).not.toContain(made.Secret)
        await client.revokeNodeToken(made.Token.ID)
        expect(await client.nodeTokens()).toEqual([])
        await expect(client.revokeNodeToken('t-nothing')).rejects.toMatchObject({
          code: 'node.token_not_found',
        })
        await expect(client.createNodeToken({ usesMax: -1 })).rejects.toMatchObject({
          code: 'api.bad_request',
        })
      } finally {
        client.close()
      }
    })

    describe('refuses a configuration', () => {
      it.each([
        ['that takes nodes from elsewhere without TLS', ['Orchestrator.Host=0.0.0.0'], 'without TLS'],
        ['with half a certificate', ['Orchestrator.TLS.ServerCert=/tmp/cert.pem'], 'half of a certificate'],
        [
          'with somebody else’s server on another machine',
          ['Orchestrator.NATS.URL=nats://192.0.2.1'],
          'another machine',
        ],
      ])('%s', async (_what, settings, message) => {
        await expect(startOrchestrator(settings)).rejects.toMatchObject({
          code: 'config.invalid',
          message: expect.stringContaining(message) as string,
          hint: expect.any(String) as string,
        })
      })

      it('with a token on the command line, where others see it', async () => {
        await expect(startOrchestrator(['Orchestrator.Auth.Token=0123456789abcdef'])).rejects.toMatchObject({
          code: 'config.invalid',
          message: expect.not.stringContaining('0123456789abcdef') as string,
        })
      })

      it('with a token that could be guessed', async () => {
        const config = loadConfig({
          dataDir: join(dir, 'x'),
          settings: testSettings(['Orchestrator.Port=0']),
          environment: { WEIR_ORCHESTRATOR_AUTH_TOKEN: 'short' },
        })
        await expect(startOrchestrator([], false, { config })).rejects.toMatchObject({
          code: 'config.invalid',
          message: expect.stringContaining('too short') as string,
        })
      })

      it('with an address that cannot be read', async () => {
        for (const url of ['', 'http://host:1', 'nats://user:secret@host', 'a b', 'nats://host:99999'])
          await expect(startMember('a', url)).rejects.toMatchObject({ code: 'config.invalid' })
      })

      it('with another name than the data directory has', async () => {
        const orchestrator = await startOrchestrator()
        await (await startMember('a', networkOf(orchestrator).joinUrl)).close()
        await expect(startMember('a', networkOf(orchestrator).joinUrl, { name: 'b' })).rejects.toMatchObject({
          code: 'config.invalid',
          message: expect.stringContaining('belongs to node "a"') as string,
        })
        await expect(
          startMember('c', networkOf(orchestrator).joinUrl, { name: 'a.b>*' }),
        ).rejects.toMatchObject({
          code: 'config.invalid',
        })
      })
    })

    describe.skipIf(!existsSync('/usr/bin/openssl'))('with TLS', () => {
      function certificate(): { certFile: string; keyFile: string } {
        const [certFile, keyFile] = [join(dir, 'cert.pem'), join(dir, 'key.pem')]
        const subject = ['-subj', '/CN=orchestrator.test', '-addext', 'subjectAltName=IP:127.0.0.1']
        const made = spawnSync(
          'openssl',
          `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -keyout ${keyFile} -out ${certFile}`
            .split(' ')
            .concat(subject),
          { encoding: 'utf8' },
        )
        if (made.status !== 0) throw new Error(made.stderr)
        return { certFile, keyFile }
      }

      it('takes nodes that know its authority, and says what is missing to those that do not', async () => {
        const { certFile, keyFile } = certificate()
        const orchestrator = await startOrchestrator([
          `Orchestrator.TLS.ServerCert=${certFile}`,
          `Orchestrator.TLS.ServerKey=${keyFile}`,
        ])
        const { joinUrl } = networkOf(orchestrator)
        expect(joinUrl).toMatch(/^tls:/)
        const secret = await token(orchestrator, 0)
        await startMember('a', joinUrl, { joinSecret: secret }, [`Compute.TLS.CACert=${certFile}`])
        await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
        const stranger = await startMember('b', joinUrl, { joinSecret: secret })
        await eventually(
          'it does not trust the server',
          () => stranger.networkStatus?.().problem !== undefined,
        )
        expect(stranger.networkStatus?.().problem).toMatchObject({
          code: 'transport.unreachable',
          hint: expect.stringContaining('Compute.TLS.CACert') as string,
        })
        expect(await record(orchestrator, 'b')).toBeUndefined()
      })

      it('says nothing to a server that offers none', async () => {
        const orchestrator = await startOrchestrator()
        const member = await startMember(
          'a',
          networkOf(orchestrator).joinUrl,
          { joinSecret: await token(orchestrator) },
          ['Compute.TLS.RequireTLS=true'],
        )
        await eventually(
          'it refuses',
          () => member.networkStatus?.().problem?.code === 'transport.unreachable',
        )
        expect(member.networkStatus?.().problem?.message).toContain('tls')
        expect(await record(orchestrator, 'a')).toBeUndefined()
      })
    })

    it('works with a server that somebody else runs, and keeps its users', async () => {
      const url = `nats://127.0.0.1:${await freePort()}`
      const conf = join(dir, 'outside.conf')
      const pidFile = join(dir, 'outside.pid')
      const settings = [`Orchestrator.NATS.URL=${url}`, `Orchestrator.NATS.PidFile=${pidFile}`]
      writeFileSync(
        conf,
        `listen: "${url.slice(7)}"\npid_file: "${pidFile}"\ninclude "orchestrator/orchestrator/nats-users.conf"\n`,
      )
      const starting = startOrchestrator(settings)
      await eventually('the users are written', () =>
        existsSync(join(dir, 'orchestrator/orchestrator/nats-users.conf')),
      )
      const outside = spawn('nats-server', ['--config', conf], { stdio: 'ignore' })
      try {
        const orchestrator = await starting
        await startMember('a', url, { joinSecret: await token(orchestrator) })
        await stands(orchestrator, 'a', 'APPROVED', 'CONNECTED')
      } finally {
        outside.kill('SIGKILL')
      }
    })
  },
)

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
