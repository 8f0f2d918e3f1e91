import { readFileSync } from 'node:fs'
import { mkdir, readFile, readdir, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface CgroupLimits {
  memoryBytes: number
  /** Cores. */
  cpu: number
  pids: number
  /** When the processor is short, others get eight times as much. */
  isBackground?: boolean
}

/** One sandbox's control group. */
export interface Cgroup {
  /** Moves a process in; its children are born inside. */
  enter(pid: number): Promise<void>
  limit(limits: CgroupLimits): Promise<void>
  /** True when the kernel killed a process of the group for want of memory. */
  wasOutOfMemory(): Promise<boolean>
  /** Kills what is left inside and removes the group. */
  remove(): Promise<void>
}

export interface CgroupTree {
  /** For the engine's details. */
  readonly description: string
  create(name: string): Promise<Cgroup>
  /** Kills and removes every group for which `isLeftOver(name)`. Returns the names. */
  removeWhere(isLeftOver: (name: string) => boolean): Promise<string[]>
  /** Removes the parent, if nothing is left in it. */
  close(): Promise<void>
}

const REMOVE_TRIES = 50
const CPU_PERIOD_US = 100_000
const CONTROLLERS = ['memory', 'pids', 'cpu'] as const
type Controller = (typeof CONTROLLERS)[number]

/**
 * Opens (and makes) the parent of all sandboxes' groups, in version 1 or 2.
 *
 * @param name one path segment, the same at each start of the same node.
 * @returns the tree, or a sentence that says why there is none: not root, not mounted, not writable.
 */
export async function openCgroupTree(name: string): Promise<CgroupTree | string> {
  if (process.getuid?.() !== 0)
    return 'not root: memory is limited for the program, but not for the sandbox around it'
  const mounts = readMounts()
  try {
    const v1 = CONTROLLERS.flatMap((one) => mounts.v1.get(one) ?? [])
    if (v1.length === CONTROLLERS.length) return await openVersion1(mounts, name)
    if (mounts.v2 !== undefined) return await openVersion2(mounts.v2, name)
    return 'no control groups are mounted under /sys/fs/cgroup'
  } catch (error) {
    return `control groups cannot be used: ${(error as Error).message}`
  }
}

interface Mounts {
  v1: Map<string, string>
  v2: string | undefined
}

/** Lines of mountinfo: `36 35 98:0 /root /mount options - type source superoptions`. */
function readMounts(): Mounts {
  const mounts: Mounts = { v1: new Map(), v2: undefined }
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left = '', right = ''] = line.split(' - ')
    const point = left.split(' ')[4] ?? ''
    const [type, , options = ''] = right.split(' ')
    if (type === 'cgroup2') mounts.v2 ??= point
    if (type !== 'cgroup') continue
    for (const controller of options.split(',')) {
      if (!mounts.v1.has(controller)) mounts.v1.set(controller, point)
    }
  }
  return mounts
}

async function openVersion1(mounts: Mounts, name: string): Promise<CgroupTree> {
  const own = ownGroups()
  const parents = new Map<Controller, string>()
  for (const controller of CONTROLLERS) {
    const mount = mounts.v1.get(controller) ?? ''
    // Inside the node's own group, so that limits on the node hold for its jobs; in a container that path is not there.
    const inside = join(mount, own.get(controller) ?? '/', name)
    const parent = (await makeDirectory(inside)) ? inside : join(mount, name)
    await mkdir(parent, { recursive: true })
    parents.set(controller, parent)
  }
  const paths = (group: string): Record<Controller, string> => ({
    memory: join(parents.get('memory') ?? '', group),
    pids: join(parents.get('pids') ?? '', group),
    cpu: join(parents.get('cpu') ?? '', group),
  })
  return {
    description: 'version 1: memory, pids, cpu',
    create: async (group) => {
      const path = paths(group)
      for (const one of new Set(Object.values(path))) await mkdir(one, { recursive: true })
      return version1Group(path)
    },
    removeWhere: async (isLeftOver) => {
      const names = new Set<string>()
      for (const parent of new Set(parents.values())) for (const one of await groupsIn(parent)) names.add(one)
      const leftOver = [...names].filter(isLeftOver)
      for (const one of leftOver) await version1Group(paths(one)).remove()
      return leftOver
    },
    close: () => removeGroups([...new Set(parents.values())]),
  }
}

