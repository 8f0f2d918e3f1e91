import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EXAMPLES } from '../../src/cli/examples.js'
import { buildProgram, leavesOf } from '../../src/cli/program.js'
import { entryPoint } from '../../src/package-root.js'
import { PROGRAMS, weir } from './with-cli.js'
import { missingWorld, startWorld } from './with-internet.js'
import type { WeirCommand } from '../../src/cli/command.js'
import type { CliContext } from '../../src/cli/context.js'
import type { World } from './with-internet.js'

const missing = missingWorld()
const skipped = missing === '' ? '' : ` (skipped: ${missing})`

const commands = leavesOf(buildProgram({} as CliContext, () => undefined)).filter(
  ({ words }) => words !== 'help',
)

/** Commands about one request, one after the other. */
const OF_REQUESTS = ['network request', 'network approve', 'network deny']

/** Commands about several nodes: run against those of `weir devstack`. */
const OF_A_NETWORK = ['devstack', 'node approve', 'node reject', 'node delete']

describe('help', () => {
  it('shows examples for every command', () => {
    expect(Object.keys(EXAMPLES).toSorted()).toEqual(['', ...commands.map(({ words }) => words)].toSorted())
  })

  it('loads nothing but the words of the commands: it must be there at once, without any configuration', async () => {
    const loaded = await new Promise<string>((resolve, reject) => {
      const child = spawn(process.execPath, [entryPoint('cli/main.js'), '--help'], {
        env: { NODE_DEBUG: 'esm', HOME: '/nonexistent', PATH: process.env.PATH },
      })
      let text = ''
      child.stdout.resume()
      child.stderr.setEncoding('utf8').on('data', (part: string) => (text += part))
      child.on('error', reject)
      child.on('close', () => resolve(text))
    })
    const files = [...loaded.matchAll(/file:\/\/\S+?\.js/g)].map(([url]) => url)
    expect(files.length).toBeGreaterThan(10)
    const heavy =
      /\/(client|node|config|api|compute|orchestrator)\/|cli\/commands|parse-job|\/(yaml|typebox|fastify)\//
    expect([
      ...new Set(files.filter((url) => heavy.test(url.replace(/^.*\/(dist|node_modules)\//, '/')))),
    ]).toEqual([])
  })

  it('of every command and group fits 80 columns; only examples, which are to be copied, may be longer', () => {
    const all = (command: WeirCommand): WeirCommand[] => [
      command,
      ...command.commands.flatMap((inner) => all(inner as WeirCommand)),
    ]
    const tooLong = all(buildProgram({} as CliContext, () => undefined)).flatMap((command) =>
      command
        .createHelp()
        .formatHelp(command, Object.assign(command.createHelp(), { helpWidth: 80 }))
        .split('\n')
        .filter((line) => line.length > 80)
        .map((line) => `${command.words}: ${line}`),
    )
    expect(tooLong).toEqual([])
  })

  it.each(['docker run', 'job egress', 'serve'])('of %s ends with its examples', async (words) => {
    const { code, stdout, stderr } = await weir([...words.split(' '), '--help'])
    expect([code, stderr]).toEqual([0, ''])
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .slice(-(EXAMPLES[words] ?? []).length),
    ).toEqual(EXAMPLES[words]?.map((example) => `  ${example}`))
  })
})

describe.skipIf(missing !== '')(`examples of the help${skipped}`, () => {
  let world: World
  let [jobId, nodeId] = ['', '']
  beforeAll(async () => {
    world = await startWorld('weir-cli-help/busybox:local')
    prepare(world)
    const ran = await world.weir([
      'docker',
      'run',
      '--id-only',
      '--publisher',
      'local',
      '-o',
      'out:/outputs',
      world.image,
      'true',
    ])
    jobId = ran.stdout.trim()
    const nodes = await world.weir(['node', 'list', '--output', 'json'])
    nodeId = (JSON.parse(nodes.stdout) as [{ Info: { NodeID: string } }])[0].Info.NodeID
  })
  afterAll(() => world?.close())

  // Of one node nothing can be approved or removed; others need a server of their own.
  const apart = [
    ...OF_A_NETWORK,
    ...OF_REQUESTS,
    'serve',
    'job stop',
    'job rerun',
    'egress conformance',
    'egress gateway',
  ]
  const examples = Object.entries(EXAMPLES).flatMap(([words, lines]) =>
    // Those of `auth` need a server that asks who is calling: test/cli/auth.test.ts.
    apart.includes(words) || /^(?:auth|node token|key) /.test(words) ? [] : lines,
  )

  it.concurrent.each(examples)('%s', async (example) => {
    const line = filledIn(example, world.image, jobId, nodeId)
    // A job that is left running would take the place of those that follow.
    const whole = example.includes('--detach') ? `id=$(${line}); weir job stop "$id"` : line
    const { code, stderr } = await shell(world, whole)
    expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' })
    expect(stderr).not.toContain('Error:')
  })

  it('of key, one after the other', async () => {
    const order = ['generate', 'show', 'sign', 'verify', 'trust', 'list', 'untrust']
    const lines = order.flatMap((word) => EXAMPLES[`key ${word}`] ?? [])
    expectFine(lines.join('\n'), await shell(world, lines.join('\n')))
  })

  it('of requests for hosts follow each other', async () => {
    for (const words of ['network approve', 'network deny']) {
      const [ask = ''] = of('network request')
      const asked = await shell(world, ask)
      expectFine(ask, asked)
      const [decide = ''] = of(words)
      expectFine(decide, await shell(world, decide.replace('r-1a2b3c4d', asked.stdout.trim())))
    }
  })

  // A new version of the job that the others look at would be in their way.
  it.each(EXAMPLES['job rerun'] ?? [])('%s', async (example) => {
    const ran = await world.weir(['docker', 'run', '--id-only', world.image, 'true'])
    expectFine(example, await shell(world, filledIn(example, world.image, ran.stdout.trim(), nodeId)))
  })

  it.each(EXAMPLES['job stop'] ?? [])('%s', async (example) => {
    const started = await world.weir(['docker', 'run', '--detach', world.image, 'sleep', '60'])
    const { code } = await shell(world, filledIn(example, world.image, started.stdout.trim(), nodeId))
    expect(code).toBe(0)
  })

  it.each((EXAMPLES.serve ?? []).filter((example) => !example.includes('--join')))('%s', async (example) => {
    const { code, stderr } = await served(world, example)
    expect(code, stderr).toBe(0)
  })
})

const hasNats = spawnSync('nats-server', ['--version'], { stdio: 'ignore' }).status === 0
const noNetwork = hasNats ? '' : ' (skipped: needs nats-server)'

describe.skipIf(noNetwork !== '')(`examples of a network${noNetwork}`, () => {
  const place: Place = { dir: mkdtempSync(join(tmpdir(), 'weir-cli-network-')), port: '' }
  prepare(place)
  afterAll(() => rmSync(place.dir, { recursive: true, force: true }))

  it('are what they say: a stack, tokens, a machine that joins, and nodes that come and go', async () => {
    const [plainStack = '', ...otherStacks] = EXAMPLES.devstack ?? []
    const stack = serving(place, plainStack, /export WEIR_API_PORT=(\d+)/)
    try {
      place.port = await stack.ready
      for (const example of [...of('node token create'), ...of('node token list')])
        expectFine(example, await shell(place, example))
      const listed = JSON.parse((await shell(place, 'weir node token list --output json')).stdout) as [
        { ID: string },
      ]
      const joinUrl =
        /--join (nats:\S+)/.exec((await shell(place, 'weir node token create')).stderr)?.[1] ?? ''
      for (const example of of('serve').filter((line) => line.includes('--join'))) {
        expectFine(example, await served(place, example.replace(/nats:\S+/, joinUrl)))
      }
      for (const [index, example] of of('node token revoke').entries())
        expectFine(example, await shell(place, example.replace('t-1a2b3c4d', listed[index]?.ID ?? '')))
      const nodes = await shell(place, 'weir node list --output json')
      const node = (JSON.parse(nodes.stdout) as { Info: { NodeID: string; NodeType: string } }[]).find(
        ({ Info }) => Info.NodeType === 'Compute',
      )
      for (const words of ['node reject', 'node approve', 'node reject', 'node delete']) {
        for (const example of of(words))
          expectFine(example, await shell(place, example.replace('n-1a2b3c4d', node?.Info.NodeID ?? '')))
      }
    } finally {
      expectFine(plainStack, await stack.stop())
    }
    for (const example of otherStacks) {
      const other = serving(place, example, /export WEIR_API_PORT=(\d+)/)
      try {
        await other.ready
      } finally {
        expectFine(example, await other.stop())
      }
    }
  }, 120_000)
})

function of(words: string): readonly string[] {
  return EXAMPLES[words] ?? []
}

function expectFine(example: string, { code, stderr }: { code: number | null; stderr: string }): void {
  expect(code, `${example}\n${stderr}`).toBe(0)
}

/** Runs a server until it serves, and stops it with Ctrl-C. */
async function served(place: Place, example: string): Promise<{ code: number | null; stderr: string }> {
  const server = serving(place, example, /weir serves as node (\S+)/)
  await server.ready
  return server.stop()
}

/** The files that examples name, and the program on the path. */
function prepare({ dir }: Pick<World, 'dir'>): void {
  mkdirSync(join(dir, 'bin'))
  const program = join(dir, 'bin/weir')
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${entryPoint('cli/main.js')}' "$@"\n`)
  chmodSync(program, 0o755)
  writeFileSync(join(dir, 'program.wasm'), PROGRAMS.hello)
  writeFileSync(join(dir, 'data.csv'), 'a,1\n')
  writeFileSync(join(dir, 'hosts.txt'), 'example.com\n.example.net  # and all below\n')
  for (const name of ['cache', 'keys']) mkdirSync(join(dir, name))
  for (const name of ['test.sh', 'install.sh', 'agent.sh'])
    writeFileSync(join(dir, name), '#!/bin/sh\n', { mode: 0o755 })
  const url = `data:application/wasm;base64,${PROGRAMS.hello.toString('base64')}`
  const job = (name: string, network: object = {}): string =>
    JSON.stringify({
      Name: name,
      Type: 'batch',
      Tasks: [
        {
          Name: 'main',
          Engine: {
            Type: 'wasm',
            Params: { EntryModule: { Source: { Type: 'inline', Params: { URL: url } } } },
          },
          ...network,
        },
      ],
    })
  writeFileSync(join(dir, 'job.yaml'), job('plain'))
  const network = { Type: 'HTTP', Domains: ['example.com'] }
  writeFileSync(join(dir, 'fetch.yaml'), job('fetch', { Network: network }))
  writeFileSync(join(dir, 'template.yaml'), job('hello-{{.name}}'))
}

function filledIn(example: string, image: string, jobId: string, nodeId: string): string {
  return example
    .replaceAll('j-1a2b3c4d', jobId)
    .replaceAll('n-1a2b3c4d', nodeId)
    .replace(/ busybox /, ` ${image} `)
}

/** Where examples are run, and the port of the server that they talk to. */
type Place = Pick<World, 'dir' | 'port'>

interface Answer {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs a line as a reader would who has the server's address in the environment. */
function shell(
  { dir, port }: Place,
  line: string,
  onError?: (seen: string, child: ChildProcess) => void,
): Promise<Answer> {
  const isServer = line.startsWith('exec ')
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-euo', 'pipefail', '-c', line], {
      cwd: dir,
      env: {
        PATH: `${join(dir, 'bin')}:${process.env.PATH}`,
        HOME: dir,
        NO_COLOR: '1',
        WEIR_DIR: join(dir, isServer ? 'another' : 'client'),
        ...(isServer ? SERVER_ENVIRONMENT : { WEIR_API_PORT: port }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
      onError?.(stderr, child)
    })
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
}

/** Free ports: others use this machine too. */
const SERVER_ENVIRONMENT = {
  WEIR_API_PORT: '0',
  WEIR_ENGINES_DISABLED: 'docker',
  WEIR_ORCHESTRATOR_PORT: '0',
  WEIR_PUBLISHERS_TYPES_LOCAL_PORT: '0',
}

/** Starts a server; `ready` is what the pattern finds in what it says. */
function serving(
  place: Place,
  example: string,
  pattern: RegExp,
): { ready: Promise<string>; stop: () => Promise<Answer> } {
  let process: ChildProcess | undefined
  const { promise: found, resolve } = deferred()
  const ended = shell(place, `exec ${example}`, (seen, child) => {
    process = child
    const match = pattern.exec(seen)
    // The line may still be growing.
    if (match !== null && seen.indexOf('\n', match.index) > 0) resolve(match[1] ?? '')
  })
  const tooEarly = ended.then(({ stderr }): never => {
    throw new Error(`${example} ended: ${stderr}`)
  })
  tooEarly.catch(() => undefined) // Once it serves, its end is expected.
  const ready = Promise.race([found, tooEarly])
  return {
    ready,
    stop: () => {
      process?.kill('SIGINT')
      return ended
    },
  }
}

function deferred(): { promise: Promise<string>; resolve: (value: string) => void } {
  let resolve: (value: string) => void = () => undefined
  const promise = new Promise<string>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
