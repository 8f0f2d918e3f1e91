import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { loadConfig } from '../../src/config/index.js'
import { startNode, type RunningNode } from '../../src/node/index.js'
import { Gatekeeper } from '../../src/node/membership/gatekeeper.js'
import { openRoster } from '../../src/node/membership/roster.js'
import { joinText } from '../../src/node/membership/join-desk.js'
import { createNatsTransport, joinerName, keyPairOfSecret, openNats } from '../../src/transports/index.js'
import { VirtualClock } from '../orchestrator/virtual-time.js'
import { CHANCE, CLOCK, eventually, newKey, noNats, SILENT } from '../transports/message-server.js'
import {
  CSV_MODULE,
  csvJob,
  noSandbox,
  runJob,
  testSettings,
  withDirectory,
  withNode,
} from './running-node.js'

vi.setConfig({ testTimeout: 60_000 })

describe.skipIf(noNats !== '')(
  `a machine that means harm${noNats === '' ? '' : ` (skipped: ${noNats})`}`,
  () => {
    let dir: string
    let node: RunningNode | undefined
    beforeEach(() => {
      dir = mkdtempSync(join(tmpdir(), 'weir-hostile-'))
    })
    afterEach(async () => {
      await node?.close()
      rmSync(dir, { recursive: true, force: true })
    })

    async function startOrchestrator(settings: string[] = []): Promise<RunningNode> {
      const config = loadConfig({
        dataDir: join(dir, 'orchestrator'),
        settings: testSettings(['Engines.Disabled=docker,wasm', 'Orchestrator.Port=0', ...settings]),
      })
      return startNode({ config, logLevel: 'silent', roles: { orchestrator: true, compute: false } })
    }

    it('joined and never spoke: it can be deleted, and its key opens nothing any more', async () => {
      node = await startOrchestrator()
      const { joinUrl = '', tokens } = node.network ?? {}
      const secret = (await tokens?.create({ usesMax: 0 }))?.secret ?? ''
      const key = newKey()
      const tokenKey = keyPairOfSecret(secret)
      const identity = joinerName(tokenKey.publicKey)
      const transport = createNatsTransport({
        identity,
        connect: () => openNats({ url: joinUrl, isTlsRequired: false, key: tokenKey, identity }),
        clock: CLOCK,
        chance: CHANCE,
        logger: SILENT,
      })
      try {
        await transport.connected(5_000)
        const { publicKey } = key
        const signature = key.sign(joinText('gpu-1', tokenKey.publicKey))
        await transport.request('orchestrator.join', { nodeId: 'gpu-1', publicKey, signature }, 5_000)
      } finally {
        await transport.close()
      }
      const open = () => openNats({ url: joinUrl, isTlsRequired: false, key, identity: 'gpu-1' })
      await (await open()).close()
      await node.jobs?.updateNode('gpu-1', 'delete', '')
      await expect(open()).rejects.toMatchObject({ code: 'transport.refused' })
      // And what was never there is said to be so.
      await expect(node.jobs?.updateNode('gpu-1', 'delete', '')).rejects.toMatchObject({
        code: 'node.not_found',
      })
    })
  },
)

describe('a machine that joined and never spoke', () => {
  it('is forgotten after an hour, when whoever listens was there as long; others stay', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-silent-'))
    const clock = new VirtualClock()
    const own = newKey().publicKey
    const options = {
      file: join(dir, 'members.json'),
      clock,
      chance: CHANCE,
      sharedSecret: '',
      publicKey: own,
    }
    const roster = await openRoster(options)
    for (const nodeId of ['silent', 'talker'])
      await roster.add({ nodeId, publicKey: newKey().publicKey, joinTimeMs: clock.now() }, '')
    const spoke = { info: { nodeId: 'talker' } }
    const orchestrator = {
      nodes: async ({ membership = 'APPROVED' }) => (membership === 'APPROVED' ? [spoke] : []),
    }
    const gatekeeper = new Gatekeeper({ roster, clock, logger: SILENT })
    try {
      // The orchestrator was away for long: everybody gets the time to come back.
      await clock.pass(7_200_000)
      await gatekeeper.open(orchestrator as never)
      await clock.pass(3_500_000)
      expect(roster.members().map(({ nodeId }) => nodeId)).toEqual(['silent', 'talker'])
      for (let passed = 0; passed < 200_000; passed += 5_000) await clock.pass(5_000)
      await eventually('it is forgotten', () => roster.member('silent') === undefined)
      expect(roster.member('talker')).toBeDefined()
    } finally {
      await gatekeeper.close()
      rmSync(dir, { recursive: true, force: true })
    }
  })
})

