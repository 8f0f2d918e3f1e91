import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { sandboxCommand } from '../../../src/executors/wasm/sandbox-command.js'
import { findToolbox } from '../../../src/executors/wasm/toolbox.js'
import { sandboxProblem } from './harness.js'
import { SlotBench } from './in-slot.js'
import { kernelNumbers } from './kernel-headers.js'
import { answersOf, callerProblem, hostileLines } from './machine-code.js'

const problem = await sandboxProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`
const noCode = problem ?? callerProblem()
const skippedCode = noCode === undefined ? '' : ` (skipped: ${noCode})`
const isRoot = process.getuid?.() === 0

const HERE = -100
const [O_WRONLY_CREAT, O_RDONLY] = [0o101, 0]
const number = (name: string): number => kernelNumbers(process.arch as 'x64' | 'arm64')?.get(name) ?? -1
const open = (path: string, flags: number, mode = 0): string =>
  `${path} ${number('openat')} ${HERE} s:${path} ${flags} ${mode}`
const two = (name: string, from: string, to: string): string =>
  `${name}:${from}:${to} ${number(name)} ${HERE} s:${from} ${HERE} s:${to} 0`

/** What must not be there, whatever else is missing. */
const ELSEWHERE = [
  '/etc/passwd',
  '/proc/self/status',
  '/proc/1/root',
  '/sys/kernel',
  '/dev/null',
  '/dev/mem',
  '/root',
  '/home',
  '/var',
  '/run/docker.sock',
  '/tmp/../../etc/passwd',
  '/out/0/../../../etc/shadow',
]
const READ_ONLY = ['/new', '/run.cjs', '/bin/new', '/mod/new', '/in/new', '/out/new']

/** Files as machine code meets them behind the mounts of a sandbox, with the list and without. */
const FILES = [
  ...ELSEWHERE.map((path) => open(path, O_RDONLY)),
  ...READ_ONLY.map((path) => open(path, O_WRONLY_CREAT, 0o644)),
  ...['/tmp/new', '/out/0/new', '/out/1/new'].map((path) => open(path, O_WRONLY_CREAT, 0o755)),
  two('renameat2', '/tmp/new', '/mod/new'),
  two('renameat2', '/tmp/new', '/out/0/other'),
  two('linkat', '/tmp/new', '/out/0/other'),
  two('linkat', '/bin/node', '/tmp/node'),
  two('linkat', '/run.cjs', '/tmp/run'),
  `unlink:/run.cjs ${number('unlinkat')} ${HERE} s:/run.cjs 0`,
  `rmdir:/out/0 ${number('unlinkat')} ${HERE} s:/out/0 0x200`,
  `exec:/bin/sh ${number('execve')} s:/bin/sh 0 0`,
]
const expectFiles = (answers: Record<string, string>): void => {
  for (const path of ELSEWHERE) expect({ path, answer: answers[path] }).toEqual({ path, answer: 'ENOENT' })
  for (const path of READ_ONLY) expect({ path, answer: answers[path] }).toEqual({ path, answer: 'EROFS' })
  expect(answers).toMatchObject({
    '/tmp/new': 'ok',
    '/out/0/new': 'ok',
    '/out/1/new': 'ok',
    'renameat2:/tmp/new:/mod/new': 'EXDEV',
    'renameat2:/tmp/new:/out/0/other': 'EXDEV',
    'linkat:/tmp/new:/out/0/other': 'EXDEV',
    'linkat:/bin/node:/tmp/node': 'EXDEV',
    'linkat:/run.cjs:/tmp/run': 'EXDEV',
    'exec:/bin/sh': 'ENOENT',
  })
  expect(answers['unlink:/run.cjs']).toMatch(/EROFS|EBUSY/)
  expect(answers['rmdir:/out/0']).toMatch(/EROFS|EBUSY/)
}

describe.skipIf(noCode !== undefined)(`machine code in the whole sandbox${skippedCode}`, () => {
  const slots = new SlotBench()
  afterAll(() => slots.close())

  it('is refused every hostile call, and finds no file of the machine', { timeout: 30_000 }, async () => {
    const suid = `suid ${number('openat')} ${HERE} s:/tmp/suid ${O_WRONLY_CREAT} ${0o4755}`
    const kills = [1, 2, 3].flatMap((pid) => [
      `kill:${pid} ${number('kill')} ${pid} 9`,
      `ptrace:${pid} ${number('ptrace')} 16 ${pid}`,
    ])
    const lines = [...hostileLines(), ...kills, suid, ...FILES]
    const answers = answersOf(await slots.machineCode(lines))
    expect(Object.keys(answers)).toHaveLength(lines.length)
    const fileNames = new Set(FILES.map((one) => one.split(' ')[0]))
    const others = Object.entries(answers).filter(([name]) => !fileNames.has(name))
    expect(others.filter(([, answer]) => answer !== 'EPERM')).toEqual([])
    expectFiles(answers)
  })

  it('dies when it calls as a program of another kind', { timeout: 30_000 }, async () => {
    if (process.arch !== 'x64') return
    for (const way of ['!x32', '!int80']) {
      const answers = answersOf(
        await slots.machineCode([`before ${number('getpid')}`, way, `after ${number('getpid')}`]),
      )
      expect({ way, answers }).toEqual({ way, answers: { before: 'ok' } })
    }
  })

  it('keeps files and privileges away by name spaces alone, without the list', {
    timeout: 30_000,
  }, async () => {
    const PRIVILEGED = [
      `mount ${number('mount')} s:x s:/tmp s:tmpfs 0 0`,
      `remount ${number('mount')} s:x s:/mod s:x 0x1020 0`,
      `umount ${number('umount2')} s:/tmp 2`,
      `pivot_root ${number('pivot_root')} s:/tmp s:/tmp`,
      `chroot ${number('chroot')} s:/tmp`,
      `sethostname ${number('sethostname')} s:x 1`,
      `device ${number('mknodat')} ${HERE} s:/tmp/sda 0x61b0 0x800`,
      `chown ${number('fchownat')} ${HERE} s:/tmp 0 0 0`,
      `setuid ${number('setuid')} 0`,
      `setns ${number('setns')} 0 0`,
      `time ${number('clock_settime')} 0 b`,
      `module ${number('init_module')} b 1 s:`,
      `kexec ${number('kexec_load')} 0 0 0 0`,
      `reboot ${number('reboot')} 0xfee1dead 0x28121969 0 0`,
      `swap ${number('swapon')} s:/tmp 0`,
      `handle ${number('open_by_handle_at')} 0 b 0`,
      `raw ${number('socket')} 2 3 1`,
      `packet ${number('socket')} 17 3 0`,
    ]
    const OTHERS = [
      `kill ${number('kill')} ${process.pid} 9`,
      `trace ${number('ptrace')} 16 ${process.pid} 0 0`,
    ]
    const lines = ['!each', ...PRIVILEGED, ...OTHERS, ...FILES]
    const answers = answersOf(await slots.machineCode(lines, { withList: false }))
    for (const line of PRIVILEGED) {
      const [name = ''] = line.split(' ')
      expect({ name, answer: answers[name] }).toEqual({
        name,
        answer: expect.stringMatching(/^(EPERM|EINVAL|EBADF|ENOSYS)$/) as string,
      })
    }
    // Other processes have no number here; the one that runs this test is still there to say so.
    expect(answers).toMatchObject({ kill: 'ESRCH', trace: 'ESRCH' })
    expectFiles(answers)
  })
})

describe.skipIf(problem !== undefined)(`name spaces without the list${skipped}`, () => {
  const slots = new SlotBench()
  afterAll(() => slots.close())

  it('have a network in which nobody is, not even the machine’s own loopback', async () => {
    let contacts = 0
    const server = createServer((socket) => {
      contacts++
      socket.destroy()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const seen = await slots.javascript(
      `const net = require('node:net'), os = require('node:os')
       const connect = (o) => new Promise((ok, no) => { const s = net.connect(o, () => ok('connected')); s.on('error', no) })
       return { own: await attempt(() => connect({ host: '127.0.0.1', port: ${port} })), far: await attempt(() => connect({ host: '192.0.2.1', port: 80 })),
         interfaces: Object.values(os.networkInterfaces()).flat().map((one) => one.address).filter((one) => one !== '127.0.0.1' && one !== '::1') }`,
      { withList: false },
    )
    server.close()
    expect(seen).toEqual({
      own: expect.stringMatching(/ECONNREFUSED|ENETUNREACH/) as string,
      far: 'ENETUNREACH',
      interfaces: [],
    })
    expect(contacts).toBe(0)
  })
})

describe.skipIf(problem !== undefined || !isRoot)(
  `a waiting sandbox, looked at from outside${skipped}${isRoot ? '' : ' (skipped: needs root to look)'}`,
  () => {
    const slots = new SlotBench()
    afterAll(() => slots.close())

    it('has no rights, no way back, and only what it was given', { timeout: 30_000 }, async () => {
      const slot = await slots.open()
      await slot.ready
      try {
        const [pid = 0] = insideOf(slot.dir)
        const proc = `/proc/${pid}`
        const status = readFileSync(`${proc}/status`, 'utf8')
        const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? ''
        for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
          expect({ set, value: field(set) }).toEqual({ set, value: '0000000000000000' })
        }
        expect([field('NoNewPrivs'), field('Seccomp')]).toEqual(['1', '2'])
        for (const one of ['user', 'mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup']) {
          expect({ one, link: readlinkSync(`${proc}/ns/${one}`) }).not.toEqual({
            one,
            link: readlinkSync(`/proc/self/ns/${one}`),
          })
        }
        expect(readFileSync(`${proc}/uid_map`, 'utf8').trim().split(/\s+/)).toEqual(['65534', '0', '1'])
        const environment = readFileSync(`${proc}/environ`, 'utf8')
          .split('\0')
          .filter((one) => one !== '')
        expect(environment.map((one) => one.split('=')[0])).toEqual(['PWD'])
        const limits = readFileSync(`${proc}/limits`, 'utf8')
        const hard = (name: string): string =>
          new RegExp(`^${name} +\\S+ +(\\S+)`, 'm').exec(limits)?.[1] ?? ''
        expect(hard('Max core file size')).toBe('0')
        expect(hard('Max file size')).toBe(String(1 << 20))
        expect(hard('Max open files')).toBe('128')
        expect(hard('Max locked memory')).toBe('0')
        expect(hard('Max msgqueue size')).toBe('0')
        expect(mountsOf(pid)).toEqual({ writable: ['/out/0', '/out/1', '/tmp'], loose: [] })
        expect(openFilesOf(pid)).toEqual([])
        expect(readFileSync(`${proc}/cgroup`, 'utf8')).toContain(slot.name)
      } finally {
        await slot.dispose()
      }
      expect(insideOf(slot.dir)).toEqual([])
    })
  },
)

describe.skipIf(problem !== undefined)(`resource limits alone${skipped}`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-rlimits-'))
  afterAll(() => rmSync(dir, { recursive: true, force: true }))

  it('bound files, descriptors, locked memory and dumps of a program without any sandbox', async () => {
    const toolbox = await findToolbox()
    const { command, args } = sandboxCommand({ toolbox, binds: [], fileBytesMax: 1 << 20, openFilesMax: 64 })
    const limits = args.slice(0, args.indexOf('--'))
    const program = `
      const fs = require('node:fs')
      const attempt = (f) => { try { return String(f()) } catch (e) { return e.code } }
      const big = fs.openSync('big', 'w')
      const kept = []
      console.log(JSON.stringify({
        fits: attempt(() => fs.writeSync(big, Buffer.alloc(1 << 20), 0, 1 << 20, 0)),
        beyond: attempt(() => fs.writeSync(big, Buffer.alloc(1), 0, 1, 1 << 20)),
        sparse: attempt(() => fs.ftruncateSync(big, 2 ** 40)),
        descriptors: attempt(() => { for (;;) kept.push(fs.openSync('big', 'r')) }),
        bounded: kept.length <= 128,
      }))
      process.abort()`
    const ended = spawnSync(command, [...limits, '--', process.execPath, '-e', program], {
      cwd: dir,
      encoding: 'utf8',
    })
    expect(JSON.parse(ended.stdout)).toEqual({
      fits: String(1 << 20),
      beyond: 'EFBIG',
      sparse: 'EFBIG',
      descriptors: 'EMFILE',
      bounded: true,
    })
    expect(ended.signal).toBe('SIGABRT')
    expect(readdirSync(dir)).toEqual(['big'])
  })
})

/** Node inside the sandbox of this slot: the one process that sees its mounts and is not bubblewrap. */
function insideOf(slotDir: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
        return mounts.includes(slotDir) && readlinkSync(`/proc/${pid}/exe`).endsWith('/node')
      } catch {
        return false // It has ended meanwhile.
      }
    })
    .map(Number)
}

/** Where the process can write, and mounts that lack a flag that every one should have. */
function mountsOf(pid: number): { writable: string[]; loose: string[] } {
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n')
  const seen = mounts.map((line) => {
    const fields = line.split(' ')
    return { at: fields[4] ?? '', options: (fields[5] ?? '').split(',') }
  })
  return {
    writable: seen
      .filter(({ options }) => !options.includes('ro'))
      .map(({ at }) => at)
      .toSorted(),
    loose: seen
      .filter(({ options }) => !options.includes('nosuid') || !options.includes('nodev'))
      .map(({ at }) => at),
  }
}

/** Descriptors of files and directories; those of pipes, sockets and events have no path. */
function openFilesOf(pid: number): string[] {
  const names = readdirSync(`/proc/${pid}/fd`).map((fd) => `${fd} → ${readlinkSync(`/proc/${pid}/fd/${fd}`)}`)
  return names.filter((one) => !/→ (anon_inode|pipe|socket):/.test(one) && !one.endsWith(' → /dev/null'))
}
