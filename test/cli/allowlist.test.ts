import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PROGRAMS, startServer, type TestServer, weir } from './with-cli.js'
import type { CliResult } from './with-cli.js'

const dir = mkdtempSync(join(tmpdir(), 'weir-allowlist-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

/** On the machine of a node that does not run. */
function here(...args: string[]): Promise<CliResult> {
  return weir(args, { cwd: dir, env: { WEIR_DIR: join(dir, 'data'), WEIR_API_PORT: '1' } })
}

describe('weir node allowlist without a node', () => {
  it('writes the file that the configuration names, with its owner and permissions, or says what is wrong', async () => {
    const file = join(dir, 'hosts')
    writeFileSync(file, '# ours\nexample.com\n')
    chmodSync(file, 0o640)
    const settings = ['-c', `Egress.AllowFile=${file}`, '-c', 'Egress.Allow=.example.org']
    const added = await here('node', 'allowlist', 'add', 'example.net', 'a.example.org', ...settings)
    expect(added.code).toBe(0)
    expect(added.stderr).toMatch(
      /Added example\.net\n.*allowed already by \.example\.org \(Egress\.Allow\[0\]\)/,
    )
    expect(readFileSync(file, 'utf8')).toBe('# ours\nexample.com\nexample.net\n')
    expect(statSync(file).mode & 0o777).toBe(0o640)
    const bad = await here('node', 'allowlist', 'add', '*com', 'example.com/x', ...settings)
    expect(bad.code).toBe(2)
    expect(bad.stderr).toMatch(/Nothing is changed:\n.*"\*com".*\n.*a path/)
    const fixed = await here('node', 'allowlist', 'remove', '.example.org', ...settings)
    expect([fixed.code, fixed.stderr]).toEqual([2, expect.stringContaining('stands in Egress.Allow[0]')])
    const missing = ['-c', `Egress.AllowFile=${dir}/nowhere`]
    const { code, stderr } = await here('node', 'allowlist', 'list', ...missing)
    expect(code).toBe(2)
    expect(stderr).toContain(`"${dir}/nowhere" (Egress.AllowFile): there is no such file`)
  })

  it('imports all or nothing, and the good entries alone only when it is told to', async () => {
    writeFileSync(
      join(dir, 'golem.json'),
      '{"patterns": [\n {"domain": "example.com", "match": "strict"},\n {"domain": "example.net", "match": "regex"}\n]}',
    )
    const all = await here('node', 'allowlist', 'import', 'golem.json')
    expect(all.code).toBe(2)
    expect(all.stderr).toContain('Cannot import one entry of "golem.json"')
    expect(all.stderr).toMatch(/line 3: "example\.net": .*Write "example\.net"/)
    expect((await here('node', 'allowlist', 'list', '--output', 'json')).stdout).toContain('"Patterns":[]')
    const some = await here('node', 'allowlist', 'import', 'golem.json', '--skip-refused', '--output', 'json')
    expect(JSON.parse(some.stdout)).toMatchObject({
      File: join(dir, 'data/allowed-hosts'),
      Format: 'golem',
      Added: ['example.com'],
      Refused: [{ Line: 3, Text: 'example.net' }],
    })
  })
})

const PRESETS = { lab: ['data.example.com', '.example.net'], mirror: ['mirror.example.org'] }

describe('weir node allowlist beside a node that runs', () => {
  let server: TestServer
  beforeAll(async () => {
    server = await startServer([`Egress.Presets=${JSON.stringify(PRESETS)}`])
  })
  afterAll(async () => void (await server?.stop()))

  const offered = async (): Promise<unknown> => {
    const { stdout } = await server.weir(['agent', 'node', '--output', 'json'])
    return /"(?:Allow|allow)":(\[[^\]]*\])/.exec(stdout)?.[1]
  }

  it('changes what the node lets jobs reach, without a restart, also the last pattern', async () => {
    const { code, stderr } = await server.weir(['node', 'allowlist', 'add', '.example.com'])
    expect([code, stderr]).toEqual([0, expect.stringContaining('allowed-hosts')])
    await expect.poll(offered).toBe('[".example.com"]')
    await server.weir(['node', 'allowlist', 'remove', '--dry-run', '.example.com'])
    expect(await offered()).toBe('[".example.com"]')
    await server.weir(['node', 'allowlist', 'remove', '.example.com'])
    await expect.poll(offered).toBe('[]')
  })

  it('lets users ask for hosts, and operators decide', async () => {
    const asked = await server.weir(['network', 'request', 'data.example.org', '--reason', 'data sets'])
    const id = asked.stdout.trim()
    expect([asked.code, id]).toEqual([0, expect.stringMatching(/^r-[0-9a-f-]{36}$/)])
    const bare = await server.weir(['network', 'request', 'data.example.org'])
    expect([bare.code, bare.stderr]).toEqual([2, expect.stringContaining('--reason')])
    for (const [args, said] of [
      [
        ['a..example', 'localhost', '--reason', 'x'],
        /2 host patterns:\n  "a\.\.example".*\n  "localhost".*special-use/,
      ],
      [['example.org', '--reason', 'x'.repeat(5_000)], /reason of 5000 characters.*\n.*--reason/],
    ] as const) {
      const mistaken = await server.weir(['network', 'request', ...args])
      expect([mistaken.code, mistaken.stderr]).toEqual([2, expect.stringMatching(said)])
    }
    // A network without a list allows everything already, and an approval must not close anything.
    const approved = await server.weir(['network', 'approve', id.slice(0, 10)])
    expect([approved.code, approved.stderr]).toEqual([
      0,
      expect.stringMatching(
        /Approving data\.example\.org\n.*needed no change\n0 of 1 node takes[\s\S]*still refuses/,
      ),
    ])
    const refused = await server.weir(['network', 'allowlist', 'add', 'data.example.org'])
    expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining('--begin')])
    await server.weir(['network', 'allowlist', 'add', '--begin', '.example.net', '--comment', 'ours'])
    const listed = await server.weir(['network', 'allowlist', 'list'])
    expect(listed.stdout).toMatch(/^\.example\.net .*allowed-hosts:1 +ours/m)
    const second = await server.weir(['network', 'request', '@lab', '--reason', 'again'])
    const added = await server.weir(['network', 'approve', second.stdout.trim(), '--output', 'json'])
    expect(JSON.parse(added.stdout)).toMatchObject({
      Request: { Decision: { Added: ['data.example.com'], NetworkVersion: 2 } },
      Refusing: [{ Missing: [] }],
    })
    const third = await server.weir(['network', 'request', 'example.org', '--reason', 'news'])
    const denial = ['network', 'deny', third.stdout.trim(), '--reason', 'no need', '--output', 'json']
    expect(JSON.parse((await server.weir(denial)).stdout)).toMatchObject({
      State: 'denied',
      Decision: { Reason: 'no need' },
    })
    const shown = await server.weir(['network', 'requests', '--output', 'csv'])
    expect(shown.stdout).toMatch(/approved,"\.example\.net, data\.example\.com",everyone,again/)
    await server.weir(['network', 'allowlist', 'remove', '.example.net', 'data.example.com'])
    expect((await server.weir(['network', 'allowlist', 'list', '--output', 'json'])).stdout).toMatch(
      /"Version":3,"Limited":true,.*"Patterns":\[\]/,
    )
  })

  describe('with presets', () => {
    const job = (domains: string[], name: string): string =>
      JSON.stringify({
        Name: name,
        Type: 'batch',
        Tasks: [
          {
            Name: 'main',
            Engine: { Type: 'docker', Params: { Image: 'busybox' } },
            Network: { Type: 'http', Domains: domains },
          },
        ],
      })

    it('shows what a job really asks for, and where it came from', async () => {
      const ran = await server.weir(['job', 'run', '--id-only', '--wait=false', '-'], {
        input: job(['@lab', 'www.example.com', 'data.example.com'], 'by-preset'),
      })
      const id = ran.stdout.trim()
      const described = await server.weir(['job', 'describe', id, '--output', 'json'])
      const { Job } = JSON.parse(described.stdout) as {
        Job: { Tasks: [{ Network: { Domains: string[] } }]; Meta: Record<string, string> }
      }
      expect(Job.Tasks[0].Network.Domains).toEqual(['data.example.com', '.example.net', 'www.example.com'])
      expect(Job.Meta['bacalhau.org/network.presets']).toMatch(/^@lab [\w-]{16}$/)
      expect((await server.weir(['job', 'history', id, '--output', 'json'])).stdout).toMatch(
        /"Presets":"@lab [\w-]{16}"/,
      )
      const listed = await server.weir(['network', 'presets', '--output', 'json'])
      expect(listed.stdout).toContain(Job.Meta['bacalhau.org/network.presets']?.split(' ')[1])
      expect((await server.weir(['network', 'presets', '@lab'])).stdout).toContain('.example.net')
    })

    it('names a near one, and those that there are, when nobody knows the name', async () => {
      for (const args of [
        ['job', 'run', '-'],
        ['network', 'check', '--domain', '@labb'],
        ['network', 'presets', 'labb'],
      ]) {
        const { code, stderr } = await server.weir(args, { input: job(['@labb'], 'unknown') })
        expect([args[1], code !== 0, stderr]).toEqual([
          args[1],
          true,
          expect.stringMatching(/"@labb"[\s\S]*Did you mean @lab\? There are: @lab, @mirror/),
        ])
      }
      const { code, stderr } = await server.weir(['job', 'run', '-'], { input: job(['@No Name'], 'unknown') })
      expect([code !== 0, stderr]).toEqual([true, expect.stringContaining('that is no name')])
    })

    it('is what a check and an explanation are about, and what lists of a node may hold', async () => {
      const { stdout } = await server.weir(['network', 'check', '--domain', '@lab', '--output', 'json'])
      expect(JSON.parse(stdout)).toMatchObject({
        Domains: [{ Pattern: 'data.example.com' }, { Pattern: '.example.net' }],
      })
      const settings = ['-c', `Egress.Presets=${JSON.stringify(PRESETS)}`, '-c', 'Egress.Allow=@lab']
      const allowed = await here(
        'network',
        'explain',
        'https://data.example.com',
        '--domain',
        '@lab',
        ...settings,
      )
      expect([allowed.code, allowed.stdout]).toEqual([0, expect.stringContaining('allowed')])
      const other = ['-c', settings[1] ?? '', '-c', 'Egress.Allow=@mirror']
      expect(
        (await here('network', 'explain', 'https://data.example.com', '--domain', '@lab', ...other)).code,
      ).toBe(1)
      const nested = ['-c', 'Egress.Presets={"a": ["@b"], "b": ["example.com"]}']
      const refused = await here('network', 'explain', 'example.com', '--domain', '@a', ...nested)
      expect([refused.code, refused.stderr]).toEqual([
        2,
        expect.stringContaining('a preset cannot hold another'),
      ])
    })

    it('is known to the gateway for other programs, and to whoever trusts a key', async () => {
      const settings = ['-c', `Egress.Presets=${JSON.stringify(PRESETS)}`]
      const key = 'UDVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCYSJF'
      const trusted = await here('key', 'trust', key, '--domain', '@lab', '--output', 'json', ...settings)
      expect(JSON.parse(trusted.stdout)).toMatchObject({ Key: key, Allow: PRESETS.lab })
      const listed = await here('key', 'list', '--output', 'json', ...settings)
      expect(JSON.parse(listed.stdout)).toEqual([JSON.parse(trusted.stdout)])
      for (const command of [
        ['gateway', '--listen', '127.0.0.1:0', '--domain', '@labb', '--domain', 'a..b', ...settings],
        ['exec', '--domain', '@labb', '--domain', 'a..b', ...settings, '--', 'true'],
      ]) {
        const { stderr } = await here('egress', ...command)
        expect(stderr).toMatch(/@labb.*Did you mean @lab\?[\s\S]*"a\.\.b"/)
      }
    })

    it('is known to a run without a server as well', async () => {
      writeFileSync(join(dir, 'hello.wasm'), PROGRAMS.hello)
      const settings = ['-c', `Egress.Presets=${JSON.stringify(PRESETS)}`]
      const { stderr } = await weir(
        ['wasm', 'run', ...settings, '--network', 'http', '--domain', '@labb', 'hello.wasm'],
        { cwd: dir, env: { WEIR_DIR: join(dir, 'data') } },
      )
      expect(stderr).toContain('Did you mean @lab?')
    })
  })
})

