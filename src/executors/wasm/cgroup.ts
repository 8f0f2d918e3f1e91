import { readFileSync } from 'node:fs'
import { readMounts } from './cgroup-mounts.js'
import { openVersion1 } from './cgroup-v1.js'
import { openVersion2 } from './cgroup-v2.js'

export interface CgroupLimits {
  memoryBytes: number
  /** Cores; 0 = no limit. */
  cpu: number
  pids: number
  /** When the processor is short, others get eight times as much. */
  isBackground?: boolean
}

/** One sandbox's control group. What its controllers cannot limit is not limited. */
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
  /** For the engine's details: the version and what is limited. */
  readonly description: string
  create(name: string): Promise<Cgroup>
  /** Kills and removes every group for which `isLeftOver(name)`. Returns the names. */
  removeWhere(isLeftOver: (name: string) => boolean): Promise<string[]>
  /** Removes the parent, if nothing is left in it. */
  close(): Promise<void>
}

/** What a tree is to limit. Absent ones are left out, and the description says so. */
export const CONTROLLERS = ['memory', 'pids', 'cpu'] as const

/**
 * Opens (and makes) the parent of all sandboxes' groups, in version 1 or 2.
 *
 * Version 1 needs root. Version 2 works for everybody to whom a part of the tree was delegated: see cgroup-v2.ts.
 *
 * @param name one path segment, the same at each start of the same node.
 * @returns the tree, or a sentence that says why there is none and what to do.
 */
export async function openCgroupTree(name: string): Promise<CgroupTree | string> {
  const [mounts, membership] = [readMounts(), readFileSync('/proc/self/cgroup', 'utf8')]
  try {
    if (CONTROLLERS.every((one) => mounts.v1.has(one))) {
      if (process.getuid?.() === 0) return await openVersion1(mounts.v1, membership, name)
      return 'none: version 1 needs root; memory is limited for the program, but not for the sandbox around it'
    }
    if (mounts.v2 === undefined) return 'none: no control groups are mounted'
    return await openVersion2({ ...mounts.v2, membership, name, controllers: CONTROLLERS })
  } catch (error) {
    return `none: control groups cannot be used: ${(error as Error).message}`
  }
}
