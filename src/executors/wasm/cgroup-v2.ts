import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { access, constants, mkdir, readFile, writeFile } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { promisify } from 'node:util'
import type { Cgroup, CgroupTree } from './cgroup.js'
import {
  CPU_PERIOD_US,
  cpuQuotaUs,
  groupsIn,
  hasCounted,
  makeDirectory,
  membersOf,
  removeGroups,
} from './cgroup-files.js'
import { ownGroup } from './cgroup-mounts.js'

export interface Version2Options {
  /** Where the hierarchy is mounted, and which of its groups is seen there. */
  mount: string
  root: string
  /** Text of /proc/self/cgroup. */
  membership: string
  /** Of the parent of all sandboxes' groups. */
  name: string
  /** What is to be limited, as far as it is there. */
  controllers: readonly string[]
  /** Whether systemd manages the hierarchy; default: asked of the machine. */
  systemd?: Systemd | undefined
}

/** What has to be known of systemd: who it lets make groups below a unit's own. */
export interface Systemd {
  /** Whether the unit of this path was started with Delegate=. */
  delegates(group: string): Promise<boolean>
}

/** Where processes of a delegated group go, since a group whose children are limited must have none itself. */
const LEAF = 'weir-node'

/**
 * Groups of version 2, below the node's own group, so that limits on the node hold for its jobs, too.
 *
 * The kernel has two rules. Controllers are passed on by the parent, and a group (other than the very root) that passes
 * them on has no processes itself: so the node first moves into a leaf. That is done only to a group that was given away:
 * systemd must have delegated the unit, or there is no systemd, as in a container. Root, where nothing was delegated,
 * uses a group at the top of the hierarchy. Everybody else gets a sentence with the command that delegates.
 */
export async function openVersion2(options: Version2Options): Promise<CgroupTree | string> {
  const { controllers, name } = options
  const place = await findPlace(options)
  if ('problem' in place) return `none: ${place.problem}`
  const { above } = place
  if (place.hasLeaf) await emptyInto(above, join(above, LEAF))
  const parent = join(above, name)
  const first = await passOn(above, controllers)
  if (first.passed.length === 0) {
    return `none: ${above} passes on none of ${controllers.join(', ')}: ${first.problem}; ${HOW_TO_DELEGATE}`
  }
  await mkdir(parent, { recursive: true })
  const { passed } = await passOn(parent, first.passed)
  const missing = controllers.filter((one) => !passed.includes(one))
  const without = missing.length === 0 ? '' : `; not ${missing.join(', ')}`
  return {
    description: `version 2: ${passed.join(', ')}${without}`,
    create: async (group) => {
      const path = join(parent, group)
      await mkdir(path, { recursive: true })
      return version2Group(path, new Set(passed))
    },
    removeWhere: async (isLeftOver) => {
      const leftOver = (await groupsIn(parent)).filter(isLeftOver)
      await removeGroups(leftOver.map((one) => join(parent, one)))
      return leftOver
    },
    close: () => removeGroups([parent]),
  }
}

export const HOW_TO_DELEGATE =
  'to delegate some: systemd-run --scope -p Delegate=yes (without root also --user), or Delegate=yes in the unit'

type Place = { above: string; hasLeaf: boolean } | { problem: string }

/** 1. The own group, when it is the node's to divide. 2. For root, the top of the hierarchy. 3. None. */
async function findPlace(options: Version2Options): Promise<Place> {
  const { mount, root, membership, systemd = systemdHere() } = options
  const path = ownGroup(membership) ?? '/'
  const within = relative(root, path)
  // In a container without a name space of its own for groups, the own path may lead out of what is mounted.
  const seen = within.startsWith('..') ? mount : join(mount, within)
  const shown = existsSync(seen) ? seen : mount
  const own = basename(shown) === LEAF ? dirname(shown) : shown
  // Only the root of the whole hierarchy has no type; it may have processes and pass on controllers all the same.
  const isTop = (group: string): boolean => !existsSync(join(group, 'cgroup.type'))
  if (isTop(own)) {
    return (await isWritable(own))
      ? { above: own, hasLeaf: false }
      : { problem: `${own} is not writable; ${HOW_TO_DELEGATE}` }
  }
  const delegated = (await isWritable(own)) && (systemd === undefined || (await systemd.delegates(path)))
  if (delegated) return { above: own, hasLeaf: true }
  if (isTop(mount) && (await isWritable(mount))) return { above: mount, hasLeaf: false }
  return { problem: `the group of the node, ${own}, was not delegated to it; ${HOW_TO_DELEGATE}` }
}

