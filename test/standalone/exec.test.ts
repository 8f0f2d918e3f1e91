import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import {
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DemoInternet, startDemoInternet } from '../../src/demo/internet.js'
import { entryPoint, PACKAGE_ROOT } from '../../src/package-root.js'
import { verifyAuditFile } from '../../src/stores/index.js'
import { cleanEnvironment, type CliResult } from '../cli/with-cli.js'

const PROGRAM = entryPoint('cli/main.js')
/** Nobody: a number without a name, a home or rights. */
const NOBODY = 54_321
/** Seconds that no other test sleeps. */
const NAP = 100_000 + process.pid

const missing = whatIsMissing()
const title = 'weir egress exec'

describe.skipIf(missing !== '')(missing === '' ? title : `${title} (skipped: ${missing})`, () => {
  let dir: string
  let internet: DemoInternet

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'weir-exec-test-'))
    const started = await startDemoInternet()
    if (typeof started === 'string') throw new Error(started)
    internet = started
    const names = ['www.demo.test', 'other.demo.test', 'fetch.demo.test']
    const policy = {
      hosts: Object.fromEntries(names.map((name) => [name, internet.address])),
      privateExceptions: ['www.demo.test:80', 'fetch.demo.test:80'],
      deny: ['fetch.demo.test'],
    }
    writeFileSync(join(dir, 'policy.yaml'), JSON.stringify(policy))
  })
  afterAll(async () => {
    await internet?.close()
    rmSync(dir, { recursive: true, force: true })
  })

  const exec = (args: readonly string[], options: RunOptions = {}): Promise<CliResult> =>
    run(['egress', 'exec', ...args], { cwd: dir, ...options })

  const own: [string, RunOptions][] = [['root', {}]]
  if (isReadableForAll()) own.push(['an ordinary user', { uid: NOBODY }])

  describe.each(own)('for %s', (_who, options) => {
    let cwd: string
    let temporary: string
    beforeAll(() => {
      cwd = mkdtempSync(join(dir, 'work-'))
      temporary = mkdtempSync(join(dir, 'temporary-'))
      for (const one of [cwd, temporary])
        if (options.uid !== undefined) chownSync(one, options.uid, options.uid)
      spawnSync('chmod', ['755', dir])
    })

    it('lets real programs reach the named hosts and says which flag would allow the rest', async () => {
      const script = [
        'curl -sS http://www.demo.test/',
        'busybox wget -q -O- http://www.demo.test/',
        'env -i PATH="$PATH" curl -sS http://www.demo.test/',
        `node -e "fetch('http://www.demo.test/').then((answer) => answer.text()).then((text) => process.stdout.write(text))"`,
        'curl -sS http://other.demo.test/ > refused; cat refused | head -1',
        'curl -sS http://fetch.demo.test/ | tail -1',
        'echo to the error >&2',
        'exit 3',
      ].join('\n')
      const flags = [
        '--policy',
        join(dir, 'policy.yaml'),
        '--domain',
        'www.demo.test',
        '--domain',
        'fetch.demo.test',
      ]
      const { code, stdout, stderr } = await exec([...flags, '--', 'sh', '-c', script], { ...options, cwd })
      expect(stdout.split('\n')).toEqual([
        ...Array.from({ length: 4 }, () => 'hello from www.demo.test'),
        expect.stringContaining('weir refused this request (other.demo.test:80)'),
        'Code: egress.denied_by_operator',
        '',
      ])
      expect(code).toBe(3)
      expect(stderr).toMatch(/^to the error\n── 4 allowed, 2 refused; /)
      expect(stderr).toMatch(
        /other\.demo\.test:80 .* egress\.not_in_job_list {2}.*--domain other\.demo\.test/,
      )
      expect(stderr).toMatch(/www\.demo\.test:80 +4 +0/)
    })

    it('learns what a program needs, and says the flags with which it runs without a refusal', async () => {
      const script = 'curl -sS http://www.demo.test/; curl -sS http://fetch.demo.test/ > denied; exit 3'
      const policy = ['--policy', join(dir, 'policy.yaml')]
      const learnt = await exec([...policy, '--learn', '--', 'sh', '-c', script], { ...options, cwd })
      expect(learnt).toMatchObject({ code: 3, stdout: 'hello from www.demo.test\n' })
      expect(learnt.stderr).toContain('Learning: every public host is open to the program\n')
      expect(learnt.stderr).toContain('fetch.demo.test: denied by the operator\n')
      const [, flags = ''] = /^Run it with: +(.*)$/m.exec(learnt.stderr) ?? []
      expect(flags).toBe('--domain www.demo.test:80')
      const again = await exec(
        [...policy, ...flags.split(' '), '--', 'curl', '-sS', 'http://www.demo.test/'],
        { ...options, cwd },
      )
      expect(again.stdout).toBe('hello from www.demo.test\n')
      expect(again.stderr).toContain('── 1 allowed, 0 refused; ')
    })

    it.skipIf(!has('python3'))('holds it in, whatever it tries', { timeout: 60_000 }, async () => {
      const outside = await prepareOutside(cwd, dir)
      try {
        const facts = { ...outside.facts, hostAddress: internet.hostAddress, site: internet.address }
        const flags = ['--domain', '.demo.test', '--hide', outside.facts.hidden, '--unix-sockets', '--quiet']
        // Beside its work: this checkout may lie below the /tmp that the program has of its own.
        const probe = join(cwd, 'escape-probe.py')
        copyFileSync(join(import.meta.dirname, 'escape-probe.py'), probe)
        const words = ['python3', probe, JSON.stringify(facts)]
        const { code, stdout, stderr } = await exec([...flags, '--', ...words], { ...options, cwd })
        expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
        const {
          io_uring: ring = 'Function not implemented',
          'key ring': keys = 'Operation not permitted',
          ...seen
        } = JSON.parse(stdout) as Record<string, string>
        expect([ring, keys]).toEqual(['Function not implemented', 'Operation not permitted'])
        expect(seen).toEqual({
          'loopback of the host': 'Connection refused',
          'IPv6 loopback of the host': 'Connection refused',
          'address of the host': expect.stringMatching(/unreachable|refused/),
          'address of an allowed site': 'HTTP/1.1 403',
          metadata: 'HTTP/1.1 403',
          'socket in a hidden directory': 'No such file or directory',
          // A checkout below /tmp is not seen at all: the program has a /tmp of its own.
          'socket on the read-only file system': PACKAGE_ROOT.startsWith('/tmp/')
            ? 'No such file or directory'
            : 'Connection refused',
          'socket in the working directory': 'Connection refused',
          'abstract socket': 'Connection refused',
          Docker: 'No such file or directory',
          "socket of the machine's host": 'Address family not supported by protocol',
          'Bluetooth socket': 'Address family not supported by protocol',
          'raw socket': 'Operation not permitted',
          'terminal input': 'Operation not permitted',
          'file of the system': 'Read-only file system',
          'file of the home directory': expect.stringMatching(/Read-only file system|No such file/),
          'kernel settings': expect.stringMatching(/Read-only file system|Permission denied/),
          'kernel requests': expect.stringMatching(/Read-only|Permission denied|No such file/),
          'writable kernel files': '',
          'own files': 'done',
          'temporary files': 'done',
          'another user namespace': 'failed',
          'network of the first process': 'failed',
          'writable root': 'failed',
          mount: 'failed',
          processes: '',
          'secret of another process': 'No such file or directory',
          'hidden directory': '',
          capabilities: '0000000000000000',
          'new privileges': '1',
          'open files': '',
        })
        expect(existsSync(join(cwd, 'own'))).toBe(true)
        expect(existsSync('/tmp/own')).toBe(false)
        expect(outside.touched()).toBe(0)
      } finally {
        outside.close()
      }
    })

    it('ends the whole program with its exit code when it is told to end, and leaves nothing behind', async () => {
      const script = `trap 'echo told; exit 9' TERM; sleep ${NAP} & echo begin; while :; do sleep 0.05; done`
      let told = false
      const { code, stdout } = await exec(['--quiet', '--', 'sh', '-c', script], {
        ...options,
        cwd,
        env: { TMPDIR: temporary },
        onOutput: ({ stdout: seen }, child) => {
          if (told || !seen.includes('begin')) return
          told = true
          child.kill('SIGTERM')
        },
      })
      expect([code, stdout]).toEqual([9, 'begin\ntold\n'])
      expect([isRunning(`sleep ${NAP}`), readdirSync(temporary)]).toEqual([false, []])
    })

    it('takes the program with it when it is killed itself, and the next one clears up after it', async () => {
      let program = 0
      await exec(['--quiet', '--', 'sh', '-c', `echo begin; exec sleep ${NAP}`], {
        ...options,
        cwd,
        // What it leaves when it is killed goes with the directory of the test.
        env: { TMPDIR: temporary },
        onOutput: ({ stdout: seen }, child) => {
          if (program !== 0 || !seen.includes('begin')) return
          program = 1
          child.kill('SIGKILL')
        },
      })
      await waitFor(() => !isRunning(`sleep ${NAP}`))
      const [left = ''] = readdirSync(temporary)
      expect(left).toMatch(/^weir-exec-/)
      // One whose process is alive stays, and one that only has a similar name.
      const alive = left.replace(/-\d+-\d+-\w+$/, `-${process.pid}-${startOf(process.pid)}-abcdef`)
      const kept = [alive, `${left}.old`].toSorted()
      for (const name of kept) {
        mkdirSync(join(temporary, name))
        if (options.uid !== undefined) chownSync(join(temporary, name), options.uid, options.uid)
      }
      await exec(['--quiet', '--', 'true'], { ...options, cwd, env: { TMPDIR: temporary } })
      expect(readdirSync(temporary).toSorted()).toEqual(kept)
    })
  })

  it('says how many words of the environment it takes away, and sets what it is told', async () => {
    const env = {
      SSH_AUTH_SOCK: '/tmp/agent',
      DOCKER_HOST: 'unix:///run/docker.sock',
      HTTPS_PROXY: 'http://evil.test',
      PLAIN: 'kept',
      SOME_URL: 'unix:/x',
      NO_PROXY: '*',
    }
    const words = [
      '--',
      'sh',
      '-c',
      'echo $PLAIN,$SSH_AUTH_SOCK,$DOCKER_HOST,$SOME_URL,$HTTPS_PROXY,$NO_PROXY,$MINE,$TMPDIR',
    ]
    const proxied = 'http://127.0.0.1:3128,localhost,127.0.0.1,::1'
    const [kept, cleared] = await Promise.all([
      exec(['--quiet', '-e', 'MINE=1', '-e', 'https_proxy=http://evil.test', ...words], { env }),
      exec(['--quiet', '--clear-env', '-e', 'MINE=2', ...words], { env }),
    ])
    expect(kept.stdout).toBe(`kept,,,,${proxied},1,/tmp\n`)
    expect(cleared.stdout).toBe(`,,,,${proxied},2,/tmp\n`)
  })

  it('gives its environment to the program alone, not to those that confine it', async () => {
    const traces = mkdtempSync(join(dir, 'traces-'))
    const env = ['-e', 'LD_DEBUG=files', '-e', `LD_DEBUG_OUTPUT=${join(traces, 'trace')}`]
    const cwd = mkdtempSync(join(dir, 'work-'))
    const { code, stderr } = await exec([...env, '--', 'true'], { cwd })
    expect(code).toBe(0)
    expect(stderr).toContain('Nothing tried to leave')
    expect(readdirSync(traces)).toEqual([])
  })

  it.skipIf(!has('python3'))(
    'reaches no socket of the file system without --unix-sockets, not even from a pair of sockets',
    async () => {
      const cwd = mkdtempSync(join(dir, 'work-'))
      const path = join(cwd, 'late.sock')
      // The service is there, and hidden, and moves to where it can be seen.
      const service = spawn('python3', ['-c', DATAGRAM_SERVICE, path])
      try {
        const words = ['--', 'python3', '-c', DATAGRAM_CLIENT]
        const seen = await Promise.all(
          [[], ['--unix-sockets']].map((flags) => exec(['--quiet', ...flags, ...words], { cwd })),
        )
        const refused = 'Address family not supported by protocol'
        expect(seen.map(({ stdout }) => stdout.trim())).toEqual([
          `${refused}, ${refused}, stream pair`,
          expect.stringMatching(/^sent, sent, stream pair$/),
        ])
      } finally {
        service.kill('SIGKILL')
      }
    },
  )

  it.skipIf(!has('python3'))(
    'says which flag opens Unix sockets when a program failed without them',
    async () => {
      const words = ['--', 'python3', '-c', 'import socket; socket.socket(socket.AF_UNIX)']
      const failed = await exec(words)
      expect([failed.code, failed.stderr]).toEqual([1, expect.stringMatching(/EAFNOSUPPORT.*--unix-sockets/)])
      const opened = await exec(['--unix-sockets', ...words])
      expect([opened.code, opened.stderr]).toEqual([0, expect.not.stringContaining('EAFNOSUPPORT')])
    },
  )

  it.skipIf(!has('python3') || !has('git'))(
    'runs test suites, worker pools and git without Unix sockets',
    async () => {
      const cwd = mkdtempSync(join(dir, 'work-'))
      writeFileSync(join(cwd, 'suite.test.mjs'), NODE_SUITE)
      const git = 'git -c user.name=a -c user.email=a@example.com'
      const script = [
        'node --test suite.test.mjs > suite.log || cat suite.log',
        `python3 -c 'from multiprocessing import Pool; print(*Pool(2).map(abs, [-1, -2]))'`,
        `git init -q one && cd one && ${git} commit -q --allow-empty -m first && git clone -q . ../two`,
        'git -C ../two log --format=%s',
      ].join('\n')
      const { code, stdout } = await exec(['--quiet', '--', 'sh', '-c', script], { cwd })
      expect([code, stdout]).toEqual([0, '1 2\nfirst\n'])
    },
  )

  it('keeps the records where it is told, and writes the summary as JSON', async () => {
    const cwd = join(dir, 'records')
    mkdirSync(cwd)
    const audit = join(dir, 'audit')
    // The scheme counts: only TLS is allowed there.
    const flags = [
      '--outbound-url',
      'https://other.demo.test',
      '--audit-dir',
      audit,
      '--summary',
      'summary.json',
      '--output',
      'json',
    ]
    const ran = await exec(
      [
        ...flags,
        '--',
        'sh',
        '-c',
        'curl -s http://other.demo.test/ >/dev/null; ln -sf /etc/passwd summary.json',
      ],
      { cwd },
    )
    const summary = JSON.parse(ran.stderr) as {
      ExecutionID: string
      ExitCode: number
      Egress: { Refused: number; ChainHead: string }
    }
    expect(summary).toMatchObject({
      ExitCode: 0,
      Egress: { Refused: 1, Allowed: 0, Destinations: [{ Host: 'other.demo.test', Port: 80, Refused: 1 }] },
    })
    expect(await verifyAuditFile(audit, summary.ExecutionID)).toMatchObject({
      intact: true,
      records: 1,
      head: summary.Egress.ChainHead,
    })
    expect(readFileSync('/etc/passwd', 'utf8')).toContain('root:')
  })

  it('cannot have a file outside overwritten by a link in the place of the summary', async () => {
    const cwd = mkdtempSync(join(dir, 'work-'))
    const outside = join(dir, 'outside.txt')
    writeFileSync(outside, 'kept')
    await exec(['--quiet', '--', 'ln', '-s', outside, 'summary.json'], { cwd })
    const { code, stderr } = await exec(['--summary', 'summary.json', '--', 'true'], { cwd })
    expect([code, stderr]).toEqual([125, expect.stringContaining('it is a symbolic link')])
    expect(readFileSync(outside, 'utf8')).toBe('kept')
  })

  it('cannot write the policy of its next run, or it is said that it can', async () => {
    const cwd = mkdtempSync(join(dir, 'work-'))
    mkdirSync(join(cwd, 'sub'))
    for (const path of ['policy.yaml', 'sub/policy.yaml']) writeFileSync(join(cwd, path), 'allow: []\n')
    const script =
      'for f in "$1" "$1.new"; do echo "allow: [www.demo.test]" > "$f"; done; mv -f "$1.new" "$1"; rm -f "$1"'
    const attack = (path: string): Promise<CliResult> =>
      exec(['--policy', path, '--', 'sh', '-c', script, 'sh', path], { cwd })
    const [direct, nested] = [await attack('policy.yaml'), await attack('sub/policy.yaml')]
    expect(readFileSync(join(cwd, 'policy.yaml'), 'utf8')).toBe('allow: []\n')
    expect(readFileSync(join(cwd, 'sub/policy.yaml'), 'utf8')).toBe('allow: []\n')
    expect(direct.stderr).not.toContain('can replace its policy file')
    expect(nested.stderr).toContain('can replace its policy file sub/policy.yaml for its next run')
  })

  it('holds it to budgets', async () => {
    const flags = [
      '--policy',
      'policy.yaml',
      '--domain',
      'www.demo.test',
      '--budget',
      'www.demo.test=down:500',
      '--rate',
      '1mbit',
    ]
    const script = 'for i in 1 2 3 4 5 6; do curl -s http://www.demo.test/ | tail -1; done'
    const { stdout, stderr } = await exec([...flags, '--', 'sh', '-c', script])
    expect(stdout).toMatch(/^hello from www\.demo\.test\n[^]*Code: egress\.quota_down\n$/)
    expect(stderr).toContain('egress.quota_down')
  })

  it('reads from standard input and writes bytes as they are', async () => {
    const { code, stdout } = await exec(['--quiet', '--', 'tr', 'a-z', 'A-Z'], { input: 'hello\n' })
    expect([code, stdout]).toEqual([0, 'HELLO\n'])
  })

  it.each<[string, string[], string]>([
    [
      'a domain that is none',
      ['--domain', 'a b', '--domain', '.com', '--', 'true'],
      'Cannot use these flags:\n  --domain: Cannot use host pattern "a b"',
    ],
    [
      'a directory that is not there',
      ['--allow-write', 'nope', '--', 'true'],
      '--allow-write nope: there is nothing',
    ],
    [
      'the whole file system',
      ['--allow-write', '/', '--', 'true'],
      '--allow-write /: it is the whole file system',
    ],
    [
      'records where the program writes',
      ['--audit-dir', 'records', '--', 'true'],
      'the program can write there',
    ],
    ['no program', [], "missing required argument 'COMMAND'"],
  ])('refuses %s before anything runs', async (_what, args, message) => {
    const { code, stderr } = await exec(args)
    expect(code).toBe(125)
    expect(stderr).toContain(message)
  })

  it('does not let the home directory be written because somebody works in it', async () => {
    const { stdout, stderr } = await exec(['--', 'sh', '-c', 'touch x 2>/dev/null || echo refused'], {
      env: { HOME: dir },
    })
    expect(stdout).toBe('refused\n')
    expect(stderr).toContain('The working directory is read-only: the home directory is in there')
  })

  it('ends with 127 for a program that is not there', async () => {
    expect((await exec(['--quiet', '--', 'no-such-program'])).code).toBe(127)
  })
})

