import { readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { admitNetwork, networkRules, type NetworkAbilities } from '../../src/compute/network-admission.js'
import type { ComputePolicy } from '../../src/compute/index.js'
import type { JobSpec, TaskSpec } from '../../src/model/job-spec.js'
import { signJob, withSignature } from '../../src/model/job-signature.js'
import { keyPairOf } from '../../src/model/key-pair.js'
import { SUBMITTER_META } from '../../src/model/learning.js'
import {
  eventually,
  isRunning,
  shellJob,
  startFixture,
  type Fixture,
  type FixtureOptions,
} from './node-fixture.js'

/** Admission of networks reads nothing else of a job that nobody signed. */
function jobWith(network: unknown): JobSpec {
  return shellJob('true', { Network: network as TaskSpec['Network'] })
}

function learningJob(user: string, timeoutMs = 0): JobSpec {
  const Timeouts = { ExecutionTimeout: timeoutMs / 1000, QueueTimeout: 0, TotalTimeout: 0 }
  return shellJob(
    'true',
    { Network: { Type: 'HTTP', Domains: [], Learn: true }, Timeouts },
    { Meta: { [SUBMITTER_META]: user } },
  )
}

describe('admitNetwork', () => {
  const able: NetworkAbilities = { engine: 'docker', http: true, full: true, problems: [], gateway: true }
  const http = (...Domains: string[]) => ({ Type: 'HTTP' as const, Domains })
  const none = { Type: 'None' as const, Domains: [] }
  const full = { Type: 'Full' as const, Domains: [] }
  const open: ComputePolicy = {
    acceptNetworkedJobs: true,
    allow: ['.example.com', 'exact.org', 'api.test.net:8443'],
    deny: ['.ads.example.com', 'bad.org'],
    privateExceptions: ['files.internal:8080', '10.9.9.9:80'],
  }
  const rows: [string, object, ComputePolicy, Partial<NetworkAbilities>, string[]][] = [
    ['no network, strictest policy', none, {}, { http: false, gateway: false }, []],
    [
      'http where networked jobs are not accepted',
      http('exact.org'),
      { allow: ['exact.org'] },
      {},
      ['compute.network'],
    ],
    ['http without hosts', http(), open, {}, ['compute.network']],
    ['an exact host', http('exact.org'), open, {}, []],
    ['a host below an allowed suffix', http('a.b.example.com'), open, {}, []],
    ['the suffix itself', http('.example.com'), open, {}, []],
    ['everything below, of an apex-and-below rule', http('*.example.com'), open, {}, []],
    ['more than an exact rule gives', http('.exact.org'), open, {}, ['egress.not_in_node_list']],
    ['another port than allowed', http('exact.org:8443'), open, {}, ['egress.not_in_node_list']],
    ['the listed port', http('api.test.net:8443'), open, {}, []],
    ['the same host without the listed port', http('api.test.net'), open, {}, ['egress.not_in_node_list']],
    [
      'a host wholly inside the deny list',
      http('x.ads.example.com'),
      open,
      {},
      ['egress.denied_by_operator'],
    ],
    [
      'denied and unlisted together',
      http('bad.org', 'other.net'),
      open,
      {},
      ['egress.denied_by_operator', 'egress.not_in_node_list'],
    ],
    ['an explicit private exception', http('files.internal:8080', '10.9.9.9:80'), open, {}, []],
    ['a private address that is no exception', http('10.9.9.8:80'), open, {}, ['egress.not_in_node_list']],
    [
      'an empty list allows nothing',
      http('exact.org'),
      { acceptNetworkedJobs: true, allow: [] },
      {},
      ['egress.not_in_node_list'],
    ],
    ['text outside the grammar', http('http://exact.org/'), open, {}, ['compute.network']],
    ['http without a gateway', http('exact.org'), open, { gateway: false }, ['egress.unavailable']],
    ['http on an engine that cannot', http('exact.org'), open, { http: false }, ['compute.network']],
    ['full where only http is accepted', full, open, {}, ['compute.network']],
    ['full where it is accepted', full, { ...open, acceptFullNetwork: true }, {}, []],
    [
      'full in a network whose list is empty on both sides',
      full,
      { ...open, acceptFullNetwork: true, networkDeny: [] },
      {},
      [],
    ],
    [
      'full in a network that only denies hosts',
      full,
      { ...open, acceptFullNetwork: true, networkDeny: ['bad.org'] },
      {},
      ['compute.network'],
    ],
    [
      'full in a network that allows a few hosts',
      full,
      { ...open, acceptFullNetwork: true, network: ['exact.org'], networkDeny: [] },
      {},
      ['compute.network'],
    ],
    ['full accepted, networked jobs not', full, { acceptFullNetwork: true }, {}, ['compute.network']],
    [
      'full on an engine that cannot',
      full,
      { ...open, acceptFullNetwork: true },
      { full: false },
      ['compute.network'],
    ],
  ]
  it.each(rows)('%s', (_title, network, policy, abilities, codes) => {
    const refusals = admitNetwork(jobWith(network), networkRules(policy), { ...able, ...abilities }, 0)
    expect(refusals.map(({ code }) => code)).toEqual(codes)
    expect(refusals.every(({ message, hint }) => message !== '' && hint !== '')).toBe(true)
  })

  it('lets a job learn that its operator names, with a limit of time, whatever hosts it lists', () => {
    const learning = { users: ['t-own', 'user:eve'], timeoutMaxMs: 60_000 }
    const judge = (user: string, timeoutMs: number | undefined, policy: ComputePolicy) =>
      admitNetwork(learningJob(user, timeoutMs), networkRules(policy), able, 0).map(({ message }) => message)
    const mine = { ...open, learning }
    expect(judge('t-own', 60_000, mine)).toEqual([])
    expect(judge('t-other', 1_000, mine)).toEqual(['This node does not accept learning jobs of t-other'])
    expect(judge('everyone', 1_000, mine)).toHaveLength(1)
    expect(judge('user:eve', undefined, mine)).toEqual([
      'This node does not accept learning jobs without a time limit',
    ])
    expect(judge('t-own', 61_000, mine)).toEqual([
      'This node does not let jobs learn for 61 s, only for 60 s',
    ])
    for (const policy of [
      open,
      { ...mine, mode: 'none' as const },
      { ...open, learning: { ...learning, users: [] } },
    ])
      expect(judge('t-own', 1_000, policy)).toEqual(['This node does not accept learning jobs'])
    expect(judge('t-own', 1_000, { learning })).toContain('This node does not accept networked jobs')
  })

  it('judges signatures again, whatever the orchestrator let pass', () => {
    const key = keyPairOf(new Uint8Array(32).fill(7))
    const image = `sha256:${'ab'.repeat(32)}`
    const engine = { Engine: { Type: 'docker', Params: { Image: image } } }
    const spec = shellJob('true', { ...engine, Network: http('key.test.example', 'exact.org') })
    const signed = withSignature(spec, signJob(spec, key, { notBeforeMs: 0, expiresMs: 60_000 }))
    const [of] = signed.Tasks
    const changed: JobSpec = { ...signed, Tasks: [{ ...of, Env: { A: '1' } }] }
    const grant = { name: 'release', key: key.publicKey, allow: ['key.test.example'] }
    const judge = (job: JobSpec, nowMs: number, keys: ComputePolicy['keys'] = [grant]): string[] =>
      admitNetwork(job, networkRules({ ...open, keys }), able, nowMs).map(({ code }) => code)
    expect(judge(signed, 0)).toEqual([])
    expect(judge(signed, 60_000)).toEqual(['signature.expired'])
    expect(judge(changed, 0)).toEqual(['signature.invalid'])
    expect(judge(signed, 0, [])).toEqual(['signature.untrusted'])
    expect(judge(signed, 0, [{ ...grant, allow: [] }])).toEqual(['egress.not_in_node_list'])
    expect(judge(spec, 0)).toEqual(['egress.not_in_node_list'])
  })

  it('names every host that the node lacks', () => {
    const [refusal] = admitNetwork(jobWith(http('a.net', 'exact.org', 'b.net')), networkRules(open), able, 0)
    expect(refusal?.message).toBe('This node lacks domain a.net, b.net')
  })
})

describe('a node refuses an execution', () => {
  let fixture: Fixture
  afterEach(() => fixture.close())

  async function judged(job: JobSpec, options: FixtureOptions = {}) {
    fixture = await startFixture(options)
    const id = await fixture.orchestrator.run(job)
    return fixture.orchestrator.ended(id)
  }
  const input = (Type: string) => [{ Source: { Type }, Alias: '', Target: '/in' }]
  const rows: [string, JobSpec, FixtureOptions, string, RegExp][] = [
    [
      'an engine it does not have',
      shellJob('true', { Engine: { Type: 'quantum' } }),
      {},
      'compute.engine',
      /does not support engine "quantum", only process/,
    ],
    [
      'an engine that is out of order',
      shellJob('true'),
      { executor: { available: false } },
      'compute.engine',
      /processes are out/,
    ],
    [
      'more cores than its largest job',
      shellJob('true', { Resources: { CPU: '99', Memory: '', Disk: '', GPU: '' } }),
      {},
      'compute.resources',
      /4 CPU at most, 99 asked/,
    ],
    [
      'a GPU it does not have',
      shellJob('true', { Resources: { CPU: '', Memory: '', Disk: '', GPU: '1' } }),
      { executor: { allotsGpus: true } },
      'compute.resources',
      /0 GPU at most, 1 asked/,
    ],
    [
      'a GPU that its engine cannot give to jobs',
      shellJob('true', { Resources: { CPU: '', Memory: '', Disk: '', GPU: '1' } }),
      { node: { capacity: { cpu: '4', memory: '4gb', disk: '1gb', gpu: '2' } } },
      'compute.resources',
      /cannot give GPUs to process jobs/,
    ],
    [
      'an input source it does not offer',
      shellJob('true', { InputSources: input('s3') }),
      {},
      'compute.source',
      /input source "s3", only text/,
    ],
    [
      'a publisher it does not offer',
      shellJob('true', { Publisher: { Type: 's3' } }),
      {},
      'compute.publisher',
      /publisher "s3", only copy/,
    ],
    [
      'a network it does not accept',
      shellJob('true', { Network: { Type: 'HTTP', Domains: ['a.com'] } }),
      {},
      'compute.network',
      /does not accept networked jobs/,
    ],
    [
      'labels that do not match',
      shellJob('true', {}, { Constraints: [{ Key: 'zone', Operator: '=', Values: ['b'] }] }),
      { node: { labels: { zone: 'a' } } },
      'compute.labels',
      /label zone is "a", wanted zone=b/,
    ],
    [
      'what its engine refuses',
      shellJob('true'),
      {
        executor: { admit: () => [{ code: 'image.unavailable', message: 'no such image', hint: 'Pull it' }] },
      },
      'image.unavailable',
      /no such image/,
    ],
    [
      'a job without inputs where the operator wants inputs',
      shellJob('true'),
      { node: { policy: { rejectStateless: true } } },
      'compute.policy',
      /without any input/,
    ],
    [
      'what the operator’s program refuses',
      shellJob('true'),
      { node: { policy: { probeExec: ['sh', '-c', 'grep -q \'"Job"\' && echo not today >&2; exit 3'] } } },
      'compute.policy',
      /refuses the job: not today/,
    ],
    [
      'when the operator’s program is missing',
      shellJob('true'),
      { node: { policy: { probeExec: ['/does/not/exist'] } } },
      'compute.policy',
      /cannot be asked/,
    ],
    [
      'when the operator’s program never ends',
      shellJob('true'),
      { node: { policy: { probeExec: ['sleep', '600'] }, limits: { checkTimeoutMs: 200 } } },
      'compute.policy',
      /did not end within 200 ms/,
    ],
    [
      'when the operator’s service is down',
      shellJob('true'),
      { node: { policy: { probeHttp: 'http://127.0.0.1:1/' } } },
      'compute.policy',
      /cannot be asked/,
    ],
  ]
  it.each(rows)('%s', async (_title, job, options, code, message) => {
    const observed = await judged(job, options)
    expect(observed).toMatchObject({ state: 'Rejected', code })
    expect(observed.message).toMatch(message)
    expect(observed.hint).not.toBe('')
    expect(fixture.executor.runs).toEqual([])
    expect(await fixture.leftovers([...fixture.orchestrator.observed.keys()][0] ?? '')).toEqual([])
  })

  it('and offers GPUs only where an engine can give them to jobs', async () => {
    const capacity = { cpu: '4', memory: '4gb', disk: '1gb', gpu: '2' }
    fixture = await startFixture({ node: { capacity } })
    expect(fixture.node.info().maxCapacity.gpu).toBe(0)
    await fixture.close()
    fixture = await startFixture({ executor: { allotsGpus: true }, node: { capacity } })
    expect(fixture.node.info().maxCapacity.gpu).toBe(2)
    const id = await fixture.orchestrator.run(
      shellJob('true', { Resources: { CPU: '', Memory: '', Disk: '', GPU: '2' } }),
    )
    expect(await fixture.orchestrator.ended(id)).toMatchObject({ state: 'Completed' })
  })

  it('with every reason at once', async () => {
    const { message } = await judged(
      shellJob('true', {
        InputSources: input('s3'),
        Publisher: { Type: 'ipfs' },
        Network: { Type: 'Full', Domains: [] },
        Resources: { CPU: '99', Memory: '', Disk: '', GPU: '' },
      }),
    )
    expect(message).toMatch(/99 asked.*source "s3".*publisher "ipfs".*networked jobs.*full network/)
  })

  it('and leaves nothing running of a program that hangs in a child of its own', async () => {
    const pidFile = join(tmpdir(), `weir-probe-${process.pid}`)
    const { message } = await judged(shellJob('true'), {
      node: {
        policy: { probeExec: ['sh', '-c', `sleep 600 & echo $! > ${pidFile}; wait`] },
        limits: { checkTimeoutMs: 300 },
      },
    })
    expect(message).toContain('did not end within 300 ms')
    const pid = Number(await readFile(pidFile, 'utf8'))
    await rm(pidFile)
    await eventually(async () => !(await isRunning(pid)))
  })
})

describe("the operator's service", () => {
  let fixture: Fixture
  afterEach(() => fixture.close())

  it.each([
    ['accepts with a status below 400', 200, 'text/plain', 'whatever', 'Completed', ''],
    ['refuses with a status of 400 or more', 403, 'text/plain', 'no', 'Rejected', 'status 403'],
    [
      'refuses with its own reason',
      200,
      'application/json',
      '{"ShouldBid":false,"Reason":"too dear"}',
      'Rejected',
      'too dear',
    ],
    ['accepts in JSON', 200, 'application/json; charset=utf-8', '{"shouldBid":true}', 'Completed', ''],
    ['refuses when its answer is no JSON', 200, 'application/json', 'hm', 'Rejected', 'cannot be asked'],
    ['refuses when its answer never ends', 200, 'text/plain', 'x'.repeat(100_000), 'Rejected', 'longer than'],
    ['is not followed elsewhere', 302, 'text/plain', '', 'Rejected', 'cannot be asked'],
  ])('%s', async (_title, status, type, body, state, message) => {
    const asked: string[] = []
    const server = createServer((request, response) => {
      let text = ''
      request.on('data', (part: Buffer) => (text += part.toString()))
      request.on('end', () => {
        asked.push(text)
        response.writeHead(status, { 'content-type': type, location: '/elsewhere' }).end(body)
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    fixture = await startFixture({ node: { policy: { probeHttp: `http://127.0.0.1:${port}/judge` } } })
    const id = await fixture.orchestrator.run(shellJob('true'))
    const observed = await fixture.orchestrator.ended(id)
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    expect(observed.state).toBe(state)
    expect(observed.message).toContain(message)
    expect(JSON.parse(asked[0] ?? '')).toMatchObject({ Job: { Tasks: [{ Name: 'main' }] } })
    expect(asked).toHaveLength(1)
  })
})