async function isWritable(group: string): Promise<boolean> {
  const files = [group, join(group, 'cgroup.procs'), join(group, 'cgroup.subtree_control')]
  const all = files.map((one) =>
    access(one, constants.W_OK).then(
      () => true,
      () => false,
    ),
  )
  return (await Promise.all(all)).every((one) => one)
}

const EMPTY_TRIES = 20

/** Moves all processes of a group into the leaf; again, as long as there are some that were born meanwhile. */
async function emptyInto(group: string, leaf: string): Promise<void> {
  await makeDirectory(leaf)
  for (let attempt = 0; attempt < EMPTY_TRIES; attempt++) {
    // 0 is one that this process cannot see; written back it would mean the writer.
    const members = (await membersOf(group)).filter((pid) => pid !== 0)
    if (members.length === 0) return
    for (const pid of members) {
      await writeFile(join(leaf, 'cgroup.procs'), String(pid)).catch((error: NodeJS.ErrnoException) => {
        // It has ended by itself in the meantime.
        if (error.code !== 'ESRCH') throw error
      })
    }
  }
}

/** Lets the children of a group be limited; returns what they can be limited by, and why not by the rest. */
async function passOn(
  group: string,
  controllers: readonly string[],
): Promise<{ passed: string[]; problem: string }> {
  const words = async (file: string): Promise<string[]> =>
    (await readFile(join(group, file), 'utf8')).trim().split(' ')
  const has = await words('cgroup.controllers')
  let problem = 'it has none of them'
  for (const one of controllers.filter((each) => has.includes(each))) {
    // One at a time: a line with one that is refused does nothing at all.
    await writeFile(join(group, 'cgroup.subtree_control'), `+${one}`).catch(
      (error: NodeJS.ErrnoException) => {
        problem = error.code === 'EBUSY' ? 'it has processes itself' : error.message
      },
    )
  }
  const enabled = await words('cgroup.subtree_control')
  return { passed: controllers.filter((one) => enabled.includes(one)), problem }
}

/** One group with the controllers it has. */
export function version2Group(path: string, has: ReadonlySet<string>): Cgroup {
  const write = (file: string, value: string): Promise<void> => writeFile(join(path, file), value)
  return {
    enter: (pid) => write('cgroup.procs', String(pid)),
    limit: async ({ memoryBytes, cpu, pids, isBackground }) => {
      if (has.has('memory')) {
        await write('memory.max', String(Math.ceil(memoryBytes)))
        // Not there when the kernel does not count swap.
        await write('memory.swap.max', '0').catch(() => undefined)
        await write('memory.oom.group', '1').catch(() => undefined)
      }
      if (has.has('pids')) await write('pids.max', String(pids))
      if (!has.has('cpu')) return
      await write('cpu.max', `${cpu > 0 ? cpuQuotaUs(cpu) : 'max'} ${CPU_PERIOD_US}`)
      // Of 100 that every group has.
      if (isBackground === true) await write('cpu.weight', '12')
    },
    wasOutOfMemory: () => hasCounted(join(path, 'memory.events'), 'oom_kill'),
    remove: () => removeGroups([path]),
  }
}

/** Undefined where systemd is not what manages the machine, as sd_booted(3) asks. */
function systemdHere(): Systemd | undefined {
  if (!existsSync('/run/systemd/system')) return undefined
  return {
    async delegates(group) {
      const { unit, isUser } = unitOf(group)
      if (unit === undefined) return false
      const { XDG_RUNTIME_DIR = '', DBUS_SESSION_BUS_ADDRESS = '' } = process.env
      const args = [...(isUser ? ['--user'] : []), 'show', '--property=Delegate', '--value', '--', unit]
      try {
        const env = { PATH: '/usr/bin:/bin', XDG_RUNTIME_DIR, DBUS_SESSION_BUS_ADDRESS }
        const { stdout } = await promisify(execFile)('systemctl', args, { env, timeout: 5_000 })
        return stdout.trim() === 'yes'
      } catch {
        // Nobody says that it was delegated, so it was not.
        return false
      }
    },
  }
}

/** The unit that a group belongs to, and whether a user's own systemd manages it: below `user@1000.service`. */
export function unitOf(group: string): { unit: string | undefined; isUser: boolean } {
  const parts = group.split('/')
  const at = parts.findLastIndex((one) => /\.(service|scope)$/.test(one))
  const manager = parts.findIndex((one) => /^user@\d+\.service$/.test(one))
  return { unit: parts[at], isUser: manager >= 0 && manager < at }
}
