import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PACKAGE_ROOT } from '../../src/package-root.js'
import { startNetwork, type Network } from './contract/network.js'

/**
 * Bacalhau's own clients, installed from their registries. Tests install and run no code of strangers unless told to:
 * set WEIR_TEST_REAL_CLIENTS=1 on a machine with Python or Go and a way to their packages.
 */
const MAY_INSTALL = process.env.WEIR_TEST_REAL_CLIENTS === '1'
/** The index answers within this time or counts as out of reach. */
const REACH_MS = 15_000
const INSTALL_MS = 600_000
const SDK = 'bacalhau-sdk==1.2.1'
const CLI = { module: 'github.com/bacalhau-project/bacalhau', version: 'v1.5.2' }

const directory = mkdtempSync(join(tmpdir(), 'weir-real-clients-'))
let network: Network
beforeAll(async () => {
  network = await startNetwork({ allStates: false })
})
afterAll(async () => {
  await network.close()
  rmSync(directory, { recursive: true, force: true })
})

const python = MAY_INSTALL ? installPython() : { missing: 'WEIR_TEST_REAL_CLIENTS=1 is not set' }
const go = MAY_INSTALL ? installGo() : { missing: 'WEIR_TEST_REAL_CLIENTS=1 is not set' }

describe(`the real Python SDK${skipNote(python)}`, () => {
  it.skipIf('missing' in python)('runs a job and reads everything about it', async () => {
    if ('missing' in python) return
    const { code, stdout, stderr } = await run(
      python.program,
      [join(PACKAGE_ROOT, 'test/api/contract/sdk-session.py')],
      {
        BACALHAU_API_HOST: '127.0.0.1',
        BACALHAU_API_PORT: String(network.port),
        BACALHAU_DIR: join(directory, 'sdk'),
      },
    )
    expect(code, stderr).toBe(0)
    expect(JSON.parse(stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({
      id: expect.stringMatching(/^j-/),
      state: 'Completed',
      stdout: 'hello\n',
      executions: 1,
      results: 0,
      listed: expect.any(Number),
    })
  })
})

describe(`the real Go command line client${skipNote(go)}`, () => {
  const cli = async (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> => {
    if ('missing' in go) throw new Error(go.missing)
    return run(go.program, ['--api-host', '127.0.0.1', '--api-port', String(network.port), ...args], {
      BACALHAU_DIR: join(directory, 'cli'),
      BACALHAU_DISABLEANALYTICS: 'true',
      BACALHAU_UPDATECONFIG_INTERVAL: '0',
    })
  }

  it.skipIf('missing' in go)(
    'runs a job, follows, describes, lists and stops',
    async () => {
      const first = await cli('docker', 'run', '--id-only', 'busybox', '--', 'sh', '-c', 'echo hello')
      expect(first.code, first.stderr).toBe(0)
      const id = /j-[0-9a-f-]{36}/.exec(first.stdout)?.[0] ?? ''
      expect(id).not.toBe('')
      for (const [args, text] of [
        [['job', 'logs', '-f', id], 'hello'],
        [['job', 'describe', id], 'Completed'],
        [['job', 'history', id], 'Job submitted'],
        [['job', 'executions', id], 'Completed'],
        [['job', 'list'], 'docker'],
        [['node', 'list'], 'Compute'],
        [['agent', 'alive'], 'OK'],
        [['agent', 'node', '--output', 'json'], 'NodeID'],
        [['version'], 'v1.5.2'],
      ] as const) {
        const { code, stdout, stderr } = await cli(...args)
        expect(code, `${args.join(' ')}\n${stderr}`).toBe(0)
        expect(stdout, args.join(' ')).toContain(text)
      }
      const endless = await cli('docker', 'run', '--wait=false', '--id-only', 'busybox', '--', 'sleep', '600')
      const stopped = await cli('job', 'stop', /j-[0-9a-f-]{36}/.exec(endless.stdout)?.[0] ?? '')
      expect(stopped.code, stopped.stderr).toBe(0)
    },
    120_000,
  )
})

type Client = { program: string } | { missing: string }

function skipNote(client: Client): string {
  return 'missing' in client ? ` (skipped: ${client.missing})` : ''
}

/** A virtual environment with the SDK, or why there is none. */
function installPython(): Client {
  const environment = join(directory, 'venv')
  const made = spawnSync('python3', ['-m', 'venv', environment], { timeout: 60_000 })
  if (made.status !== 0) return { missing: 'Python cannot make a virtual environment' }
  const flags = ['--quiet', '--disable-pip-version-check', '--no-input', '--retries', '0', '--timeout', '5']
  const reached = spawnSync(
    join(environment, 'bin/pip'),
    ['download', ...flags, '--no-deps', '-d', directory, SDK],
    {
      timeout: REACH_MS,
    },
  )
  if (reached.status !== 0) return { missing: `pip does not reach ${SDK}` }
  const installed = spawnSync(join(environment, 'bin/pip'), ['install', ...flags, SDK], {
    timeout: INSTALL_MS,
  })
  if (installed.status !== 0) return { missing: `pip cannot install ${SDK}` }
  return { program: join(environment, 'bin/python') }
}

/** The CLI, built from its module, or why it cannot be. */
function installGo(): Client {
  if (spawnSync('go', ['version']).status !== 0) return { missing: 'Go is not installed' }
  const wanted = `${CLI.module}@${CLI.version}`
  const found = spawnSync('go', ['mod', 'download', '-json', wanted], {
    timeout: INSTALL_MS,
    encoding: 'utf8',
  })
  if (found.status !== 0) return { missing: `Go cannot download ${wanted}` }
  const { Dir: source } = JSON.parse(found.stdout) as { Dir: string }
  const program = join(directory, 'bacalhau')
  const flags = ['-trimpath', `-ldflags=-X ${CLI.module}/pkg/version.GITVERSION=${CLI.version}`]
  const built = spawnSync('go', ['build', '-C', source, ...flags, '-o', program, '.'], {
    timeout: INSTALL_MS,
  })
  return built.status === 0 ? { program } : { missing: `Go cannot build ${wanted}` }
}

function run(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { PATH: process.env.PATH, HOME: directory, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
    })
    const output = { stdout: '', stderr: '' }
    child.stdout.on('data', (data) => (output.stdout += String(data)))
    child.stderr.on('data', (data) => (output.stderr += String(data)))
    child.once('error', reject)
    child.once('close', (code) => resolve({ code: code ?? -1, ...output }))
  })
}
