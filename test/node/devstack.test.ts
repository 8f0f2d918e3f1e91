import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { WeirClient } from '../../src/client/index.js'
import { loadConfig } from '../../src/config/index.js'
import { importBusyboxImage } from '../../src/demo/busybox-image.js'
import { type Devstack, startDevstack, startNode } from '../../src/node/index.js'
import { entryPoint } from '../../src/package-root.js'
import { cleanEnvironment, PROGRAMS } from '../cli/with-cli.js'
import { eventually, noNats } from '../transports/message-server.js'
import { noSandbox, testSettings } from './running-node.js'

const missing = noNats === '' ? noSandbox : noNats
const reason = missing === '' ? '' : ` (skipped: ${missing})`
const SETTINGS = [
  'Engines.Disabled=docker',
  'Engines.Types.Wasm.PoolSize=0',
  'Compute.Heartbeat.Interval=500ms',
]

function job(type: string, program: Buffer, more: object = {}): object {
  const url = `data:application/wasm;base64,${program.toString('base64')}`
  return {
    Type: type,
    ...more,
    Tasks: [
      {
        Name: 'main',
        Engine: {
          Type: 'wasm',
          Params: {
            EntryModule: { Source: { Type: 'inline', Params: { URL: url } }, Target: '/program.wasm' },
          },
        },
        Resources: { CPU: '0.1', Memory: '64mb' },
      },
    ],
  }
}

// Several whole processes each; a busy machine takes its time.
vi.setConfig({ testTimeout: 90_000 })

