import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { downloadResults, packDirectory, WeirClient } from '../../src/client/index.js'
import { startEmbedded } from '../../src/node/index.js'
import { entryPoint } from '../../src/package-root.js'
import { docker, importImage, noDocker, noRoot, skipNote } from '../executors/docker/with-docker.js'
import {
  containerJob,
  csvJob,
  CSV_MODULE,
  endOf,
  noSandbox,
  runJob,
  withDirectory,
  withNode,
} from './running-node.js'

const ONLY_WASM = ['Engines.Disabled=docker']
const ONLY_DOCKER = ['Engines.Disabled=wasm']

describe.skipIf(noSandbox !== '')(`a node with WebAssembly${skipNote(noSandbox)}`, () => {
  it('runs a program over an input and gives its results for download', () =>
    withDirectory((dir) =>
      withNode(join(dir, 'data'), ONLY_WASM, async ({ client }) => {
        const module = await packDirectory(CSV_MODULE)
        const publishing = {
          Publisher: { Type: 'local' },
          ResultPaths: [{ Name: 'totals', Path: '/outputs' }],
        }
        const job = await runJob(client, csvJob(module, publishing))
        expect(job.State).toMatchObject({ StateType: 'Completed' })
        const { Items } = await client.results(job.ID)
        const outputDir = join(dir, 'results')
        await downloadResults(Items, { outputDir, raw: false, signal: AbortSignal.timeout(20_000) })
        expect(await readFile(join(outputDir, 'totals/totals.csv'), 'utf8')).toBe(
          'key,rows,sum\nparis,1,3.00\nlima,1,4.00\n',
        )
        expect(await readFile(join(outputDir, 'stdout'), 'utf8')).toBe('2 rows, 2 keys\n')
      }),
    ))

  it('fetches inputs through the address guard: its own addresses are refused and never contacted', () =>
    withDirectory((dir) =>
      withNode(join(dir, 'data'), ONLY_WASM, async ({ client }) => {
        let touched = 0
        const server = createServer((_request, response) => {
          touched += 1
          response.end('x')
        }).listen(0, '127.0.0.1')
        await once(server, 'listening')
        try {
          const { port } = server.address() as { port: number }
          const input = {
            Source: { Type: 'urlDownload', Params: { URL: `http://127.0.0.1:${port}/a.csv` } },
            Target: '/inputs',
          }
          const job = await runJob(client, csvJob(await packDirectory(CSV_MODULE), { InputSources: [input] }))
          expect(job.State).toMatchObject({ StateType: 'Failed' })
          const { Items } = await client.executions(job.ID)
          expect(JSON.stringify(Items)).toMatch(/itself|not public|refused/)
          expect(touched).toBe(0)
        } finally {
          server.close()
        }
      }),
    ))

  it('keeps jobs over a restart and knows the same id again', () =>
    withDirectory(async (dir) => {
      const dataDir = join(dir, 'data')
      const first = await withNode(dataDir, ONLY_WASM, async ({ client, nodeId }) => {
        const job = await runJob(client, csvJob(await packDirectory(CSV_MODULE)))
        return { nodeId, jobId: job.ID }
      })
      await withNode(dataDir, ONLY_WASM, async ({ client, nodeId }) => {
        expect(nodeId).toBe(first.nodeId)
        const { Job } = await client.job(first.jobId)
        expect(Job.State).toMatchObject({ StateType: 'Completed' })
        const lines: string[] = []
        for await (const { data } of client.logs(first.jobId)) lines.push(Buffer.from(data).toString())
        expect(lines.join('')).toBe('2 rows, 2 keys\n')
      })
    }))

  it('refuses a networked job by default and says why', () =>
    withDirectory((dir) =>
      withNode(join(dir, 'data'), ONLY_WASM, async ({ client }) => {
        const network = { Network: { Type: 'HTTP', Domains: ['example.com'] } }
        const job = await runJob(client, csvJob(await packDirectory(CSV_MODULE), network))
        expect(job.State.StateType).toBe('Failed')
        expect(job.State.Message).toMatch(/networked jobs/)
      }),
    ))

  it('runs embedded behind a private socket and leaves nothing behind', async () => {
    const node = await startEmbedded({ dataDir: join(tmpdir(), 'weir-none'), settings: ONLY_WASM })
    const client = new WeirClient({ baseUrl: node.apiUrl })
    try {
      expect(node.apiUrl).toMatch(/^unix:/)
      const job = await runJob(client, csvJob(await packDirectory(CSV_MODULE)))
      expect(job.State).toMatchObject({ StateType: 'Completed' })
    } finally {
      client.close()
      await node.close()
    }
    await expect(readFile(node.apiUrl.slice('unix:'.length))).rejects.toMatchObject({ code: 'ENOENT' })
  })
})

