import { open, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Somebody else changes the file at the same time; waited for so long. */
const WAIT_MS = 2_000
const POLL_MS = 20

/** The lock of another change did not go away. */
export class FileBusy extends Error {
  readonly lock: string

  constructor(lock: string) {
    super(`"${lock}" is there: another command changes the file, or was interrupted`)
    this.lock = lock
  }
}

/**
 * Changes a file as a whole, one change after the other, also between processes: `edit` gets the text (undefined: there is
 * no file) and returns the new one, or undefined to leave everything as it is. Owner and permissions stay, a link stays a
 * link; a new file belongs to whom its directory belongs. A reader, also after a crash, sees the old text or the new one.
 * Rejects with the system's error, with {@link FileBusy}, or with what `edit` throws; then nothing has changed.
 */
export async function editWhole(
  file: string,
  edit: (text: string | undefined) => Promise<string | undefined> | string | undefined,
): Promise<void> {
  const target = await realpath(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return file
    throw error
  })
  const lock = `${target}.lock`
  const handle = await locked(lock)
  let isMoved = false
  try {
    try {
      const old = await stat(target).catch(absent)
      const text = old === undefined ? undefined : decoded(await readFile(target))
      const next = await edit(text)
      if (next === undefined || next === text) return
      const like = old ?? (await stat(dirname(target)))
      await handle.writeFile(next)
      await handle.chmod(old === undefined ? 0o644 : old.mode & 0o777)
      const own = await handle.stat()
      if (own.uid !== like.uid || own.gid !== like.gid) await handle.chown(like.uid, like.gid)
      await handle.sync()
      await rename(lock, target)
      isMoved = true
    } finally {
      await handle.close()
    }
  } finally {
    // What is there afterwards is the lock of somebody else.
    if (!isMoved) await rm(lock, { force: true })
  }
}

/** The new text is written into the lock itself, which then takes the place of the file. */
async function locked(lock: string): ReturnType<typeof open> {
  for (let waitedMs = 0; ; waitedMs += POLL_MS) {
    try {
      return await open(lock, 'wx', 0o600)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      if (waitedMs >= WAIT_MS) throw new FileBusy(lock)
      await sleep(POLL_MS)
    }
  }
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined
  throw error
}

function decoded(bytes: Buffer): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
}