const NODE_SUITE = `
import { fork } from 'node:child_process'
import { createServer } from 'node:http'
import { test } from 'node:test'
if (process.send) process.send('from the child')
else
  test('talks to a server and to a child of its own', async () => {
    const server = createServer((_, answer) => answer.end('served')).listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const answer = await fetch('http://127.0.0.1:' + server.address().port)
    if ((await answer.text()) !== 'served') throw new Error('not served')
    server.close()
    const child = fork(import.meta.filename)
    if ((await new Promise((resolve) => child.once('message', resolve))) !== 'from the child') throw new Error('no child')
  })
`

/** Takes the path when it is there for as long as anybody tries. */
const DATAGRAM_SERVICE = `
import os, socket, sys, time
for _ in range(600):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(sys.argv[1] + '.new')
    os.rename(sys.argv[1] + '.new', sys.argv[1])
    time.sleep(0.1)
`
const DATAGRAM_CLIENT = `
import os, socket, time
def attempt(make):
    for _ in range(200):
        try:
            make().sendto(b'reached', 'late.sock')
            return 'sent'
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.01)
        except OSError as error:
            return error.strerror
    return 'nobody'
pair = lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0]
alone = lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
stream = 'stream pair' if socket.socketpair() else ''
print(', '.join([attempt(alone), attempt(pair), stream]))
`

