import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Cgroup, type CgroupTree, openCgroupTree } from '../../../src/executors/wasm/cgroup.js'
import { ownGroup, readMounts } from '../../../src/executors/wasm/cgroup-mounts.js'
import { unitOf, version2Group } from '../../../src/executors/wasm/cgroup-v2.js'

const isRoot = process.getuid?.() === 0

describe('finding control groups', () => {
  it('reads mounts of both versions, also with blanks in their names', () => {
    const { v1, v2 } = readMounts(
      [
        '31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755',
        '32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct',
        String.raw`41 31 0:38 /a\040b /sys/fs/cgroup\040two rw,relatime - cgroup2 cgroup2 rw,nsdelegate`,
        '42 31 0:38 / /other rw,relatime - cgroup2 cgroup2 rw',
      ].join('\n'),
    )
    expect(v1.get('cpu')).toBe('/sys/fs/cgroup/cpu,cpuacct')
    expect(v1.get('memory')).toBeUndefined()
    expect(v2).toEqual({ mount: '/sys/fs/cgroup two', root: '/a b' })
  })

  it('finds the own group of a version 1 controller and of version 2', () => {
    const membership = '5:memory:/m:x\n4:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/user.slice/x.scope\n'
    expect(ownGroup(membership, 'memory')).toBe('/m:x')
    expect(ownGroup(membership, 'cpu')).toBe('/c')
    expect(ownGroup(membership)).toBe('/user.slice/x.scope')
    expect(ownGroup('5:memory:/\n')).toBeUndefined()
  })

  it('knows which unit a group belongs to, and whose systemd manages it', () => {
    expect(unitOf('/system.slice/weir.service')).toEqual({ unit: 'weir.service', isUser: false })
    expect(unitOf('/system.slice/weir.service/weir-node')).toEqual({ unit: 'weir.service', isUser: false })
    expect(unitOf('/user.slice/user-1000.slice/session-2.scope')).toEqual({
      unit: 'session-2.scope',
      isUser: false,
    })
    expect(unitOf('/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope')).toEqual({
      unit: 'run-r1.scope',
      isUser: true,
    })
    // The user's systemd itself is a service of the machine's.
    expect(unitOf('/user.slice/user-1000.slice/user@1000.service/init.scope').isUser).toBe(true)
    expect(unitOf('/user.slice/user-1000.slice/user@1000.service')).toEqual({
      unit: 'user@1000.service',
      isUser: false,
    })
    expect(unitOf('/')).toEqual({ unit: undefined, isUser: false })
  })
})

const { v1, v2 } = readMounts()
/** A controller of version 2 that this machine has, wanted ones first: on machines of version 1 only odd ones are left. */
const free = (v2 === undefined ? '' : readFileSync(join(v2.mount, 'cgroup.controllers'), 'utf8'))
  .trim()
  .split(' ')
const controllers = ['memory', 'pids', 'cpu', 'hugetlb', 'misc', 'rdma', 'io'].filter((one) =>
  free.includes(one),
)
const problem = !isRoot ? 'needs root' : v2 === undefined || v2.root !== '/' ? 'needs cgroup2' : undefined
const skipped = problem ?? (controllers.length === 0 ? 'no controller is left for version 2' : undefined)

