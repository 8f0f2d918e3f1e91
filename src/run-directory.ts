import { lstatSync, readdirSync, readlinkSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { processStartTime } from './owner-process.js'

/**
 * A name for what this process makes outside of itself, and that it cannot take away when it is killed: process namespace,
 * process and its start name one process of this machine, until the machine is restarted.
 */
export function runName(prefix: string): string {
  return `${prefix}-${processNamespace()}-${process.pid}-${processStartTime(process.pid) || 0}`
}

/** True for a {@link runName}, with the six letters of a temporary directory or without, of a process that is gone. */
export function isLeftBehind(name: string, prefix: string): boolean {
  if (!name.startsWith(`${prefix}-`)) return false
  const [, namespace, pid = '', start] =
    /^(\d+)-(\d+)-(\d+)(?:-[A-Za-z0-9]{6})?$/.exec(name.slice(prefix.length + 1)) ?? []
  // Nothing is known of processes of other containers that share the place.
  return pid !== '' && namespace === processNamespace() && processStartTime(Number(pid)) !== start
}

/**
 * Makes a temporary directory for this process below `place`, and removes those that dead processes of the same user have left
 * there, since nobody could be asked to when they were killed.
 */
export async function makeRunDirectory(place: string, prefix: string): Promise<string> {
  await Promise.all(
    leftDirectories(place, prefix).map((name) =>
      // Another one that starts just now may do the same.
      rm(join(place, name), { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined),
    ),
  )
  return mkdtemp(join(place, `${runName(prefix)}-`))
}

function leftDirectories(place: string, prefix: string): string[] {
  return readdirSync(place).filter((name) => {
    if (!isLeftBehind(name, prefix)) return false
    const about = lstatSync(join(place, name), { throwIfNoEntry: false })
    return about?.isDirectory() === true && about.uid === process.getuid?.()
  })
}

function processNamespace(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0'
  } catch {
    return '0' // No Linux: nothing is known of any process, and nothing removed.
  }
}