describe.skipIf(missing !== '')(`a stack of three nodes${reason}`, () => {
  let dir: string
  let stack: Devstack
  let client: WeirClient
  const gone: string[] = []
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'weir-stack-'))
    stack = await startDevstack({
      sources: { settings: SETTINGS, dataDir: join(dir, 'user') },
      computeNodes: 3,
      isHybrid: false,
      directory: join(dir, 'stack'),
      hasStandardPorts: false,
      logLevel: 'warn',
      onGone: (name, why) => gone.push(`${name} ${why}`),
    })
    client = new WeirClient({ baseUrl: stack.orchestrator.apiUrl })
  })
  afterAll(async () => {
    client?.close()
    await stack?.close()
    await rm(dir, { recursive: true, force: true })
  })

  async function nodesOf(id: string): Promise<string[]> {
    const { Items } = await client.executions(id)
    return Items.map(({ NodeID }) => NodeID).toSorted()
  }

  async function ended(id: string): Promise<string> {
    await eventually(
      'the job ends',
      async () => ['Completed', 'Failed'].includes(String((await client.job(id)).Job.State.StateType)),
      30_000,
    )
    return String((await client.job(id)).Job.State.StateType)
  }

  it('is connected, labelled, and each node offers its part of the machine', async () => {
    const nodes = await client.nodes()
    expect(nodes.map(({ Info }) => Info.NodeID)).toEqual(['node-0', 'node-1', 'node-2'])
    const first = nodes[0]
    expect(first).toMatchObject({ Membership: 'APPROVED', Connection: 'CONNECTED' })
    expect(first?.Info.Labels).toMatchObject({ id: 'node-0', name: 'node-0', env: 'devstack' })
    const capacity = nodes.map(({ Info }) => Info.ComputeNodeInfo?.MaxCapacity.Memory ?? 0)
    expect(new Set(capacity).size).toBe(1)
    expect(new Set(stack.members.map(({ pid }) => pid)).size).toBe(3)
  })

  it('runs a batch job of three on three nodes', async () => {
    const { JobID } = await client.submit(job('batch', PROGRAMS.hello, { Count: 3 }))
    expect(await ended(JobID)).toBe('Completed')
    expect(await nodesOf(JobID)).toEqual(['node-0', 'node-1', 'node-2'])
  })

  it('runs an ops job on every node, and one with constraints on those that match', async () => {
    const all = await client.submit(job('ops', PROGRAMS.hello))
    const one = await client.submit(
      job('ops', PROGRAMS.hello, { Constraints: [{ Key: 'name', Operator: '=', Values: ['node-1'] }] }),
    )
    expect([await ended(all.JobID), await ended(one.JobID)]).toEqual(['Completed', 'Completed'])
    expect(await nodesOf(all.JobID)).toEqual(['node-0', 'node-1', 'node-2'])
    expect(await nodesOf(one.JobID)).toEqual(['node-1'])
  })

  it('reads the output of an execution on another machine', async () => {
    const { JobID } = await client.submit(job('batch', PROGRAMS.hello))
    expect(await ended(JobID)).toBe('Completed')
    let output = ''
    for await (const { data } of stack.orchestrator.jobs?.logs(
      JobID,
      { follow: false, fromEnd: false },
      AbortSignal.timeout(10_000),
    ) ?? [])
      output += Buffer.from(data).toString()
    expect(output).toBe('hello\n')
  })

  it('brings a daemon job to a node that joins later', async () => {
    const { JobID } = await client.submit(job('daemon', PROGRAMS.loop))
    await eventually('it is on three nodes', async () => (await nodesOf(JobID)).length === 3, 20_000)
    const { network } = stack.orchestrator
    const { secret } = (await network?.tokens.create({})) ?? { secret: '' }
    const later = await startNode({
      config: loadConfig({
        dataDir: join(dir, 'later'),
        settings: testSettings([...SETTINGS, `Compute.Orchestrators=${network?.joinUrl ?? ''}`]),
      }),
      roles: { orchestrator: false, compute: true },
      name: 'later',
      joinSecret: secret,
      logLevel: 'silent',
    })
    try {
      await eventually(
        'it is on the new node too',
        async () => (await nodesOf(JobID)).includes('later'),
        20_000,
      )
    } finally {
      await client.stop(JobID, '')
      await later.close()
    }
  })

  it('lives on when one node is killed', async () => {
    const [, , victim] = stack.members
    process.kill(victim?.pid ?? 0, 'SIGKILL')
    await eventually('the loss is told', () => gone.length > 0)
    expect(gone).toEqual(['node-2 SIGKILL'])
    const { JobID } = await client.submit(
      job('batch', PROGRAMS.hello, {
        Constraints: [{ Key: 'name', Operator: 'in', Values: ['node-0', 'node-1'] }],
      }),
    )
    expect(await ended(JobID)).toBe('Completed')
  })

  it('keeps its nodes when it is started again in the same directory', async () => {
    const directory = stack.directory
    await stack.close()
    expect(existsSync(join(directory, 'node-0', 'node.json'))).toBe(true)
    stack = await startDevstack({
      sources: { settings: SETTINGS, dataDir: join(dir, 'user') },
      computeNodes: 3,
      isHybrid: true,
      directory,
      hasStandardPorts: false,
      logLevel: 'warn',
      onGone: () => {},
    })
    client.close()
    client = new WeirClient({ baseUrl: stack.orchestrator.apiUrl })
    const connected = (await client.nodes()).filter(({ Connection }) => Connection === 'CONNECTED')
    expect(connected.map(({ Info }) => Info.NodeID)).toEqual(['node-0', 'node-1', 'node-2', 'orchestrator'])
    expect((await client.jobs({})).Items.length).toBeGreaterThan(0)
  })
})