describe('a node that cannot start', () => {
  it('names the other server of a data directory and leaves it alone', () =>
    withDirectory((dir) =>
      withNode(join(dir, 'data'), ['Engines.Disabled=docker,wasm'], async ({ client, dataDir }) => {
        await expect(
          withNode(dataDir, ['Engines.Disabled=docker,wasm'], async () => {}),
        ).rejects.toMatchObject({
          code: 'store.locked',
          message: expect.stringContaining(String(process.pid)) as unknown,
        })
        expect(await client.alive()).toEqual({ Status: 'OK' })
      }),
    ))

  it('says which key changes a port that is in use, and closes what it had opened', () =>
    withDirectory(async (dir) => {
      const server = createTcpServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as { port: number }
      const dataDir = join(dir, 'data')
      try {
        for (const key of ['API.Port', 'Publishers.Types.Local.Port']) {
          await expect(
            withNode(dataDir, ['Engines.Disabled=docker,wasm', `${key}=${port}`], async () => {}),
          ).rejects.toMatchObject({
            code: 'port.in_use',
            hint: expect.stringContaining(key) as unknown,
          })
        }
      } finally {
        server.close()
      }
      // The lock is free again, or this would be refused.
      await withNode(dataDir, ['Engines.Disabled=docker,wasm'], async () => {})
    }))

  it('says that a data directory cannot be made, instead of trying for ever', async () => {
    await expect(withNode('/proc/weir/data', [], async () => {})).rejects.toMatchObject({
      code: 'store.unavailable',
      message: 'Cannot create the data directory "/proc/weir/data": ENOENT',
    })
    await expect(withNode('/dev/null/data', [], async () => {})).rejects.toMatchObject({
      code: 'store.unavailable',
      message: 'Cannot create the data directory "/dev/null/data": ENOTDIR',
    })
  })

  it('refuses to listen beyond loopback without authentication', () =>
    withDirectory(async (dir) => {
      const start = withNode(
        join(dir, 'data'),
        ['API.Host=0.0.0.0', 'Engines.Disabled=docker,wasm'],
        async () => {},
      )
      await expect(start).rejects.toMatchObject({
        code: 'config.invalid',
        hint: expect.stringContaining('--insecure') as unknown,
      })
    }))

  it('refuses an egress list that it cannot read, naming every bad line (row N-08)', () =>
    withDirectory(async (dir) => {
      const list = join(dir, 'allowed')
      const settings = [`Egress.AllowFile=${list}`, 'Engines.Disabled=docker,wasm']
      await expect(withNode(join(dir, 'data'), settings, async () => {})).rejects.toMatchObject({
        code: 'config.invalid',
      })
      await writeFile(list, '# nothing\n\n')
      await expect(withNode(join(dir, 'data'), settings, async () => {})).rejects.toMatchObject({
        code: 'config.invalid',
      })
      await writeFile(list, Buffer.from([0x65, 0xff, 0x2e]))
      await expect(withNode(join(dir, 'data'), settings, async () => {})).rejects.toMatchObject({
        code: 'config.invalid',
      })
      await writeFile(list, 'good.example\nhttps://bad.example/\n*.com\n')
      await expect(withNode(join(dir, 'data'), settings, async () => {})).rejects.toMatchObject({
        message: expect.stringMatching(/allowed:2[\s\S]*allowed:3/) as unknown,
      })
    }))
})

