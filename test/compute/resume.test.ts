import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { createDockerExecutor, type DockerExecutor } from '../../src/executors/docker/index.js'
import type { TaskSpec } from '../../src/model/job-spec.js'
import type { ObservedExecution } from '../../src/model/state.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'
import {
  containersOf,
  docker,
  importBusybox,
  noDocker,
  removeImage,
  skipNote,
  testNodeId,
} from '../executors/docker/with-docker.js'
import type { DockerNodePlan } from './docker-node.js'
import { dockerJob, eventually, startFixture, type Fixture } from './node-fixture.js'

const IMAGE = 'weir-test-resume-node:1'

// Nodes and containers are started in each, also on machines that are busy.
vi.setConfig({ testTimeout: 90_000 })

describe.skipIf(noDocker !== '')(`an execution of a node that is killed${skipNote(noDocker)}`, () => {
  let programDir: string
  let program: string
  let dataDir: string
  let nodeId: string
  let executionId: string
  let fixture: Fixture | undefined
  let executor: DockerExecutor | undefined

  beforeAll(async () => {
    await importBusybox(IMAGE)
    // Beside the dependencies, which are not part of the bundle.
    const parent = join(PACKAGE_ROOT, 'node_modules', '.cache')
    await mkdir(parent, { recursive: true })
    programDir = await mkdtemp(join(parent, 'weir-resume-'))
    program = join(programDir, 'docker-node.mjs')
    buildSync({
      entryPoints: [join(import.meta.dirname, 'docker-node.ts')],
      outfile: program,
      bundle: true,
      platform: 'node',
      format: 'esm',
      packages: 'external',
      logLevel: 'error',
    })
  })
  afterAll(async () => {
    await rm(programDir, { recursive: true, force: true })
    await removeImage(IMAGE)
  })
  beforeEach(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'weir-resume-'))
    nodeId = testNodeId()
    executionId = `e-${randomUUID()}`
  })
  afterEach(async () => {
    await fixture?.close()
    await executor?.close()
    fixture = executor = undefined
    const left = await containersOf(nodeId)
    for (const { Id } of left) await docker.getContainer(Id).remove({ force: true, v: true })
    await rm(dataDir, { recursive: true, force: true })
    expect(left.map(({ Labels }) => Labels['weir.kind'])).toEqual([])
  })

  /** Runs the first life of the node until its job is where it is wanted; resolves with a function that kills it. */
  async function firstLife(
    until: DockerNodePlan['until'],
    script: string,
    task: Partial<TaskSpec> = {},
  ): Promise<() => Promise<void>> {
    const plan: DockerNodePlan = { dataDir, nodeId, executionId, image: IMAGE, script, until, task }
    const child = spawn(process.execPath, [program, JSON.stringify(plan)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const gone = once(child, 'exit')
    for await (const text of child.stdout) if (String(text).includes('there')) break
    expect(child.exitCode).toBeNull()
    return async () => {
      child.kill('SIGKILL')
      await gone
      await rm(join(dataDir, 'hang'), { force: true })
    }
  }

  /** What the orchestrator remembers of the first life. */
  const STORED: ObservedExecution = {
    state: 'Preparing',
    sequence: 3,
    message: '',
    code: '',
    hint: '',
    retryable: false,
  }

  async function secondLife(
    script: string,
    task: Partial<TaskSpec> = {},
    { stopped = false, start = true } = {},
  ): Promise<Fixture> {
    executor = createDockerExecutor({ nodeId, holderPoolSize: 0, full: {} })
    const made = await startFixture({ dataDir, start: false, node: { nodeId, executors: [executor] } })
    fixture = made
    made.orchestrator.observed.set(executionId, STORED)
    const job = dockerJob(IMAGE, script, { Publisher: { Type: 'copy' }, ...task })
    await made.orchestrator.run(job, { executionId, ...(stopped && { state: 'Stopped' as const }) })
    if (start) await made.node.start()
    return made
  }

  async function container() {
    const [found] = await docker.listContainers({
      all: true,
      filters: { label: [`weir.execution=${executionId}`, 'weir.kind=job'] },
    })
    return docker.getContainer(found?.Id ?? '')
  }

  /** Each run of the program leaves a line here: a program that ran twice is found out. */
  /** Until the test says so. */
  const WAITS = 'while [ ! -e /outputs/go ]; do usleep 20000; done;'
  const COUNTED = 'echo once >> /outputs/runs; echo begun'

  it.each([
    ['its inputs were fetched', 'Preparing', 'its preparation is repeated'],
    ['its container was made', 'Created', 'its preparation is repeated'],
    ['it ran', 'Running', 'the running program was taken up again'],
    ['its result was published', 'Publishing', 'The node was restarted after the program had ended'],
  ] as const)(
    'ends well, after one run of its program, when it was killed while %s',
    async (_, until, said) => {
      const script = `${COUNTED}; ${until === 'Running' ? WAITS : ''} echo end; exit 5`
      const kill = await firstLife(until, script)
      await kill()
      const { orchestrator, publisher, follow } = await secondLife(script)
      await eventually(() => orchestrator.messages(executionId).some((line) => line.includes(said)), 60_000)
      if (until === 'Running')
        await writeFile(join(dataDir, 'compute', 'executions', executionId, 'outputs', '0', 'go'), '')
      const ended = await orchestrator.ended(executionId, 60_000)
      expect(ended).toMatchObject({
        state: 'Completed',
        runOutput: { exitCode: 5, stdout: 'begun\nend\n' },
        publishedResult: { Type: 'copy' },
      })
      expect(publisher.published.get(executionId)).toMatchObject({
        'outputs/runs': 'once\n',
        stdout: 'begun\nend\n',
        exitCode: '5',
      })
      expect((await follow(executionId)).stdout).toBe('begun\nend\n')
      expect(orchestrator.messages(executionId).filter((line) => line.includes(said))).toHaveLength(1)
      expect(fixture?.node.info().runningExecutions).toBe(0)
      await eventually(async () => (await fixture?.leftovers(executionId))?.join() === 'log,state.json')
    },
  )

  it('has its time limit counted from its beginning, also over the time when nobody watched', async () => {
    const limit = { Timeouts: { ExecutionTimeout: 3, QueueTimeout: 0, TotalTimeout: 0 } }
    const kill = await firstLife('Running', 'echo begun; sleep 600', limit)
    const beganMs = Date.now()
    await kill()
    await eventually(() => Date.now() - beganMs > 3_500)
    const { orchestrator } = await secondLife('', limit)
    const ended = await orchestrator.ended(executionId, 60_000)
    expect(ended).toMatchObject({
      state: 'Failed',
      code: 'execution.timeout',
      runOutput: { stdout: 'begun\n' },
    })
    expect((ended.endTimeMs ?? 0) - (ended.startTimeMs ?? 0)).toBeGreaterThanOrEqual(3_000)
  })

  it('is over its time limit also when it ended too late while nobody watched', async () => {
    const limit = { Timeouts: { ExecutionTimeout: 1, QueueTimeout: 0, TotalTimeout: 0 } }
    const kill = await firstLife('Running', 'sleep 2', limit)
    await kill()
    await (await container()).wait()
    const { orchestrator } = await secondLife('', limit)
    expect(await orchestrator.ended(executionId, 60_000)).toMatchObject({
      state: 'Failed',
      code: 'execution.timeout',
    })
  })

  it('is stopped at once when that was decided meanwhile', async () => {
    const kill = await firstLife('Running', 'echo begun; sleep 600')
    await kill()
    const { orchestrator } = await secondLife('', {}, { stopped: true })
    expect(await orchestrator.ended(executionId, 60_000)).toMatchObject({
      state: 'Cancelled',
      runOutput: { stdout: 'begun\n' },
    })
  })

  it('is stopped when full network access, which it has, was withdrawn meanwhile', async () => {
    const task: Partial<TaskSpec> = { Network: { Type: 'Full', Domains: [] } }
    const kill = await firstLife('Running', 'echo begun; sleep 600', task)
    await kill()
    const { orchestrator } = await secondLife('', task)
    expect(await orchestrator.ended(executionId, 60_000)).toMatchObject({
      state: 'Failed',
      code: 'compute.network',
      runOutput: { stdout: 'begun\n' },
    })
  })

  it('is still held to its disk limit', async () => {
    const task = { Resources: { CPU: '500m', Memory: '64mb', Disk: '2mb', GPU: '' } }
    const kill = await firstLife(
      'Running',
      'sleep 1.5; head -c 9000000 /dev/zero > /outputs/big; sleep 600',
      task,
    )
    await kill()
    const { orchestrator } = await secondLife('', task)
    expect(await orchestrator.ended(executionId, 60_000)).toMatchObject({
      state: 'Failed',
      code: 'compute.disk',
    })
  })

  it('holds its resources again before anything new begins', async () => {
    const task = { Resources: { CPU: '3', Memory: '64mb', Disk: '', GPU: '' } }
    const kill = await firstLife('Running', 'sleep 600', task)
    await kill()
    const { node, orchestrator } = await secondLife('', task)
    expect(node.info()).toMatchObject({ runningExecutions: 1, availableCapacity: { cpu: 1 } })
    const second = await orchestrator.run(dockerJob(IMAGE, 'true', task))
    await orchestrator.until(second, ({ state }) => state === 'Accepted')
    expect(node.info().queuedExecutions).toBe(1)
    await orchestrator.stop(executionId)
    expect(await orchestrator.ended(second)).toMatchObject({ state: 'Completed' })
  })

  it.each([
    ['state.json', '{"format":1,'],
    ['desired.json', 'not JSON'],
  ])(
    'is lost with the reason when %s is damaged, its container is removed, another one is not',
    async (file, text) => {
      const kill = await firstLife('Running', 'sleep 600')
      await kill()
      const stranger = await docker.createContainer({
        Image: IMAGE,
        Cmd: ['/bin/sleep', '60'],
        Labels: { 'weir.node': `${nodeId}-2`, 'weir.kind': 'job', 'weir.execution': `${executionId}-2` },
      })
      try {
        await writeFile(join(dataDir, 'compute', 'executions', executionId, file), text)
        const { orchestrator } = await secondLife('')
        const ended = await orchestrator.ended(executionId, 60_000)
        expect(ended).toMatchObject({ state: 'Failed', code: 'execution.lost', retryable: true })
        expect(ended.message).toMatch(/record of the execution is damaged/)
        expect(await containersOf(nodeId)).toEqual([])
        expect((await stranger.inspect()).Id).toBe(stranger.id)
      } finally {
        await stranger.remove({ force: true })
      }
    },
  )

  it('is lost after a restart of the machine, which ended its program', async () => {
    const kill = await firstLife('Running', 'sleep 600')
    await kill()
    const stateFile = join(dataDir, 'compute', 'executions', executionId, 'state.json')
    const state = await readFile(stateFile, 'utf8')
    await writeFile(stateFile, state.replace(/"bootId":"[^"]*"/, '"bootId":"another"'))
    const { orchestrator } = await secondLife('')
    expect(await orchestrator.ended(executionId, 60_000)).toMatchObject({
      state: 'Failed',
      code: 'execution.lost',
      message: 'The machine of the node was restarted, which ended the program',
    })
  })

  it('is lost, and says so, when somebody removed its container', async () => {
    const kill = await firstLife('Running', 'echo begun; sleep 600')
    await kill()
    await (await container()).remove({ force: true })
    const { orchestrator, follow } = await secondLife('')
    expect(await orchestrator.ended(executionId, 60_000)).toMatchObject({
      state: 'Failed',
      code: 'execution.lost',
      message: 'The node was restarted, and nothing is left of the program in its engine',
    })
    expect((await follow(executionId)).stdout).toBe('begun\n')
  })
})
