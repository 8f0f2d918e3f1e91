import { WeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'

/** Makes the data directory, readable by its owner only. Rejects with `store.unavailable`. */
export async function makeDataDir(dataDir: string): Promise<void> {
  try {
    await makeDirectory(dataDir, 0o700)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new WeirError(
      'store.unavailable',
      `Cannot create the data directory "${dataDir}": ${code ?? message}`,
      {
        hint: 'Name a directory that this user can write to: --data-dir or WEIR_DIR',
        cause: error,
      },
    )
  }
}
