import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { describe, expect, it, vi } from 'vitest'
import { WeirClient } from '../../src/client/index.js'
import { loadConfig } from '../../src/config/index.js'
import { blobCid } from '../../src/model/index.js'
import { startNode, type RunningNode } from '../../src/node/index.js'
import { BLOB_SUBJECT } from '../../src/ports/index.js'
import { keyPairOf, openNats } from '../../src/transports/index.js'
import { loadIdentity } from '../../src/node/identity.js'
import { CHANCE, eventually, noNats } from '../transports/message-server.js'
import { CSV_MODULE, endOf, noSandbox, testSettings, withDirectory, withNode } from './running-node.js'

const CSV = readFileSync(CSV_MODULE)
const cidOf = (content: Uint8Array): string => blobCid(createHash('sha256').update(content).digest())
const CID = cidOf(CSV)

const upload = (client: WeirClient, content: Uint8Array, namespace = 'default'): Promise<unknown> =>
  client.storeBlob(cidOf(content), { stream: Readable.from([content]), bytes: content.length }, { namespace })

function wasmJob(params: object, more: object = {}): object {
  const EntryModule = { Source: { Type: 'blob', Params: { CID } } }
  const csv = 'data:text/csv,id,city,amount%0A1,paris,3%0A2,lima,4%0A'
  return {
    Type: 'batch',
    ...more,
    Tasks: [
      {
        Name: 'main',
        Engine: {
          Type: 'wasm',
          Params: {
            EntryModule,
            Parameters: ['/inputs/sales.csv', '/outputs/totals.csv', '2', '3'],
            ...params,
          },
        },
        InputSources: [{ Source: { Type: 'inline', Params: { URL: csv } }, Target: '/inputs/sales.csv' }],
      },
    ],
  }
}

async function outputOf(client: WeirClient, id: string): Promise<string> {
  const { Items } = await client.executions(id)
  return Items.map(({ RunOutput }) => RunOutput?.Stdout ?? '').join('')
}

describe.skipIf(noSandbox !== '')(
  `programs by their CID${noSandbox === '' ? '' : ` (skipped: ${noSandbox})`}`,
  () => {
    it('are uploaded once and run again by their CID, also after the cache of the node is gone', async () => {
      await withDirectory((dir) =>
        withNode(dir, ['Engines.Disabled=docker'], async ({ client }) => {
          await expect(client.blob(CID)).rejects.toMatchObject({ code: 'blob.not_found' })
          await expect(client.submit(wasmJob({}))).rejects.toMatchObject({ code: 'blob.not_found' })
          await upload(client, CSV)
          expect(await client.blob(CID)).toMatchObject({ CID, Bytes: CSV.length })
          expect(cidOf(await client.blobContent(CID))).toBe(CID)
          for (const round of [1, 2]) {
            const { JobID } = await client.submit(wasmJob({}))
            expect((await endOf(client, JobID)).State.StateType).toBe('Completed')
            expect(await outputOf(client, JobID)).toBe('2 rows, 2 keys\n')
            expect(await readdir(join(dir, 'blob-cache'))).toEqual([CID])
            if (round === 1) await rm(join(dir, 'blob-cache', CID))
          }
        }),
      )
    })

    it('that cannot run are refused at submission, with every reason', async () => {
      await withDirectory((dir) =>
        withNode(dir, ['Engines.Disabled=docker'], async ({ client }) => {
          const bad = readFileSync('test/fixtures/wasm/bin/bad-imports.wasm')
          const text = Buffer.from('<!doctype html><title>404</title>')
          await upload(client, bad)
          await upload(client, text)
          const source = (content: Uint8Array): object => ({
            EntryModule: { Source: { Type: 'blob', Params: { CID: cidOf(content) } } },
          })
          const inline = (content: Buffer): object => ({
            EntryModule: {
              Source: {
                Type: 'inline',
                Params: { URL: `data:application/wasm;base64,${content.toString('base64')}` },
              },
            },
          })
          for (const params of [source(bad), inline(bad), source(bad)]) {
            const refused = client.submit(wasmJob({ ...params, EntryPoint: 'main' }))
            await expect(refused).rejects.toMatchObject({
              code: 'spec.invalid',
              details: { problems: [{ path: 'Tasks[0].Engine.Params.EntryModule' }, {}, {}] },
            })
          }
          await expect(client.submit(wasmJob(source(text)))).rejects.toThrow('HTML')
          expect((await client.jobs()).Items).toEqual([])
        }),
      )
    })
  },
)

