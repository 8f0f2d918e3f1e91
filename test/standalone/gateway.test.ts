import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DemoInternet, startDemoInternet } from '../../src/demo/internet.js'
import { entryPoint } from '../../src/package-root.js'
import { verifyAuditFile } from '../../src/stores/index.js'
import { cleanEnvironment, weir } from '../cli/with-cli.js'

const PROGRAM = entryPoint('cli/main.js')
const SECRETS = { ci: 'correct horse battery', nightly: 'staple staple staple' }
const missing = process.getuid?.() === 0 ? '' : 'needs root, for the sites that are reached'
const title = 'weir egress gateway'

describe.skipIf(missing !== '')(missing === '' ? title : `${title} (skipped: ${missing})`, () => {
  let dir: string
  let internet: DemoInternet
  let gateway: RunningGateway
  const hashes: Record<string, string> = {}

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'weir-gateway-test-'))
    for (const [name, secret] of Object.entries(SECRETS))
      hashes[name] = execFileSync(process.execPath, [PROGRAM, 'auth', 'hash-password'], {
        input: secret,
        encoding: 'utf8',
      }).trim()
    const started = await startDemoInternet()
    if (typeof started === 'string') throw new Error(started)
    internet = started
    writePolicy({ ci: ['one.demo.test'], nightly: ['two.demo.test'] })
    gateway = await startGateway(dir)
  })
  afterAll(async () => {
    await gateway?.stop('SIGKILL')
    await internet?.close()
    rmSync(dir, { recursive: true, force: true })
  })

  const writePolicy = (lists: Record<string, string[]>, to = dir): void => {
    const names = ['one.demo.test', 'two.demo.test']
    const policy = {
      hosts: Object.fromEntries(names.map((name) => [name, internet.address])),
      privateExceptions: names.map((name) => `${name}:80`),
      identities: Object.entries(lists).map(([name, allow]) => ({ name, secret: hashes[name], allow })),
      listeners: [{ address: '127.0.0.1:0', identity: 'ci' }, { address: '127.0.0.1:0' }],
    }
    writeFileSync(join(to, 'policy.yaml'), JSON.stringify(policy))
  }

  it('serves each identity by its own list, on a listener of its own and by credential', async () => {
    const [ciOnly = '', asking = ''] = gateway.urls
    expect(await ask(ciOnly, 'one.demo.test')).toMatchObject({
      status: 200,
      body: 'hello from one.demo.test\n',
    })
    expect(gateway.output()).toContain(`curl --proxy ${ciOnly} http://one.demo.test/\n`)
    expect(await ask(ciOnly, 'two.demo.test')).toMatchObject({ status: 403, code: 'egress.not_in_job_list' })
    // A credential means nothing where the listener is the identity.
    expect(await ask(ciOnly, 'two.demo.test', 'nightly')).toMatchObject({ status: 403 })
    expect(await ask(asking, 'one.demo.test', 'ci')).toMatchObject({ status: 200 })
    expect(await ask(asking, 'two.demo.test', 'ci')).toMatchObject({ status: 403 })
    expect(await ask(asking, 'two.demo.test', 'nightly')).toMatchObject({ status: 200 })
  })

  it('gives 407 to everybody else, and never shows or forwards a secret', async () => {
    const [, asking = ''] = gateway.urls
    expect(await ask(asking, 'one.demo.test')).toMatchObject({
      status: 407,
      code: 'egress.credential',
      challenge: 'Basic realm="weir", charset="UTF-8"',
    })
    expect(await ask(asking, 'one.demo.test', 'ci', 'wrong')).toMatchObject({ status: 407 })
    expect(await ask(asking, 'one.demo.test', 'somebody', SECRETS.ci)).toMatchObject({ status: 407 })
    const records = join(dir, 'records')
    const text = readdirSync(records)
      .map((file) => readFileSync(join(records, file), 'utf8'))
      .join('')
    for (const secret of [
      ...Object.values(SECRETS),
      'wrong',
      Buffer.from(`ci:${SECRETS.ci}`).toString('base64'),
    ])
      expect(text + gateway.output()).not.toContain(secret)
    expect(await verifyAuditFile(records, 'nobody')).toMatchObject({ intact: true, records: 3 })
    expect((await verifyAuditFile(records, 'ci')).intact).toBe(true)
  })

  it('puts a changed policy in force at once, and keeps the old one when the file is bad', async () => {
    const [, asking = ''] = gateway.urls
    writePolicy({ ci: ['two.demo.test'] })
    await until(() => gateway.output().includes('is in force'))
    expect(await ask(asking, 'one.demo.test', 'ci')).toMatchObject({ status: 403 })
    expect(await ask(asking, 'two.demo.test', 'ci')).toMatchObject({ status: 200 })
    expect(await ask(asking, 'two.demo.test', 'nightly')).toMatchObject({ status: 407 })
    writeFileSync(
      join(dir, 'policy.yaml'),
      'identities: [{name: Bad Name, secret: plain, allow: [".com"]}]\nlisteners: [{address: here, identity: none}]\n',
    )
    await until(() => gateway.output().includes('the old policy stays in force'))
    const text = gateway.output()
    for (const mistake of [
      '"Bad Name" cannot be a name',
      'identities[0].secret',
      'public suffix',
      'Cannot listen on "here"',
      'there is no identity "none"',
    ])
      expect(text).toContain(mistake)
    expect(await ask(asking, 'two.demo.test', 'ci')).toMatchObject({ status: 200 })
  })

  it('keeps the old policy while the file is cut off, gone or no file, and takes a good one again', async () => {
    const [, asking = ''] = gateway.urls
    const path = join(dir, 'policy.yaml')
    const kept = (): number => gateway.output().split('the old policy stays in force').length
    writePolicy({ ci: ['two.demo.test'] })
    const half = readFileSync(path, 'utf8').slice(0, -40)
    const broken: (() => void)[] = [
      () => writeFileSync(path, half),
      () => rmSync(path),
      () => mkdirSync(path),
    ]
    for (const breakIt of broken) {
      const before = kept()
      breakIt()
      await until(() => kept() > before)
      expect(await ask(asking, 'two.demo.test', 'ci')).toMatchObject({ status: 200 })
      expect(await ask(asking, 'one.demo.test', 'ci')).toMatchObject({ status: 403 })
    }
    rmSync(path, { recursive: true })
    writePolicy({ ci: ['one.demo.test', 'two.demo.test'] })
    await until(async () => (await ask(asking, 'one.demo.test', 'ci')).status === 200)
    expect(await ask(asking, 'two.demo.test', 'ci')).toMatchObject({ status: 200 })
  })

  it('takes away what a changed policy takes away also when the gateway process was down at that moment', async () => {
    const own = join(dir, 'down')
    mkdirSync(own)
    writePolicy({ ci: ['one.demo.test'], nightly: ['one.demo.test'] }, own)
    const other = await startGateway(own)
    try {
      const [, url = ''] = other.urls
      expect(await ask(url, 'one.demo.test', 'ci')).toMatchObject({ status: 200 })
      // Several times, so that the new one is not there again before the file is read.
      for (let kills = 0; kills < 6; kills++) {
        await until(() => other.gatewayPid() !== undefined)
        process.kill(other.gatewayPid() as number, 'SIGKILL')
      }
      writePolicy({ ci: ['two.demo.test'], nightly: ['one.demo.test'] }, own)
      await until(() => other.output().includes('is in force'))
      expect(await ask(url, 'one.demo.test', 'ci')).toMatchObject({ status: 403 })
      expect(await ask(url, 'one.demo.test', 'nightly')).toMatchObject({ status: 200 })
    } finally {
      await other.stop('SIGKILL')
    }
  })

  it('lets what is under way end when it is stopped, and takes nothing new', async () => {
    const [ciOnly = ''] = gateway.urls
    const { port } = new URL(ciOnly)
    const slow = connect(Number(port), '127.0.0.1')
    slow.write(
      'POST http://two.demo.test/ HTTP/1.1\r\nHost: two.demo.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\na',
    )
    let answer = ''
    slow.setEncoding('utf8').on('data', (text: string) => (answer += text))
    await until(() => gateway.connections() > 0)
    const stopped = gateway.stop('SIGTERM')
    await until(() => gateway.output().includes('Stopping'))
    await until(() => isRefused(Number(port)))
    slow.write('b')
    await until(() => answer.includes('hello from two.demo.test'))
    expect(await stopped).toBe(0)
  })

  it.each<[string, string[], string]>([
    ['to listen nowhere', [], 'Cannot start a gateway that listens nowhere'],
    [
      'to listen for everybody in reach',
      ['--listen', '0.0.0.0:0'],
      'Cannot listen on 0.0.0.0:0 without credentials',
    ],
    ['an address that is none', ['--listen', 'here'], 'Cannot listen on "here"'],
  ])('refuses %s', async (_what, flags, message) => {
    const { code, stderr } = await weir(['egress', 'gateway', '--audit-dir', join(dir, 'none'), ...flags])
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)])
  })
})

