import { execFile } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { promisify } from 'node:util'

/** Removes a directory with whatever a program left in it, following no link. */
export async function removeTree(dir: string): Promise<void> {
  try {
    await rm(dir, { recursive: true, force: true })
  } catch {
    // Paths inside can be longer than the kernel takes at once, and directories can be closed to their owner; rm walks
    // by descriptors.
    await promisify(execFile)('rm', ['-rf', '--one-file-system', '--', dir], {
      env: { PATH: '/usr/bin:/bin' },
    })
  }
}
