import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openCgroupTree } from '../../../src/executors/wasm/cgroup.js'
import { Bench, sandboxProblem, wat } from './harness.js'
import { SlotBench } from './in-slot.js'

const problem = await sandboxProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`
const isRoot = process.getuid?.() === 0

const noRoot = problem ?? (isRoot ? undefined : 'needs root to take layers away')

describe.skipIf(noRoot !== undefined)(
  `the sandbox where a layer is missing${noRoot === undefined ? '' : ` (skipped: ${noRoot})`}`,
  () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-wasm-missing-'))
    afterAll(() => rmSync(dir, { recursive: true, force: true }))

    /** What a node says of the engine, and then to a job, when it starts in this shell. */
    const healthAfter = async (
      name: string,
      unshare: string[],
      script: string,
    ): Promise<{ health: object; said: string }> => {
      const args = [
        ...unshare,
        'sh',
        '-c',
        `${script} "$0" "$@"`,
        process.execPath,
        CHILD,
        join(dir, name),
        wat('hello'),
      ]
      const node = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'ignore'] })
      const said = await saidBy(node, '"exitCode"')
      return { health: JSON.parse(said.split('\n')[0] ?? '') as object, said }
    }

    it.each([
      {
        layer: 'bubblewrap',
        unshare: ['--mount'],
        script: 'mount --bind /dev/null /usr/bin/bwrap && exec',
        message: /bubblewrap \(bwrap\) is not installed; without its name spaces .* files and network/,
        hint: /apt-get install bubblewrap/,
      },
      {
        layer: 'prlimit',
        unshare: ['--mount'],
        script: 'mount --bind /dev/null /usr/bin/prlimit && exec',
        message: /prlimit is not installed; without its limits .* fill disks/,
        hint: /apt-get install util-linux/,
      },
      {
        layer: 'name spaces',
        unshare: ['--user', '--map-root-user'],
        // No user without rights may make any more: as where the system's administrator switched them off.
        script:
          'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all',
        message: /Cannot build the sandbox: bwrap: .*namespace/,
        hint: /Without name spaces .* Allow user namespaces \(sysctl/,
      },
    ])(
      'without $layer jobs are refused with the reason and the fix',
      async ({ layer, unshare, script, message, hint }) => {
        const { health, said } = await healthAfter(layer, unshare, script)
        expect(health).toEqual({
          available: false,
          message: expect.stringMatching(message) as string,
          hint: expect.stringMatching(hint) as string,
        })
        expect(said).not.toContain('hello from wat')
      },
    )

    it('a bubblewrap that knows too little is named with what it lacks', async () => {
      // Today's program with a line less in its help, as releases before 0.5.0 have it.
      const old = join(dir, 'bwrap')
      writeFileSync(old, '#!/bin/sh\n/usr/bin/bwrap "$@" | grep -v -e --clearenv\n', { mode: 0o755 })
      const bench = new Bench({ path: dir })
      const health = await bench.executor.probe(new AbortController().signal)
      expect(health).toMatchObject({
        available: false,
        message: expect.stringMatching(
          /too old: it does not know --clearenv, without which .* closed/,
        ) as string,
        hint: 'Install bubblewrap 0.5.0 or newer',
      })
      await expect(bench.start(wat('hello'))).rejects.toMatchObject({ code: 'sandbox.unavailable' })
      await bench.close()
    })
  },
)

describe.skipIf(problem !== undefined)(`arbitrary JavaScript inside the sandbox${skipped}`, () => {
  const slots = new SlotBench()
  afterAll(() => slots.close())
  const inside = (
    body: string,
    prepare: (slotDir: string) => void = () => undefined,
  ): Promise<Record<string, unknown>> => slots.javascript(body, { prepare })

  it('opens no socket of any kind, and a listener outside sees nobody', async () => {
    let contacts = 0
    const server = createServer((socket) => {
      contacts++
      socket.destroy()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const seen = await inside(`
      const net = require('node:net'), dgram = require('node:dgram')
      const connect = (o) => new Promise((ok, no) => { const s = net.connect(o, () => ok('connected')); s.on('error', no) })
      return {
        tcp: await attempt(() => connect({ host: '127.0.0.1', port: ${port} })),
        unix: await attempt(() => connect({ path: '/run/docker.sock' })),
        listen: await attempt(() => new Promise((ok, no) => { const s = net.createServer(); s.on('error', no); s.listen(0, () => ok('listens')) })),
        udp: await attempt(() => new Promise((ok, no) => { const s = dgram.createSocket('udp4'); s.on('error', no); s.bind(0, () => ok('bound')) })),
      }`)
    server.close()
    expect(seen).toEqual({ tcp: 'EPERM', unix: 'EPERM', listen: 'EPERM', udp: 'EPERM' })
    expect(contacts).toBe(0)
  })

  it('starts no program and no process', async () => {
    const seen = await inside(`
      const { spawnSync, execFileSync } = require('node:child_process')
      return {
        self: await attempt(() => { const r = spawnSync('/bin/node', ['-e', '1']); if (r.error) throw r.error; return r.status }),
        shell: await attempt(() => execFileSync('/bin/sh', ['-c', 'id'])),
        cluster: await attempt(() => new Promise((ok, no) => { const c = require('node:child_process').fork('/run.cjs'); c.on('error', no); c.on('spawn', () => ok('forked')) })),
      }`)
    expect(seen.self).toBe('EPERM')
    expect(seen.shell).toMatch(/EPERM|ENOENT/)
    expect(seen.cluster).toMatch(/EPERM|ENOENT/)
  })

  it('sees no file of the machine, no /proc, an empty environment and nobody’s identity', async () => {
    const seen = await inside(`
      const read = (p) => attempt(() => fs.readFileSync(p, 'utf8'))
      const write = (p) => attempt(() => { fs.writeFileSync(p, 'x'); return 'written' })
      return {
        passwd: await read('/etc/passwd'), proc: await attempt(() => fs.readdirSync('/proc')), sys: await attempt(() => fs.readdirSync('/sys')), dev: await attempt(() => fs.readdirSync('/dev')),
        environ: JSON.stringify(process.env), root: fs.readdirSync('/').sort().join(), uid: process.getuid(),
        wroteRoot: await write('/x'), wroteRunner: await write('/run.cjs'), wroteMod: await write('/mod/x'), wroteIn: await write('/in/x'), wroteNode: await write('/bin/node'),
        wroteTmp: await write('/tmp/x'), wroteOut: await write('/out/0/x'),
        chown: await attempt(() => fs.chownSync('/tmp/x', 0, 0)), chmod: await attempt(() => fs.chmodSync('/tmp/x', 0o4755)),
        big: await attempt(() => { fs.writeFileSync('/tmp/big', Buffer.alloc(2 << 20)); return 'written' }),
      }`)
    expect(seen).toMatchObject({ passwd: 'ENOENT', proc: 'ENOENT', sys: 'ENOENT', dev: 'ENOENT', uid: 65534 })
    expect(seen).toMatchObject({
      wroteRoot: 'EROFS',
      wroteRunner: 'EROFS',
      wroteMod: 'EROFS',
      wroteIn: 'EROFS',
      wroteNode: 'EROFS',
    })
    expect(seen).toMatchObject({
      wroteTmp: 'written',
      wroteOut: 'written',
      chown: 'EPERM',
      chmod: 'EPERM',
      big: 'EFBIG',
    })
    expect(Object.keys(JSON.parse(seen.environ as string) as object)).toEqual(
      expect.not.arrayContaining(['PATH', 'HOME']),
    )
    expect((seen.root as string).split(',')).toEqual(
      expect.arrayContaining(['bin', 'in', 'mod', 'out', 'run.cjs', 'tmp']),
    )
    expect(seen.root).not.toMatch(/etc|home|var|usr\/bin/)
  })

  it('cannot change its module, nor the compiled code that is linked from the node’s own files', async () => {
    const kept = join(slots.dir, 'kept.code')
    writeFileSync(kept, 'code of the node', { mode: 0o400 })
    const seen = await inside(
      `return {
        read: fs.readFileSync('/mod/0.code', 'utf8'),
        write: await attempt(() => fs.writeFileSync('/mod/0.code', 'x')),
        append: await attempt(() => fs.openSync('/mod/0.code', 'r+')),
        truncate: await attempt(() => fs.truncateSync('/mod/0.code', 0)),
        chmod: await attempt(() => fs.chmodSync('/mod/0.code', 0o777)),
        unlink: await attempt(() => fs.unlinkSync('/mod/0.code')),
        rename: await attempt(() => fs.renameSync('/mod/0.code', '/mod/1.code')),
        linkOut: await attempt(() => fs.linkSync('/mod/0.code', '/tmp/code')),
        add: await attempt(() => fs.writeFileSync('/mod/1.code', 'x')),
      }`,
      (slotDir) => linkSync(kept, join(slotDir, 'mod', '0.code')),
    )
    expect(seen.read).toBe('code of the node')
    for (const what of ['write', 'append', 'truncate', 'unlink', 'rename', 'add'])
      expect(seen[what], what).toMatch(/^(EROFS|EACCES|EPERM)$/)
    expect(seen.chmod).toMatch(/^(EROFS|EPERM)$/)
    expect(seen.linkOut).toMatch(/^(EXDEV|EPERM)$/)
    expect(readFileSync(kept, 'utf8')).toBe('code of the node')
    expect(statSync(kept).mode & 0o777).toBe(0o400)
  })

  it('has only the descriptors it was given', async () => {
    const seen = await inside(`
      const open = []
      for (let fd = 0; fd < 64; fd++) { try { const s = fs.fstatSync(fd); open.push(fd + (s.isFile() ? 'f' : s.isDirectory() ? 'd' : '')) } catch {} }
      return { files: open.filter((one) => /[fd]/.test(one)) }`)
    expect(seen.files).toEqual([])
  })
})

describe.skipIf(problem !== undefined)(`the life of sandboxes${skipped}`, () => {
  it('leaves nothing behind when it is closed, with programs running', async () => {
    const bench = new Bench({ warmSlots: 2 })
    await bench.executor.probe(new AbortController().signal)
    const started = await bench.start(wat('endless'))
    await bench.executor.close()
    expect((await started.running.exit).exitCode).toBe(137)
    expect(readdirSync(join(bench.dataDir, 'slots'))).toEqual([])
    await bench.close()
  })

  it('refuses to start once it is closed', async () => {
    const bench = new Bench()
    await bench.executor.close()
    await expect(bench.start(wat('noop'))).rejects.toMatchObject({ code: 'engine.unavailable' })
    await bench.close()
  })

  it('removes what an earlier process left, and nothing of its own', async () => {
    const bench = new Bench()
    const slots = join(bench.dataDir, 'slots')
    const left = 's-01234567-89ab-cdef-0123-456789abcdef'
    mkdirSync(join(slots, left, 'tmp'), { recursive: true })
    writeFileSync(join(slots, left, 'tmp', 'x'), 'x')
    mkdirSync(join(slots, 'something-else'))
    const started = await bench.start(wat('endless'))
    expect(await bench.executor.reap(new Set())).toEqual([`sandbox directory ${left}`])
    expect(readdirSync(slots)).toContain('something-else')
    await started.running.stop(0)
    await bench.close()
  })

  it.skipIf(!isRoot)(
    `says out of memory when the sandbox itself outgrows its control group${isRoot ? '' : ' (skipped: needs root)'}`,
    async () => {
      const bench = new Bench()
      const health = await bench.executor.probe(new AbortController().signal)
      expect(health).toMatchObject({ available: true })
      expect(health.available && health.details.cgroups).toMatch(/version/)
      const tree = await openCgroupTree('weir-wasm-test-tree')
      if (typeof tree === 'string') throw new Error(tree)
      const group = await tree.create('s-00000000-0000-0000-0000-000000000000')
      await group.limit({ memoryBytes: 32 << 20, cpu: 0.5, pids: 10 })
      expect(await group.wasOutOfMemory()).toBe(false)
      expect(await tree.removeWhere(() => true)).toEqual(['s-00000000-0000-0000-0000-000000000000'])
      await tree.close()
      await bench.close()
    },
  )

  it('ends with the node process, however that ends, and the next one clears up', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-wasm-crash-'))
    const node = spawn(process.execPath, [CHILD, dir, wat('endless')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await saidBy(node, 'running')
    expect(processesNaming(dir).length).toBeGreaterThan(1)
    const runners = sandboxedRunners(dir)
    expect(runners).not.toEqual([])
    const gone = new Promise((resolve) => node.once('close', resolve))
    node.kill('SIGKILL')
    await gone
    const left = () => sandboxedRunners(dir).filter((pid) => runners.includes(pid))
    await expect.poll(left, { timeout: 20_000 }).toEqual([])
    // What was still being made for the next job may wait for ever; the next node ends it.
    const bench = new Bench({ dataDir: dir })
    expect((await bench.executor.reap(new Set())).length).toBeGreaterThanOrEqual(2)
    await expect.poll(() => processesNaming(dir), { timeout: 20_000 }).toEqual([])
    expect(readdirSync(join(dir, 'slots'))).toEqual([])
    await bench.close()
    rmSync(dir, { recursive: true, force: true })
  })

  it('ends at its start what a killed node left half made, and nothing else', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-wasm-stray-'))
    const bench = new Bench({ dataDir: dir })
    const halfMade = (slot: string) => {
      mkdirSync(join(dir, 'slots', slot, 'mod'), { recursive: true })
      // Nobody ever writes to the descriptor that it waits on.
      return spawn(
        'bwrap',
        [
          '--ro-bind',
          '/',
          '/',
          '--ro-bind',
          join(dir, 'slots', slot, 'mod'),
          '/tmp',
          '--block-fd',
          '3',
          'true',
        ],
        { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] },
      )
    }
    const stray = halfMade('s-00000000-0000-4000-8000-000000000000')
    const other = halfMade('another')
    const gone = once(stray, 'exit')
    await expect.poll(() => processesNaming(dir).length).toBeGreaterThanOrEqual(2)
    expect(await bench.executor.reap(new Set())).toContain(
      'sandbox of s-00000000-0000-4000-8000-000000000000',
    )
    await gone
    expect(other.exitCode ?? other.signalCode).toBeNull()
    const left = processesNaming(dir)
    expect(left).toContain(other.pid)
    for (const pid of left) process.kill(pid, 'SIGKILL')
    await bench.close()
    rmSync(dir, { recursive: true, force: true })
  })

  it('leaves no process behind, at whatever moment the node is killed', { timeout: 60_000 }, async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-wasm-crash-'))
    for (const afterMs of [5, 25, 50, 80, 120, 180]) {
      rmSync(join(dir, 'out'), { recursive: true, force: true })
      const node = spawn(process.execPath, [CHILD, dir, wat('endless')], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await expect.poll(() => existsSync(join(dir, 'slots')), { timeout: 20_000, interval: 5 }).toBe(true)
      await expect
        .poll(() => processesNaming(dir).length, { timeout: 20_000, interval: 5 })
        .toBeGreaterThan(0)
      await new Promise((resolve) => setTimeout(resolve, afterMs))
      const gone = once(node, 'close')
      node.kill('SIGKILL')
      await gone
      const bench = new Bench({ dataDir: dir })
      await bench.executor.reap(new Set())
      await expect.poll(() => processesNaming(dir)).toEqual([])
      await bench.close()
      expect(readdirSync(join(dir, 'slots'))).toEqual([])
    }
    rmSync(dir, { recursive: true, force: true })
  })

  it.skipIf(!isRoot)(
    `works for a user without rights${isRoot ? '' : ' (skipped: needs root to become another user)'}`,
    async () => {
      const dir = mkdtempSync(join(tmpdir(), 'weir-wasm-nobody-'))
      chownSync(dir, 65534, 65534)
      const node = spawn(process.execPath, [CHILD, dir, wat('hello')], {
        uid: 65534,
        gid: 65534,
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const said = await saidBy(node, '"exitCode"')
      // A machine that keeps user name spaces from users says so; then the refusal is the right answer.
      if (said.includes('"available":false')) expect(said).toContain('user namespaces')
      else expect(said).toMatch(/"cgroups":"(none: |version 2)[^]*hello from wat[^]*"exitCode":0/)
      rmSync(dir, { recursive: true, force: true })
    },
  )

  it('starts sandboxes from a snapshot of the runner, with a clock and chance of their own', async () => {
    const bench = new Bench({ warmSlots: 1 })
    const start = async () => {
      const health = await bench.executor.probe(new AbortController().signal)
      return health.available ? health.details.start : health.message
    }
    expect(await start()).toBe('plain')
    await expect.poll(start, { timeout: 20_000 }).toBe('snapshot')
    const seen = new Set<string>()
    for (let run = 0; run < 2; run++) {
      let out = Buffer.alloc(0)
      const before = Date.now()
      const onOutput = (_stream: string, data: Uint8Array) => void (out = Buffer.concat([out, data]))
      const { exit } = await bench.run(wat('clock-random'), { onOutput })
      expect(exit).toMatchObject({ exitCode: 0, code: '' })
      const clockMs = Number(out.readBigUInt64LE(0) / 1_000_000n)
      expect(clockMs).toBeGreaterThanOrEqual(before - 100)
      expect(clockMs).toBeLessThanOrEqual(Date.now() + 100)
      seen.add(out.toString('hex', 8))
    }
    expect(seen.size).toBe(2)
    await bench.close()
  })

  it('runs programs in the Node.js that the operator names, and says which that is', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-wasm-node-'))
    const copy = join(dir, 'another-node')
    copyFileSync(process.execPath, copy)
    const bench = new Bench({ node: copy })
    const health = await bench.executor.probe(new AbortController().signal)
    expect(health).toMatchObject({ available: true, details: { node: process.version } })
    const mounts = () => processesNaming(bench.dataDir).map((pid) => mountsOf(pid))
    await expect.poll(() => mounts().join('')).toContain('/another-node')
    expect((await bench.run(wat('hello'))).stdout()).toContain('hello from wat')
    await bench.close()
    rmSync(dir, { recursive: true, force: true })
  })

  it.each(['/nonexistent/node', '/bin/true'])(
    'refuses jobs where %s is to be the Node.js inside',
    async (node) => {
      const bench = new Bench({ node })
      const health = await bench.executor.probe(new AbortController().signal)
      expect(health).toMatchObject({ available: false, message: expect.stringContaining(node) as string })
      await expect(bench.start(wat('noop'))).rejects.toMatchObject({ code: 'sandbox.unavailable' })
      await bench.close()
    },
  )

  it('hands the next job a sandbox that was waiting', async () => {
    const bench = new Bench({ warmSlots: 1 })
    await bench.executor.probe(new AbortController().signal)
    const first = await bench.run(wat('hello'))
    expect(first.exit.details.slot).toBe('warm')
    expect(readFileSync(wat('hello')).length).toBeGreaterThan(0)
    await bench.close()
  })
})

const CHILD = join(import.meta.dirname, 'child.mjs')

/** What the process printed up to its end, or until `text` was in it. */
function saidBy(node: ChildProcess, text: string): Promise<string> {
  return new Promise((resolve) => {
    let said = ''
    node.stdout?.on('data', (bytes: Buffer) => {
      said += bytes.toString()
      if (said.includes(text)) resolve(said)
    })
    node.once('close', () => resolve(said))
  })
}

/** Processes of sandboxes below a directory: bubblewrap's command line names it, its child inside does too until Node starts. */
function processesNaming(dir: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const isInside = mountsOf(Number(pid)).includes(`${dir}/slots`)
        return isInside || readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${dir}/slots`)
      } catch {
        return false
      }
    })
    .map(Number)
}

/** Those of them that are past their making: Node.js with the runner, waiting for a guest or with one. */
function sandboxedRunners(dir: string): number[] {
  return processesNaming(dir).filter((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/exe`).endsWith('/node')
    } catch {
      return false // It has ended.
    }
  })
}

function mountsOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
  } catch {
    return '' // It has ended.
  }
}
