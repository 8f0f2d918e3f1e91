import { randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'

/**
 * Names this process so that another one can tell whether it still lives: boot, process id namespace, process id and
 * start time. Where the kernel does not tell, a random name, which nobody ever takes for dead.
 */
export const OWNER: string = describeOwner()

/** True only if the process that a name of {@link OWNER} stands for lived on this machine and is gone. */
export function isDeadOwner(owner: string): boolean {
  const [boot, namespace, pid, startTime] = owner.split('/')
  const [ownBoot, ownNamespace] = OWNER.split('/')
  if (pid === undefined || startTime === undefined) return false
  if (boot !== ownBoot || namespace !== ownNamespace) return false
  return processStartTime(Number(pid)) !== startTime
}

/** Start of a process in clock ticks since boot: together with its id it names one process. Empty when it is gone. */
export function processStartTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? '' : (fields[19] ?? '')
  } catch {
    return ''
  }
}

function describeOwner(): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    const namespace = readlinkSync('/proc/self/ns/pid')
    return [boot, namespace, process.pid, processStartTime(process.pid)].join('/')
  } catch {
    return randomUUID()
  }
}