describe('the private exceptions of a node', () => {
  it('are one exact host with its port each, and every mistake is named', () =>
    withDirectory(async (dir) => {
      const start = (...exceptions: string[]): Promise<void> =>
        withNode(
          join(dir, 'data'),
          ['Engines.Disabled=docker,wasm', `Egress.PrivateExceptions=${exceptions.join(',')}`],
          async () => {},
        )
      await start('10.9.9.9:8080', 'data.example.internal:80', '[fd00::1]:443')
      await expect(start('10.9.9.9', '.example.internal:80', '10.0.0.0/8')).rejects.toMatchObject({
        code: 'config.invalid',
        message: expect.stringMatching(
          /Exceptions\[0\][\s\S]*Exceptions\[1\][\s\S]*Exceptions\[2\]/,
        ) as unknown,
      })
    }))
})

describe('the egress list of a running node', () => {
  it('is read again when it changes, and stays when the new one is broken (row N-08)', () =>
    withDirectory(async (dir) => {
      const list = join(dir, 'allowed')
      await writeFile(list, '\uFEFFone.example\r\n# two.example\r\n')
      const settings = [
        `Egress.AllowFile=${list}`,
        'JobAdmissionControl.AcceptNetworkedJobs',
        'Engines.Disabled=docker,wasm',
      ]
      await withNode(join(dir, 'data'), settings, async ({ nodeInfo }) => {
        const allowed = (): string[] => nodeInfo().egress.allow
        expect(allowed()).toEqual(['one.example'])
        await writeFile(list, 'two.example\n')
        await expect.poll(allowed, { interval: 20 }).toEqual(['two.example'])
        await writeFile(list, 'https://broken/\n')
        await new Promise((resolve) => setTimeout(resolve, 300))
        expect(allowed()).toEqual(['two.example'])
      })
    }))
})

