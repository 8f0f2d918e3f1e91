import { runHostCommand } from './host-command.js'

/**
 * Whether the kernel's own log says that it killed a process of this container for want of memory: lines as
 * `oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/docker/<id>,…`. A second witness beside the engine, whose helper
 * sometimes finds the container's control group gone before it has heard of the kill.
 *
 * @returns false also when the log cannot be read (not root) or the kernel left the line out, as it does when it kills
 * many processes within seconds. Never rejects.
 */
export async function kernelKilledForMemory(containerId: string): Promise<boolean> {
  try {
    const log = await runHostCommand('dmesg', [], { timeoutMs: WAIT_MS })
    return log.split('\n').some((line) => isKillOf(line, containerId))
  } catch {
    return false // Only root may read it on many machines; then the engine's word stands.
  }
}

function isKillOf(line: string, containerId: string): boolean {
  const [, group = ''] = /oom-kill:.*task_memcg=([^,]*)/.exec(line) ?? []
  return containerId !== '' && group.includes(containerId)
}

const WAIT_MS = 2_000
