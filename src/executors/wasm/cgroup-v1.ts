import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Cgroup, CgroupTree } from './cgroup.js'
import { cpuQuotaUs, groupsIn, hasCounted, makeDirectory, removeGroups } from './cgroup-files.js'
import { ownGroup } from './cgroup-mounts.js'

type Controller = 'memory' | 'pids' | 'cpu'

/** Groups of version 1: each controller has a hierarchy of its own. Needs root. */
export async function openVersion1(
  mounts: ReadonlyMap<string, string>,
  membership: string,
  name: string,
): Promise<CgroupTree> {
  const parentOf = async (controller: Controller): Promise<string> => {
    const mount = mounts.get(controller) ?? ''
    // Inside the node's own group, so that limits on the node hold for its jobs; in a container that path is not there.
    const inside = join(mount, ownGroup(membership, controller) ?? '/', name)
    const parent = (await makeDirectory(inside)) ? inside : join(mount, name)
    await mkdir(parent, { recursive: true })
    return parent
  }
  const parents = {
    memory: await parentOf('memory'),
    pids: await parentOf('pids'),
    cpu: await parentOf('cpu'),
  }
  const paths = (group: string): Record<Controller, string> => ({
    memory: join(parents.memory, group),
    pids: join(parents.pids, group),
    cpu: join(parents.cpu, group),
  })
  return {
    description: 'version 1: memory, pids, cpu',
    create: async (group) => {
      const path = paths(group)
      await Promise.all([...new Set(Object.values(path))].map((one) => mkdir(one, { recursive: true })))
      return version1Group(path)
    },
    removeWhere: async (isLeftOver) => {
      const names = new Set<string>()
      for (const parent of new Set(Object.values(parents)))
        for (const one of await groupsIn(parent)) names.add(one)
      const leftOver = [...names].filter(isLeftOver)
      for (const one of leftOver) await version1Group(paths(one)).remove()
      return leftOver
    },
    close: () => removeGroups([...new Set(Object.values(parents))]),
  }
}

function version1Group(path: Record<Controller, string>): Cgroup {
  const all = [...new Set(Object.values(path))]
  return {
    enter: async (pid) => {
      // Each waits until the kernel's other processors have noticed.
      await Promise.all(all.map((one) => writeFile(join(one, 'cgroup.procs'), String(pid))))
    },
    limit: async ({ memoryBytes, cpu, pids, isBackground }) => {
      const bytes = String(Math.ceil(memoryBytes))
      // The limit with swap can never be below the one without, so the order depends on the direction: lift it first.
      const swap = join(path.memory, 'memory.memsw.limit_in_bytes')
      const { memory, pids: pidsGroup, cpu: cpuGroup } = path
      await writeFile(swap, '-1').catch(() => undefined)
      await writeFile(join(memory, 'memory.limit_in_bytes'), bytes)
      await Promise.all([
        // Not there when the kernel does not count swap.
        writeFile(swap, bytes).catch(() => undefined),
        writeFile(join(pidsGroup, 'pids.max'), String(pids)),
        // The period is the kernel's own.
        writeFile(join(cpuGroup, 'cpu.cfs_quota_us'), cpu > 0 ? String(cpuQuotaUs(cpu)) : '-1'),
      ])
      // Of 1024 that every group has.
      if (isBackground === true) await writeFile(join(path.cpu, 'cpu.shares'), '128')
    },
    wasOutOfMemory: () => hasCounted(join(path.memory, 'memory.oom_control'), 'oom_kill'),
    remove: () => removeGroups(all),
  }
}
