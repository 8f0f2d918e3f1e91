import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { weir } from './with-cli.js'
import type { Server } from 'node:http'
import type { CliResult } from './with-cli.js'

const dir = mkdtempSync(join(tmpdir(), 'weir-environment-'))
const data = join(dir, 'data')
const run = (args: readonly string[], env: Record<string, string> = {}): Promise<CliResult> =>
  weir(args, { cwd: dir, env: { WEIR_DIR: data, ...env } })
const portOf = async (args: readonly string[], env: Record<string, string> = {}): Promise<string> =>
  (await run(['config', 'get', 'API.Port', ...args], env)).stdout.trim()

let server: Server
let port = ''
beforeAll(async () => {
  server = createServer((_request, response) => {
    response.setHeader('content-type', 'application/json').end('{"Status":"OK"}')
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  port = String((server.address() as { port: number }).port)
})
afterAll(() => {
  server.close()
  rmSync(dir, { recursive: true, force: true })
})

describe('where values come from', () => {
  it('is default < file < environment < flag < -c', async () => {
    const file = join(dir, 'own.yaml')
    writeFileSync(file, 'API: {Port: 2}\n')
    expect(await portOf([])).toBe('1234')
    expect(await portOf(['-c', file])).toBe('2')
    expect(await portOf(['-c', file], { WEIR_API_PORT: '3' })).toBe('3')
    expect(await portOf(['-c', file, '--api-port', '4'], { WEIR_API_PORT: '3' })).toBe('4')
    expect(await portOf(['-c', file, '-c', 'API.Port=5'], { WEIR_API_PORT: '3' })).toBe('5')
  })

  it('is the later of several files, and flags behind the command before those in front of it', async () => {
    for (const number of [6, 7]) writeFileSync(join(dir, `${number}.yaml`), `API: {Port: ${number}}\n`)
    expect(await portOf(['-c', '6.yaml', '-c', '7.yaml'])).toBe('7')
    expect((await run(['--api-port', '8', 'config', 'get', 'API.Port', '--api-port', '9'])).stdout).toBe(
      '9\n',
    )
  })

  it('hides a secret, and shows that there is none', async () => {
    const tokenOf = async (env: Record<string, string>): Promise<string> =>
      (await run(['config', 'get', 'Compute.Auth.Token'], env)).stdout
    const { stdout } = await run(['config', 'list', '--output', 'csv', '--hide-header'])
    expect(stdout).toContain('Compute.Auth.Token,,default')
    const secret = { WEIR_COMPUTE_AUTH_TOKEN: 'sixteen-characters' }
    const set = await run(['config', 'list', '--output', 'csv', '--hide-header'], secret)
    expect(set.stdout).toContain('Compute.Auth.Token,<redacted>,environment')
    expect([await tokenOf({}), await tokenOf(secret)].join('')).not.toContain('sixteen')
  })

  it('is the file in the data directory when no file is named', async () => {
    await run(['config', 'set', 'API.Port=10'])
    expect(await portOf([])).toBe('10')
    expect(await portOf(['--data-dir', join(dir, 'other')])).toBe('1234')
    await run(['config', 'unset', 'api.port'])
    expect(await portOf([])).toBe('1234')
  })
})

describe('variables of Bacalhau', () => {
  const theirs = (): Record<string, string> => ({
    BACALHAU_API_HOST: '127.0.0.1',
    BACALHAU_API_PORT: port,
  })

  it('say where the server is', async () => {
    expect((await run(['agent', 'alive'], theirs())).stdout).toBe('Status: OK\n')
    expect(await portOf([], theirs())).toBe(port)
  })

  it('give way to those of weir', async () => {
    expect((await run(['agent', 'alive'], { ...theirs(), WEIR_API_PORT: '1' })).code).toBe(5)
  })

  it('never move where a node listens', async () => {
    const env = { BACALHAU_API_HOST: '198.51.100.1', BACALHAU_API_PORT: 'not a port' }
    const settings = ['API.Port=0', 'Publishers.Types.Local.Port=0', 'Engines.Disabled=docker,wasm']
    let isSent = false
    const { code, stderr } = await weir(['serve', ...settings.flatMap((one) => ['-c', one])], {
      env: { WEIR_DIR: join(dir, 'node'), ...env },
      onOutput: (seen, child) => {
        // A second one would mean: leave at once.
        if (isSent || !seen.stderr.includes('weir serves as node')) return
        isSent = true
        child.kill('SIGINT')
      },
    })
    expect([code, stderr]).toEqual([0, expect.stringMatching(/on http:\/\/127\.0\.0\.1:\d+ /)])
  })

  it('of other kinds are left alone', async () => {
    expect((await run(['agent', 'alive'], { ...theirs(), BACALHAU_DIR: '/nowhere' })).code).toBe(0)
  })
})

describe('an address of every interface', () => {
  it.each(['0.0.0.0', '::', '[::]'])('%s is this machine for a client', async (host) => {
    expect((await run(['agent', 'alive', '--api-host', host, '--api-port', port])).code).toBe(0)
  })
})

describe('flags of older tools', () => {
  it('still work, and say what to write now', async () => {
    const repo = join(dir, 'repo')
    const made = await run(['config', 'set', '--repo', repo, 'API.Port=11'])
    expect([made.code, made.stderr.split('\n')[0]]).toEqual([0, 'Warning: --repo is --data-dir now'])
    expect(readFileSync(join(repo, 'config.yaml'), 'utf8')).toContain('Port: 11')
    const level = await run(['config', 'get', 'Logging.Level', '--log-level', 'debug'])
    expect([level.stdout, level.stderr]).toEqual([
      'debug\n',
      'Warning: --log-level is -c Logging.Level=VALUE now\n',
    ])
  })

  it('of serve become configuration, or say why they have no effect', async () => {
    const { code, stderr } = await run([
      'serve',
      '--node-type',
      'requester',
      '--port',
      '99999',
      '--limit-job-cpu',
      '2',
      '--disable-engine',
      'docker',
    ])
    expect(code).toBe(2)
    expect(stderr).toContain('--node-type is --orchestrator and --compute now')
    expect(stderr).toContain('--port is -c API.Port=VALUE now')
    expect(stderr).toContain('--limit-job-cpu has no effect: ')
    expect(stderr).toContain('API.Port: the largest value is 65535')
  })

  it('stand in no help', async () => {
    const { stdout } = await run(['serve', '--help'])
    for (const flag of ['--node-type', '--repo', '--limit-job-cpu', '--cacert'])
      expect(stdout).not.toContain(flag)
  })

  it('behind an image belong to the program', async () => {
    const { stdout, stderr } = await run([
      'docker',
      'run',
      '--dry-run',
      '--output',
      'json',
      'busybox',
      '--repo',
      'x',
      '--no-color',
    ])
    expect(stderr).toBe('')
    expect(stdout).toContain('["--repo","x","--no-color"]')
  })
})

describe('commands of older tools', () => {
  it.each([
    ['list', [], 'weir job list'],
    ['describe', ['j-1'], 'weir job describe j-1'],
    ['get', ['j-1', 'it’s here'], 'weir job get j-1'],
    ['id', [], 'weir agent node'],
    ['create', ['--help'], 'weir job run --help'],
    ['run', [], 'weir docker run · weir wasm run · weir job run'],
  ])('%s names its replacement, does nothing and ends with 2', async (old, operands, now) => {
    const { code, stdout, stderr } = await run([old, ...operands])
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(now)
  })
})

describe('config', () => {
  it('writes a complete file that changes nothing, and never over another file', async () => {
    expect((await run(['config', 'default', '--path', 'all.yaml'])).code).toBe(0)
    const [plain, complete] = await Promise.all([
      run(['config', 'list', '--output', 'yaml']),
      run(['config', 'list', '--output', 'yaml', '-c', 'all.yaml']),
    ])
    expect(complete).toEqual(plain)
    expect((await run(['config', 'default'])).stdout).toBe(readFileSync(join(dir, 'all.yaml'), 'utf8'))
    const again = await run(['config', 'default', '--path', 'all.yaml'])
    expect(again.code).toBe(2)
    expect(again.stderr).toContain('there is such a file already')
  })

  it('measures the machine, shows before and after, and keeps everything else', async () => {
    const file = join(dir, 'node.yaml')
    writeFileSync(
      file,
      '# my node\nLabels: {a: b} # mine\nCompute:\n  AllocatedCapacity:\n    CPU: 10% # little\n',
    )
    const dry = await run(['config', 'auto-resources', '-c', file, '--dry-run', '--output', 'json'])
    expect(readFileSync(file, 'utf8')).toContain('CPU: 10% # little')
    const rows = JSON.parse(dry.stdout) as { Key: string; Before: string; After: string }[]
    expect(rows[0]).toMatchObject({ Key: 'Compute.AllocatedCapacity.CPU', Before: '10%' })
    expect((await run(['config', 'auto-resources', '-c', file, '--total-percentage', '50'])).code).toBe(0)
    const text = readFileSync(file, 'utf8')
    expect(text).toContain('# my node\nLabels: {')
    expect(text).toMatch(/# mine\n/)
    expect(text).toMatch(/CPU: "?[\d.]+m?"? # little/)
    const memory = (await run(['config', 'get', 'Compute.AllocatedCapacity.Memory', '-c', file])).stdout
    expect(memory).toMatch(/^\d+mib\n$/)
  })

  it.each([['0'], ['101'], ['x'], ['-5']])('refuses a share of %s percent', async (share) => {
    const { code, stderr } = await run(['config', 'auto-resources', `--total-percentage=${share}`])
    expect(code).toBe(2)
    expect(stderr).toContain('whole number from 1 to 100')
  })
})