function version1Group(path: Record<Controller, string>): Cgroup {
  const all = [...new Set(Object.values(path))]
  return {
    enter: async (pid) => {
      for (const one of all) await writeFile(join(one, 'cgroup.procs'), String(pid))
    },
    limit: async ({ memoryBytes, cpu, pids, isBackground }) => {
      const bytes = String(Math.ceil(memoryBytes))
      // The limit with swap can never be below the one without, so the order depends on the direction: lift it first.
      const swap = join(path.memory, 'memory.memsw.limit_in_bytes')
      await writeFile(swap, '-1').catch(() => undefined)
      await writeFile(join(path.memory, 'memory.limit_in_bytes'), bytes)
      // Not there when the kernel does not count swap.
      await writeFile(swap, bytes).catch(() => undefined)
      await writeFile(join(path.pids, 'pids.max'), String(pids))
      await writeFile(join(path.cpu, 'cpu.cfs_period_us'), String(CPU_PERIOD_US))
      await writeFile(join(path.cpu, 'cpu.cfs_quota_us'), cpu > 0 ? String(quota(cpu)) : '-1')
      // Of 1024 that every group has.
      if (isBackground === true) await writeFile(join(path.cpu, 'cpu.shares'), '128')
    },
    wasOutOfMemory: async () => {
      const text = await readFile(join(path.memory, 'memory.oom_control'), 'utf8').catch(() => '')
      return Number(/^oom_kill (\d+)/m.exec(text)?.[1] ?? 0) > 0
    },
    remove: () => removeGroups(all),
  }
}

async function openVersion2(mount: string, name: string): Promise<CgroupTree> {
  const parent = join(mount, name)
  await mkdir(parent, { recursive: true })
  await writeFile(join(mount, 'cgroup.subtree_control'), '+memory +pids +cpu')
  await writeFile(join(parent, 'cgroup.subtree_control'), '+memory +pids +cpu')
  const group = (path: string): Cgroup => ({
    enter: (pid) => writeFile(join(path, 'cgroup.procs'), String(pid)),
    limit: async ({ memoryBytes, cpu, pids, isBackground }) => {
      await writeFile(join(path, 'memory.max'), String(Math.ceil(memoryBytes)))
      await writeFile(join(path, 'memory.swap.max'), '0').catch(() => undefined)
      await writeFile(join(path, 'memory.oom.group'), '1').catch(() => undefined)
      await writeFile(join(path, 'pids.max'), String(pids))
      await writeFile(join(path, 'cpu.max'), `${cpu > 0 ? quota(cpu) : 'max'} ${CPU_PERIOD_US}`)
      // Of 100 that every group has.
      if (isBackground === true) await writeFile(join(path, 'cpu.weight'), '12')
    },
    wasOutOfMemory: async () => {
      const text = await readFile(join(path, 'memory.events'), 'utf8').catch(() => '')
      return Number(/^oom_kill (\d+)/m.exec(text)?.[1] ?? 0) > 0
    },
    remove: () => removeGroups([path]),
  })
  return {
    description: 'version 2: memory, pids, cpu',
    create: async (one) => {
      const path = join(parent, one)
      await mkdir(path, { recursive: true })
      return group(path)
    },
    removeWhere: async (isLeftOver) => {
      const leftOver = (await groupsIn(parent)).filter(isLeftOver)
      for (const one of leftOver) await group(join(parent, one)).remove()
      return leftOver
    },
    close: () => removeGroups([parent]),
  }
}

/** Microseconds per period; the kernel takes no less than 1 ms. */
function quota(cpu: number): number {
  return Math.max(1_000, Math.round(cpu * CPU_PERIOD_US))
}

/** The groups of this process, by controller (version 1). */
function ownGroups(): Map<string, string> {
  const groups = new Map<string, string>()
  for (const line of readFileSync('/proc/self/cgroup', 'utf8').split('\n')) {
    const [, controllers = '', ...path] = line.split(':')
    for (const controller of controllers.split(',')) groups.set(controller, path.join(':'))
  }
  return groups
}

async function makeDirectory(path: string): Promise<boolean> {
  try {
    await mkdir(path)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EEXIST'
  }
}

async function groupsIn(parent: string): Promise<string[]> {
  const entries = await readdir(parent, { withFileTypes: true }).catch(() => [])
  return entries.filter((one) => one.isDirectory()).map((one) => one.name)
}

/** A group can be removed once its last process is gone, which takes the kernel a moment. */
async function removeGroups(paths: string[]): Promise<void> {
  for (const path of paths) {
    for (let attempt = 0; attempt < REMOVE_TRIES; attempt++) {
      try {
        await rmdir(path)
        break
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EBUSY') break
        await killMembers(path)
        await new Promise((resolve) => setTimeout(resolve, Math.min(100, 2 + attempt * 2)))
      }
    }
  }
}

async function killMembers(path: string): Promise<void> {
  const pids = await readFile(join(path, 'cgroup.procs'), 'utf8').catch(() => '')
  for (const pid of pids.split('\n')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch {
      // It has ended by itself in the meantime.
    }
  }
}
