import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { buildProgram, leavesOf } from '../../src/cli/program.js'
import { entryPoint } from '../../src/package-root.js'
import { PROGRAMS, cleanEnvironment, missingSandbox, startServer } from './with-cli.js'
import type { CliContext } from '../../src/cli/context.js'
import type { TestServer } from './with-cli.js'

const missing = missingSandbox()
const skipped = missing === undefined ? '' : ` (skipped: ${missing})`

/** Operands with which a command that has `--output` succeeds. JOB and NODE stand for ids, KEY for a public key. */
const OPERANDS: Readonly<Record<string, readonly string[]>> = {
  'docker run': ['--dry-run', 'busybox'],
  'wasm run': ['hello.wasm'],
  'wasm validate': ['hello.wasm'],
  'job run': ['job.json'],
  'job describe': ['JOB'],
  'job executions': ['JOB'],
  'job history': ['JOB'],
  'job egress': ['JOB'],
  'job rerun': ['JOB'],
  'job versions': ['JOB'],
  'node describe': ['NODE'],
  'audit verify': ['JOB'],
  'network explain': ['--domain', 'example.com', 'example.com'],
  'network allowlist add': ['--begin', '--dry-run', 'example.com'],
  'network allowlist remove': ['--dry-run', 'example.com'],
  'network allowlist import': ['--begin', '--dry-run', 'hosts.txt'],
  'network request': ['example.com', '--reason', 'data'],
  'node allowlist add': ['--dry-run', 'example.com'],
  'node allowlist remove': ['--dry-run', 'example.com'],
  'node allowlist import': ['--dry-run', 'hosts.txt'],
  'key sign': ['--key', 'key.pem', '--expires', '1d', 'networked.json'],
  'key verify': ['signed.json'],
  'key trust': ['KEY', '--domain', 'example.com', '--replace'],
  'config get': ['Labels'],
  'config auto-resources': ['--dry-run'],
}

/** Tested where what they need is there. */
const ELSEWHERE = [
  'auth ',
  'profile ',
  'node token ',
  'egress ',
  'network check',
  'network approve',
  'network deny',
]

const commands = leavesOf(buildProgram({} as CliContext, () => undefined)).filter(
  ({ words, command }) =>
    command.options.some(({ long }) => long === '--output') &&
    !ELSEWHERE.some((group) => words.startsWith(group)),
)

