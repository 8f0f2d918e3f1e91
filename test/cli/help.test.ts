import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EXAMPLES } from '../../src/cli/examples.js'
import { buildProgram, leavesOf } from '../../src/cli/program.js'
import { entryPoint } from '../../src/package-root.js'
import { PROGRAMS, weir } from './with-cli.js'
import { missingWorld, startWorld } from './with-internet.js'
import type { CliContext } from '../../src/cli/context.js'
import type { World } from './with-internet.js'

const missing = missingWorld()
const skipped = missing === '' ? '' : ` (skipped: ${missing})`

const commands = leavesOf(buildProgram({} as CliContext, () => undefined)).filter(
  ({ words }) => words !== 'help',
)

describe('help', () => {
  it('shows examples for every command', () => {
    expect(Object.keys(EXAMPLES).toSorted()).toEqual(['', ...commands.map(({ words }) => words)].toSorted())
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

  // Of one node nothing can be approved or removed.
  const apart = ['serve', 'node approve', 'node reject', 'node delete', 'job stop']
  const examples = Object.entries(EXAMPLES).flatMap(([words, lines]) => (apart.includes(words) ? [] : lines))

  it.concurrent.each(examples)('%s', async (example) => {
    const line = filledIn(example, world.image, jobId, nodeId)
    // A job that is left running would take the place of those that follow.
    const whole = example.includes('--detach') ? `id=$(${line}); weir job stop "$id"` : line
    const { code, stderr } = await shell(world, whole)
    expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' })
    expect(stderr).not.toContain('Error:')
  })

  it('weir job stop j-1a2b3c4d', async () => {
    const started = await world.weir(['docker', 'run', '--detach', world.image, 'sleep', '60'])
    const [example = ''] = EXAMPLES['job stop'] ?? []
    const { code } = await shell(world, filledIn(example, world.image, started.stdout.trim(), nodeId))
    expect(code).toBe(0)
  })

  it.each(EXAMPLES.serve ?? [])('%s', async (example) => {
    let isSent = false
    const { code, stderr } = await shell(world, `exec ${example}`, (seen, child) => {
      if (isSent || !seen.includes('weir serves as node')) return
      isSent = true
      child.kill('SIGINT')
    })
    expect(code, stderr).toBe(0)
  })
})

/** The files that examples name, and the program on the path. */
function prepare({ dir }: World): void {
  mkdirSync(join(dir, 'bin'))
  const program = join(dir, 'bin/weir')
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${entryPoint('cli/main.js')}' "$@"\n`)
  chmodSync(program, 0o755)
  writeFileSync(join(dir, 'program.wasm'), PROGRAMS.hello)
  writeFileSync(join(dir, 'data.csv'), 'a,1\n')
  const url = `data:application/wasm;base64,${PROGRAMS.hello.toString('base64')}`
  const job = (name: string): string =>
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
        },
      ],
    })
  writeFileSync(join(dir, 'job.yaml'), job('plain'))
  writeFileSync(join(dir, 'template.yaml'), job('hello-{{.name}}'))
}

function filledIn(example: string, image: string, jobId: string, nodeId: string): string {
  return example
    .replaceAll('j-1a2b3c4d', jobId)
    .replaceAll('n-1a2b3c4d', nodeId)
    .replace(/ busybox /, ` ${image} `)
}

/** Runs a line as a reader would who has the server's address in the environment. */
function shell(
  { dir, port }: World,
  line: string,
  onError?: (seen: string, child: ChildProcess) => void,
): Promise<{ code: number | null; stderr: string }> {
  const isServer = line.startsWith('exec ')
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-euo', 'pipefail', '-c', line], {
      cwd: dir,
      env: {
        PATH: `${join(dir, 'bin')}:${process.env.PATH}`,
        HOME: dir,
        NO_COLOR: '1',
        WEIR_DIR: join(dir, isServer ? 'another' : 'client'),
        WEIR_API_PORT: isServer ? '0' : port,
        ...(isServer ? { WEIR_ENGINES_DISABLED: 'docker', WEIR_PUBLISHERS_TYPES_LOCAL_PORT: '0' } : {}),
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
      onError?.(stderr, child)
    })
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stderr }))
  })
}
