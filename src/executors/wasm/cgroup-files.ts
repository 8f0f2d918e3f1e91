import { mkdir, readFile, readdir, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export const CPU_PERIOD_US = 100_000
const REMOVE_TRIES = 50

/** Microseconds per period; the kernel takes no less than 1 ms. */
export function cpuQuotaUs(cpu: number): number {
  return Math.max(1_000, Math.round(cpu * CPU_PERIOD_US))
}

/** True when the directory is there afterwards; false when it cannot be made. */
export async function makeDirectory(path: string): Promise<boolean> {
  try {
    await mkdir(path)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EEXIST'
  }
}

export async function groupsIn(parent: string): Promise<string[]> {
  const entries = await readdir(parent, { withFileTypes: true }).catch(() => [])
  return entries.filter((one) => one.isDirectory()).map((one) => one.name)
}

/** Processes of a group itself, not of those below. 0 stands for one that this process cannot see. */
export async function membersOf(group: string): Promise<number[]> {
  const text = await readFile(join(group, 'cgroup.procs'), 'utf8').catch(() => '')
  return text
    .split('\n')
    .filter((one) => /^\d+$/.test(one))
    .map(Number)
}

/** Whether a file of the form `name count` counts any. */
export async function hasCounted(file: string, name: string): Promise<boolean> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1] ?? 0) > 0
}

/** Kills what is in the groups and removes them; one can be removed once its last process is gone, which takes a moment. */
export async function removeGroups(paths: string[]): Promise<void> {
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
  // The kernel's own way (version 2, Linux 5.14) leaves nobody out who is just being born.
  const killed = await writeFile(join(path, 'cgroup.kill'), '1', { flag: 'r+' }).then(
    () => true,
    () => false,
  )
  if (killed) return
  for (const pid of await membersOf(path)) {
    if (pid === 0 || pid === process.pid) continue
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended by itself in the meantime.
    }
  }
}
