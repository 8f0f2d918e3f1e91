import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { NetworkEgressPolicy, TaskSpec } from '../../src/model/index.js'
import type { Clock } from '../../src/ports/index.js'
import {
  CLOCK,
  commandJob,
  eventually,
  shellJob,
  startFixture,
  SUMMARY,
  type Fixture,
} from './node-fixture.js'

let fixture: Fixture

afterEach(async () => {
  await fixture.close()
})

describe('running one execution', () => {
  it('reports each state in order, the output, the exit code and the events', async () => {
    fixture = await startFixture()
    const { orchestrator } = fixture
    const id = await orchestrator.run(shellJob('echo hello; echo oops >&2; sleep 0.1; exit 3'))
    const observed = await orchestrator.ended(id)
    expect(observed).toMatchObject({
      state: 'Completed',
      code: '',
      runOutput: { stdout: 'hello\n', stderr: 'oops\n', exitCode: 3, stdoutTruncated: false },
    })
    expect(observed.startTimeMs).toBeLessThanOrEqual(observed.endTimeMs ?? 0)
    expect(orchestrator.messages(id)).toEqual([
      'Preparing Environment: Preparing the process',
      'Execution: Running',
      'Execution: Completed with exit code 3',
    ])
    const order = ['Accepted', 'Preparing', 'Running', 'Completed']
    const seen = orchestrator.states.get(id) ?? []
    expect(seen).toEqual(order.filter((state) => seen.includes(state)))
    expect(seen).toContain('Running')
  })

  it('gives the program its identity, and the proxy variables win over the task', async () => {
    fixture = await startFixture({
      executor: { modes: { http: true, full: false, problems: [] } },
      node: { policy: { acceptNetworkedJobs: true, allow: ['.example.com'] } },
    })
    const { orchestrator } = fixture
    const id = await orchestrator.run(
      shellJob(
        'echo $WEIR_EXECUTION_ID $BACALHAU_JOB_TYPE $WEIR_PARTITION_INDEX/$WEIR_PARTITION_COUNT $http_proxy $MINE',
        {
          Env: { MINE: 'kept', http_proxy: 'http://evil', WEIR_EXECUTION_ID: 'forged' },
          Network: { Type: 'HTTP', Domains: ['www.example.com'] },
        },
        { Count: 3 },
      ),
      { slot: 2 },
    )
    const observed = await orchestrator.ended(id)
    expect(observed.runOutput?.stdout).toBe(`${id} batch 2/3 http://127.0.0.1:3128 kept\n`)
    expect(observed.egress).toEqual(SUMMARY)
    await eventually(() => fixture.gateway.leasesOpen === 0 && fixture.executor.slotsOpen === 0)
  })

  it('fetches inputs, publishes stdout, stderr, exit code and one directory per result path', async () => {
    fixture = await startFixture()
    const { orchestrator, publisher } = fixture
    const id = await orchestrator.run(
      shellJob(
        'cat "$IN_0" > "$OUT_outputs/copy"; mkdir "$OUT_model/deep"; echo x > "$OUT_model/deep/w"; ln -s /etc/passwd "$OUT_model/link"; echo done; echo err >&2',
        {
          Publisher: { Type: 'Copy' },
          InputSources: [
            { Source: { Type: 'text', Params: { Text: 'input data' } }, Alias: '', Target: '/inputs/a' },
          ],
          ResultPaths: [{ Name: 'model', Path: '/model' }],
        },
      ),
    )
    const observed = await orchestrator.ended(id)
    expect(observed).toMatchObject({ state: 'Completed', publishedResult: { Type: 'copy' } })
    expect(publisher.published.get(id)).toEqual({
      stdout: 'done\n',
      stderr: 'err\n',
      exitCode: '0',
      'outputs/': '',
      'outputs/copy': 'input data',
      'model/': '',
      'model/deep/': '',
      'model/deep/w': 'x\n',
    })
    const messages = orchestrator.messages(id)
    expect(messages.some((message) => message.startsWith('Downloading Inputs: Downloading 1 input'))).toBe(
      true,
    )
    expect(
      messages.some((message) => message.startsWith('Publishing Results: Not published: model/link')),
    ).toBe(true)
    await eventually(async () => (await fixture.leftovers(id)).join() === 'log,state.json')
  })

  it('ends a program within a second of its time limit, also when it ignores SIGTERM', async () => {
    fixture = await startFixture()
    const { orchestrator } = fixture
    const id = await orchestrator.run(
      shellJob('trap "" TERM; echo begun; while :; do sleep 0.1; done', {
        Timeouts: { ExecutionTimeout: 1, QueueTimeout: 0, TotalTimeout: 0 },
      }),
    )
    const observed = await orchestrator.ended(id)
    expect(observed).toMatchObject({
      state: 'Failed',
      code: 'execution.timeout',
      message: 'Execution timed out after 1s',
      runOutput: { stdout: 'begun\n', exitCode: 137 },
    })
    const ranMs = (observed.endTimeMs ?? 0) - (observed.startTimeMs ?? 0)
    expect(ranMs).toBeGreaterThanOrEqual(1_000)
    expect(ranMs).toBeLessThan(2_000)
    expect(fixture.executor.children.size).toBe(0)
  })

  it('does not count the time that preparing takes as running time', async () => {
    fixture = await startFixture({
      executor: { beforeStart: () => new Promise((resolve) => setTimeout(resolve, 1_300)) },
    })
    const id = await fixture.orchestrator.run(
      shellJob('echo fine', { Timeouts: { ExecutionTimeout: 1, QueueTimeout: 0, TotalTimeout: 0 } }),
    )
    expect(await fixture.orchestrator.ended(id)).toMatchObject({ state: 'Completed' })
  })

  it('keeps a flood of output within its bound and lets the job go on', async () => {
    fixture = await startFixture({ node: { limits: { outputBytesMax: 200_000 } } })
    const { orchestrator } = fixture
    const id = await orchestrator.run(shellJob('head -c 30000000 /dev/zero; echo end >&2; exit 7'))
    const observed = await orchestrator.ended(id)
    expect(observed).toMatchObject({ state: 'Completed', runOutput: { exitCode: 7, stdoutTruncated: true } })
    const output = await fixture.follow(id)
    expect(output.truncated).toBe(true)
    expect(output.stdout.length).toBeGreaterThan(190_000)
    expect(output.stdout.length + output.stderr.length).toBeLessThanOrEqual(200_000)
    expect(orchestrator.messages(id).join()).toContain('the rest was dropped')
  })

  it('ends a program that fills the disk, by bytes, by files and by depth', async () => {
    fixture = await startFixture({ node: { limits: { resultFilesMax: 500 } } })
    const { orchestrator } = fixture
    const tasks = {
      bytes: shellJob('while :; do head -c 100000 /dev/zero >> "$OUT_outputs/big"; sleep 0.01; done', {
        Resources: { CPU: '', Memory: '', Disk: '1mb', GPU: '' },
      }),
      files: shellJob(
        'i=0; while :; do i=$((i+1)); : > "$OUT_outputs/f$i"; [ $((i%100)) = 0 ] && sleep 0.05; done',
      ),
      depth: commandJob([
        'node',
        '-e',
        `process.chdir(process.env.OUT_outputs)
        for (let i = 0; i < 300; i++) { fs.mkdirSync('d'); process.chdir('d') }
        setInterval(() => {}, 1000)`,
      ]),
    }
    const ids = Object.fromEntries(
      await Promise.all(
        Object.entries(tasks).map(async ([name, job]) => [name, await orchestrator.run(job)]),
      ),
    ) as Record<string, string>
    for (const [name, message] of [
      ['bytes', '1 MB'],
      ['files', '500 files'],
      ['depth', 'too deep'],
    ] as const) {
      const observed = await orchestrator.ended(ids[name] ?? '')
      expect(observed).toMatchObject({ state: 'Failed', code: 'compute.disk' })
      expect(observed.message).toContain(message)
    }
    await eventually(async () => {
      const left = await Promise.all(Object.values(ids).map((id) => fixture.leftovers(id)))
      return left.flat().every((name) => name === 'log' || name === 'state.json')
    })
  })

  it('counts files whose names are no text, and none that a link leads to', async () => {
    fixture = await startFixture()
    const { orchestrator } = fixture
    const small = { CPU: '', Memory: '', Disk: '1mb', GPU: '' }
    const hidden = await orchestrator.run(
      commandJob(
        [
          'node',
          '-e',
          `const name = Buffer.concat([Buffer.from(process.env.OUT_outputs + '/'), Buffer.from([0xff])])
          fs.mkdirSync(name)
          fs.writeFileSync(Buffer.concat([name, Buffer.from([0x2f, 0xfe])]), Buffer.alloc(3_000_000))
          setInterval(() => {}, 1000)`,
        ],
        { Resources: small },
      ),
    )
    const linked = await orchestrator.run(
      shellJob('ln -s /usr "$OUT_outputs/usr"; ln -s /dev/zero "$OUT_outputs/zero"; sleep 0.4', {
        Resources: small,
      }),
    )
    expect(await orchestrator.ended(hidden)).toMatchObject({ state: 'Failed', code: 'compute.disk' })
    expect(await orchestrator.ended(linked)).toMatchObject({ state: 'Completed' })
  })

  it('counts what a program writes elsewhere together with its outputs', async () => {
    const own = await mkdtemp(join(tmpdir(), 'weir-layer-'))
    try {
      fixture = await startFixture({ executor: { writablePaths: [own] } })
      const { orchestrator } = fixture
      const small = { CPU: '', Memory: '', Disk: '1mb', GPU: '' }
      const half = `head -c 600000 /dev/zero >`
      const fits = await orchestrator.run(
        shellJob(`${half} ${own}/a; sleep 0.4; rm ${own}/a`, { Resources: small }),
      )
      expect(await orchestrator.ended(fits)).toMatchObject({ state: 'Completed' })
      const both = await orchestrator.run(
        shellJob(`${half} ${own}/a; ${half} "$OUT_outputs/a"; sleep 60`, { Resources: small }),
      )
      expect(await orchestrator.ended(both)).toMatchObject({ state: 'Failed', code: 'compute.disk' })
    } finally {
      await rm(own, { recursive: true })
    }
  })

  it('collects the directories it made, whatever their paths mean after the run', async () => {
    fixture = await startFixture()
    const { orchestrator, publisher } = fixture
    const id = await orchestrator.run(
      shellJob(
        'sleep 0.2; echo mine > "$OUT_outputs/a"; mv "$OUT_outputs" "$OUT_outputs.away"; ln -s /etc "$OUT_outputs"',
        { Publisher: { Type: 'copy' } },
      ),
    )
    expect(await orchestrator.ended(id)).toMatchObject({ state: 'Completed' })
    const files = Object.keys(publisher.published.get(id) ?? {})
    expect(files).toEqual(expect.arrayContaining(['outputs/a', 'stdout', 'stderr', 'exitCode']))
    expect(files.filter((name) => name.startsWith('outputs/'))).toEqual(['outputs/', 'outputs/a'])
  })

  it('holds no descriptor of an execution that has ended, however it ended', async () => {
    fixture = await startFixture()
    const { orchestrator } = fixture
    const held = async () => {
      const links = await Promise.all(
        (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
      )
      return links.filter((path) => path.startsWith(fixture.dataDir))
    }
    const paths = [{ Name: 'more', Path: '/more' }]
    const ids = [
      await orchestrator.run(shellJob('echo fine', { ResultPaths: paths, Publisher: { Type: 'copy' } })),
      await orchestrator.run(commandJob(['/does/not/exist'], { ResultPaths: paths })),
      await orchestrator.run(
        shellJob('sleep 60', {
          ResultPaths: paths,
          Timeouts: { ExecutionTimeout: 1, QueueTimeout: 0, TotalTimeout: 0 },
        }),
      ),
    ]
    for (const id of ids) await orchestrator.ended(id)
    await eventually(async () => (await held()).length === 0)
  })

  it('reports the end and gives the capacity back although the engine never says that the program is gone', async () => {
    // Patience that takes half a minute takes a moment here.
    const clock: Clock = {
      now: CLOCK.now,
      sleep: (ms, signal) => CLOCK.sleep(ms >= 9_000 && ms <= 31_000 ? 50 : ms, signal),
    }
    fixture = await startFixture({
      executor: { deaf: true },
      node: { clock, limits: { checkTimeoutMs: 5_000, syncTimeoutMs: 5_000, healthIntervalMs: 600_000 } },
    })
    const id = await fixture.orchestrator.run(
      shellJob('sleep 5', { Timeouts: { ExecutionTimeout: 1, QueueTimeout: 0, TotalTimeout: 0 } }),
    )
    expect(await fixture.orchestrator.ended(id)).toMatchObject({
      state: 'Failed',
      code: 'execution.timeout',
    })
    await eventually(() => fixture.node.info().runningExecutions === 0)
  })

  it('refuses inputs that are larger than the disk the execution may use', async () => {
    fixture = await startFixture()
    const id = await fixture.orchestrator.run(
      shellJob('true', {
        Resources: { CPU: '', Memory: '', Disk: '1kb', GPU: '' },
        InputSources: [0, 1, 2].map((n) => ({
          Source: { Type: 'text', Params: { Text: 'x'.repeat(600) } },
          Alias: '',
          Target: `/in/${n}`,
        })),
      }),
    )
    expect(await fixture.orchestrator.ended(id)).toMatchObject({ state: 'Failed', code: 'source.too_large' })
    expect(fixture.executor.runs).toEqual([])
  })

  it('says what the engine says when the program cannot start, and runs nothing', async () => {
    fixture = await startFixture()
    const id = await fixture.orchestrator.run(commandJob(['/does/not/exist']))
    expect(await fixture.orchestrator.ended(id)).toMatchObject({ state: 'Failed', code: 'engine.failed' })
  })

  it('fetches the modules of a WASM job beside its inputs', async () => {
    fixture = await startFixture({ executor: { engine: 'wasm' } })
    const text = (Text: string, Alias = '') => ({
      Source: { Type: 'text', Params: { Text } },
      Alias,
      Target: '',
    })
    const id = await fixture.orchestrator.run(
      shellJob('', {
        Engine: {
          Type: 'wasm',
          Params: {
            Command: ['cat'],
            EntryModule: text('main'),
            ImportModules: [text('library', 'env')],
            Parameters: [],
          },
        },
        InputSources: [{ ...text('data'), Target: '/inputs/data' }],
      }),
    )
    await fixture.orchestrator.ended(id)
    const [run] = fixture.executor.runs
    expect(run?.volumes.map(({ target }) => target)).toEqual(['/inputs/data'])
    expect(run?.modules?.imports.map(({ alias }) => alias)).toEqual(['env'])
    expect(run?.modules?.entry.hostPath).toContain('module-0')
    expect(run?.outputs.map(({ name, path }) => [name, path])).toEqual([['outputs', '/outputs']])
  })

  it('gives a job with full network a slot and no lease', async () => {
    fixture = await startFixture({
      executor: { modes: { http: true, full: true, problems: [] } },
      node: { policy: { acceptNetworkedJobs: true, acceptFullNetwork: true } },
    })
    const id = await fixture.orchestrator.run(
      shellJob('echo proxy=$http_proxy', { Network: { Type: 'Full', Domains: [] } }),
    )
    const observed = await fixture.orchestrator.ended(id)
    expect(observed).toMatchObject({ state: 'Completed', runOutput: { stdout: 'proxy=\n' } })
    expect(observed.egress).toBeUndefined()
    expect(fixture.executor.runs[0]?.network.mode).toBe('full')
    expect(fixture.gateway.leasesOpened).toBe(0)
    await eventually(() => fixture.executor.slotsOpen === 0)
  })

  it('ends jobs with full network when the network has a list, although no gateway puts it in force', async () => {
    fixture = await startFixture({
      executor: { modes: { http: true, full: true, problems: [] } },
      node: {
        policy: { acceptNetworkedJobs: true, acceptFullNetwork: true },
        networkEgress: { known: () => undefined, heard: (list) => list as NetworkEgressPolicy },
      },
    })
    const { orchestrator, executor, node } = fixture
    const full: Partial<TaskSpec> = { Network: { Type: 'Full', Domains: [] } }
    const [running, plain] = [
      await orchestrator.run(shellJob('echo begun; sleep 600', full)),
      await orchestrator.run(shellJob('sleep 0.5; echo done')),
    ]
    await Promise.all([running, plain].map((id) => orchestrator.in(id, 'Running')))
    orchestrator.networkEgress = { version: 1, deny: ['evil.test'] }
    // In the same message as the list.
    const late = await orchestrator.run(shellJob('echo ran', full))
    const why = 'This node does not accept jobs with full network access: the network has a list of hosts'
    expect(await orchestrator.ended(running)).toMatchObject({
      state: 'Failed',
      code: 'compute.network',
      message: `The program was stopped because of its network: ${why}`,
      runOutput: { stdout: 'begun\n' },
    })
    expect(orchestrator.messages(running)).toContain(
      `Execution: The program was stopped because of its network: ${why}`,
    )
    expect(await orchestrator.ended(late)).toMatchObject({ state: 'Failed', code: 'compute.network' })
    expect(await orchestrator.ended(plain)).toMatchObject({ state: 'Completed' })
    expect(executor.runs).toHaveLength(2)
    // A list that goes again gives the access back.
    orchestrator.networkEgress = { version: 2, deny: [] }
    const again = await orchestrator.run(shellJob('sleep 600', full))
    await orchestrator.in(again, 'Running')
    node.setPolicy({ acceptNetworkedJobs: true, acceptFullNetwork: true, network: ['example.com'] })
    expect(await orchestrator.ended(again)).toMatchObject({ state: 'Failed', code: 'compute.network' })
  })

  it('fails closed when the gateway cannot open a lease', async () => {
    fixture = await startFixture({
      executor: { modes: { http: true, full: false, problems: [] } },
      node: { policy: { acceptNetworkedJobs: true, allow: ['example.com'] } },
    })
    fixture.gateway.failing = true
    const id = await fixture.orchestrator.run(
      shellJob('echo ran', { Network: { Type: 'HTTP', Domains: ['example.com'] } }),
    )
    expect(await fixture.orchestrator.ended(id)).toMatchObject({
      state: 'Failed',
      code: 'egress.unavailable',
    })
    expect(fixture.executor.runs).toEqual([])
    expect(fixture.executor).toMatchObject({ slotsAcquired: 1, slotsOpen: 0 })
  })

  it('does not run an execution whose permission was withdrawn while it waited', async () => {
    fixture = await startFixture({
      executor: { modes: { http: true, full: false, problems: [] } },
      node: {
        policy: { acceptNetworkedJobs: true, allow: ['example.com'] },
        capacity: { cpu: '1', memory: '1gb', disk: '1gb' },
      },
    })
    const { orchestrator, node, executor } = fixture
    const first = await orchestrator.run(
      shellJob('sleep 60', { Resources: { CPU: '1', Memory: '1mb', Disk: '', GPU: '' } }),
    )
    await orchestrator.in(first, 'Running')
    const second = await orchestrator.run(
      shellJob('echo ran', { Network: { Type: 'HTTP', Domains: ['example.com'] } }),
    )
    await orchestrator.in(second, 'Accepted')
    node.setPolicy({ acceptNetworkedJobs: true, allow: [] })
    await orchestrator.stop(first)
    expect(await orchestrator.ended(second)).toMatchObject({
      state: 'Failed',
      code: 'egress.not_in_node_list',
    })
    expect(executor.runs).toHaveLength(1)
  })
})

describe('stopping an execution closes what it holds', () => {
  const http = { Network: { Type: 'HTTP' as const, Domains: ['example.com'] }, Publisher: { Type: 'copy' } }
  const hangingInput = [{ Source: { Type: 'text', Params: { Hang: true } }, Alias: '', Target: '/in' }]
  const never = (signal: AbortSignal) =>
    new Promise<void>((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason))
    })
  const phases: {
    phase: string
    job?: object
    prepare?: (f: Fixture) => void
    reached: (f: Fixture) => boolean
  }[] = [
    {
      phase: 'fetching inputs',
      job: { InputSources: hangingInput },
      reached: (f) => f.source.fetching === 1,
    },
    {
      phase: 'waiting for its network',
      prepare: (f) => (f.executor.options.beforeAcquire = never),
      reached: (f) => f.orchestrator.states.size > 0,
    },
    {
      phase: 'waiting for a network that comes too late',
      prepare: (f) => (f.executor.options.beforeAcquire = () => new Promise((done) => setTimeout(done, 400))),
      reached: (f) => [...f.orchestrator.states.values()].flat().includes('Preparing'),
    },
    {
      phase: 'waiting for a lease that comes too late',
      prepare: (f) => {
        f.gateway.hang = new Promise((done) => setTimeout(done, 400))
      },
      reached: (f) => f.executor.slotsOpen === 1,
    },
    {
      phase: 'starting',
      prepare: (f) => (f.executor.options.beforeStart = (_run, signal) => never(signal)),
      reached: (f) => f.executor.runs.length === 1 && f.gateway.leasesOpen === 1,
    },
    { phase: 'running', reached: (f) => f.executor.children.size === 1 },
    {
      phase: 'publishing',
      job: { Engine: { Type: 'process', Params: { Command: ['true'] } } },
      prepare: (f) => (f.publisher.hang = true),
      reached: (f) => f.publisher.publishing === 1,
    },
  ]

  it.each(phases)('while $phase', async ({ job = {}, prepare, reached }) => {
    fixture = await startFixture({
      executor: { modes: { http: true, full: false, problems: [] } },
      node: { policy: { acceptNetworkedJobs: true, allow: ['example.com'] } },
    })
    prepare?.(fixture)
    const { orchestrator, executor, gateway } = fixture
    const id = await orchestrator.run(shellJob('sleep 60', { ...http, ...job }))
    await eventually(() => reached(fixture))
    await orchestrator.stop(id, 'changed my mind')
    expect(await orchestrator.ended(id)).toMatchObject({ state: 'Cancelled', message: 'changed my mind' })
    await eventually(async () =>
      (await fixture.leftovers(id)).every((name) => name === 'log' || name === 'state.json'),
    )
    await eventually(() => executor.children.size === 0 && fixture.node.info().runningExecutions === 0)
    expect({ slots: executor.slotsOpen, leases: gateway.leasesOpen }).toEqual({ slots: 0, leases: 0 })
  })

  it('while it waits in the queue', async () => {
    fixture = await startFixture({ node: { capacity: { cpu: '1', memory: '1gb', disk: '1gb' } } })
    const { orchestrator } = fixture
    const all = { Resources: { CPU: '1', Memory: '', Disk: '', GPU: '' } }
    const first = await orchestrator.run(shellJob('sleep 60', all))
    await orchestrator.in(first, 'Running')
    const second = await orchestrator.run(shellJob('sleep 60', all))
    await orchestrator.in(second, 'Accepted')
    expect(fixture.node.info()).toMatchObject({ runningExecutions: 1, queuedExecutions: 1 })
    await eventually(() =>
      orchestrator
        .messages(second)
        .some((line) => line.endsWith('Waiting for room on the node: 1 CPU asked, nothing free')),
    )
    await orchestrator.stop(second)
    await orchestrator.in(second, 'Cancelled')
    expect(fixture.node.info()).toMatchObject({ runningExecutions: 1, queuedExecutions: 0 })
  })
})
