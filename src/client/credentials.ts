import { chmod, lstat, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { WeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'

/** What is kept about one server. */
export interface ServerCredential {
  /** API token. */
  token?: string
  /** Pinned: the only key the server may show. */
  fingerprint?: string
}

const BYTES_MAX = 1024 * 1024
const SERVERS_MAX = 1_000

/**
 * What is kept about a server (its address as `formatServerAddress` writes it); undefined when nothing is. Rejects with
 * `credentials.unsafe` when others could read or change the file: what is in it may be known already.
 */
export async function readCredential(dataDir: string, server: string): Promise<ServerCredential | undefined> {
  const servers = await readAll(dataDir)
  return Object.hasOwn(servers, server) ? servers[server] : undefined
}

/** Keeps it in `credentials.json` of the data directory (0600), made when missing; replaced as a whole. */
export async function saveCredential(
  dataDir: string,
  server: string,
  credential: ServerCredential,
): Promise<string> {
  const servers = await readAll(dataDir)
  return writeAll(dataDir, { ...servers, [server]: credential })
}

/** Forgets the token, and the pin too with `andPin`. True when there was a token. */
export async function forgetCredential(dataDir: string, server: string, andPin: boolean): Promise<boolean> {
  const { [server]: known, ...rest } = await readAll(dataDir)
  if (known === undefined) return false
  const { fingerprint } = known
  await writeAll(dataDir, andPin || fingerprint === undefined ? rest : { ...rest, [server]: { fingerprint } })
  return known.token !== undefined
}

function pathOf(dataDir: string): string {
  return join(dataDir, 'credentials.json')
}

type Servers = Record<string, ServerCredential>

async function readAll(dataDir: string): Promise<Servers> {
  const path = pathOf(dataDir)
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw unsafe(path, error.message, 'Check the data directory.')
  })
  if (found === undefined) return {}
  if (!found.isFile()) throw unsafe(path, 'it is not a regular file', 'Remove it and log in again.')
  if ((found.mode & 0o077) !== 0)
    throw unsafe(
      path,
      'others on this machine may read or change it',
      `Run chmod 600 on it; if others can have read it, revoke the tokens and log in again.`,
    )
  const uid = process.getuid?.()
  if (uid !== undefined && uid !== 0 && found.uid !== uid)
    throw unsafe(path, 'it belongs to another user', 'Use a data directory of your own: --data-dir.')
  if (found.size > BYTES_MAX) throw unsafe(path, 'it is too large', 'Remove it and log in again.')
  return parse(path, await readFile(path, 'utf8'))
}

function parse(path: string, text: string): Servers {
  try {
    const { servers } = JSON.parse(text) as { servers?: unknown }
    if (typeof servers === 'object' && servers !== null && !Array.isArray(servers)) {
      return Object.fromEntries(
        Object.entries(servers as Record<string, unknown>).map(([server, value]) => [server, readOne(value)]),
      )
    }
  } catch {
    // The same answer as for a file without servers, below.
  }
  throw unsafe(path, 'it cannot be read', 'Remove it and log in again.')
}

function readOne(value: unknown): ServerCredential {
  const { token, fingerprint } = (value ?? {}) as Record<string, unknown>
  return {
    ...(typeof token === 'string' ? { token } : {}),
    ...(typeof fingerprint === 'string' ? { fingerprint } : {}),
  }
}

async function writeAll(dataDir: string, servers: Servers): Promise<string> {
  const path = pathOf(dataDir)
  if (Object.keys(servers).length > SERVERS_MAX)
    throw unsafe(
      path,
      `it would hold more than ${SERVERS_MAX} servers`,
      'Log out of servers that you no longer use.',
    )
  await makeDirectory(dataDir, 0o700)
  const partial = `${path}.${process.pid}.part`
  const file = await open(partial, 'w', 0o600)
  try {
    // Before anything secret is in it, whatever was left there.
    await chmod(partial, 0o600)
    await file.writeFile(`${JSON.stringify({ servers }, null, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(partial, path)
  return path
}

function unsafe(path: string, problem: string, hint: string): WeirError {
  return new WeirError('credentials.unsafe', `Cannot use the credentials in "${path}": ${problem}`, { hint })
}
