import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { namespacesMissing } from '../../../src/conformance/index.js'
import { built, sandboxProblem } from './harness.js'
import { HttpWorld, NODE } from './http-world.js'
import { SlotBench } from './in-slot.js'
import { PACKAGE_ROOT } from '../../../src/package-root.js'

const program = built('c-http') ?? ''
const missing = namespacesMissing() || (await sandboxProblem()) || (program === '' ? 'needs clang-14' : '')

describe.skipIf(missing !== '')(`HTTP of a WebAssembly program${missing && ` (${missing})`}`, () => {
  let world: HttpWorld

  beforeAll(async () => {
    world = await HttpWorld.create()
  })
  afterAll(() => world?.close())
  beforeEach(() => {
    world.seen.length = 0
  })

  it('reaches a listed host over http and https, and sees refusals as answers', async () => {
    const { stdout, executionId } = await world.run(program, [
      'get',
      'http://www.example.com/a?b=1',
      'get',
      'https://www.example.com/tls',
      'get',
      'https://other.example.net/',
    ])
    const lines = stdout().split('\n')
    expect(lines.slice(0, 4)).toEqual([
      'status 200 ',
      'GET http://www.example.com/a?b=1 0 none',
      'status 200 ',
      'GET https://www.example.com/tls 0 none',
    ])
    expect(lines[4]).toBe('status 403 egress.not_in_job_list')
    expect(stdout()).toContain('To allow it, run the job or program with: --domain other.example.net')
    const records = await world.audit.read(executionId, 0, 10)
    expect(
      records.map(({ kind, method, host, port, sni, decision, code }) => [
        kind,
        method,
        host,
        port,
        sni,
        decision,
        code,
      ]),
    ).toEqual([
      ['wasm', 'GET', 'www.example.com', 80, '', 'allow', ''],
      ['wasm', 'GET', 'www.example.com', 443, 'www.example.com', 'allow', ''],
      ['wasm', 'GET', 'other.example.net', 443, '', 'deny', 'egress.not_in_job_list'],
    ])
  })

  it('J-13 cannot reach the network itself, also where every list names it', async () => {
    await world.gateway.setNodePolicy({ ...NODE, self: ['api.example.com'] })
    try {
      const { stdout } = await world.run(program, [
        'get',
        'http://api.example.com/api/v1/orchestrator/jobs',
        'get',
        'https://api.example.com/',
      ])
      expect(stdout().match(/^status .*$/gm)).toEqual(['status 403 egress.self', 'status 403 egress.self'])
      expect(world.seen).toEqual([])
    } finally {
      await world.gateway.setNodePolicy(NODE)
    }
  })

  it('streams bodies both ways, of known and unknown length, and reads two responses in turns', async () => {
    const { lines } = await world.run(program, [
      'post',
      'https://www.example.com/p',
      '700000',
      'stream',
      'http://www.example.com/s',
      '700000',
      'count',
      'https://www.example.com/big/3000000',
      'pair',
      'http://www.example.com/big/400000',
      'https://api.example.com/big/400001',
      'head',
      'http://www.example.com/h',
    ])
    expect(lines.slice(0, 6)).toEqual([
      'sent 700000 result 0',
      'status 200 result 0',
      'POST https://www.example.com/p 700000 700000',
      'sent 700000 result 0',
      'status 200 result 0',
      'POST http://www.example.com/s 700000 chunked',
    ])
    expect(lines[6]).toMatch(/^count 200 3000000 result 0 /)
    expect(lines.slice(7)).toEqual(['pair 400000 400001 in turns', 'status 200 '])
  })

  it('answers wrong calls with results, O-18, and they do no harm to the next', async () => {
    const { lines, exit } = await world.run(program, [
      'misuse',
      'http://www.example.com/big/5',
      'get',
      'http://www.example.com/x',
    ])
    expect(exit.exitCode).toBe(0)
    expect(lines).toEqual([
      ...Array.from({ length: 5 }, () => 'header 4'),
      'method 4 4',
      'url 4 4',
      'length 4',
      'large 5',
      'handle 3',
      'pointer 9',
      'open 0',
      'early 7',
      'long 7',
      'closed 3',
      'opened 64 then 6',
      'again 0',
      'small 10 200 1',
      'time 11',
      'status 200 ',
      'GET http://www.example.com/x 0 none',
    ])
  })

  it('dials nobody whom the lists, the address guard or the certificate stand against, and follows no redirect, O-18', async () => {
    const targets = [
      'http://evil.test/',
      'http://127.0.0.1/',
      'https://[::1]/',
      'http://169.254.169.254/latest/meta-data/',
      'http://localhost/',
      'http://93.184.217.2/',
      'https://www.example.com:8443/',
      'http://www.example.com:443/',
      'https://www.example.com%2eevil.test/',
    ]
    const wide = { policy: { allow: ['.example.com', 'other.example.net', 'www.example.com:8443'] } }
    const { stdout, executionId } = await world.run(
      program,
      [
        ...targets,
        'https://other.example.net/',
        'http://www.example.com/moved',
        'http://www.example.com/cut',
      ].flatMap((url) => ['get', url]),
      wide,
    )
    const found = stdout()
      .split('\n')
      .filter((line) => /^(?:status|open|half)/.test(line))
    expect(found).toEqual([
      'status 403 egress.not_in_job_list',
      'status 403 egress.private_address',
      'status 403 egress.private_address',
      'status 403 egress.private_address',
      'status 403 egress.private_address',
      'status 403 egress.ip_literal',
      'status 502 egress.upstream_failed',
      'status 403 egress.port',
      'status 400 request.host',
      'status 502 egress.upstream_failed',
      'status 302 ',
      'status 200 ',
      'halfread 8',
    ])
    expect(stdout()).toContain('certificate cannot be trusted: it is signed by itself')
    expect(stdout()).toContain('certificate cannot be trusted: it is for another host')
    expect(world.seen).toEqual(['GET http://www.example.com/moved', 'GET http://www.example.com/cut'])
    const records = await world.audit.read(executionId, 0, 100)
    expect(records.map(({ kind }) => kind)).toEqual(Array.from({ length: 12 }, () => 'wasm'))
    expect(records.filter(({ dialled }) => dialled !== '')).toHaveLength(4)
  })

  it('is denied where the job has no network, and by each of its modules', async () => {
    const { lines, exit } = await world.bench.run(program, { args: ['get', 'http://www.example.com/'] })
    expect(lines).toEqual(['open 1'])
    expect(exit.exitCode).toBe(0)
    expect(world.seen).toEqual([])
  })

  it('tells a program whose permission is withdrawn, and ends what is under way', async () => {
    const { slot, lease, executionId } = await world.enter()
    const started = await world.bench.start(program, {
      args: ['get', 'http://www.example.com/hang', 'get', 'http://www.example.com/'],
      network: slot,
    })
    await until(() => world.seen.length === 1)
    await world.gateway.setNodePolicy({ ...NODE, allow: ['.example.net'] })
    await started.running.exit
    await world.gateway.setNodePolicy(NODE)
    expect(started.stdout()).toContain('status 403 egress.revoked')
    expect(started.stdout()).toContain('status 403 egress.not_in_node_list')
    await lease.close()
    await slot.release()
    expect(await world.audit.read(executionId, 0, 10)).toMatchObject([
      { kind: 'wasm', code: 'egress.revoked', end: 'revoked' },
      { kind: 'wasm', code: 'egress.not_in_node_list' },
    ])
  })

  it('leaves nobody at the host when its sandbox is ended', async () => {
    const { slot, lease, executionId } = await world.enter()
    const started = await world.bench.start(program, {
      args: ['get', 'http://www.example.com/hang'],
      network: slot,
    })
    await until(() => world.seen.length === 1)
    await started.running.stop(0)
    await until(async () => (await world.audit.read(executionId, 0, 10)).length === 1)
    expect((await lease.close()).records).toBe(1)
    expect(await world.audit.read(executionId, 0, 10)).toMatchObject([{ end: 'client', decision: 'allow' }])
    await slot.release()
  })

  it('gives whoever has taken over the sandbox no more than the channel: garbage ends it, and is recorded', async () => {
    const { lease, slot, executionId } = await world.enter()
    const bench = new SlotBench()
    const file = join(bench.dir, 'hostile.cjs')
    mkdirSync(bench.dir, { recursive: true })
    writeFileSync(file, HOSTILE)
    const sandbox = await bench.open({ file })
    await sandbox.ready
    if (slot.attachment === undefined) throw new Error('no attachment')
    await world.gateway.carry(slot.attachment, sandbox.takeConnection())
    let out = ''
    for (const one of [sandbox.stdout, sandbox.stderr])
      one.on('data', (bytes: Buffer) => (out += bytes.toString()))
    await sandbox.run({ kind: 'load', module: '', code: '' }, { memoryBytes: 1 << 28, cpu: 0, pids: 64 })
    await sandbox.end
    await sandbox.dispose()
    await bench.close()
    await lease.close()
    await slot.release()
    expect(out).toContain('403 Forbidden')
    expect(out).toContain('end of the channel')
    const records = await world.audit.read(executionId, 0, 10)
    expect(records.map(({ method, code, dialled }) => [method, code, dialled])).toEqual([
      ['CONNECT', 'egress.not_in_job_list', ''],
      ['CHANNEL', 'request.malformed', ''],
    ])
    expect(world.seen).toEqual([])
  })

  it('tells a program that the gateway is gone, and lets nothing out until the execution is tried again', async () => {
    const { slot, lease } = await world.enter()
    const started = await world.bench.start(program, {
      args: ['get', 'http://www.example.com/hang', 'get', 'http://www.example.com/after'],
      network: slot,
    })
    await until(() => world.seen.length === 1)
    process.kill(world.gateway.pid ?? 0, 'SIGKILL')
    const exit = await started.running.exit
    expect(exit.exitCode).toBe(0)
    expect(started.stdout().split('\n')).toEqual(['head 2', 'open 2', ''])
    expect((await lease.lost)?.message).toContain('its connection to the gateway ended with the gateway')
    expect(world.seen).toHaveLength(1)
    await slot.release()
    await until(async () => (await world.gateway.status()).running)
    expect((await world.run(program, ['get', 'http://www.example.com/again'])).lines[0]).toBe('status 200 ')
  })

  it.each(['c-http', 'http-fetch', 'http-fetch-rust'])('runs %s', async (name) => {
    const file = name === 'c-http' ? program : join(PACKAGE_ROOT, 'examples', name, 'http-fetch.wasm')
    const args =
      name === 'c-http'
        ? ['get', 'https://www.example.com/e']
        : ['https://www.example.com/e', 'http://evil.test/']
    const env: Record<string, string> = name === 'http-fetch-rust' ? { BODY: 'twelve bytes' } : {}
    const { stdout, stderr, exit } = await world.run(file, args, { env })
    expect(stdout()).toContain(
      name === 'http-fetch-rust'
        ? 'POST https://www.example.com/e 12 chunked'
        : 'GET https://www.example.com/e 0 none',
    )
    if (name === 'c-http') return
    expect(exit.exitCode).toBe(1)
    expect(stderr()).toContain('https://www.example.com/e: 200')
    expect(stderr()).toContain('http://evil.test/: 403')
    expect(stdout()).toContain('Code: egress.not_in_job_list')
  })
})