describe.skipIf(noDocker !== '')(`a node with Docker${skipNote(noDocker)}`, () => {
  const image = 'weir-test-node:1'

  beforeAll(() =>
    importImage(image, { 'bin/busybox': '/bin/busybox', 'bin/sh': '-> busybox', 'tmp/.keep': '' }),
  )
  afterAll(() => docker.getImage(image).remove({ force: true }))

  it('runs a container, keeps its whole output and its exit code', { timeout: 60_000 }, () =>
    withDirectory(async (dir) => {
      await withNode(join(dir, 'data'), ONLY_DOCKER, async ({ client }) => {
        const command = ['/bin/busybox', 'sh', '-c', 'busybox seq 1 20000; echo bad >&2; exit 7']
        const job = await runJob(client, containerJob(image, command))
        expect(job.State).toMatchObject({ StateType: 'Completed' })
        const { Items } = await client.executions(job.ID)
        expect(Items[0]?.RunOutput?.ExitCode).toBe(7)
        let [out, err] = ['', '']
        for await (const { stream, data } of client.logs(job.ID)) {
          if (stream === 'stdout') out += Buffer.from(data).toString()
          else err += Buffer.from(data).toString()
        }
        expect(out).toBe(Array.from({ length: 20_000 }, (_, n) => `${n + 1}\n`).join(''))
        expect(err).toBe('bad\n')
      })
    }),
  )

  it.skipIf(noRoot !== '')(
    `ends a container that fills its own layer (row P-11)${skipNote(noRoot)}`,
    { timeout: 60_000 },
    () =>
      withDirectory((dir) =>
        withNode(
          join(dir, 'data'),
          [...ONLY_DOCKER, 'Orchestrator.Scheduler.TriesMax=1'],
          async ({ client }) => {
            const fill = 'busybox dd if=/dev/zero of=/tmp/fill bs=1M count=300; busybox sleep 600'
            const job = containerJob(image, ['/bin/busybox', 'sh', '-c', fill], {
              Resources: { Disk: '100mb' },
            })
            const ended = await runJob(client, job)
            expect(ended.State.StateType).toBe('Failed')
            expect(JSON.stringify(await client.executions(ended.ID))).toContain('to disk')
          },
        ),
      ),
  )

  it('does not try a program again that is not in its image', { timeout: 60_000 }, () =>
    withDirectory((dir) =>
      withNode(join(dir, 'data'), ONLY_DOCKER, async ({ client }) => {
        const job = await runJob(client, containerJob(image, ['/bin/no-such-program']))
        expect(job.State.StateType).toBe('Failed')
        const { Items } = await client.executions(job.ID)
        expect(Items).toHaveLength(1)
        expect(JSON.stringify(Items)).toContain('executable not found in the image')
      }),
    ),
  )

  it('says which image it cannot have, after trying', { timeout: 60_000 }, () =>
    withDirectory((dir) =>
      withNode(
        join(dir, 'data'),
        [...ONLY_DOCKER, 'Orchestrator.Scheduler.TriesMax=1'],
        async ({ client }) => {
          const job = await runJob(client, containerJob('weir-test/no-such-image:1', ['true']))
          expect(job.State.StateType).toBe('Failed')
          expect(JSON.stringify(await client.executions(job.ID))).toContain('weir-test/no-such-image:1')
        },
      ),
    ),
  )

  it('says that there is no Docker engine, and still runs WebAssembly', { timeout: 60_000 }, () =>
    withDirectory((dir) =>
      withNode(
        join(dir, 'data'),
        [`Engines.Types.Docker.Socket=${join(dir, 'none.sock')}`],
        async ({ client, nodeInfo }) => {
          const { engines, engineProblems, engineDetails } = nodeInfo()
          expect(engines).not.toContain('docker')
          expect(engineProblems.docker).toMatch(/Docker/)
          if (engines.includes('wasm')) expect(engineDetails?.wasm).toMatch(/seccomp.*; cgroups: /)
          const job = await runJob(client, containerJob(image, ['true']))
          expect(job.State.StateType).toBe('Failed')
          expect(job.State.Message).toMatch(/docker/i)
        },
      ),
    ),
  )

  it.skipIf(noRoot !== '')(
    `takes up the container that a killed server left behind, and leaves nothing when its job ends (row P-22)${skipNote(noRoot)}`,
    { timeout: 120_000 },
    () =>
      withDirectory(async (dir) => {
        const dataDir = join(dir, 'data')
        const settings = [
          'API.Port=0',
          'Publishers.Types.Local.Port=0',
          ...ONLY_DOCKER,
          'Orchestrator.Scheduler.TriesMax=1',
        ]
        const script = `
        const { startNode } = await import(${JSON.stringify(entryPoint('node/index.js'))})
        const { loadConfig } = await import(${JSON.stringify(entryPoint('config/index.js'))})
        const config = loadConfig({ dataDir: ${JSON.stringify(dataDir)}, settings: ${JSON.stringify(settings)} })
        const node = await startNode({ config, logLevel: 'silent' })
        process.stdout.write(JSON.stringify([node.apiUrl, node.nodeId]) + '\\n')`
        const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        const [line] = (await once(child.stdout, 'data')) as [Buffer]
        const [apiUrl, nodeId] = JSON.parse(line.toString()) as [string, string]
        const client = new WeirClient({ baseUrl: apiUrl })
        const { JobID } = await client.submit(containerJob(image, ['/bin/busybox', 'sleep', '600']))
        await expect
          .poll(async () => JSON.stringify(await client.executions(JobID)), { timeout: 20_000 })
          .toContain('"StateType":6')
        client.close()
        child.kill('SIGKILL')
        await once(child, 'exit')
        const left = async (): Promise<number> => (await containersOf(nodeId)).length
        expect(await left()).toBeGreaterThan(0)

        await withNode(dataDir, [...ONLY_DOCKER, 'Orchestrator.Scheduler.TriesMax=1'], async (node) => {
          await node.client.stop(JobID, 'enough')
          expect((await endOf(node.client, JobID)).State.StateType).toBe('Stopped')
          await expect
            .poll(async () =>
              (await node.client.executions(JobID)).Items.map((one) => one.ComputeState.StateType),
            )
            .toEqual([11])
        })
        expect(await left()).toBe(0)
      }),
  )
})

async function containersOf(nodeId: string): Promise<string[]> {
  const all = await docker.listContainers({ all: true })
  return all.filter(({ Labels }) => Object.values(Labels).includes(nodeId)).map(({ Id }) => Id)
}
