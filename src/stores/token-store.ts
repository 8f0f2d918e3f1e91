import { chmodSync, closeSync, openSync } from 'node:fs'
import type { Database, Statement } from './sqlite-driver.js'
import { WeirError } from '../errors.js'
import { ROLES, type NamespaceScope, type Role } from '../model/access.js'
import type { TokenRecord, TokenStore } from '../ports/index.js'
import { openDatabase, storeError } from './sqlite-driver.js'

export interface TokenStoreOptions {
  /** Tokens that can be used. Default 1,000. */
  usableMax?: number
  /** Revoked and expired ones that stay in the list; the oldest are forgotten first. Default 1,000. */
  endedKept?: number
  /** Milliseconds since the epoch. Default the real time. */
  now?: () => number
}

/**
 * Keeps tokens in a SQLite file of their own, so that a backup of the jobs is no backup of who may do what. Rejects with
 * `store.unavailable` when the file cannot be opened or is damaged: nobody is let in by a guess.
 */
export async function openTokenStore(path: string, options: TokenStoreOptions = {}): Promise<TokenStore> {
  makePrivate(path)
  const database = await openDatabase(path)
  try {
    database.pragma('journal_mode = WAL')
    database.pragma('synchronous = FULL')
    database.exec(SCHEMA)
    return new SqliteTokenStore(database, options)
  } catch (error) {
    database.close()
    throw storeError(error, `Cannot open the tokens in "${path}"`)
  }
}

/** Before SQLite makes it for everybody to read; its other files get the same mode. */
function makePrivate(path: string): void {
  try {
    closeSync(openSync(path, 'a', 0o600))
    chmodSync(path, 0o600)
  } catch (error) {
    throw storeError(error, `Cannot open the tokens in "${path}"`)
  }
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL, role TEXT NOT NULL, namespaces TEXT NOT NULL,
    created INTEGER NOT NULL, created_by TEXT NOT NULL, expires INTEGER, last_used INTEGER, revoked INTEGER
  ) STRICT`

interface Row {
  id: string
  name: string
  hash: string
  role: string
  namespaces: string
  created: number
  created_by: string
  expires: number | null
  last_used: number | null
  revoked: number | null
}

class SqliteTokenStore implements TokenStore {
  readonly #database: Database
  readonly #usableMax: number
  readonly #endedKept: number
  readonly #now: () => number
  readonly #all: Statement
  readonly #insert: Statement
  readonly #setRevoked: Statement
  readonly #setUsed: Statement
  readonly #countUsable: Statement
  readonly #forget: Statement
  #isClosed = false

  constructor(database: Database, options: TokenStoreOptions) {
    this.#database = database
    this.#usableMax = options.usableMax ?? 1_000
    this.#endedKept = options.endedKept ?? 1_000
    this.#now = options.now ?? Date.now
    this.#all = database.prepare('SELECT * FROM tokens ORDER BY created, rowid')
    this.#insert = database.prepare(
      `INSERT INTO tokens (id, name, hash, role, namespaces, created, created_by, expires)
       VALUES (@id, @name, @hash, @role, @namespaces, @created, @createdBy, @expires)`,
    )
    this.#setRevoked = database.prepare('UPDATE tokens SET revoked = ? WHERE id = ? AND revoked IS NULL')
    this.#setUsed = database.prepare(
      'UPDATE tokens SET last_used = max(coalesce(last_used, 0), ?) WHERE id = ?',
    )
    this.#countUsable = database.prepare(
      'SELECT count(*) AS count FROM tokens WHERE revoked IS NULL AND (expires IS NULL OR expires > ?)',
    )
    this.#forget = database.prepare(
      `DELETE FROM tokens WHERE id IN (
         SELECT id FROM tokens WHERE revoked IS NOT NULL OR expires <= ?
         ORDER BY coalesce(revoked, expires) DESC LIMIT -1 OFFSET ?)`,
    )
  }

  all(): TokenRecord[] {
    return this.#guarded('read the tokens', () => (this.#all.all() as Row[]).map(recordOf))
  }

  add(record: TokenRecord): void {
    this.#guarded('keep the token', () =>
      this.#database
        .transaction(() => {
          const now = this.#now()
          const { count } = this.#countUsable.get(now) as { count: number }
          if (count >= this.#usableMax) throw tooMany(this.#usableMax)
          this.#insert.run({
            id: record.id,
            name: record.name,
            hash: record.hash,
            role: record.role,
            namespaces: JSON.stringify(record.namespaces),
            created: record.createdMs,
            createdBy: record.createdBy,
            expires: record.expiresMs ?? null,
          })
          this.#forget.run(now, this.#endedKept)
        })
        .immediate(),
    )
  }

  revoke(id: string, revokedMs: number): void {
    this.#guarded('revoke the token', () => this.#setRevoked.run(revokedMs, id))
  }

  touch(uses: ReadonlyMap<string, number>): void {
    this.#guarded('note the use of tokens', () =>
      this.#database
        .transaction(() => {
          for (const [id, usedMs] of uses) this.#setUsed.run(usedMs, id)
        })
        .immediate(),
    )
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#database.close()
  }

  #guarded<T>(what: string, work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw storeError(error, `Cannot ${what}`)
    }
  }
}

/** A row that somebody changed into nonsense is refused as a whole, rather than read as more than it grants. */
function recordOf(row: Row): TokenRecord {
  const role = ROLES.find((one) => one === row.role)
  const namespaces = readScope(row.namespaces)
  if (role === undefined || namespaces === undefined || !/^[0-9a-f]{64}$/.test(row.hash))
    throw new WeirError('store.unavailable', `Cannot read the token "${row.id}": its record is damaged`, {
      hint: 'Restore the file from a backup, or move it away to start without tokens.',
    })
  return {
    id: row.id,
    name: row.name,
    hash: row.hash,
    role: role satisfies Role,
    namespaces,
    createdMs: row.created,
    createdBy: row.created_by,
    ...(row.expires === null ? {} : { expiresMs: row.expires }),
    ...(row.last_used === null ? {} : { lastUsedMs: row.last_used }),
    ...(row.revoked === null ? {} : { revokedMs: row.revoked }),
  }
}

function readScope(text: string): NamespaceScope | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (value === '*') return value
    return Array.isArray(value) && value.every((one) => typeof one === 'string') ? value : undefined
  } catch {
    return undefined // Said by the caller.
  }
}

function tooMany(max: number): WeirError {
  return new WeirError('access.too_many', `Cannot keep another token: ${max} can be used already`, {
    hint: 'Revoke tokens that nobody uses with `weir auth token revoke`.',
  })
}
