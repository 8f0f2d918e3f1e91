import { mkdir, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

/**
 * Makes a directory with all its missing parents, like `mkdir(path, { recursive: true })`: resolves with the first one that
 * was made, or undefined when all were there. Where directories cannot be made although nothing is in the way (`/proc`),
 * Node's own function tries for ever; this one rejects as mkdir(2) does.
 */
export async function makeDirectory(path: string, mode = 0o777): Promise<string | undefined> {
  const full = resolve(path)
  const parent = dirname(full)
  try {
    return await makeOne(full, mode)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || parent === full) throw error
  }
  const first = await makeDirectory(parent, mode)
  // The parent is there now, or was all the time: then the reason why nothing can be made comes again.
  const made = await makeOne(full, mode)
  return first ?? made
}

async function makeOne(path: string, mode: number): Promise<string | undefined> {
  try {
    await mkdir(path, mode)
    return path
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST' && (await stat(path)).isDirectory()
    if (!isThere) throw error
    return undefined
  }
}
