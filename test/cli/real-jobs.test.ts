import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PACKAGE_ROOT } from '../../src/package-root.js'
import { isDefaultPortTaken, weir } from './with-cli.js'
import { idIn, missingWorld, startWorld } from './with-internet.js'
import type { CliResult } from './with-cli.js'
import type { World } from './with-internet.js'

const missing = missingWorld()
const skipped = missing === '' ? '' : ` (skipped: ${missing})`
const module = (name: string): string => join(PACKAGE_ROOT, 'test/fixtures/wasm/bin', `${name}.wasm`)

describe.skipIf(missing !== '')(`bad luck and bad input, with real containers${skipped}`, () => {
  let world: World
  beforeAll(async () => {
    world = await startWorld('weir-cli-test/busybox:local')
  })
  afterAll(() => world?.close())

  const docker = (args: readonly string[], script: string): Promise<CliResult> =>
    world.weir(['docker', 'run', ...args, world.image, 'sh', '-c', script])

  it.concurrent.each<[what: string, args: () => string[], code: number, words: string, hint: string]>([
    [
      'an image that nobody has',
      () => ['docker', 'run', 'weir-cli-test/none:1', 'true'],
      126,
      'Cannot pull the image',
      'Hint: ',
    ],
    [
      'a program that is not in the image',
      () => ['docker', 'run', world.image, 'nosuch'],
      126,
      'Cannot start "nosuch": executable not found in the image',
      'PATH of the image',
    ],
    [
      'a container that needs too much memory',
      () => [
        'docker',
        'run',
        '--memory',
        '20mb',
        world.image,
        'sh',
        '-c',
        'x=$(head -c 60000000 /dev/zero | tr "\\0" a); echo ${#x}',
      ],
      137,
      'needed more memory than its limit',
      '--memory',
    ],
    [
      'a WebAssembly program that needs too much memory',
      () => ['wasm', 'run', '--memory', '16mb', module('memory-all')],
      137,
      '4 GiB of memory',
      '--memory',
    ],
    [
      'a container that never ends',
      () => ['docker', 'run', '--timeout', '1', world.image, 'sleep', '60'],
      124,
      'timed out',
      'Increase',
    ],
    [
      'a WebAssembly program that never ends',
      () => ['wasm', 'run', '--timeout', '1', module('endless')],
      124,
      'timed out',
      'Increase',
    ],
    [
      'more executions than nodes',
      () => ['docker', 'run', '--count', '2', world.image, 'true'],
      126,
      '2 executions need 2 nodes, and 1 of 1 node can run this',
      'Lower --count',
    ],
    [
      'a host that the node does not allow',
      () => ['docker', 'run', '--network', 'http', '--domain', 'other.test', world.image, 'true'],
      126,
      '1 lacks domain other.test',
      'operators',
    ],
    [
      'a mode that the node does not offer',
      () => ['docker', 'run', '--network', 'full', world.image, 'true'],
      126,
      'does not offer network Full',
      '',
    ],
    [
      'an input at a private address',
      () => ['docker', 'run', '-i', 'http://secret.example.com/x', world.image, 'true'],
      126,
      'not public',
      'public addresses only',
    ],
    [
      'results without a publisher',
      () => ['docker', 'run', '-o', 'out:/outputs', world.image, 'true'],
      125,
      '--publisher: publisher must be set',
      '--publisher local',
    ],
  ])('says once what happened to %s', async (_what, args, code, words, hint) => {
    const result = await world.weir(args())
    expect(result.code, result.stderr).toBe(code)
    const [, ending = ''] = result.stderr.split(/^Error: /m)
    expect(ending).toContain(words)
    expect(ending.split(words)).toHaveLength(2)
    expect(result.stderr).toContain(hint)
    expect(result.stderr).not.toMatch(/\n {4}at /)
  })

  it('shows what a program wrote before its time was over', async () => {
    const { code, stdout } = await docker(['--timeout', '2'], 'echo begun; sleep 60')
    expect([code, stdout]).toEqual([124, 'begun\n'])
  })

  it('keeps the output of a flood up to the limit, and says that it was cut', async () => {
    const { code, stdout, stderr } = await docker([], 'seq 100000')
    expect(code).toBe(0)
    expect(stdout.length).toBeLessThanOrEqual(101_000)
    expect(stdout.startsWith('1\n2\n3\n')).toBe(true)
    const described = await world.weir(['job', 'describe', idIn(stderr)])
    expect(described.stdout).toContain('Output truncated')
  })

  it('sums up what a job tried to reach, with the flag that would allow what was refused', async () => {
    const script = [
      'wget -q -O- http://data.example.com/',
      'wget -q -O- http://example.com/',
      `wget -q -O- http://${world.hostAddress}:${world.port}/`,
    ].join('; ')
    const ran = await docker(['--network', 'http', '--domain', 'data.example.com'], `${script}; true`)
    expect([ran.code, ran.stdout]).toEqual([0, 'hello from data.example.com\n'])
    expect(ran.stderr).toContain(
      'Refused 1×: example.com:80 (egress.not_in_job_list); --domain example.com:80 would allow it',
    )
    const id = idIn(ran.stderr)
    const described = await world.weir(['job', 'describe', id])
    expect(described.stdout).toContain('3 attempts: 1 allowed, 2 refused')
    expect(described.stdout).toMatch(/example\.com:80 .*egress\.not_in_job_list +--domain example\.com/)
    const denied = await world.weir(['job', 'egress', '--denied', '--follow', '--output', 'json', id])
    const codes = denied.stdout
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { code: string }).code)
    expect(codes.toSorted()).toEqual(['egress.not_in_job_list', 'egress.self'])
    const csv = await world.weir(['job', 'egress', '--follow', '--output', 'csv', id])
    expect(csv.stdout.split('\n')).toHaveLength(5)
    const yaml = await world.weir(['job', 'egress', '--follow', '--output', 'yaml', id])
    expect(yaml.stdout.match(/^---$/gm)).toHaveLength(3)
  })

  it('learns which hosts a job needs, and the suggested flags let it run without a refusal', async () => {
    const script = 'wget -q -O- http://example.com/ && wget -q -O- http://data.example.com/'
    const learnt = await docker(['--network', 'http', '--learn'], script)
    expect(learnt).toMatchObject({ code: 0, stdout: 'hello from example.com\nhello from data.example.com\n' })
    expect(learnt.stderr).toContain('Learning: every public host is open to the program, and recorded')
    expect(learnt.stderr).toMatch(/^data\.example\.com:80 +1 +0 +\d+ B +\d+ B$/m)
    const flags = '--network http --domain data.example.com:80 --domain example.com:80'
    expect(learnt.stderr).toContain(`Run it with:     ${flags}\n`)
    expect(learnt.stderr).toContain('1 of 1 node would take a job with these hosts')

    const id = idIn(learnt.stderr)
    const suggested = await world.weir(['job', 'egress', '--suggest', id])
    expect(suggested.stdout).toBe(`${flags}\n`)
    const json = JSON.parse((await world.weir(['job', 'egress', '--suggest', '--output', 'json', id])).stdout)
    expect(json).toMatchObject({
      Network: { Type: 'HTTP', Domains: ['data.example.com:80', 'example.com:80'] },
      OnlyAsked: [],
      Fitting: 1,
    })
    const grouped = await world.weir(['job', 'egress', '--suggest', '--group', '--output', 'yaml', id])
    expect(grouped.stdout).toBe('Network:\n  Type: HTTP\n  Domains:\n    - .example.com:80\n')
    const described = await world.weir(['job', 'describe', id])
    expect(described.stdout).toContain('Learning = every public host is open to it, and recorded\n')
    const facts = JSON.parse((await world.weir(['job', 'describe', '--output', 'json', id])).stdout)
    expect(facts.Executions.Items[0].EgressReceipt).toMatchObject({
      learning: true,
      statement: expect.stringMatching(/^Every public host was open to the execution/),
    })
    expect((await world.weir(['audit', 'verify', id])).code).toBe(0)

    const again = await docker(suggested.stdout.trim().split(' '), script)
    expect(again).toMatchObject({ code: 0, stdout: learnt.stdout })
    expect(again.stderr).not.toMatch(/Refused|Learn/)
    const records = await world.weir(['job', 'egress', '--output', 'json', idIn(again.stderr)])
    expect(JSON.parse(records.stdout).map(({ decision }: { decision: string }) => decision)).toEqual([
      'allow',
      'allow',
    ])

    const long = await docker(['--network', 'http', '--learn', '--timeout', '7200'], script)
    expect(long.code).toBe(126)
    expect(long.stderr).toContain('does not let jobs learn for 7200 s, only for 3600 s')
    expect(long.stderr).not.toContain('Learnt')
  })

  it('stops a queued job on Ctrl-C', async () => {
    let isSent = false
    const { code, stderr } = await world.weir(
      ['docker', 'run', '--cpu', '900', '--queue-timeout', '60', world.image, 'true'],
      {
        onOutput: (seen, child) => {
          if (isSent || !seen.stderr.includes('Queueing')) return
          isSent = true
          child.kill('SIGINT')
        },
      },
    )
    expect(code, stderr).toBe(130)
    expect(stderr).toContain('The job was stopped')
  })

  it('leaves at the second Ctrl-C and says how to look after the job', async () => {
    let sent = 0
    const { code, stderr } = await world.weir(
      ['docker', 'run', world.image, 'sh', '-c', 'trap "" TERM; sleep 30'],
      {
        onOutput: (seen, child) => {
          const isDue =
            sent === 0 ? /Execution +Running/.test(seen.stderr) : seen.stderr.includes('Stopping job')
          if (sent > 1 || !isDue) return
          sent += 1
          child.kill('SIGINT')
        },
      },
    )
    expect(code, stderr).toBe(130)
    expect(stderr).toContain('its end was not waited for')
    expect(stderr).toMatch(/weir job stop j-[0-9a-f]{8}/)
  })

  it('links a local import module under its file name', async () => {
    const { code, stderr } = await world.weir(['wasm', 'run', '-I', module('math'), module('uses-math')])
    expect(code, stderr).toBe(42)
  })

  it('refuses a port that is in use', async () => {
    const { code, stderr } = await weir(
      [
        'serve',
        `--config=API.Port=${world.port}`,
        '--config=Publishers.Types.Local.Port=0',
        '--config=Engines.Disabled=docker',
      ],
      {
        env: { WEIR_DIR: join(world.dir, 'second') },
      },
    )
    expect(code).toBe(125)
    expect(stderr).toContain(`Cannot listen on 127.0.0.1:${world.port}: another program listens there`)
  })

  it('says that ids are ambiguous or unknown', async () => {
    expect((await world.weir(['job', 'describe', 'j-'])).stderr).toContain('several ids begin with it')
    expect((await world.weir(['job', 'stop', 'j-ffffffff'])).stderr).toContain('weir job list')
    expect((await world.weir(['node', 'describe', 'n-zzz'])).stderr).toContain('weir node list')
  })

  it('takes one file of the results, and keeps results apart with --raw', async () => {
    const ran = await docker(
      ['--id-only', '--publisher', 'local', '-o', 'out:/outputs'],
      'echo 1 > /outputs/a; echo 2 > /outputs/b; ln -s /etc/passwd /outputs/c',
    )
    expect([ran.code, ran.stderr]).toEqual([0, ''])
    const id = ran.stdout.trim()
    expect((await world.weir(['job', 'get', `${id}/out/a`, '--output-dir', 'one'])).code).toBe(0)
    expect(readFileSync(join(world.dir, 'one/out/a'), 'utf8')).toBe('1\n')
    expect(readdirSync(join(world.dir, 'one/out'))).toEqual(['a'])
    expect((await world.weir(['job', 'get', id, '--raw', '--output-dir', 'raw'])).code).toBe(0)
    expect(readdirSync(join(world.dir, 'raw'))).toEqual([expect.stringMatching(/^e-/)])
    const missingFile = await world.weir(['job', 'get', `${id}/out/none`, '--output-dir', 'none'])
    expect(missingFile.code).toBe(3)
  })
})

