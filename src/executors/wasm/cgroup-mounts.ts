import { readFileSync } from 'node:fs'

export interface CgroupMounts {
  /** Version 1: the mount point of each controller. */
  v1: ReadonlyMap<string, string>
  /** Version 2: the mount point, and which group of the hierarchy it shows; `/` = all of it. */
  v2: { mount: string; root: string } | undefined
}

/** Lines of mountinfo: `36 35 98:0 /root /mount options - type source superoptions` (proc_pid_mountinfo(5)). */
export function readMounts(text = readFileSync('/proc/self/mountinfo', 'utf8')): CgroupMounts {
  const v1 = new Map<string, string>()
  let v2: CgroupMounts['v2']
  for (const line of text.split('\n')) {
    const [left = '', right = ''] = line.split(' - ')
    const [, , , root = '', mount = ''] = left.split(' ').map(unescaped)
    const [type, , options = ''] = right.split(' ')
    if (type === 'cgroup2') v2 ??= { mount, root }
    if (type !== 'cgroup') continue
    for (const controller of options.split(',')) if (!v1.has(controller)) v1.set(controller, mount)
  }
  return { v1, v2 }
}

/** The path of this process's group: of a version 1 controller, or, without one, of version 2. */
export function ownGroup(membership: string, controller = ''): string | undefined {
  for (const line of membership.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? []
    if (path !== undefined && controllers?.split(',').includes(controller) === true) return path
  }
  return undefined
}

/** Blanks and the like are written as `\040`. */
function unescaped(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))
}