describe.skipIf(missing !== undefined)(`data and talk${skipped}`, () => {
  let server: TestServer
  let [jobId, nodeId, publicKey] = ['', '', '']
  beforeAll(async () => {
    server = await startServer()
    writeFileSync(join(server.dir, 'hello.wasm'), PROGRAMS.hello)
    writeFileSync(join(server.dir, 'loop.wasm'), PROGRAMS.loop)
    const dry = await server.weir(['wasm', 'run', '--dry-run', '--output', 'json', 'hello.wasm'])
    writeFileSync(join(server.dir, 'job.json'), dry.stdout)
    const networked = await server.weir(
      'wasm run --dry-run --output json --network http --domain example.com hello.wasm'.split(' '),
    )
    writeFileSync(join(server.dir, 'networked.json'), networked.stdout)
    writeFileSync(join(server.dir, 'hosts.txt'), 'example.com\n')
    await server.weir(['network', 'request', 'example.com', '--reason', 'data'])
    publicKey = (await server.weir(['key', 'generate', 'key.pem'])).stdout.trim()
    const sign = ['key', 'sign', '--key', 'key.pem', '--expires', '1d', '--output', 'json', 'networked.json']
    writeFileSync(join(server.dir, 'signed.json'), (await server.weir(sign)).stdout)
    jobId = (await server.weir(['wasm', 'run', '--id-only', 'hello.wasm'])).stdout.trim()
    for (let count = 0; count < 4; count++) await server.weir(['wasm', 'run', '--id-only', 'hello.wasm'])
    const nodes = await server.weir(['node', 'list', '--output', 'json'])
    nodeId = (JSON.parse(nodes.stdout) as [{ Info: { NodeID: string } }])[0].Info.NodeID
  })
  afterAll(() => server?.stop())

  const lineOf = (words: string, format: string): string[] => [
    ...words.split(' '),
    '--output',
    format,
    ...(OPERANDS[words] ?? []).map((word) => ({ JOB: jobId, NODE: nodeId, KEY: publicKey })[word] ?? word),
  ]

  it.each(commands.map(({ words }) => words))(
    '%s prints nothing but JSON with --output json, and the same as YAML',
    async (words) => {
      const [json, yaml] = await Promise.all([
        server.weir(lineOf(words, 'json')),
        server.weir(lineOf(words, 'yaml')),
      ])
      expect(json.code, json.stderr).toBe(0)
      expect(json.stdout.endsWith('\n')).toBe(true)
      const value: unknown = JSON.parse(json.stdout)
      // A run makes a new job each time, and a signature says when it was made.
      if (/ (re)?run$|^key sign$/.test(words)) return
      if (words === 'config list') expect(parse(yaml.stdout)).toHaveProperty('API.Port')
      else expect(withoutTimes(parse(yaml.stdout))).toEqual(withoutTimes(value))
    },
  )

  it('appends what changes, one JSON object on each line, when a watch goes into a pipe', async () => {
    const started = await server.weir(['wasm', 'run', '--detach', '--timeout', '2', 'loop.wasm'])
    const id = started.stdout.trim()
    const watched = await server.weir(['job', 'describe', '--watch', '--output', 'json', id])
    expect(watched.code, watched.stderr).toBe(0)
    const states = watched.stdout
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { Job: { State: { StateType: string } } }).Job.State.StateType)
    expect(states.at(-1)).toBe('Failed')
    expect(states.length).toBeGreaterThan(1)
    const rows = await server.weir(['job', 'executions', '--watch', '--output', 'json', id])
    expect(
      rows.stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toHaveLength(1)
    const events = await server.weir(['job', 'describe', '--watch', id])
    expect(events.stdout).toMatch(/Submission +Job submitted/)
    expect(events.stdout.trimEnd().split('\n').at(-1)).toBe('State = Failed')
  })

  it.each([
    ['job list', ['job', 'list', '--limit', '0']],
    ['config list', ['config', 'list']],
    ['config default', ['config', 'default']],
  ])('ends quietly when the reader of %s goes away', async (_what, args) => {
    const { code, stderr } = await shell(
      server,
      `weir ${args.join(' ')} | head -1; echo "code \${PIPESTATUS[0]}" >&2`,
    )
    expect(code).toBe(0)
    expect(stderr).toContain('code 0')
    expect(stderr).not.toMatch(/EPIPE|Error/)
  })

  it('ends quietly when the reader of a watch has gone and there is something to say', async () => {
    const { stdout, stderr } = await shell(
      server,
      `weir job list --watch --output json | head -1 & until weir wasm run --id-only hello.wasm > /dev/null && ! jobs %1 > /dev/null 2>&1; do sleep 0.2; done; wait`,
    )
    expect(stdout.trimEnd().split('\n')).toHaveLength(1)
    expect(stderr).not.toMatch(/EPIPE|Error/)
  })

  it('gives a command for the next page that gives the next page, with every flag', async () => {
    const labels = 'bacalhau_canary!=true'
    for (const line of [
      `weir job list --limit 2 --labels '${labels}' --wide --order-by created_at --output csv --hide-header`,
      `weir job history --limit 2 ${jobId} --event-type all --output csv --hide-header`,
    ]) {
      const first = await shell(server, line)
      const next = /Next page: +(weir .*)/.exec(first.stderr)?.[1] ?? ''
      expect(next, first.stderr).not.toBe('')
      const second = await shell(server, next)
      expect(second.code, second.stderr).toBe(0)
      expect(second.stdout.trimEnd().split('\n')).toHaveLength(2)
      expect(first.stdout).not.toContain(second.stdout.split('\n')[0] ?? '?')
    }
  })

  it('asks nothing and waits for nobody without a terminal', async () => {
    const { code, stderr } = await server.weir(['job', 'run'], { input: '' })
    expect(code).toBe(125)
    expect(stderr).toContain('Error:')
  })
})

/** What `job list` and others count from now on. */
function withoutTimes(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (name, inner: unknown) =>
      /Time$|Since$|Seen|Heartbeat|Capacity|Latency|Uptime|Age|^After$|^Machine$/.test(name)
        ? undefined
        : inner,
    ),
  )
}

/** Runs a shell line in which `weir` is the built program. */
function shell(
  server: TestServer,
  line: string,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const script = `weir() { '${process.execPath}' '${entryPoint('cli/main.js')}' "$@"; }\n${line}`
    const child = spawn('bash', ['-c', script], {
      cwd: server.dir,
      env: cleanEnvironment({ WEIR_DIR: join(server.dir, 'client'), WEIR_API_PORT: server.port }),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (data: Buffer) => (stdout += data.toString()))
    child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
}
