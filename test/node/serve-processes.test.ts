import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { WeirClient, type WireNode } from '../../src/client/index.js'
import { entryPoint } from '../../src/package-root.js'
import { cleanEnvironment, PROGRAMS, weir } from '../cli/with-cli.js'
import { eventually, noNats } from '../transports/message-server.js'
import { noSandbox } from './running-node.js'

interface Served {
  child: ChildProcess
  url: string
  stderr: () => string
  /** Resolves when the process and everything it holds on to is gone. */
  ended: Promise<unknown>
}

const missing = noNats === '' ? noSandbox : noNats

// Several whole processes each; a busy machine takes its time.
vi.setConfig({ testTimeout: 90_000 })

describe.skipIf(missing !== '')(
  `weir serve in several processes${missing === '' ? '' : ` (skipped: ${missing})`}`,
  () => {
    let dir: string
    const running: Served[] = []
    beforeEach(async () => {
      dir = await mkdtemp(join(tmpdir(), 'weir-processes-'))
    })
    afterEach(async () => {
      for (const { child } of running) child.kill('SIGKILL')
      await Promise.all(running.splice(0).map(({ ended }) => ended))
      await rm(dir, { recursive: true, force: true })
    })

    async function serve(name: string, args: string[]): Promise<Served> {
      const settings = [
        'API.Port=0',
        'Publishers.Types.Local.Port=0',
        'Engines.Disabled=docker',
        'Logging.Level=warn',
        'Compute.Heartbeat.Interval=500ms',
        'Engines.Types.Wasm.PoolSize=0',
        'Compute.AllocatedCapacity.CPU=2',
      ]
      const child = spawn(
        process.execPath,
        [
          entryPoint('cli/main.js'),
          'serve',
          '--data-dir',
          join(dir, name),
          ...args,
          ...settings.flatMap((one) => ['-c', one]),
        ],
        { stdio: ['ignore', 'ignore', 'pipe'], env: cleanEnvironment() },
      )
      let stderr = ''
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        stderr += text
      })
      const served: Served = {
        child,
        url: '',
        stderr: () => stderr,
        ended: new Promise((resolve) => child.once('exit', resolve)),
      }
      running.push(served)
      const address = (): string | undefined => /on (http:\/\/127\.0\.0\.1:\d+) [^]*Stop:/.exec(stderr)?.[1]
      await eventually(
        `${name} serves: ${stderr}`,
        () => address() !== undefined || child.exitCode !== null,
        30_000,
      )
      const url = address()
      if (url === undefined) throw new Error(`${name} has ended: ${stderr}`)
      return Object.assign(served, { url })
    }

    async function kill(served: Served): Promise<void> {
      served.child.kill('SIGKILL')
      await served.ended
    }

    async function withClient<T>(url: string, use: (client: WeirClient) => Promise<T>): Promise<T> {
      const client = new WeirClient({ baseUrl: url })
      try {
        return await use(client)
      } finally {
        client.close()
      }
    }

    function nodes(url: string): Promise<WireNode[]> {
      return withClient(url, (client) => client.nodes())
    }

    async function connected(url: string, ...ids: string[]): Promise<void> {
      let seen: unknown
      try {
        await eventually(
          `${ids.join()} connected`,
          async () => {
            const found = await nodes(url)
            seen = found.map(({ Info, Connection }) => [Info.NodeID, Connection])
            return ids.every((id) =>
              found.some(({ Info, Connection }) => Info.NodeID === id && Connection === 'CONNECTED'),
            )
          },
          30_000,
        )
      } catch (error) {
        const said = running.map(({ stderr }) => stderr()).join('\n')
        throw new Error(`${JSON.stringify(seen)} ${String(error)}\n${said}`, { cause: error })
      }
    }

    function job(program: Buffer, more: object = {}): object {
      return {
        Type: 'batch',
        ...more,
        Tasks: [
          {
            Name: 'main',
            Engine: {
              Type: 'wasm',
              Params: {
                EntryModule: {
                  Source: {
                    Type: 'inline',
                    Params: { URL: `data:application/wasm;base64,${program.toString('base64')}` },
                  },
                  Target: '/program.wasm',
                },
              },
            },
            Resources: { CPU: '0.1', Memory: '64mb' },
          },
        ],
      }
    }

    function natsPid(): number {
      return (
        JSON.parse(readFileSync(join(dir, 'orchestrator/orchestrator/nats-server.pid'), 'utf8')) as {
          pid: number
        }
      ).pid
    }

    /** An orchestrator and a node, joined as an operator does it: with a token in a file. */
    async function pair(): Promise<{ orchestrator: Served; node: Served; joinUrl: string; port: string }> {
      const orchestrator = await serve('orchestrator', ['--orchestrator', '-c', 'Orchestrator.Port=0'])
      const joinUrl = /--join (\S+)/.exec(orchestrator.stderr())?.[1] ?? ''
      const env = { WEIR_API_PORT: new URL(orchestrator.url).port, WEIR_DIR: join(dir, 'client') }
      const made = await weir(['node', 'token', 'create'], { env })
      expect(made.code).toBe(0)
      await writeFile(join(dir, 'token'), made.stdout, { mode: 0o600 })
      const node = await serve('a', ['--join', joinUrl, '--token-file', join(dir, 'token'), '--name', 'a'])
      await connected(orchestrator.url, 'a')
      return { orchestrator, node, joinUrl, port: new URL(joinUrl.replace('nats:', 'http:')).port }
    }

    it('joins with a token in a file, which nobody sees in the list of processes, and writes what shells need', async () => {
      const { orchestrator, node } = await pair()
      const secret = readFileSync(join(dir, 'token'), 'utf8').trim()
      for (const { child, stderr } of [orchestrator, node]) {
        expect(readFileSync(`/proc/${child.pid}/cmdline`, 'utf8')).not.toContain(secret)
        expect(stderr()).not.toContain(secret)
      }
      expect(readFileSync(join(dir, 'orchestrator/weir.run'), 'utf8')).toBe(
        `export WEIR_API_HOST=127.0.0.1\nexport WEIR_API_PORT=${new URL(orchestrator.url).port}\n`,
      )
    })

    it('brings a node that was killed back under its id', async () => {
      const { orchestrator, node, joinUrl } = await pair()
      await kill(node)
      await rm(join(dir, 'token'))
      await serve('a', ['--join', joinUrl])
      await connected(orchestrator.url, 'a')
      expect((await nodes(orchestrator.url)).map(({ Info }) => Info.NodeID)).toEqual(['a'])
      await withClient(orchestrator.url, async (client) => {
        const { JobID } = await client.submit(job(PROGRAMS.hello))
        await eventually(
          'it runs jobs',
          async () => (await client.job(JobID)).Job.State.StateType === 'Completed',
          30_000,
        )
      })
    })

    it('loses nothing when the orchestrator is killed: nodes run on and report when it is back', async () => {
      const { orchestrator, node, port } = await pair()
      const { jobId, executionId, failedId } = await withClient(orchestrator.url, async (client) => {
        const service = await client.submit(job(PROGRAMS.loop, { Type: 'service', Count: 1 }))
        await eventually(
          'it runs',
          async () => (await client.job(service.JobID)).Job.State.StateType === 'Running',
          30_000,
        )
        const other = await client.submit(
          job(PROGRAMS.hello, { Constraints: [{ Key: 'none', Operator: '=', Values: ['x'] }] }),
        )
        const { Items } = await client.executions(service.JobID)
        return { jobId: service.JobID, executionId: Items[0]?.ID, failedId: other.JobID }
      })
      const before = natsPid()
      await kill(orchestrator)
      await eventually('its message server is gone too', () => !existsSync(`/proc/${before}`))
      await eventually('the node says so', () => node.stderr().includes('connecting again'))
      expect(node.child.exitCode).toBeNull()
      const again = await serve('orchestrator', ['--orchestrator', '-c', `Orchestrator.Port=${port}`])
      await connected(again.url, 'a')
      await withClient(again.url, async (client) => {
        expect((await client.job(jobId)).Job.State.StateType).toBe('Running')
        const executions = await client.executions(jobId)
        // The very execution that ran before, not another one.
        expect(executions.Items.map(({ ID }) => ID)).toEqual([executionId])
        expect((await client.job(failedId)).Job.ID).toBe(failedId)
        await client.stop(jobId, 'done')
        await eventually('the node hears of the stop', async () => {
          const [found] = await client.nodes()
          return found?.Info.ComputeNodeInfo?.RunningExecutions === 0
        })
      })
    })

    it('ends in order on Ctrl-C, with its message server', async () => {
      const { orchestrator, node } = await pair()
      const server = natsPid()
      node.child.kill('SIGINT')
      await node.ended
      await eventually(
        'the orchestrator knows',
        async () => (await nodes(orchestrator.url))[0]?.Connection === 'DISCONNECTED',
      )
      orchestrator.child.kill('SIGINT')
      await orchestrator.ended
      expect(existsSync(`/proc/${server}`)).toBe(false)
      expect([node.child.exitCode, orchestrator.child.exitCode]).toEqual([0, 0])
    })

    it('refuses a token file that holds none, and two roles that exclude each other', async () => {
      await writeFile(join(dir, 'empty'), '\n')
      const env = { WEIR_DIR: join(dir, 'x') }
      const empty = await weir(
        ['serve', '--join', 'nats://127.0.0.1:1', '--token-file', join(dir, 'empty')],
        { env },
      )
      expect(empty.stderr).toContain('does not hold one line')
      const absent = await weir(
        ['serve', '--join', 'nats://127.0.0.1:1', '--token-file', join(dir, 'absent')],
        { env },
      )
      expect(absent.stderr).toContain('there is no such file')
      const both = await weir(['serve', '--orchestrator', '--join', 'nats://127.0.0.1:1'], { env })
      expect(both.stderr).toContain('an orchestrator joins nobody')
      expect([empty.code, absent.code, both.code].includes(0)).toBe(false)
    })
  },
)
