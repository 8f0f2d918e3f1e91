import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import { FirstProcess } from './first-process.js'

/**
 * Ends processes of bubblewrap that wait for ever because the node was killed while it started them: they are in no
 * control group yet. They are known by the directory of their slot, which stands in their arguments. Returns the slots.
 */
export function endStraySandboxes(slotsDir: string, isLeftOver: (slotName: string) => boolean): string[] {
  const ended = new Set<string>()
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const first = new FirstProcess(Number(pid))
    const slot = slotOf(pid, `${slotsDir}/`)
    if (slot === undefined || !isLeftOver(slot)) continue
    first.kill()
    ended.add(slot)
  }
  return [...ended]
}

function slotOf(pid: string, prefix: string): string | undefined {
  try {
    if (basename(readlinkSync(`/proc/${pid}/exe`)) !== 'bwrap') return undefined
    const within = readFileSync(`/proc/${pid}/cmdline`, 'latin1')
      .split('\0')
      .find((argument) => argument.startsWith(prefix))
    return within?.slice(prefix.length).split('/')[0]
  } catch {
    return undefined // It has ended, or belongs to somebody else.
  }
}
