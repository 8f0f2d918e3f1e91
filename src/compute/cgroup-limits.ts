import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** What control groups leave to this process; `Infinity` = no limit found. */
export interface CgroupLimits {
  cpu: number
  memoryBytes: number
}

/** Where the kernel shows them; tests point somewhere else. */
export interface CgroupPlaces {
  /** `/proc/self/cgroup`. */
  membershipFile: string
  /** `/sys/fs/cgroup`. */
  mount: string
}

export const CGROUP_PLACES: CgroupPlaces = Object.freeze({
  membershipFile: '/proc/self/cgroup',
  mount: '/sys/fs/cgroup',
})

/**
 * The tightest limits of the groups this process is in, own and above, in version 1 and version 2 (also both at once).
 * Files that are not there limit nothing: inside a container the path in `membershipFile` may not exist, the group
 * of the container is then the mount's root.
 */
export async function readCgroupLimits(places: CgroupPlaces = CGROUP_PLACES): Promise<CgroupLimits> {
  const limits: CgroupLimits = { cpu: Infinity, memoryBytes: Infinity }
  for (const line of (await readText(places.membershipFile)).split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) continue
    for (const group of groupDirs(places.mount, controllers, path)) {
      limits.cpu = Math.min(limits.cpu, await cpuLimit(group, controllers))
      limits.memoryBytes = Math.min(limits.memoryBytes, await memoryLimit(group, controllers))
    }
  }
  return limits
}

/** The group's directory and all above it, in every place where its hierarchy is mounted by custom. */
function groupDirs(mount: string, controllers: string, path: string): string[] {
  const roots =
    controllers === ''
      ? [mount, join(mount, 'unified')]
      : [...new Set([controllers, ...controllers.split(',')])].map((name) => join(mount, name))
  return roots.flatMap((root) => ancestors(path).map((part) => join(root, part)))
}

function ancestors(path: string): string[] {
  const all = [path]
  for (let at = path; at !== '/'; all.push(at)) at = dirname(at)
  return all
}

async function cpuLimit(group: string, controllers: string): Promise<number> {
  if (controllers === '') {
    const [quota, period] = (await readText(join(group, 'cpu.max'))).trim().split(' ')
    return ratio(quota, period)
  }
  if (!controllers.split(',').includes('cpu')) return Infinity
  const quota = await readText(join(group, 'cpu.cfs_quota_us'))
  return ratio(quota.trim(), (await readText(join(group, 'cpu.cfs_period_us'))).trim())
}

async function memoryLimit(group: string, controllers: string): Promise<number> {
  if (controllers !== '' && !controllers.split(',').includes('memory')) return Infinity
  const file = controllers === '' ? 'memory.max' : 'memory.limit_in_bytes'
  const bytes = Number((await readText(join(group, file))).trim() || 'max')
  // Version 1 writes "no limit" as a number near 2^63.
  return bytes > 0 && bytes < 2 ** 60 ? bytes : Infinity
}

function ratio(quota: string | undefined, period: string | undefined): number {
  const cores = Number(quota || 'max') / Number(period || 'max')
  return cores > 0 ? cores : Infinity
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    // The file does not exist for this version, this controller or the root group: no limit from here.
    return ''
  }
}