describe('another user of the machine', () => {
  it('reads nothing of a data directory that somebody had made for everybody to enter', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-modes-'))
    const dataDir = join(dir, 'data')
    mkdirSync(dataDir, { mode: 0o755 })
    const before = process.umask(0)
    let node: RunningNode | undefined
    try {
      const settings = ['Engines.Disabled=docker,wasm', 'API.Auth.Mode=on', 'API.TLS.SelfSigned=true']
      if (noNats === '') settings.push('Orchestrator.Port=0')
      const config = loadConfig({ dataDir, settings: testSettings(settings) })
      node = await startNode({ config, logLevel: 'silent' })
      const open: string[] = []
      for (const name of readdirSync(dataDir)) {
        const stats = statSync(join(dataDir, name))
        if ((stats.mode & 0o077) !== 0) open.push(`${name} ${(stats.mode & 0o777).toString(8)}`)
      }
      expect(open).toEqual([])
    } finally {
      process.umask(before)
      await node?.close()
      rmSync(dir, { recursive: true, force: true })
    }
  })
})

describe('whoever is between a node and its orchestrator', () => {
  it('gets neither key nor signature from a node that wants TLS, by saying that there is none', async () => {
    const heard: string[] = []
    const middle = createServer((socket) => {
      socket.on('error', () => {})
      socket.write(
        'INFO {"server_id":"x","version":"2.10.0","proto":1,"headers":true,"max_payload":1048576,"nonce":"abcdefghij","auth_required":true}\r\n',
      )
      socket.on('data', (data) => {
        heard.push(data.toString('latin1'))
        if (data.includes('PING')) socket.write('PONG\r\n')
      })
    })
    await new Promise<void>((resolve) => middle.listen(0, '127.0.0.1', resolve))
    const { port } = middle.address() as { port: number }
    try {
      await expect(
        openNats({
          url: `tls://127.0.0.1:${port}`,
          isTlsRequired: true,
          key: newKey(),
          identity: 'n',
          timeoutMs: 3_000,
        }),
      ).rejects.toMatchObject({ code: 'transport.unreachable' })
      expect(heard.join('')).not.toMatch(/nkey|sig|CONNECT/)
    } finally {
      middle.close()
    }
  })
})

const OPEN = [
  'Engines.Disabled=docker',
  'Compute.AllowListedLocalPaths=/:rw',
  'Orchestrator.Scheduler.TriesMax=1',
]

describe.skipIf(noSandbox !== '')(
  `a job on a node whose operator allows what is around it${noSandbox === '' ? '' : ` (skipped: ${noSandbox})`}`,
  () => {
    it('gets neither the tokens of the server nor the socket of the engine', () =>
      withDirectory(async (dir) => {
        const [home, data] = [join(dir, 'home'), join(dir, 'home', 'data')]
        mkdirSync(data, { recursive: true })
        const module = `data:application/wasm;base64,${readFileSync(CSV_MODULE).toString('base64')}`
        await withNode(join(home, '.weir'), OPEN, async ({ client, dataDir }) => {
          const told = async (SourcePath: string): Promise<string> => {
            const Source = { Type: 'localDirectory', Params: { SourcePath } }
            const { ID } = await runJob(
              client,
              csvJob(module, { InputSources: [{ Source, Target: '/inputs' }] }),
            )
            return JSON.stringify((await client.history(ID, { limit: 500 })).Items)
          }
          for (const path of [dataDir, home, '/', '/run'])
            expect(await told(path), path).toContain('belongs to the node')
          // The program finds nothing in it, and says so itself.
          expect(await told(data)).not.toContain('belongs to the node')
        })
      }))
  },
)
