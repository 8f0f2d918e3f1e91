import { lstatSync, readdirSync, readlinkSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { processStartTime } from '../../owner-process.js'

/** Process namespace, process, its start: together they name one process of this machine, until the machine is restarted. */
const NAME = /^weir-exec-(\d+)-(\d+)-(\d+)-[A-Za-z0-9]{6}$/

/**
 * Makes a temporary directory for this process below `place`, and removes those that dead processes of the same user have left
 * there, since nobody could be asked to when they were killed.
 */
export async function makeRunDirectory(place: string): Promise<string> {
  const namespace = processNamespace()
  await Promise.all(
    leftBehind(place, namespace).map((name) =>
      // Another one that starts just now may do the same.
      rm(join(place, name), { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined),
    ),
  )
  return mkdtemp(join(place, `weir-exec-${namespace}-${process.pid}-${processStartTime(process.pid) || 0}-`))
}

function leftBehind(place: string, namespace: string): string[] {
  return readdirSync(place).filter((name) => {
    const [, itsNamespace = '', pid = '', start = ''] = NAME.exec(name) ?? []
    // Nothing is known of processes of other containers that share the directory.
    if (pid === '' || itsNamespace !== namespace || processStartTime(Number(pid)) === start) return false
    const about = lstatSync(join(place, name), { throwIfNoEntry: false })
    return about?.isDirectory() === true && about.uid === process.getuid?.()
  })
}

function processNamespace(): string {
  return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0'
}