describe('weir config set', () => {
  it('takes several assignments at once, or none of them', async () => {
    const file = join(dir, 'some.yaml')
    const set = (...operands: string[]): Promise<CliResult> => here('config', 'set', '-c', file, ...operands)
    expect((await set('API.Port=2000', 'Logging.Level=debug')).code).toBe(0)
    expect(readFileSync(file, 'utf8')).toMatch(/Port: 2000[\s\S]*Level: debug/)
    const bad = await set('API.Port=x', 'Logging.Level=info', 'Api.Hots=y')
    expect([bad.code, bad.stderr]).toEqual([
      2,
      expect.stringMatching(/Api\.Hots.*API\.Host\b.*\n.*API\.Port/),
    ])
    expect(readFileSync(file, 'utf8')).toContain('Level: debug')
  })

  it('refuses hosts that the node would refuse', async () => {
    const file = join(dir, 'hosts.yaml')
    const { code, stderr } = await here(
      'config',
      'set',
      '-c',
      file,
      'Egress.Allow=*.com,example.com',
      'API.Port=1',
    )
    expect([code, stderr]).toEqual([2, expect.stringMatching(/Egress\.Allow\[0\].*public suffix/)])
    expect(
      (await here('config', 'set', '-c', file, 'Egress.Allow=*.com', 'Egress.AllowPublicSuffixes=true')).code,
    ).toBe(0)
  })
})

describe('a rate or budget that cannot be read', () => {
  it.each([
    ['--egress-rate', 'fast'],
    ['--egress-rate', 'up:'],
    ['--egress-budget', 'example.com='],
  ])('is reported with its flag: %s %s', async (flag, value) => {
    const { stderr } = await here(
      'docker',
      'run',
      '--network',
      'http',
      '--domain',
      'example.com',
      flag,
      value,
      'busybox',
    )
    expect(stderr).toContain(flag)
  })
})