describe('namespaces', () => {
  it('do not see what others uploaded: not by its CID, not in lists, not in a job', async () => {
    await withDirectory((dir) =>
      withNode(dir, ['Engines.Disabled=docker,wasm', 'API.Auth.Mode=on'], async (node) => {
        const token = readFileSync(node.rootTokenFile ?? '', 'utf8').trim()
        const root = new WeirClient({ baseUrl: node.apiUrl, token })
        const clientOf = async (name: string, Role: string): Promise<WeirClient> => {
          const made = await root.createToken({ Name: name, Role, Namespaces: [name] })
          return new WeirClient({ baseUrl: node.apiUrl, token: made.Token })
        }
        const [anna, bert, reader] = [
          await clientOf('anna', 'submitter'),
          await clientOf('bert', 'submitter'),
          await clientOf('reader', 'reader'),
        ]
        const anybody = new WeirClient({ baseUrl: node.apiUrl })
        try {
          await upload(anna, CSV, 'anna')
          expect(await anna.blob(CID, { namespace: 'anna' })).toMatchObject({ CID })
          await expect(bert.blob(CID, { namespace: 'bert' })).rejects.toMatchObject({
            code: 'blob.not_found',
          })
          for (const call of [bert.blob, bert.blobContent, bert.blobs].map((one) => one.bind(bert)))
            await expect(call(CID as never, { namespace: 'anna' })).rejects.toMatchObject({
              code: 'api.forbidden',
            })
          await expect(upload(bert, CSV, 'anna')).rejects.toMatchObject({ code: 'api.forbidden' })
          await expect(upload(reader, CSV, 'reader')).rejects.toMatchObject({ code: 'api.forbidden' })
          await expect(upload(anybody, CSV)).rejects.toMatchObject({ code: 'api.unauthorized' })
          await expect(bert.submit(wasmJob({}, { Namespace: 'bert' }))).rejects.toMatchObject({
            code: 'blob.not_found',
          })
          expect((await bert.blobs({ namespace: 'bert' })).Items).toEqual([])
        } finally {
          for (const client of [root, anna, bert, reader, anybody]) client.close()
        }
      }),
    )
  })
})

vi.setConfig({ testTimeout: 90_000 })
const skipped = noNats === '' ? noSandbox : noNats

describe.skipIf(skipped !== '')(
  `programs by their CID on several machines${skipped === '' ? '' : ` (skipped: ${skipped})`}`,
  () => {
    it('reach the node that runs them, and no node gets what it does not run', async () => {
      await withDirectory(async (dir) => {
        const running: RunningNode[] = []
        const start = async (
          name: string,
          settings: string[],
          more: Partial<Parameters<typeof startNode>[0]>,
        ): Promise<RunningNode> => {
          const config = loadConfig({
            dataDir: join(dir, name),
            settings: testSettings([
              'Engines.Disabled=docker',
              'Compute.Heartbeat.Interval=200ms',
              ...settings,
            ]),
          })
          const node = await startNode({ config, logLevel: 'silent', ...more })
          running.push(node)
          return node
        }
        try {
          const brain = await start('brain', ['Orchestrator.Port=0'], {
            roles: { orchestrator: true, compute: false },
          })
          const { joinUrl = '', tokens } = brain.network ?? {}
          const secrets = await Promise.all(
            ['a', 'b'].map(async () => (await tokens?.create({ description: '' }))?.secret ?? ''),
          )
          const member = (name: string, joinSecret: string, labels: string): Promise<RunningNode> =>
            start(name, [`Compute.Orchestrators=${joinUrl}`, `Labels=role=${labels}`], {
              roles: { orchestrator: false, compute: true },
              name,
              joinSecret,
            })
          await member('worker', secrets[0] ?? '', 'worker')
          const idle = await member('idle', secrets[1] ?? '', 'idle')
          const client = new WeirClient({ baseUrl: brain.apiUrl })
          try {
            await eventually(
              'both nodes are there',
              async () => (await client.nodes({ status: 'connected' })).length === 2,
              30_000,
            )
            // Larger than one message.
            const large = Buffer.concat([CSV, customSection(1_500_000)])
            await upload(client, large)
            const params = { EntryModule: { Source: { Type: 'blob', Params: { CID: cidOf(large) } } } }
            const Constraints = [{ Key: 'role', Operator: '=', Values: ['worker'] }]
            const { JobID } = await client.submit(wasmJob(params, { Constraints }))
            expect((await endOf(client, JobID)).State.StateType).toBe('Completed')
            expect(await outputOf(client, JobID)).toBe('2 rows, 2 keys\n')

            await idle.close()
            const key = keyPairOf((await loadIdentity(join(dir, 'idle'), CHANCE)).keySeed)
            const raw = await openNats({ url: joinUrl, key, identity: 'idle', isTlsRequired: false })
            const ask = async (nodeId: string): Promise<string> => {
              const request = JSON.stringify({ nodeId, cid: cidOf(large), offset: 0, bytesMax: 10 })
              return (await raw.request(`weir.${BLOB_SUBJECT}.idle`, request, { timeout: 5_000 })).string()
            }
            expect(await ask('idle')).toContain('blob.not_found')
            expect(await ask('worker')).toContain('api.forbidden')
            await raw.close()
          } finally {
            client.close()
          }
        } finally {
          for (const node of running.reverse()) await node.close()
        }
      })
    })
  },
)

/** A section that engines skip: makes a module larger without changing what it does. */
function customSection(bytes: number): Buffer {
  const leb = (value: number): number[] =>
    value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(Math.floor(value / 0x80))]
  return Buffer.concat([Buffer.from([0, ...leb(bytes + 2), 1, 0x78]), Buffer.alloc(bytes)])
}