describe.skipIf(skipped !== undefined)(
  `version 2 on the kernel’s own hierarchy${skipped === undefined ? '' : ` (skipped: ${skipped})`}`,
  () => {
    const mount = v2?.mount ?? ''
    const group = join(mount, `weir-test-${process.pid}`)
    const [controller = ''] = controllers
    const control = join(mount, 'cgroup.subtree_control')
    const wasPassedOn = skipped === undefined && readFileSync(control, 'utf8').includes(controller)
    beforeEach(() => {
      // So a service manager prepares what it delegates.
      if (!wasPassedOn) writeFileSync(control, `+${controller}`)
      mkdirSync(group)
    })
    afterEach(async () => {
      for (const each of [
        join(group, 'weir-node'),
        ...['weir-wasm-t', 'weir-wasm-u'].map((one) => join(group, one)),
        group,
      ]) {
        await expect.poll(() => removed(each)).toBe(true)
      }
      if (!wasPassedOn) writeFileSync(control, `-${controller}`)
    })

    const child = async (options: object): Promise<Record<string, string>> => {
      const text = JSON.stringify({ mount, name: 'weir-wasm-t', controllers: [controller], ...options })
      const process_ = spawn(process.execPath, [CHILD, group, text], { stdio: ['ignore', 'pipe', 'inherit'] })
      let said = ''
      process_.stdout.on('data', (bytes: Buffer) => (said += bytes.toString()))
      await once(process_, 'close')
      return JSON.parse(said) as Record<string, string>
    }
    const name = group.slice(mount.length)

    it('moves the node and its company into a leaf, and limits sandboxes beside it', async () => {
      const answer = await child({ delegates: true, keepCompany: true })
      expect(answer).toMatchObject({
        tree: `version 2: ${controller}`,
        removed: ['s-1'],
        victim: 'SIGKILL',
        again: `version 2: ${controller}`,
      })
      expect(answer.membership).toContain(`0::${name}/weir-node\n`)
      expect(answer.inside).toContain(`0::${name}/weir-wasm-t/s-1\n`)
      expect(readFileSync(join(group, 'cgroup.subtree_control'), 'utf8').trim()).toBe(controller)
      expect(existsSync(join(group, 'weir-wasm-t'))).toBe(false)
    })

    it('does the same without root in a group that was given to the user', async () => {
      for (const file of ['', 'cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads']) {
        chownSync(join(group, file), 65_534, 65_534)
      }
      const answer = await child({ delegates: true, uid: 65_534 })
      expect(answer).toMatchObject({ tree: `version 2: ${controller}`, removed: ['s-1'], victim: 'SIGKILL' })
      expect(answer.inside).toContain(`0::${name}/weir-wasm-t/s-1\n`)
    })

    it('leaves a group alone that was not given away: root then uses the top, others are told the command', async () => {
      const asRoot = await child({ delegates: false, name: `weir-test-top-${process.pid}` })
      expect(asRoot).toMatchObject({ tree: `version 2: ${controller}`, victim: 'SIGKILL' })
      expect(asRoot.membership).toContain(`0::${name}\n`)
      expect(asRoot.inside).toContain(`0::/weir-test-top-${process.pid}/s-1\n`)
      const asUser = await child({ delegates: false, uid: 65_534 })
      expect(asUser.tree).toMatch(/^none: .* was not delegated to it; .*systemd-run --scope -p Delegate=yes/)
      expect(asUser.membership).toContain(`0::${name}\n`)
      expect(readdirSync(group).filter((one) => one.startsWith('weir'))).toEqual([])
    })

    it('uses what there is of the controllers and says what is not limited', async () => {
      const none = await child({ delegates: true, controllers: ['nonexistent'] })
      expect(none.tree).toMatch(/^none: .* passes on none of nonexistent: it has none of them/)
      const answer = await child({ delegates: true, controllers: [controller, 'nonexistent'] })
      expect(answer.tree).toBe(`version 2: ${controller}; not nonexistent`)
    })
  },
)

const noV1 =
  isRoot && v1.has('memory') && v1.has('pids') && v1.has('cpu')
    ? ''
    : 'needs root and memory, pids and cpu in version 1'
const v2Works = isRoot && controllers.length > 2 && controllers[2] === 'cpu'
const real = noV1 === '' || v2Works ? '' : ` (skipped: ${noV1} or 2)`