const isTaken = await isDefaultPortTaken()

describe.skipIf(isTaken)(`a node of its own${isTaken ? ' (skipped: port 1234 is in use)' : ''}`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-cli-'))
  afterAll(() => rmSync(dir, { recursive: true, force: true }))
  const run = (args: readonly string[]): Promise<CliResult> =>
    weir(args, { cwd: dir, env: { WEIR_DIR: join(dir, 'data') } })

  it('says that there is no Docker engine, where it looked and how to get one', async () => {
    const { code, stderr } = await run([
      'docker',
      'run',
      '-c',
      'Engines.Types.Docker.Socket=/nowhere.sock',
      'busybox',
    ])
    expect(code).toBe(126)
    expect(stderr).toContain('there is no socket "/nowhere.sock"')
    expect(stderr).toContain('Install a Docker engine')
  })

  it.skipIf(missing !== '')(`says which settings let a job reach its hosts${skipped}`, async () => {
    const { code, stderr } = await run([
      'docker',
      'run',
      '--network',
      'http',
      '--domain',
      'example.com',
      'busybox',
    ])
    expect(code).toBe(126)
    expect(stderr).toContain(
      'add -c JobAdmissionControl.AcceptNetworkedJobs=true -c Egress.Allow=example.com',
    )
  })
})
