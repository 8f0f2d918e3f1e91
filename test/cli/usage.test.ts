import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { PROGRAMS, weir } from './with-cli.js'
import type { CliResult } from './with-cli.js'

const dir = mkdtempSync(join(tmpdir(), 'weir-usage-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))
writeFileSync(join(dir, 'hello.wasm'), PROGRAMS.hello)

/** A server that nobody runs, so that nothing is embedded. */
const NOWHERE = { WEIR_DIR: join(dir, 'data'), WEIR_API_PORT: '1' }

function run(
  args: readonly string[],
  options: { env?: Record<string, string>; input?: string } = {},
): Promise<CliResult> {
  return weir(args, { cwd: dir, input: options.input, env: { ...NOWHERE, ...options.env } })
}

describe('weir audit verify', () => {
  it.each(['evidence.json', 'lists/evidence'])(
    'says of %s, which is not there, that it is no file, and asks no server about it',
    async (name) => {
      const { code, stderr } = await run(['audit', 'verify', name])
      expect(code).toBe(2)
      expect(stderr).toContain(`Cannot read "${name}": there is no such file`)
    },
  )
})

describe('weir audit verify of a directory', () => {
  it('names the receipt that a downloaded result has', async () => {
    const { code, stderr } = await run(['audit', 'verify', '.'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/Cannot read "\.": it is a directory\n.*egress-receipt\.json/)
  })
})

describe('weir audit verify of a file', () => {
  const receipt = join(import.meta.dirname, 'egress-receipt.json')
  writeFileSync(
    join(dir, 'one-receipt.json'),
    `${JSON.stringify(JSON.parse(readFileSync(receipt, 'utf8')))}\n`,
  )

  it('answers in the spelling of the API', async () => {
    const { stdout } = await run(['audit', 'verify', 'one-receipt.json', '--output', 'json'])
    expect(JSON.parse(stdout)).toEqual([
      {
        ExecutionID: 'e-e26327ad-9b4b-4d23-b7ec-f208b667df81',
        NodeID: 'n-b6507219-be80-481c-a033-65ff459e3f2a',
        Intact: true,
        Records: 0,
        Statement: expect.stringContaining('no network'),
        Problems: [],
        Unproven: [expect.any(String)],
      },
    ])
  })

  it('ends with 7 without the key of the node, because anybody could have signed, and says how to give it', async () => {
    const { code, stdout, stderr } = await run(['audit', 'verify', 'one-receipt.json'])
    expect([code, stdout]).toEqual([7, expect.stringContaining('unproven')])
    expect(stderr).toContain('weir audit verify --key KEY one-receipt.json')
    const key = 'UCSHV2KI3ULOTWMXFPFW6RPDMYF6VEA2KKF36B5NCHUGQEJ3TLAY25VZ'
    const proven = await run(['audit', 'verify', '--key', key, 'one-receipt.json'])
    expect([proven.code, proven.stdout]).toEqual([0, expect.stringContaining(' ok ')])
    expect(proven.stderr).toBe('')
  })
})

describe('an outbound URL without a scheme', () => {
  it('is answered with one that can be used: without the path', async () => {
    const { stderr } = await run(['egress', 'exec', '--outbound-url', 'example.com/x', '--', 'true'])
    expect(stderr).toContain('Write "https://example.com", or --domain example.com')
  })
})

describe('flags of egress that cannot be read', () => {
  it('are named at once, each with its value and with what to write', async () => {
    const limits = ['--budget', 'up:x,down:y', '--requests', 'q', '--outbound-url', '@lab']
    const { code, stderr } = await run(['egress', 'exec', ...limits, '--', 'true'])
    expect(code).toBe(125)
    for (const said of [
      '--budget: invalid budget value: "x" (Write a number with a unit',
      '--budget: invalid budget value: "y" (Write a number with a unit',
      '"q": it is not a whole number (Write digits',
      'Presets are for --domain: write --domain @lab',
    ])
      expect(stderr).toContain(said)
  })
})

describe('weir network explain without a server', () => {
  it('judges by the lists of this machine, names each objection and what would change it, and exits with 1', async () => {
    const lists = ['-c', 'Egress.Allow=a.test', '-c', 'Orchestrator.Egress.Deny=.b.a.test']
    const asked = ['network', 'explain', 'http://B.a.test:8080', '--domain', '.a.test', '--output', 'json']
    const { code, stdout } = await run([...asked, ...lists])
    expect(code).toBe(1)
    const { Host, JudgedBy, Verdicts } = JSON.parse(stdout) as {
      Host: string
      JudgedBy: string[]
      Verdicts: { Objections: { Code: string; Owner: string }[] }[]
    }
    expect([Host, JudgedBy]).toEqual(['b.a.test', ['job', 'gateway', 'node', 'network']])
    expect(Verdicts[0]?.Objections.map(({ Code, Owner }) => `${Code} ${Owner}`)).toEqual([
      'egress.denied_by_operator network',
      'egress.not_in_node_list node',
      'egress.port job',
    ])
  })

  it('exits with 0 for what is allowed, and says which lists it had', async () => {
    const { code, stdout } = await run([
      'network',
      'explain',
      'https://ipfs.io',
      '--outbound-url',
      'https://ipfs.io',
    ])
    expect(code).toBe(0)
    expect(stdout).toContain('judged here by: job, gateway')
    expect(stdout).toContain("allowed  by the job's https://ipfs.io")
  })
})

describe('usage', () => {
  it.each<[string, string[], string, string]>([
    [
      'an unknown flag',
      ['docker', 'run', '--netwrok', 'http', 'alpine'],
      "unknown option '--netwrok'",
      'Did you mean --network?',
    ],
    ['an unknown command', ['jbo', 'list'], "unknown command 'jbo'", 'Did you mean job?'],
    ['a command of the past', ['describe', 'x'], 'Cannot run "weir describe"', 'weir job describe x'],
    ['a missing image', ['docker', 'run'], "missing required argument 'IMAGE'", 'weir docker run --help'],
    [
      'a check of nothing',
      ['network', 'check'],
      'Cannot check nothing',
      'weir network check --domain example.com',
    ],
    [
      'a check of a file and of hosts',
      ['network', 'check', 'job.yaml', '--domain', 'a.test'],
      'at once',
      'stand in its file',
    ],
    [
      'an explanation of a pattern',
      ['network', 'explain', '*.a.test'],
      'it is a pattern, not one host',
      'www.a.test',
    ],
    [
      'an outbound URL with a path',
      ['docker', 'run', '--network', 'http', '--outbound-url', 'https://ipfs.io/x', 'busybox'],
      'it has a path',
      'https://ipfs.io',
    ],
    ['too many operands', ['job', 'describe', 'a', 'b'], 'too many arguments', '--help'],
    ['a flag without value', ['wasm', 'run', 'hello.wasm', '--', 'x', '-c'], 'Cannot reach', 'weir serve'],
    ['a file that is not there', ['wasm', 'run', 'nope.wasm'], 'there is no such file', ''],
    ['a directory for a job file', ['job', 'run', '.'], 'it is a directory', ''],
    [
      'an unknown format',
      ['job', 'list', '--output', 'jsn'],
      'Cannot use --output "jsn"',
      'Did you mean json?',
    ],
    [
      'a count that is no number',
      ['docker', 'run', '--count', 'two', 'alpine'],
      'Cannot use --count "two"',
      'whole number',
    ],
    [
      'an environment variable without value',
      ['docker', 'run', '-e', 'A', 'alpine'],
      'Cannot read the environment variable "A"',
      'NAME=VALUE',
    ],
    ['a bad target', ['docker', 'run', '--target', 'most', 'alpine'], 'Cannot use --target "most"', 'any'],
    [
      'old and new name of a flag at once',
      ['docker', 'run', '--count', '1', '--concurrency', '1', 'alpine'],
      'they mean the same',
      '--count',
    ],
    [
      'a flag and -c for one key',
      ['job', 'list', '--api-port', '5', '-c', 'api.port=6'],
      'Cannot use --api-port and -c',
      '',
    ],
    ['an unknown key', ['job', 'list', '-c', 'API.Prot=1'], 'API.Prot', ''],
    [
      '--follow without waiting',
      ['docker', 'run', '--follow', '--detach', 'alpine'],
      'Cannot use --follow',
      '',
    ],
    ['an image with ..', ['docker', 'run', 'evil/../x'], 'IMAGE: invalid image reference', ''],
    [
      'network http without domains',
      ['docker', 'run', '--network', 'http', 'alpine'],
      '--network: at least one domain',
      '--domain',
    ],
    [
      'a domain outside the grammar',
      ['docker', 'run', '--network', 'http', '--domain', '*com', 'alpine'],
      '--domain: Cannot use host pattern',
      '',
    ],
    [
      'a domain with terminal escapes',
      ['docker', 'run', '--network', 'http', '--domain', 'a\u001b[2J.com', 'alpine'],
      '\\u001b',
      '',
    ],
    [
      'a path that is not absolute',
      ['docker', 'run', '-w', 'x', 'alpine'],
      '--workdir: path must be absolute',
      '',
    ],
    [
      'quantities that are none',
      ['docker', 'run', '--cpu', 'x', '--memory', 'y', 'alpine'],
      'has 2 mistakes',
      '',
    ],
    ['an unreachable server', ['job', 'list'], 'Cannot reach http://127.0.0.1:1', 'weir serve'],
    ['a bad duration', ['job', 'get', 'j-1', '--download-timeout-secs', 'soon'], 'is not a duration', ''],
    ['a bad template variable', ['job', 'run', '-V', 'x', '-'], 'Cannot read the template variable', ''],
  ])('says what is wrong with %s and what to do', async (_what, args, words, hint) => {
    const { code, stdout, stderr } = await run(args, { input: 'type: batch' })
    const runsProgram = args[1] === 'run'
    expect(code).toBe(runsProgram ? 125 : words.startsWith('Cannot reach') ? 5 : 2)
    expect(stdout).toBe('')
    expect(stderr).toContain(words)
    expect(stderr).toContain(hint)
    expect(stderr).not.toMatch(/\n {4}at /)
    expect(stderr).not.toContain('\u001b')
  })

  it('shows the stack only with --debug or WEIR_DEBUG', async () => {
    expect((await run(['job', 'list', '--debug'])).stderr).toMatch(/\n {4}at /)
    expect((await run(['job', 'list'], { env: { WEIR_DEBUG: '1' } })).stderr).toMatch(/\n {4}at /)
  })

  it('reports every bad flag at once', async () => {
    const bad: Record<string, string> = {
      '--input': 'ftp://x',
      '--output': 'foo',
      '--publisher': 'gg',
      '--cpu': 'lots',
      '--memory': '5xb',
      '--gpu': 'half',
      '--count': 'many',
      '--priority': 'x',
      '--timeout': '-4',
      '--env': 'NOEQ',
      '--labels': '!!',
      '--target': 'some',
      '--constraints': 'a b',
      '--network': 'maybe',
      '--domain': 'x y',
      '--workdir': 'rel',
    }
    const { code, stderr } = await run(['docker', 'run', ...Object.entries(bad).flat(), 'Bad Image'])
    expect(code).toBe(125)
    for (const flag of Object.keys(bad)) expect(stderr).toMatch(new RegExp(`^  ${flag}: `, 'm'))
    expect(stderr).toContain('IMAGE: ')
  })

  it('looks at a WebAssembly program before anything is sent', async () => {
    writeFileSync(join(dir, 'no.wasm'), 'not a module')
    const { code, stderr } = await run(['wasm', 'run', 'no.wasm'])
    expect([code, stderr.split('\n')[0]]).toEqual([
      125,
      expect.stringContaining('Error: Cannot use the WebAssembly module'),
    ])
    const several = await run(['wasm', 'run', '--cpu', 'x', '--entry-point', 'main', 'hello.wasm'])
    expect(several.stderr).toContain('has 2 mistakes')
    expect(several.stderr).toMatch(/^ {2}PROGRAM: The module exports no function "main"/m)
  })

  it('reports every mistake of a job file with its place', async () => {
    const { code, stderr } = await run(['job', 'validate', '-'], {
      input: 'type: bach\ntasks:\n- name: main\n  engin: {}\n',
    })
    expect(code).toBe(2)
    expect(stderr).toContain('line 1, column 1, Type: invalid job type: "bach"')
    expect(stderr).toContain('line 4, column 3, Tasks[0].engin: unknown field "engin"')
    expect(stderr).toContain('Did you mean "Engine"?')
  })

  it('says that a server does not speak the API, instead of starting one', async () => {
    const server = createServer((socket) => socket.end('SSH-2.0-nothing\r\n'))
    const port = await new Promise<number>((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
    })
    const { code, stderr } = await run(['wasm', 'run', 'hello.wasm'], {
      env: { WEIR_API_PORT: String(port) },
    })
    server.close()
    expect(code).toBe(125)
    expect(stderr).toContain('Error:')
  })

  it('never starts a server of its own when one is configured', async () => {
    const { code, stderr } = await run(['wasm', 'run', 'hello.wasm'])
    expect(code).toBe(125)
    expect(stderr).toContain('Cannot reach')
    expect(stderr).not.toContain('No server is running')
  })

  it('prints help as data', async () => {
    const { code, stdout, stderr } = await run(['docker', 'run', '--help'])
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toContain('--network <none|http|full>')
    expect(stdout).not.toContain('--concurrency')
  })
})

describe('dry runs', () => {
  it('print the job without asking anybody', async () => {
    const args = [
      '--dry-run',
      '-o',
      'json',
      '-o',
      'out:/out',
      '-p',
      'local',
      '-i',
      'https://h:8080/f:/in',
      '--network',
      'http',
    ]
    const { code, stdout } = await run([
      'docker',
      'run',
      ...args,
      '--domain',
      'Example.COM',
      'alpine',
      'ls',
      '-l',
      '--wait=false',
    ])
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      Tasks: [
        {
          Engine: { Params: { Image: 'alpine', Parameters: ['ls', '-l', '--wait=false'] } },
          InputSources: [{ Source: { Params: { URL: 'https://h:8080/f' } }, Target: '/in' }],
          ResultPaths: [{ Name: 'out', Path: '/out' }],
          Network: { Type: 'HTTP', Domains: ['example.com'] },
        },
      ],
    })
  })

  it('print YAML that job run takes back', async () => {
    const made = await run([
      'docker',
      'run',
      '--dry-run',
      '-e',
      'A=b,c=d',
      '--constraints',
      'region in (eu,us)',
      'alpine',
      '--',
      'true',
    ])
    const again = await run(['job', 'run', '--dry-run', '-'], { input: made.stdout })
    expect(again).toEqual(made)
    expect(made.stdout).toContain('- A=b,c=d')
  })
})

describe('wasm validate', () => {
  it('prints OK, or every reason with exit code 1', async () => {
    const right = await run(['wasm', 'validate', 'hello.wasm'])
    expect([right.code, right.stdout.endsWith('\nOK\n')]).toEqual([0, true])
    const wrong = await run(['wasm', 'validate', '--entry-point', 'main', 'hello.wasm'])
    expect(wrong.code).toBe(1)
    expect(wrong.stderr).toContain('main')
    writeFileSync(join(dir, 'text.wasm'), 'not a module')
    expect((await run(['wasm', 'validate', 'text.wasm'])).code).toBe(1)
    expect((await run(['wasm', 'validate', 'none.wasm'])).code).toBe(2)
  })
})

describe('config', () => {
  it('lists every key with where its value came from, and sets values', async () => {
    const file = join(dir, 'own.yaml')
    expect((await run(['config', 'set', 'logging.level=warn', '-c', file])).code).toBe(0)
    const { stdout } = await run(['config', 'list', '-c', file, '--output', 'csv'])
    expect(stdout).toContain(`Logging.Level,warn,${file},`)
    expect(stdout).toContain('API.Port,1,environment,')
    const refused = await run(['config', 'set', 'Logging.Levl=warn', '-c', file])
    expect(refused.code).toBe(2)
    expect(refused.stderr).toContain('Logging.Level')
    expect((await run(['config', 'set', 'Logging.Level', '-c', file])).stderr).toContain(
      'the value is missing',
    )
  })
})