describe.skipIf(missing !== '')(`weir devstack${reason}`, () => {
  const children: ChildProcess[] = []
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
  })

  async function start(): Promise<{
    child: ChildProcess
    stderr: () => string
    directory: string
    pids: number[]
  }> {
    const settings = SETTINGS.flatMap((one) => ['-c', one])
    const child = spawn(
      process.execPath,
      [entryPoint('cli/main.js'), 'devstack', '--compute-nodes', '2', ...settings],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: cleanEnvironment({ WEIR_DIR: '/nonexistent/weir' }),
      },
    )
    children.push(child)
    let stderr = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    await eventually('it is ready', () => stderr.includes('Stop:') || child.exitCode !== null, 40_000)
    const directory = /Data and logs: (\S+)/.exec(stderr)?.[1] ?? ''
    const nats = JSON.parse(
      readFileSync(join(directory, 'orchestrator/orchestrator/nats-server.pid'), 'utf8'),
    ) as { pid: number }
    const pids = [...stderr.matchAll(/ pid (\d+) /g)].map(([, pid]) => Number(pid))
    return { child, stderr: () => stderr, directory, pids: [...pids, nats.pid] }
  }

  const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`)

  it('says how to use it, and takes everything down on Ctrl-C', async () => {
    const { child, stderr, directory, pids } = await start()
    expect(pids).toHaveLength(3)
    expect(stderr()).toMatch(/export WEIR_API_HOST=127\.0\.0\.1\n\s+export WEIR_API_PORT=\d+/)
    expect(pids.map((pid) => readFileSync(`/proc/${pid}/environ`, 'utf8').includes('WEIR_'))).toEqual([
      false,
      false,
      false,
    ])
    child.kill('SIGINT')
    await new Promise((resolve) => child.once('exit', resolve))
    expect(child.exitCode).toBe(0)
    expect(pids.filter(isAlive)).toEqual([])
    expect(existsSync(directory)).toBe(false)
  })

  it('leaves nothing behind when it is killed', async () => {
    const { child, directory, pids } = await start()
    child.kill('SIGKILL')
    await eventually('every process is gone', () => !pids.some(isAlive), 20_000)
    expect(existsSync(directory) ? readdirSync(directory) : []).toEqual([])
  })

  it('refuses counts that make no network', async () => {
    const run = async (...args: string[]): Promise<string> => {
      const child = spawn(process.execPath, [entryPoint('cli/main.js'), 'devstack', ...args], {
        env: cleanEnvironment(),
      })
      let stderr = ''
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text
      })
      await new Promise((resolve) => child.once('close', resolve))
      return stderr
    }
    expect(await run('--orchestrators', '2')).toContain('exactly one orchestrator')
    expect(await run('--compute-nodes', '1000')).toContain('Cannot start 1000 compute nodes')
    expect(await run('--compute-nodes', 'three')).toContain('--compute-nodes')
  })
})

const missingDocker =
  missing !== '' ? missing : process.getuid?.() === 0 && hasDocker() ? '' : 'needs root and Docker'

describe.skipIf(missingDocker !== '')(
  `a stack with containers${missingDocker === '' ? '' : ` (skipped: ${missingDocker})`}`,
  () => {
    it('takes down what its nodes run, also what a killed node left behind', async () => {
      const tag = `weir-devstack-test/busybox:${process.pid}`
      const image = await importBusyboxImage(tag)
      if (typeof image === 'string') throw new Error(image)
      const stack = await startDevstack({
        sources: {
          settings: [
            'Engines.Disabled=wasm',
            'Engines.Types.Docker.HolderPoolSize=0',
            'Compute.Heartbeat.Interval=500ms',
          ],
          dataDir: '/nonexistent/weir',
        },
        computeNodes: 2,
        isHybrid: false,
        hasStandardPorts: false,
        logLevel: 'error',
        onGone: () => {},
      })
      const client = new WeirClient({ baseUrl: stack.orchestrator.apiUrl })
      try {
        const { JobID } = await client.submit({
          Type: 'ops',
          Tasks: [
            {
              Name: 'main',
              Engine: { Type: 'docker', Params: { Image: tag, Parameters: ['sleep', '300'] } },
              Resources: { CPU: '0.1', Memory: '32mb' },
            },
          ],
        })
        const containers = (): string[] =>
          spawnSync('docker', ['ps', '--all', '--quiet', '--filter', `ancestor=${tag}`], { encoding: 'utf8' })
            .stdout.split('\n')
            .filter((line) => line !== '')
        await eventually('both run it', () => containers().length === 2, 60_000)
        expect((await client.executions(JobID)).Items).toHaveLength(2)
        process.kill(stack.members[0]?.pid ?? 0, 'SIGKILL')
        await eventually('one is gone', () => stack.members[0]?.ended !== undefined)
        await stack.close()
        expect(containers()).toEqual([])
      } finally {
        client.close()
        await stack.close()
        await image.remove()
      }
    })
  },
)

function hasDocker(): boolean {
  return spawnSync('docker', ['version'], { stdio: 'ignore' }).status === 0
}
