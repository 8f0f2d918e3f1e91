import { open, readFile, readlink, realpath, rename, rm, stat, symlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeadOwner, OWNER } from './owner-process.js'

/** Somebody else changes the file at the same time; waited for so long. */
const WAIT_MS = 2_000
const POLL_MS = 20
/** A lock, the right to remove it, and the right to remove that. */
const DEPTH_MAX = 3

/** The lock of another change did not go away. */
export class FileBusy extends Error {
  readonly lock: string

  constructor(lock: string) {
    super(`"${lock}" is there: another command changes the file`)
    this.lock = lock
  }
}

/**
 * Changes a file as a whole, one change after the other, also between processes: `edit` gets the text (undefined: there is
 * no file) and returns the new one, or undefined to leave everything as it is. Owner and permissions stay, a link stays a
 * link; a new file belongs to whom its directory belongs and gets `newMode`. A reader, also after a crash, sees the old text
 * or the new one, and what a killed process left behind does not hold up the next change. Rejects with the system's error,
 * with {@link FileBusy}, or with what `edit` throws; then nothing has changed.
 */
export async function editWhole(
  file: string,
  edit: (text: string | undefined) => Promise<string | undefined> | string | undefined,
  { newMode = 0o644 }: { newMode?: number } = {},
): Promise<void> {
  const target = await realpath(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return file
    throw error
  })
  const lock = `${target}.lock`
  await take(lock, (owner) => rm(partOf(target, owner), { force: true }))
  try {
    const old = await stat(target).catch(absent)
    const text = old === undefined ? undefined : decoded(await readFile(target))
    const next = await edit(text)
    if (next === undefined || next === text) return
    const like = old ?? (await stat(dirname(target)))
    const { uid, gid } = like
    await replace(target, next, { uid, gid, mode: old === undefined ? newMode : old.mode & 0o777 })
  } finally {
    await rm(lock, { force: true })
  }
}

async function replace(
  target: string,
  text: string,
  like: { uid: number; gid: number; mode: number },
): Promise<void> {
  const part = partOf(target, OWNER)
  try {
    const handle = await open(part, 'wx', 0o600)
    try {
      await handle.writeFile(text)
      await handle.chmod(like.mode)
      const own = await handle.stat()
      if (own.uid !== like.uid || own.gid !== like.gid) await handle.chown(like.uid, like.gid)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(part, target)
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
}

/**
 * A lock is a link whose text names its owner: it is there with its text or not at all. Whoever finds the lock of a process
 * that is gone takes, as a lock again, the right to remove just that one, so that nobody removes a lock that was made since.
 */
async function take(lock: string, clearUp: (owner: string) => Promise<void>, depth = 1): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += POLL_MS) {
    try {
      return await symlink(OWNER, lock)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const owner = await ownerOf(lock)
    if (isDeadOwner(owner) && depth < DEPTH_MAX) {
      const right = `${lock}.${wordOf(owner)}`
      await take(right, async () => {}, depth + 1)
      try {
        if ((await ownerOf(lock)) === owner) {
          await clearUp(owner)
          await rm(lock, { force: true })
        }
      } finally {
        await rm(right, { force: true })
      }
    }
    if (waitedMs >= WAIT_MS) throw new FileBusy(lock)
    if (owner !== '') await sleep(POLL_MS)
  }
}

/** Empty when the lock is gone; what is no lock of ours has an owner that nobody takes for dead. */
async function ownerOf(lock: string): Promise<string> {
  return readlink(lock).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    if (error.code === 'EINVAL') return 'unknown'
    throw error
  })
}

function partOf(target: string, owner: string): string {
  return `${target}.${wordOf(owner)}.part`
}

/** An owner as a part of a file name. */
function wordOf(owner: string): string {
  return owner.split('/').slice(-2).join('-')
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined
  throw error
}

function decoded(bytes: Buffer): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
}
