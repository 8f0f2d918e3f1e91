import { open, rename, rm } from 'node:fs/promises'

/**
 * Replaces a file as a whole, readable by its owner only: a reader, also after a crash, sees the old text or the new
 * one. Rejects with the system's error; the old file stays then.
 */
export async function writeWhole(file: string, text: string): Promise<void> {
  const partial = `${file}.${process.pid}.part`
  try {
    const handle = await open(partial, 'w', 0o600)
    try {
      await handle.chmod(0o600)
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(partial, file)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
}
