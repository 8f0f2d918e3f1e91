import { readFile, stat } from 'node:fs/promises'
import { WeirError } from '../errors.js'
import { quoted } from '../model/printable.js'
import type { ErrorCode } from '../errors.js'

/**
 * Reads a file that the user named. Throws `cli.usage` when it cannot be read, and `tooLarge` when it has more than
 * `bytesMax`. `what` is for messages: `the job file`.
 */
export async function readLocalFile(
  path: string,
  limits: { what: string; bytesMax: number; tooLarge: ErrorCode },
): Promise<Buffer> {
  const { what, bytesMax, tooLarge } = limits
  try {
    const { size } = await stat(path)
    if (size > bytesMax) {
      throw new WeirError(
        tooLarge,
        `Cannot read ${what} ${quoted(path, 200)}: it has ${size} bytes, at most ${bytesMax} are read`,
      )
    }
    return await readFile(path)
  } catch (error) {
    throw error instanceof WeirError ? error : fileError(error, what, path)
  }
}

/** Throws `cli.usage` when there is nothing at the path. */
export async function requireLocalPath(path: string, what: string, hint?: string): Promise<void> {
  try {
    await stat(path)
  } catch (error) {
    throw fileError(error, what, path, hint)
  }
}

function fileError(error: unknown, what: string, path: string, hint?: string): WeirError {
  const { code = '', message } = error as NodeJS.ErrnoException
  return new WeirError('cli.usage', `Cannot read ${what} ${quoted(path, 200)}: ${REASONS[code] ?? message}`, {
    hint,
    cause: error,
  })
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'this user may not read it',
  EISDIR: 'it is a directory',
  ENOTDIR: 'a part of the path is not a directory',
}
