import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { WeirError } from '../errors.js'
import { openDatabase, sqliteCode, storeError } from './sqlite-driver.js'

/** A data directory that belongs to this process until `release` is called or the process ends, however it ends. */
export interface DataDirLock {
  release(): void
}

/**
 * Takes a data directory for one server. Rejects with `store.locked`, naming the other process, when somebody has it.
 *
 * The lock is SQLite's own exclusive lock on an empty file, because the system frees it when the process dies: nothing
 * can go stale, and no process can be mistaken for another. The file beside it only names the holder.
 * Creates the directory, readable by its owner only.
 */
export async function lockDataDir(dir: string): Promise<DataDirLock> {
  const pidFile = join(dir, 'server.pid')
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw storeError(error, `Cannot create the data directory "${dir}"`)
  }
  const lockFile = join(dir, 'server.lock')
  try {
    // Whoever may read a file may lock it, and keep the server from starting.
    closeSync(openSync(lockFile, 'a', 0o600))
    chmodSync(lockFile, 0o600)
  } catch (error) {
    throw storeError(error, `Cannot lock the data directory "${dir}"`)
  }
  const database = await openDatabase(lockFile)
  try {
    database.pragma('busy_timeout = 0')
    database.exec('BEGIN EXCLUSIVE')
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 })
  } catch (error) {
    database.close()
    throw sqliteCode(error).startsWith('SQLITE_BUSY')
      ? locked(dir, pidFile)
      : storeError(error, `Cannot lock the data directory "${dir}"`)
  }
  let held = true
  return {
    release() {
      if (!held) return
      held = false
      rmSync(pidFile, { force: true })
      database.close()
    },
  }
}

function locked(dir: string, pidFile: string): WeirError {
  const pid = readPid(pidFile)
  const who = pid === undefined ? 'another server' : `another server (pid ${pid})`
  return new WeirError('store.locked', `Cannot use the data directory "${dir}": ${who} uses it`, {
    hint: 'Stop the other server, or give this one a data directory of its own.',
    retryable: true,
    details: pid === undefined ? {} : { pid },
  })
}

function readPid(pidFile: string): number | undefined {
  try {
    const text = readFileSync(pidFile, 'utf8').trim()
    return /^\d{1,10}$/.test(text) ? Number(text) : undefined
  } catch {
    return undefined // The holder is between locking and writing its name, or it may not be read: the lock stands.
  }
}
