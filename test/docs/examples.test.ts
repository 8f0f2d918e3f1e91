import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DemoInternet, startDemoInternet } from '../../src/demo/internet.js'
import { type DemoServer, startDemoServer } from '../../src/demo/server.js'
import { entryPoint, PACKAGE_ROOT } from '../../src/package-root.js'
import { docker, importImage, noDocker, noRoot, skipNote } from '../executors/docker/with-docker.js'
import { noSandbox } from '../node/running-node.js'

/**
 * Runs the examples of the documentation. A block ```` ```sh run NEEDS ```` is a shell script; a block
 * ```` ```text output ```` after it holds lines that it must print, in order. A line `# exits N` names its exit code.
 * NEEDS is `docker`, `wasm` or `exec` (namespaces).
 */
interface Example {
  page: string
  line: number
  script: string
  needs: 'docker' | 'wasm' | 'exec'
  exitCode: number
  output: string[]
}

const docPages = readdirSync(join(PACKAGE_ROOT, 'docs'))
  .filter((name) => name.endsWith('.md'))
  .map((name) => `docs/${name}`)
const examples = ['README.md', ...docPages].flatMap(readExamples)

let directory: string
let internet: DemoInternet | string
let server: DemoServer
let registry: ChildProcess | undefined
let removeImage: (() => Promise<unknown>) | undefined

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'weir-docs-'))
  await mkdir(join(directory, 'bin'))
  await mkdir(`${directory}-home`)
  const weir = join(directory, 'bin/weir')
  await writeFile(weir, `#!/bin/sh\nexec ${process.execPath} ${entryPoint('cli/main.js')} "$@"\n`)
  await chmod(weir, 0o755)
  await symlink(join(PACKAGE_ROOT, 'examples'), join(directory, 'examples'))
  const fetch = join(PACKAGE_ROOT, 'test/fixtures/wasm/bin/component-fetch.wasm')
  await symlink(fetch, join(directory, 'fetch.wasm'))
  internet = await startDemoInternet()
  if (typeof internet === 'object') registry = await startRegistry(internet)
  if (noDocker === '') removeImage = await busyboxImage()
  server = await startDemoServer(join(directory, 'server'), {
    'JobAdmissionControl.AcceptNetworkedJobs': true,
    'Egress.Allow': ['.demo.test'],
    'Egress.Learning.Users': ['everyone'],
    ...(typeof internet === 'string'
      ? {}
      : {
          'Egress.Hosts': { 'data.demo.test': internet.address, 'www.demo.test': internet.address },
          'Egress.PrivateExceptions': ['data.demo.test:80'],
        }),
  })
})

afterAll(async () => {
  await server?.close()
  registry?.kill('SIGTERM')
  if (typeof internet === 'object') await internet.close()
  await removeImage?.()
  for (const made of [directory, `${directory}-home`]) await rm(made, { recursive: true, force: true })
})

describe('the examples of the documentation', () => {
  it('are there', () => {
    expect(examples.length).toBeGreaterThan(5)
  })

  it('have no link to a page that is not there', () => {
    const pages = [
      'README.md',
      'ARCHITECTURE.md',
      'RATIONALE.md',
      'CONTRIBUTING.md',
      'CHANGELOG.md',
      ...docPages,
    ]
    const broken = pages.flatMap((page) => {
      const text = readFileSync(join(PACKAGE_ROOT, page), 'utf8')
      const targets = [...text.matchAll(/\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)/g)].map(
        ([, target = '']) => target,
      )
      return targets
        .filter((target) => !existsSync(join(PACKAGE_ROOT, dirname(page), target)))
        .map((target) => `${page}: ${target}`)
    })
    expect(broken).toEqual([])
  })

  for (const example of examples) {
    const reason =
      example.needs === 'exec'
        ? noRoot || noSandbox
        : example.needs === 'wasm'
          ? noSandbox || (example.script.includes('--network') ? noRoot : '')
          : example.script.includes('--network')
            ? noRoot
            : noDocker
    it.skipIf(reason !== '')(
      `${example.page}:${example.line} does what it says${skipNote(reason)}`,
      { timeout: 60_000 },
      async () => {
        const { exitCode, stdout, stderr } = await shell(example.script)
        expect({ exitCode, stderr: exitCode === example.exitCode ? '' : stderr }).toEqual({
          exitCode: example.exitCode,
          stderr: '',
        })
        const printed = stdout.split('\n')
        let from = 0
        for (const line of example.output) {
          const at = printed.indexOf(line, from)
          expect(at, `${JSON.stringify(line)} in ${JSON.stringify(stdout)}`).toBeGreaterThanOrEqual(0)
          from = at + 1
        }
      },
    )
  }
})

function readExamples(page: string): Example[] {
  const text = readFileSync(join(PACKAGE_ROOT, page), 'utf8')
  const blocks = [...text.matchAll(/^```(sh run (?:docker|wasm|exec)|text output)\n([\s\S]*?)^```$/gm)]
  return blocks.flatMap((block, index) => {
    const [, kind = '', script = ''] = block
    if (!kind.startsWith('sh run')) return []
    const next = blocks[index + 1]
    return {
      page,
      line: text.slice(0, block.index).split('\n').length,
      script,
      needs: kind.slice('sh run '.length) as Example['needs'],
      exitCode: Number(/^# exits (\d+)$/m.exec(script)?.[1] ?? 0),
      output: next?.[1] === 'text output' ? (next[2] ?? '').trimEnd().split('\n') : [],
    }
  })
}

/** A package registry among the sites of the demo, and the policy file that says where it is. */
async function startRegistry({ namespace, address }: DemoInternet): Promise<ChildProcess> {
  const names = ['registry.demo.test', 'www.demo.test']
  const policy = [
    `hosts: { ${names.map((name) => `${name}: ${address}`).join(', ')} }`,
    'privateExceptions: ["registry.demo.test:8080", "www.demo.test:80"]',
  ]
  await writeFile(join(directory, 'policy.yaml'), `${policy.join('\n')}\n`)
  const script = join(import.meta.dirname, 'registry.mjs')
  const words = ['netns', 'exec', namespace, process.execPath, script, address, '8080']
  const child = spawn('ip', words, { stdio: ['ignore', 'pipe', 'inherit'] })
  await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
  return child
}

/** Runs a script as a reader would, in a directory of its own. */
function shell(script: string): Promise<{ exitCode: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-euo', 'pipefail', '-c', script], {
      cwd: directory,
      env: {
        PATH: `${join(directory, 'bin')}:${process.env.PATH}`,
        HOME: `${directory}-home`,
        WEIR_DIR: join(directory, 'client'),
        WEIR_API_PORT: String(server.port),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (data: Buffer) => (stdout += data.toString()))
    child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
    child.once('error', reject)
    child.once('close', (exitCode) => resolve({ exitCode, stdout, stderr }))
  })
}

/** The image `busybox` of the examples, made here when this machine has none. */
async function busyboxImage(): Promise<(() => Promise<unknown>) | undefined> {
  const present = await docker
    .getImage('busybox:latest')
    .inspect()
    .then(
      () => true,
      () => false,
    )
  if (present) return undefined
  const applets = ['sh', 'echo', 'cat', 'cp', 'wget', 'sleep', 'true', 'seq']
  await importImage(
    'busybox:latest',
    {
      'bin/busybox': '/bin/busybox',
      'tmp/.keep': '',
      ...Object.fromEntries(applets.map((name) => [`bin/${name}`, '-> busybox'])),
    },
    ['ENV PATH=/bin'],
  )
  return () => docker.getImage('busybox:latest').remove()
}