interface RunOptions {
  uid?: number
  cwd?: string
  env?: Record<string, string>
  input?: string
  onOutput?: (seen: { stdout: string; stderr: string }, child: ChildProcess) => void
}

function run(args: readonly string[], options: RunOptions): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const { uid } = options
    const child = spawn(process.execPath, [PROGRAM, ...args], {
      cwd: options.cwd,
      env: cleanEnvironment({ ...(uid === undefined ? {} : { HOME: '/nonexistent' }), ...options.env }),
      ...(uid === undefined ? {} : { uid, gid: uid }),
    })
    const seen = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        seen[name] += text
        options.onOutput?.(seen, child)
      })
    }
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, ...seen }))
    child.stdin.end(options.input ?? '')
  })
}

/** Services of this machine that a confined program must not reach; each of them counts. */
async function prepareOutside(cwd: string, dir: string) {
  let count = 0
  const servers: Server[] = []
  const serve = (where: object): Promise<Server> =>
    new Promise((resolve, reject) => {
      const server = createServer((socket) => {
        count += 1
        socket.end('reached')
      })
      servers.push(server)
      server.once('error', reject)
      server.listen(where, () => resolve(server))
    })
  const visible = mkdtempSync(join(PACKAGE_ROOT, '.weir-exec-'))
  spawnSync('chmod', ['755', visible])
  const hidden = join(visible, 'hidden')
  mkdirSync(hidden)
  writeFileSync(join(hidden, 'secret'), 'secret')
  const abstract = `weir-exec-${process.pid}`
  const { port } = (await serve({ host: '::', port: 0 })).address() as { port: number }
  const sockets = [join(visible, 'outside.sock'), join(dir, 'hidden.sock'), join(cwd, 'outside.sock')]
  for (const path of sockets) {
    rmSync(path, { force: true })
    await serve({ path })
    spawnSync('chmod', ['777', path])
  }
  const holder = spawn('python3', [
    '-c',
    `import socket,time\ns=socket.socket(socket.AF_UNIX)\ns.bind("\\0${abstract}")\ns.listen()\ntime.sleep(100)`,
  ])
  return {
    facts: { port, abstract, hidden, socket: sockets[0], hiddenSocket: sockets[1], pid: process.pid },
    touched: () => count,
    close: () => {
      holder.kill('SIGKILL')
      for (const server of servers) server.close()
      rmSync(visible, { recursive: true, force: true })
    },
  }
}

/** Field 22 of its line in /proc. */
function startOf(pid: number): string | undefined {
  return readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ')[19]
}

function isRunning(command: string): boolean {
  return spawnSync('pgrep', ['-fx', command]).status === 0
}

async function waitFor(holds: () => boolean): Promise<void> {
  for (let waited = 0; !holds() && waited < 10_000; waited += 50)
    await new Promise((resolve) => setTimeout(resolve, 50))
  expect(holds()).toBe(true)
}

function has(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
}

function whatIsMissing(): string {
  if (process.getuid?.() !== 0) return 'needs root, for the sites that are reached'
  const absent = ['unshare', 'bwrap', 'ip', 'curl', 'busybox'].filter((program) => !has(program))
  return absent.length === 0 ? '' : `needs ${absent.join(', ')}`
}

/** An ordinary user has to read what was built, and Node. */
function isReadableForAll(): boolean {
  return (
    spawnSync(process.execPath, [PROGRAM, '--version'], { uid: NOBODY, gid: NOBODY, cwd: '/' }).status === 0
  )
}