interface RunningGateway {
  urls: string[]
  output(): string
  /** Connections that the gateway process holds to the sites. */
  connections(): number
  /** The process of its own that the gateway runs in; undefined while it is down. */
  gatewayPid(): number | undefined
  stop(signal: NodeJS.Signals): Promise<number | null>
}

function startGateway(dir: string): Promise<RunningGateway> {
  return new Promise((resolve, reject) => {
    const flags = ['--policy', join(dir, 'policy.yaml'), '--audit-dir', join(dir, 'records')]
    const child: ChildProcess = spawn(process.execPath, [PROGRAM, 'egress', 'gateway', ...flags], {
      env: cleanEnvironment(),
    })
    let output = ''
    const ended = new Promise<number | null>((done) => child.once('exit', (code) => done(code)))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      output += text
      if (!output.includes('Ctrl-C')) return
      const urls = [...output.matchAll(/listens on (\S+)/g)].map(([, url = '']) => url)
      resolve({
        urls,
        output: () => output,
        connections: () =>
          readdirSync(join(dir, 'records'))
            .filter((file) => file.endsWith('.begun'))
            .filter((file) => readFileSync(join(dir, 'records', file), 'utf8').includes('POST')).length,
        gatewayPid: () => {
          const found = spawnSync('pgrep', ['-P', String(child.pid), '-f', 'processes/gateway'])
          return Number(found.stdout.toString().trim()) || undefined
        },
        stop: (signal) => {
          child.kill(signal)
          return ended
        },
      })
    })
    void ended.then(() => reject(new Error(output)))
  })
}

interface Answer {
  status: number | undefined
  code: string | undefined
  challenge: string | undefined
  body: string
}

function ask(proxyUrl: string, host: string, name?: string, secret?: string): Promise<Answer> {
  const password = secret ?? SECRETS[name as keyof typeof SECRETS]
  const credential =
    name === undefined
      ? {}
      : { 'Proxy-Authorization': `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}` }
  return new Promise((resolve, reject) => {
    const options = { path: `http://${host}/`, headers: { host, ...credential }, agent: false }
    const asked = request(proxyUrl, options, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => (body += text))
      response.on('end', () => {
        const { 'weir-egress-code': code, 'proxy-authenticate': challenge } = response.headers
        resolve({ status: response.statusCode, code: code as string | undefined, challenge, body })
      })
    })
    asked.on('error', reject).end()
  })
}

function isRefused(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', () => resolve(true))
    socket.once('connect', () => {
      socket.destroy()
      resolve(false)
    })
  })
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let waited = 0; waited < 10_000; waited += 20) {
    if (await holds()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('it did not happen in time')
}
