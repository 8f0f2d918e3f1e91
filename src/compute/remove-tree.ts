import { Buffer } from 'node:buffer'
import { chmodSync, lstatSync, renameSync, rmdirSync, unlinkSync } from 'node:fs'
import { WeirError } from '../errors.js'
import { printable } from '../model/printable.js'
import { OpenDirectory } from './open-directory.js'

/**
 * Removes a directory tree that a job may have built to be hard to remove: any depth, a million files, names that are
 * no text, directories without rights. Links are removed and never followed; other mounted file systems are not
 * entered. What is missing already is fine. Rejects with `compute.cleanup` when something resists; the rest is gone then.
 *
 * A deep tree is flattened while it is removed: directories two levels down move up to the root, so that the work needs
 * two descriptors however deep the tree is.
 */
export async function removeTree(path: string): Promise<void> {
  let root: OpenDirectory
  try {
    if (!lstatSync(path).isDirectory()) return unlinkSync(path)
    root = openOwned(Buffer.from(path))
  } catch (error) {
    if (isMissing(error)) return
    throw cleanupError(path, error)
  }
  try {
    const removal = new Removal(root)
    for (let again = true; again; ) again = await removal.pass()
    if (removal.failure !== undefined) throw removal.failure
    rmdirSync(path)
  } catch (error) {
    if (!isMissing(error)) throw cleanupError(path, error)
  } finally {
    root.closeAside()
  }
}

class Removal {
  /** What resisted in the last pass. */
  failure: unknown
  private readonly root: OpenDirectory
  private readonly device: number
  private readonly prefix = `.weir-removing-${process.pid}-${Date.now()}-`
  private moved = 0

  constructor(root: OpenDirectory) {
    this.root = root
    this.device = root.stat().dev
  }

  /** Goes through the root once; true when another pass is needed and can get further. */
  async pass(): Promise<boolean> {
    this.failure = undefined
    let removed = 0
    let left = 0
    const movedBefore = this.moved
    for await (const { name } of this.root.entries()) {
      try {
        await this.removeEntry(name)
        removed += 1
      } catch (error) {
        if (isMissing(error)) continue
        this.failure ??= error
        left += 1
      }
    }
    return removed > 0 && (left > 0 || this.moved > movedBefore)
  }

  private async removeEntry(name: Buffer): Promise<void> {
    const path = this.root.path(name)
    const stats = lstatSync(path)
    if (!stats.isDirectory()) return unlinkSync(path)
    if (stats.dev !== this.device) throw new Error('another file system is mounted in it')
    const directory = openOwned(path)
    let failure: unknown
    try {
      for await (const inner of directory.entries()) {
        try {
          this.removeInner(directory.path(inner.name))
        } catch (error) {
          if (!isMissing(error)) failure ??= error
        }
      }
    } finally {
      directory.close()
    }
    if (failure !== undefined) throw failure
    rmdirSync(path)
  }

  private removeInner(path: Buffer): void {
    const stats = lstatSync(path)
    if (!stats.isDirectory()) return unlinkSync(path)
    // Moving a directory changes its "..", which needs the right to write it.
    if (process.geteuid?.() !== 0) chmodSync(path, 0o700)
    this.moved += 1
    renameSync(path, this.root.path(`${this.prefix}${this.moved}`))
  }
}

/** Opens a directory and takes the rights to empty it. */
function openOwned(path: Buffer): OpenDirectory {
  if (process.geteuid?.() !== 0) chmodSync(path, 0o700)
  return new OpenDirectory(path)
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

function cleanupError(path: string, error: unknown): WeirError {
  const reason = error instanceof Error ? error.message : String(error)
  return new WeirError('compute.cleanup', `Cannot remove "${printable(path)}": ${printable(reason, 300)}`, {
    hint: 'Look for mounts and immutable files in it, and remove it by hand',
    retryable: true,
    cause: error,
  })
}
