import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { importBusyboxImage } from '../../src/demo/busybox-image.js'
import { startDemoInternet } from '../../src/demo/internet.js'
import { startDemoServer } from '../../src/demo/server.js'
import { weir } from './with-cli.js'
import { missingWorld } from './with-internet.js'
import type { CliOptions, CliResult } from './with-cli.js'

const missing = missingWorld()
const skipped = missing === '' ? '' : ` (skipped: ${missing})`
const TAG = 'weir-signed-test/busybox:local'
const HOSTS = ['--network', 'http', '--domain', 'data.example.com', '--domain', 'example.com']
const FETCH = 'wget -q -O- http://data.example.com/ && wget -q -O- http://example.com/'
const FETCHED = 'hello from data.example.com\nhello from example.com\n'

describe.skipIf(missing !== '')(`signed jobs, with a real server and real containers${skipped}`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-signed-'))
  const closing: (() => unknown)[] = [() => rmSync(dir, { recursive: true, force: true })]
  const node = ['--data-dir', join(dir, 'server')]
  /** Of the image: what was imported has no other digest. */
  let image: string
  let key: string
  /** A job of `FETCH`, signed. */
  let signedJob: string
  let env: Record<string, string> = {}
  const run = (args: readonly string[], options: CliOptions = {}): Promise<CliResult> =>
    weir(args, { cwd: dir, env, ...options })
  const runJob = (flags: readonly string[], script = FETCH, options?: CliOptions): Promise<CliResult> =>
    run(['docker', 'run', ...HOSTS, ...flags, image, 'sh', '-c', script], options)
  const SIGN = ['--sign-key', 'release.pem']
  const write = (name: string, text: string): void => writeFileSync(join(dir, name), text)

  /** The node's list holds example.com; the address is open, so that names are judged by the lists alone. */
  beforeAll(async () => {
    const internet = await startDemoInternet()
    if (typeof internet === 'string') throw new Error(internet)
    closing.push(() => internet.close())
    const imported = await importBusyboxImage(TAG)
    if (typeof imported === 'string') throw new Error(imported)
    closing.push(() => imported.remove())
    image = spawnSync('docker', ['image', 'inspect', '--format', '{{.Id}}', TAG]).stdout.toString().trim()
    const names = ['example.com', 'data.example.com']
    const server = await startDemoServer(join(dir, 'server'), {
      'JobAdmissionControl.AcceptNetworkedJobs': true,
      'Egress.Allow': ['example.com'],
      'Egress.Hosts': Object.fromEntries(names.map((name) => [name, internet.address])),
      'Egress.PrivateExceptions': [`${internet.address}:80`],
    })
    closing.push(() => server.close())
    env = { WEIR_API_PORT: String(server.port), WEIR_DIR: join(dir, 'client') }
    const [made, plain] = await Promise.all([run(['key', 'generate', 'release.pem']), runJob(['--dry-run'])])
    key = made.stdout.trim()
    write('plain.yaml', plain.stdout)
    signedJob = (await run(['key', 'sign', 'plain.yaml', '--key', 'release.pem', '--expires', '1h'])).stdout
    write('signed.yaml', signedJob)
  }, 120_000)
  afterAll(async () => {
    for (const one of closing.splice(0).toReversed()) await one()
  })

  /** Waits until what the node tells of itself is so. */
  async function told(isSo: (json: string) => boolean): Promise<void> {
    const end = Date.now() + 20_000
    while (!isSo(await (await fetch(`http://127.0.0.1:${env.WEIR_API_PORT}/api/v1/agent/node`)).text()))
      if (Date.now() > end) throw new Error('the node does not tell it')
  }

  it('keep the private key to its owner and print only the public one', async () => {
    expect(statSync(join(dir, 'release.pem')).mode & 0o777).toBe(0o600)
    expect(key).toMatch(/^U[A-Z2-7]{55}$/)
    const pem = readFileSync(join(dir, 'release.pem'), 'utf8')
    writeFileSync(join(dir, 'open.pem'), pem, { mode: 0o644 })
    const [shown, again, open] = await Promise.all([
      run(['key', 'show', 'release.pem']),
      run(['key', 'generate', 'release.pem']),
      run(['key', 'show', 'open.pem']),
    ])
    expect(shown.stdout.trim()).toBe(key)
    expect([again.code, again.stderr]).toEqual([4, expect.stringContaining('already')])
    expect(readFileSync(join(dir, 'release.pem'), 'utf8')).toBe(pem)
    expect(open.stderr).toContain('others than its owner may read it')
    expect(open.stderr).not.toContain(pem.split('\n')[1])
  })

  it('are refused where nobody trusts the key, and reach what it is trusted with from then on', async () => {
    const [unsigned, early] = await Promise.all([runJob([]), runJob(SIGN)])
    expect([unsigned.code, unsigned.stderr]).toEqual([
      126,
      expect.stringContaining('lacks domain data.example.com'),
    ])
    expect([early.code, early.stderr]).toEqual([
      126,
      expect.stringContaining('does not trust a key that signed the job'),
    ])
    const trusted = await run([
      'key',
      'trust',
      key,
      '--name',
      'release',
      '--domain',
      'data.example.com',
      ...node,
    ])
    expect(trusted.code, trusted.stderr).toBe(0)
    await told((json) => json.includes('"release"'))
    // Without its signature the same job still has the node's list and no more.
    const [signed, plain] = await Promise.all([run(['job', 'run', 'signed.yaml']), runJob([])])
    expect([signed.code, signed.stdout]).toEqual([0, FETCHED])
    expect(plain.code).toBe(126)
    const id = /Job (j-[0-9a-f-]{36}) submitted/.exec(signed.stderr)?.[1] ?? ''
    const [egress, described] = await Promise.all([
      run(['job', 'egress', '--output', 'json', id]),
      run(['job', 'describe', id]),
    ])
    const records = JSON.parse(egress.stdout) as { ruleOwner: string }[]
    expect(records.map(({ ruleOwner }) => ruleOwner)).toEqual(['key release', 'job'])
    expect(described.stdout).toContain(`Signed by = ${key} (good until `)
  }, 60_000)

  it('are explained and checked before they run', async () => {
    const domain = ['--domain', 'data.example.com']
    const [verified, checked, bySigner, unsigned, agent] = await Promise.all([
      run(['key', 'verify', 'signed.yaml', '--output', 'csv', '--hide-header', ...node]),
      run(['network', 'check', 'signed.yaml']),
      run(['network', 'check', ...domain, '--signed-by', key]),
      run(['network', 'check', ...domain]),
      run(['agent', 'node', '--output', 'json']),
    ])
    expect([verified.code, verified.stdout]).toEqual([0, expect.stringMatching(`^${key},release,ok,`)])
    expect(checked.stdout).toContain('nothing: the job is signed with key release')
    expect([bySigner.code, unsigned.code]).toEqual([0, 1])
    const { NodeID } = JSON.parse(agent.stdout) as { NodeID: string }
    const explain = ['network', 'explain', 'data.example.com', ...domain, '--node', NodeID]
    const [without, by] = await Promise.all([run(explain), run([...explain, '--signed-by', key])])
    expect(without.stdout).toContain('or the job is signed with key release')
    expect(by.stdout).toContain('allowed  by data.example.com of key release')
  }, 60_000)

  it('are refused when somebody changed them, when they have expired, and when they name a tag', async () => {
    const changes: [change: (text: string) => string, words: string][] = [
      [
        (text) => text.replaceAll('http://example.com/', 'http://example.com/x'),
        'what differs is the command',
      ],
      [(text) => text.replace('- example.com', '- other.test'), 'what differs is the network policy'],
      [(text) => text.replaceAll(/Image: .*/g, `Image: ${TAG}`), 'is named by a tag'],
      [(text) => text.replace(/Expires: "?20/, (found) => found.replace('20', '21')), 'was altered'],
    ]
    const past = ['--not-before', '2020-01-01T00:00:00Z', '--expires', '1h']
    const old = await run(['key', 'sign', 'plain.yaml', '--key', 'release.pem', ...past])
    const files: [text: string, words: string][] = [
      ...changes.map(([change, words]): [string, string] => [change(signedJob), words]),
      [old.stdout, 'expired at 2020-01-01T01:00:00Z'],
    ]
    await Promise.all(
      files.map(async ([text, words], index) => {
        write(`changed-${index}.yaml`, text)
        const { code, stderr } = await run(['job', 'run', `changed-${index}.yaml`])
        expect([code, stderr]).toEqual([125, expect.stringContaining(words)])
      }),
    )
    const [verified, tag] = await Promise.all([
      run(['key', 'verify', 'changed-0.yaml']),
      run(['docker', 'run', ...HOSTS, ...SIGN, TAG, 'true']),
    ])
    expect([verified.code, verified.stdout]).toEqual([1, expect.stringContaining('BAD')])
    expect([tag.code, tag.stderr]).toEqual([125, expect.stringContaining('is named by a tag')])
  }, 60_000)

  it('lose what a key opened as soon as it is not trusted any more', async () => {
    const again = 'while wget -q -O- http://data.example.com/ > /dev/null; do sleep 0.1; done'
    const script = `wget -q -O- http://data.example.com/; ${again}; wget -q -O- http://example.com/`
    let untrusted: Promise<CliResult> | undefined
    const { code, stdout } = await runJob(['--follow', ...SIGN], script, {
      onOutput: (seen) => {
        if (seen.stdout !== '') untrusted ??= run(['key', 'untrust', 'release', ...node])
      },
    })
    expect((await untrusted)?.code).toBe(0)
    expect([code, stdout]).toEqual([0, FETCHED])
    await told((json) => !json.includes('"release"'))
    expect((await run(['network', 'check', 'signed.yaml'])).stdout).toContain('does not trust a key')
  }, 60_000)
})
