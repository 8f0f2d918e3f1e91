import type { Database } from 'better-sqlite3'
import { WeirError } from '../errors.js'

export type { Database, Statement } from 'better-sqlite3'

/**
 * Opens a database file with better-sqlite3, which is an optional dependency and loaded on first use.
 * Rejects with `store.unavailable` when it is not installed or the file cannot be opened.
 */
export async function openDatabase(path: string): Promise<Database> {
  const Driver = await loadDriver()
  try {
    return new Driver(path)
  } catch (error) {
    throw storeError(error, `Cannot open the database "${path}"`)
  }
}

/** Turns what SQLite throws into `store.unavailable` with the advice that fits its code. */
export function storeError(error: unknown, what: string): WeirError {
  if (error instanceof WeirError) return error
  const code = sqliteCode(error)
  const text = error instanceof Error ? error.message : String(error)
  // A record that is no JSON: the database did not notice, but what it holds is not what was written.
  const isGarbled = error instanceof SyntaxError || text.includes('malformed JSON')
  if (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB' || isGarbled) {
    return new WeirError('store.unavailable', `${what}: the file is damaged or not a database (${text})`, {
      hint: 'Restore it from a backup, or move it away to start with an empty one.',
      cause: error,
    })
  }
  const hints: Record<string, string> = {
    SQLITE_FULL: 'Free some disk space; nothing that was acknowledged is lost.',
    SQLITE_CANTOPEN: 'Check that the data directory exists and that this user may write to it.',
    SQLITE_READONLY: 'Check that this user may write to the data directory.',
    EACCES: 'Run it as the user who owns the data directory, or name another one: --data-dir',
    SQLITE_BUSY: 'Another program holds the database; stop it.',
  }
  const hint =
    hints[code] ?? hints[code.split('_').slice(0, 2).join('_')] ?? 'Check the disk and the data directory.'
  return new WeirError('store.unavailable', `${what}: ${text}`, {
    hint,
    retryable: code === 'SQLITE_FULL' || code.startsWith('SQLITE_BUSY'),
    cause: error,
  })
}

/** For example `SQLITE_BUSY`; empty for other errors. */
export function sqliteCode(error: unknown): string {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined
  return typeof code === 'string' ? code : ''
}

async function loadDriver(): Promise<new (path: string) => Database> {
  try {
    const { default: Driver } = await import('better-sqlite3')
    return Driver as unknown as new (
      path: string,
    ) => Database
  } catch (error) {
    throw new WeirError('store.unavailable', 'Cannot keep jobs on disk: better-sqlite3 is not installed', {
      hint: 'Run "npm install better-sqlite3"; without a prebuilt binary it needs make, g++ and python3.',
      cause: error,
    })
  }
}