describe.skipIf(real !== '')(`one group with nothing else around the process${real}`, () => {
  let tree: CgroupTree
  let group: Cgroup
  beforeEach(async () => {
    const opened = await openCgroupTree(`weir-test-alone-${process.pid}`)
    if (typeof opened === 'string') throw new Error(opened)
    tree = opened
    group = await tree.create('s-1')
  })
  afterEach(async () => {
    await group.remove()
    await tree.close()
  })

  /** Runs a program that is inside before it begins. */
  const inside = async (
    program: string,
  ): Promise<{ said: string; code: number | null; signal: string | null }> => {
    const shell = spawn('sh', ['-c', 'read go; exec "$0" -e "$1"', process.execPath, program], {
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    await group.enter(shell.pid ?? 0)
    let said = ''
    shell.stdout.on('data', (bytes: Buffer) => (said += bytes.toString()))
    shell.stdin.end('go\n')
    const [code, signal] = (await once(shell, 'close')) as [number | null, string | null]
    return { said, code, signal }
  }

  it('kills who takes more memory than it has, and tells that from other ends', async () => {
    await group.limit({ memoryBytes: 96 << 20, cpu: 0, pids: 64 })
    expect(await inside('console.log("small")')).toMatchObject({ said: 'small\n', code: 0 })
    expect(await group.wasOutOfMemory()).toBe(false)
    const taker = 'const all = []; for (;;) all.push(Buffer.alloc(8 << 20, 1))'
    expect(await inside(taker)).toMatchObject({ signal: 'SIGKILL' })
    expect(await group.wasOutOfMemory()).toBe(true)
  })

  it('keeps processes and threads to their number', async () => {
    await group.limit({ memoryBytes: 1 << 30, cpu: 0, pids: 24 })
    const forker = `
      const { spawn } = require('node:child_process')
      let failed = 0, begun = 0
      for (let i = 0; i < 40; i++) {
        const one = spawn('sleep', ['5'], { stdio: 'ignore' })
        one.on('error', () => failed++); if (one.pid !== undefined) begun++
      }
      setTimeout(() => { console.log(JSON.stringify({ begun, failed })); process.exit(0) }, 50)`
    const { said } = await inside(forker)
    const { begun, failed } = JSON.parse(said) as { begun: number; failed: number }
    expect(begun + failed).toBe(40)
    expect(begun).toBeLessThan(24)
    // Those that began are still there, and go with the group.
    await group.remove()
    group = await tree.create('s-1')
  })

  it('gives no more of a core than it may have', async () => {
    await group.limit({ memoryBytes: 1 << 30, cpu: 0.2, pids: 64 })
    // A fifth of a core: for three tenths of a second of its own more than one passes, however busy the machine is.
    const spinner = `
      const used = () => process.cpuUsage().user + process.cpuUsage().system
      const [start, before] = [process.hrtime.bigint(), used()]
      while (used() - before < 300_000);
      console.log(Number(process.hrtime.bigint() - start) / 1e6)`
    expect(Number((await inside(spinner)).said)).toBeGreaterThan(1_000)
  })
})

/**
 * Files as the kernel shows them, in an ordinary directory: this machine may keep memory, pids and cpu in version 1, so what
 * is written for them cannot be tried on the kernel everywhere. Nothing is limited here; only the files are looked at.
 */
describe('the files of version 2, in an imitation of the interface', () => {
  const mount = mkdtempSync(join(tmpdir(), 'weir-cgroup2-'))
  afterAll(() => rmSync(mount, { recursive: true, force: true }))
  const make = (path: string, files: Record<string, string>): string => {
    const dir = join(mount, path)
    mkdirSync(dir, { recursive: true })
    for (const [file, text] of Object.entries(files)) writeFileSync(join(dir, file), text)
    return dir
  }
  it('limits memory without swap, processes and cores, each in the form the kernel takes', async () => {
    const group = make('g', { 'memory.events': 'low 0\nhigh 0\nmax 9\noom 1\noom_kill 0\n' })
    const one = version2Group(group, new Set(['memory', 'pids', 'cpu']))
    await one.limit({ memoryBytes: 1_000.5, cpu: 1.5, pids: 64 })
    const text = (file: string): string => readFileSync(join(group, file), 'utf8')
    expect([text('memory.max'), text('memory.swap.max'), text('memory.oom.group')]).toEqual([
      '1001',
      '0',
      '1',
    ])
    expect([text('pids.max'), text('cpu.max')]).toEqual(['64', '150000 100000'])
    await one.limit({ memoryBytes: 1_000, cpu: 0, pids: 64 })
    expect(text('cpu.max')).toBe('max 100000')
    await one.limit({ memoryBytes: 1_000, cpu: 0.001, pids: 64 })
    expect(text('cpu.max')).toBe('1000 100000')
    expect(await one.wasOutOfMemory()).toBe(false)
    make('g', { 'memory.events': 'low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n' })
    expect(await one.wasOutOfMemory()).toBe(true)
  })

  it('writes no file of a controller that is not there', async () => {
    const group = make('h', {})
    await version2Group(group, new Set(['pids'])).limit({ memoryBytes: 1, cpu: 1, pids: 9 })
    expect(readdirSync(group)).toEqual(['pids.max'])
  })
})

const CHILD = join(import.meta.dirname, 'cgroup-child.mjs')

/** A group can be removed once its processes are gone. */
function removed(group: string): boolean {
  try {
    rmdirSync(group)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
  return true
}
