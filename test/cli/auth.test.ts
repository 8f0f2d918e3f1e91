import { spawn, type ChildProcess } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EXAMPLES } from '../../src/cli/examples.js'
import { runCli } from '../../src/cli/run-cli.js'
import { entryPoint } from '../../src/package-root.js'
import { weir, type CliResult } from './with-cli.js'

const PROGRAM = entryPoint('cli/main.js')

/** A server that asks who is calling and speaks TLS, as its operator would start it. */
describe('weir auth against a server that asks', () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-cli-auth-'))
  const data = join(dir, 'server')
  let server: ChildProcess
  let said = ''
  let url = ''
  let pin = ''
  const rootFile = join(data, 'root-token')
  const root = () => readFileSync(rootFile, 'utf8').trim()

  const as = (
    who: string,
    args: readonly string[],
    input = '',
    env: Record<string, string> = {},
  ): Promise<CliResult> =>
    weir(args, { input, cwd: dir, env: { WEIR_DIR: join(dir, who), WEIR_API_HOST: url, ...env } })
  const login = (who: string, file: string): Promise<CliResult> =>
    as(who, ['auth', 'login', '--token-file', file, '--fingerprint', pin])

  beforeAll(async () => {
    const settings = ['API.Port=0', 'Publishers.Types.Local.Port=0', 'Engines.Disabled=docker,wasm']
    server = spawn(
      process.execPath,
      [
        PROGRAM,
        'serve',
        '--auth',
        '--self-signed',
        '--data-dir',
        data,
        ...settings.flatMap((one) => ['-c', one]),
      ],
      { env: { PATH: process.env.PATH, NO_COLOR: '1' } },
    )
    await new Promise<void>((resolve, reject) => {
      const read = (text: Buffer): void => {
        said += text.toString('utf8')
        if (said.includes('Stop:')) resolve()
      }
      server.stderr?.on('data', read)
      server.stdout?.on('data', read)
      server.on('close', () => reject(new Error(`the server ended: ${said}`)))
    })
    url = /https:\/\/[\d.]+:\d+/.exec(said)?.[0] ?? ''
    pin = /SHA256:\S+/.exec(said)?.[0] ?? ''
  })
  afterAll(async () => {
    const ended = new Promise((resolve) => server.on('close', resolve))
    server.kill('SIGINT')
    await ended
    expect(said, 'no token is ever shown by the server').not.toMatch(/weir_[a-z2-9]{12}_/)
    rmSync(dir, { recursive: true })
  })

  it('says at its start how to log in, and that works as it is written', async () => {
    const line = /Log in: +(weir auth login .*)/.exec(said)?.[1] ?? ''
    const [, ...args] = line.split(' ')
    const { code, stderr } = await as('operator', args)
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringContaining('knows you as token "root" (admin)') as string,
    })
    expect((await as('operator', ['job', 'list'])).code).toBe(0)
  })

  it('tells who is not logged in exactly what to do', async () => {
    const pinned = await as('stranger', ['auth', 'login', '--token-file', 'absent', '--fingerprint', pin])
    expect(pinned.stderr).toContain('Cannot read the token from "absent"')
    await login('stranger', rootFile)
    await as('stranger', ['auth', 'logout'])
    writeFileSync(
      join(dir, 'job.json'),
      JSON.stringify({
        Type: 'batch',
        Tasks: [{ Name: 'main', Engine: { Type: 'docker', Params: { Image: 'alpine' } } }],
      }),
    )
    const { code, stderr } = await as('stranger', ['job', 'run', 'job.json'])
    expect(code).not.toBe(0)
    expect(stderr).toContain(`${url} wants to know who you are (the request carries no credential)`)
    expect(stderr).toContain(`weir auth login ${url}`)
  })

  it('asks nobody to vouch for the server whose data directory it shares', async () => {
    const { hostname, port } = new URL(url)
    const env = { WEIR_DIR: data, WEIR_API_HOST: `https://${hostname}`, WEIR_API_PORT: port }
    const { code, stderr } = await weir(['auth', 'login', '--token-file', rootFile], { cwd: dir, env })
    expect(code, stderr).toBe(0)
    expect((await weir(['job', 'list'], { cwd: dir, env })).code).toBe(0)
    const stranger = await weir(['auth', 'login', '--token-file', rootFile], {
      cwd: dir,
      env: { ...env, WEIR_DIR: join(dir, 'elsewhere') },
    })
    expect(stranger.stderr).toContain('nobody known here vouches for its key')
  })

  it('tells who makes or ends tokens what is wrong', async () => {
    const role = await as('operator', ['auth', 'token', 'create', '--role', 'king'])
    expect([role.code, role.stderr]).toEqual([
      2,
      expect.stringContaining('admin, submitter, reader') as string,
    ])
    const unknown = await as('operator', ['auth', 'token', 'revoke', 't-nobody'])
    expect([unknown.code, unknown.stderr]).toEqual([
      3,
      expect.stringContaining('weir auth token list') as string,
    ])
  })

  it('asks nobody without a terminal, and keeps nothing that is not good', async () => {
    const asked = await as('nobody', ['auth', 'login', '--fingerprint', pin])
    expect(asked.stderr).toContain('there is no terminal')
    expect(asked.stderr).toContain('--token-file -')
    const wrong = `weir_aaaaaaaaaaaa_${'A'.repeat(43)}`
    const refused = await as('nobody', ['auth', 'login', '--fingerprint', pin, '--token-file', '-'], wrong)
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toContain('the token is not known here')
    const unpinned = await as('nobody', ['auth', 'login', '--token-file', rootFile])
    expect(unpinned.stderr).toContain(`--fingerprint ${pin}`)
    const posed = await as('nobody', [
      'auth',
      'login',
      '--token-file',
      rootFile,
      '--fingerprint',
      `SHA256:${'A'.repeat(43)}`,
    ])
    expect(posed.stderr).toContain('is not the expected one')
    expect(existsSync(join(dir, 'nobody', 'credentials.json'))).toBe(false)
  })

  it('makes tokens that print once, work from files, pipes and variables, and end when they are revoked', async () => {
    await login('admin', rootFile)
    const made = await as('admin', [
      'auth',
      'token',
      'create',
      '--name',
      'alice',
      '--namespace',
      'a,b',
      '--expires-in',
      '30d',
    ])
    const token = made.stdout.trim()
    expect(token).toMatch(/^weir_[a-z2-9]{12}_[\w-]{43}$/)
    expect(made.stderr).not.toContain(token)
    const id = `t-${token.slice(5, 17)}`
    await as('alice', ['auth', 'login', '--token-file', '-', '--fingerprint', pin], `${token}\n`)
    const who = JSON.parse((await as('alice', ['auth', 'whoami', '--output', 'json'])).stdout) as object
    expect(who).toMatchObject({ Name: 'alice', Role: 'submitter', Namespaces: ['a', 'b'] })
    await as('bob', ['auth', 'login', '--token-file', rootFile, '--fingerprint', pin])
    for (const variable of ['WEIR_API_KEY', 'BACALHAU_API_KEY']) {
      const shown = await as('bob', ['auth', 'whoami'], '', { [variable]: token })
      expect(shown.stdout).toContain('alice')
      expect(shown.stdout).toContain('from a variable')
    }
    const denied = await as('alice', ['auth', 'token', 'list'])
    expect(denied.stderr).toContain('"alice" needs the permission manage:access')
    const list = await as('admin', ['auth', 'token', 'list', '--output', 'json'])
    expect(list.stdout).toContain(id)
    expect(list.stdout).not.toContain(token)
    expect((await as('admin', ['auth', 'token', 'revoke', id])).code).toBe(0)
    expect((await as('alice', ['job', 'list'])).stderr).toContain('the token was revoked')
    expect((await as('admin', ['auth', 'token', 'list'])).stdout).not.toContain(id)
    expect((await as('admin', ['auth', 'token', 'list', '--all'])).stdout).toContain('revoked')
  })

  it('shows a token nowhere else: not with --debug, not in the configuration, not in errors', async () => {
    await login('careful', rootFile)
    const outputs = await Promise.all([
      as('careful', ['--debug', 'auth', 'whoami']),
      as('careful', ['--debug', 'job', 'describe', 'j-absent']),
      as('careful', ['--debug', 'job', 'logs', 'j-absent']),
      as('careful', ['--debug', 'agent', 'config']),
      as('careful', ['config', 'list', '--output', 'json']),
      as('careful', ['--debug', 'auth', 'audit']),
      as('careful', ['--debug', '--api-host', 'https://127.0.0.1:1', 'job', 'list'], '', {
        WEIR_API_KEY: root(),
      }),
      as('careful', ['--debug', 'job', 'list'], '', { WEIR_API_KEY: `${root()} x` }),
    ])
    for (const { stdout, stderr } of outputs) expect(stdout + stderr).not.toContain(root().slice(18))
  })

  it('uses no file of credentials that others may read', async () => {
    await login('open', rootFile)
    chmodSync(join(dir, 'open', 'credentials.json'), 0o644)
    const { code, stderr } = await as('open', ['job', 'list'])
    expect(code).not.toBe(0)
    expect(stderr).toContain('others on this machine may read or change it')
    expect(stderr).toContain('chmod 600')
  })

  it('shows and checks who changed what', async () => {
    await login('auditor', rootFile)
    const shown = await as('auditor', ['auth', 'audit', '--verify'])
    expect(shown.code).toBe(0)
    expect(shown.stdout).toContain('server.start')
    expect(shown.stderr).toContain('The chain is intact')
  })

  it('trusts a key on first use only when a person compares, and hides what is typed', async () => {
    const asked: { question: string; hidden: boolean }[] = []
    const lines: string[] = []
    const answer = (yes: boolean) =>
      runCli(['auth', 'login', url], {
        terminal: quietTerminal(lines),
        environment: { WEIR_DIR: join(dir, 'person') },
        cwd: dir,
        inputIsTerminal: true,
        readStandardInput: () => Promise.resolve(''),
        ask: (question, { hidden }) => {
          asked.push({ question, hidden })
          return Promise.resolve(hidden ? root() : yes ? 'y' : '')
        },
      })
    expect(await answer(false)).not.toBe(0)
    expect(asked).toEqual([{ question: 'Are they the same? [y/N] ', hidden: false }])
    expect(lines.join('\n')).toContain(pin)
    expect(await answer(true)).toBe(0)
    expect(asked.at(-1)?.hidden).toBe(true)
    expect((await as('person', ['auth', 'whoami'])).stdout).toContain('token "root" (admin)')
    expect(lines.join('\n')).not.toContain(root().slice(18))
  })

  const examples = Object.entries(EXAMPLES).flatMap(([words, lines]) =>
    words.startsWith('auth ') ? lines : [],
  )
  let made: CliResult
  beforeAll(async () => {
    await login('reader', rootFile)
    made = await as('reader', ['auth', 'token', 'create', '--namespace', '*'])
    writeFileSync(join(dir, 'token'), made.stdout)
    writeFileSync(join(dir, 'password'), 'correct horse battery\n')
  })
  it.each(examples)('%s', async (example) => {
    // Each is logged in, whatever those before have done.
    const own = mkdtempSync(join(dir, 'example-'))
    cpSync(join(dir, 'reader'), own, { recursive: true })
    const line = example
      .replace('~/.weir/root-token', rootFile)
      .replace('https://weir.example.com:1234', url)
      .replace(/SHA256:\S+/, pin)
      .replace('t-abcdefghjkmn', `t-${made.stdout.slice(5, 17)}`)
    const child = spawn('sh', ['-c', line.replace(/^weir /, `'${process.execPath}' '${PROGRAM}' `)], {
      cwd: dir,
      env: { PATH: process.env.PATH, NO_COLOR: '1', WEIR_DIR: own, WEIR_API_HOST: url },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let seen = ''
    child.stderr.on('data', (text: Buffer) => {
      seen += text.toString('utf8')
    })
    const code = await new Promise((resolve) => child.on('close', resolve))
    expect(code, seen).toBe(0)
  })
})

it('weir serve beyond this machine says what is missing before it opens anything', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-cli-door-'))
  const { code, stderr } = await weir(['serve', '--data-dir', join(dir, 'data'), '-c', 'API.Host=0.0.0.0'])
  expect(code).not.toBe(0)
  expect(stderr).toContain('Cannot listen on 0.0.0.0 without TLS')
  expect(stderr).toContain('--self-signed')
  expect(existsSync(join(dir, 'data'))).toBe(false)
  rmSync(dir, { recursive: true })
})

function quietTerminal(lines: string[]): never {
  const plain = (text: string): string => text
  const style = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain }
  return {
    data: (chunk: string) => {
      lines.push(chunk)
      return Promise.resolve()
    },
    programError: () => Promise.resolve(),
    talk: (line: string) => {
      lines.push(line)
    },
    progress: () => {},
    outputClosed: new AbortController().signal,
    outIsTerminal: false,
    errorIsTerminal: false,
    columns: 80,
    dataStyle: style,
    talkStyle: style,
    withoutColour: () => {},
  } as never
}
