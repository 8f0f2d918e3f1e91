import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startDemoInternet } from '../../src/demo/internet.js'
import { startDemoServer } from '../../src/demo/server.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'
import { missingSandbox, weir } from './with-cli.js'
import { idIn } from './with-internet.js'
import type { CliResult } from './with-cli.js'

const missing = process.getuid?.() === 0 ? (missingSandbox() ?? '') : 'needs root'
const skipped = missing === '' ? '' : ` (skipped: ${missing})`
const FETCH = join(PACKAGE_ROOT, 'examples/http-fetch/http-fetch.wasm')
const URLS = ['http://example.com/', 'http://data.example.com/']
const FETCHED = 'hello from example.com\nhello from data.example.com\n'
const HOSTS = ['--network', 'http', '--domain', 'data.example.com', '--domain', 'example.com']

describe.skipIf(missing !== '')(`HTTP of a WebAssembly program, from the command line${skipped}`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-wasm-http-'))
  const closing: (() => unknown)[] = [() => rmSync(dir, { recursive: true, force: true })]
  let env: Record<string, string> = {}
  const run = (args: readonly string[]): Promise<CliResult> => weir(args, { cwd: dir, env })
  const write = (name: string, text: string): void => writeFileSync(join(dir, name), text)

  /** The node's list does not hold data.example.com; the address is open, so that names are judged by the lists alone. */
  beforeAll(async () => {
    const internet = await startDemoInternet()
    if (typeof internet === 'string') throw new Error(internet)
    closing.push(() => internet.close())
    const names = ['example.com', 'data.example.com', 'www.example.net']
    const server = await startDemoServer(join(dir, 'server'), {
      'JobAdmissionControl.AcceptNetworkedJobs': true,
      'Egress.Allow': ['example.com', 'www.example.net'],
      'Egress.Hosts': Object.fromEntries(names.map((name) => [name, internet.address])),
      'Egress.PrivateExceptions': [`${internet.address}:80`],
    })
    closing.push(() => server.close())
    env = { WEIR_API_PORT: String(server.port), WEIR_DIR: join(dir, 'client') }
  }, 60_000)
  afterAll(async () => {
    for (const one of closing.splice(0).toReversed()) await one()
  })

  it('is told of like a container: what it was refused, as flags and in its receipt', async () => {
    const urls = ['http://example.com/', 'http://www.example.net/']
    const flags = ['--network', 'http', '--domain', 'example.com']
    const ran = await run(['wasm', 'run', ...flags, FETCH, ...urls])
    expect(ran.code, ran.stderr).toBe(1)
    expect(ran.stdout).toContain('hello from example.com\n')
    const id = idIn(ran.stderr)
    const [suggested, egress, described, verified] = await Promise.all([
      run(['job', 'egress', '--suggest', id]),
      run(['job', 'egress', '--output', 'json', id]),
      run(['job', 'describe', '--output', 'json', id]),
      run(['audit', 'verify', id]),
    ])
    expect(suggested.stdout).toBe('--network http --domain example.com --domain www.example.net:80\n')
    expect(JSON.parse(egress.stdout)).toMatchObject([
      { kind: 'wasm', host: 'example.com', decision: 'allow' },
      { kind: 'wasm', host: 'www.example.net', decision: 'deny', code: 'egress.not_in_job_list' },
    ])
    expect(JSON.parse(described.stdout).Executions.Items[0].EgressReceipt).toMatchObject({
      records: 2,
      destinations: [
        { host: 'example.com', port: 80, refused: 0 },
        { host: 'www.example.net', port: 80, refused: 1 },
      ],
    })
    expect(verified.code, verified.stderr).toBe(0)
    const again = await run(['wasm', 'run', ...suggested.stdout.trim().split(' '), FETCH, ...urls])
    expect(again).toMatchObject({ code: 0, stdout: 'hello from example.com\nhello from www.example.net\n' })
  })

  it('that is signed reaches what the key opens as it was signed, and altered does not run', async () => {
    const key = (await run(['key', 'generate', 'release.pem'])).stdout.trim()
    const trust = ['key', 'trust', key, '--name', 'release', '--domain', 'data.example.com']
    expect((await run([...trust, '--data-dir', join(dir, 'server')])).code).toBe(0)
    const wasm = ['wasm', 'run', ...HOSTS]
    const upload = async (file: string) => (await run(['wasm', 'upload', file])).stdout.trim()
    const other = join(PACKAGE_ROOT, 'examples/http-fetch-rust/http-fetch.wasm')
    const [cid, otherCid] = await Promise.all([upload(FETCH), upload(other)])
    write('wasm.yaml', (await run([...wasm, '--dry-run', cid, ...URLS])).stdout)
    const job = (await run(['key', 'sign', 'wasm.yaml', '--key', 'release.pem', '--expires', '1h'])).stdout
    write('wasm-signed.yaml', job)
    write('wasm-command.yaml', job.replace('http://example.com/', 'http://example.com/x'))
    write('wasm-program.yaml', job.replace(cid, otherCid))
    const [signed, atOnce, command, program, unsigned] = await Promise.all([
      run(['job', 'run', 'wasm-signed.yaml']),
      run([...wasm, '--sign-key', 'release.pem', FETCH, ...URLS]),
      run(['job', 'run', 'wasm-command.yaml']),
      run(['job', 'run', 'wasm-program.yaml']),
      run(['job', 'run', 'wasm.yaml']),
    ])
    expect([signed.code, signed.stdout], signed.stderr).toEqual([0, FETCHED])
    expect([atOnce.code, atOnce.stdout], atOnce.stderr).toEqual([0, FETCHED])
    expect([command.code, command.stderr]).toEqual([
      125,
      expect.stringContaining('what differs is the command'),
    ])
    expect([program.code, program.stderr]).toEqual([
      125,
      expect.stringContaining('what differs is the image or module'),
    ])
    expect([unsigned.code, unsigned.stderr]).toEqual([
      126,
      expect.stringContaining('lacks domain data.example.com'),
    ])
    const records = JSON.parse(
      (await run(['job', 'egress', '--output', 'json', idIn(signed.stderr)])).stdout,
    ) as {
      kind: string
      ruleOwner: string
    }[]
    expect(records.map(({ kind, ruleOwner }) => [kind, ruleOwner])).toEqual([
      ['wasm', 'job'],
      ['wasm', 'key release'],
    ])
  }, 60_000)
})