/** A program in place of the runner: speaks to the gateway as it likes, and then says what came of it. */
const HOSTILE = `
const fs = require('fs')
fs.writeSync(3, JSON.stringify({ status: 'ready' }) + '\\n')
fs.readSync(4, Buffer.alloc(65536), 0, 65536, null)
const head = (stream, kind, n) => { const b = Buffer.alloc(8); b.writeUInt32BE(stream); b.writeUInt32BE(((kind << 24) | n) >>> 0, 4); return b }
const text = Buffer.from('CONNECT evil.test:443 HTTP/1.1\\r\\nHost: evil.test:443\\r\\n\\r\\n')
fs.writeSync(8, Buffer.concat([head(1, 1, 0), head(1, 2, text.length), text]))
const b = Buffer.alloc(65536)
let seen = ''
while (!seen.includes('Code:')) seen += b.toString('latin1', 0, fs.readSync(8, b, 0, b.length, null))
fs.writeSync(1, seen)
fs.writeSync(8, Buffer.alloc(4096, 'G'))
try { while (fs.readSync(8, b, 0, b.length, null) > 0); } catch {}
fs.writeSync(1, 'end of the channel')
process.exit(0)
`

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const giveUp = performance.now() + 10_000
  while (!(await holds())) {
    if (performance.now() > giveUp) throw new Error('it did not come true within 10 s')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
