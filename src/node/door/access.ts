import { open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { readConfiguredUsers, TokenAccess, tokenIdIn } from '../../access/index.js'
import type { Config } from '../../config/index.js'
import { WeirError } from '../../errors.js'
import { permissionsOf, type Principal } from '../../model/access.js'
import type { Access, AdminLog, Clock } from '../../ports/index.js'
import { openAdminLog, openTokenStore } from '../../stores/index.js'
import type { NodeLogger } from '../logger.js'
import type { Teardown } from '../teardown.js'
import type { Door } from './door.js'

/** Who may do what on this server, and the record of who did. */
export interface DoorKeepers {
  /** Absent where nobody has to authenticate. */
  access?: Access
  /** Absent for a node that keeps nothing on disk. */
  adminLog?: AdminLog
  /** The file with the first token of a server that had none; undefined when there was one. */
  rootTokenFile?: string
}

export interface KeeperOptions {
  config: Config
  door: Door
  isOnDisk: boolean
  clock: Clock
  logger: NodeLogger
  teardown: Teardown
}

const SERVER: Principal = {
  id: 'server',
  name: 'server',
  kind: 'everyone',
  permissions: permissionsOf('admin'),
  namespaces: '*',
}

/**
 * Opens `access.db` and `admin-audit/` of the data directory, and records the start. A server that asks who is calling and
 * has nobody who may manage it writes its first token to `root-token` (0600). Rejects with `config.invalid`,
 * `store.unavailable`, `audit.unavailable`.
 */
export async function openKeepers(options: KeeperOptions): Promise<DoorKeepers> {
  const { config, door, isOnDisk, clock, logger, teardown } = options
  const { dataDir } = config
  if (!isOnDisk) {
    if (!door.asks) return {}
    throw new WeirError(
      'config.invalid',
      'Cannot ask callers who they are on a node that keeps nothing on disk',
      {
        hint: 'start it with `weir serve`, or set API.Auth.Mode to off',
      },
    )
  }
  const adminLog = await openAdminLog({ dir: join(dataDir, 'admin-audit'), now: () => clock.now() })
  teardown.add('record of administrative actions', () => adminLog.close())
  await recordStart(adminLog, options)
  if (!door.asks) return { adminLog }

  const users = readConfiguredUsers(config.values['API.Auth.Users'])
  const store = await openTokenStore(join(dataDir, 'access.db'), { now: () => clock.now() })
  teardown.add('tokens', () => store.close())
  const access = new TokenAccess({
    store,
    users,
    clock,
    onTrouble: (error) => logger.warn({ err: error }, 'the last use of tokens could not be noted'),
  })
  teardown.add('access', () => access.close())
  const hasManager = users.some(({ principal }) => principal.permissions.has('manage:access'))
  const rootTokenFile = await ensureRootToken(access, adminLog, options, hasManager)
  return { access, adminLog, ...(rootTokenFile === undefined ? {} : { rootTokenFile }) }
}

async function recordStart(adminLog: AdminLog, { config, door }: KeeperOptions): Promise<void> {
  const { values } = config
  await adminLog.append({
    principal: SERVER.id,
    principalName: SERVER.name,
    address: '',
    action: 'server.start',
    object: config.dataDir,
    outcome: 'allowed',
    details: {
      listen: `${values['API.Host']}:${values['API.Port']}`,
      authentication: door.asks ? 'on' : 'off',
      tls: door.tls,
      insecure: String(values['API.AllowInsecure']),
      users: String(values['API.Auth.Users'].length),
      acceptsNetworkedJobs: String(values['JobAdmissionControl.AcceptNetworkedJobs']),
      egressAllow: values['Egress.Allow'].join(' '),
    },
  })
}

/** The token that lets the first admin in; kept in its file until somebody removes it, never shown anywhere else. */
async function ensureRootToken(
  access: TokenAccess,
  adminLog: AdminLog,
  { config, clock }: KeeperOptions,
  hasManager: boolean,
): Promise<string | undefined> {
  const path = join(config.dataDir, 'root-token')
  const now = clock.now()
  const admins = access
    .tokens()
    .filter(
      ({ role, revokedMs, expiresMs }) =>
        role === 'admin' && revokedMs === undefined && (expiresMs === undefined || expiresMs > now),
    )
  const inFile = tokenIdIn((await readFile(path, 'utf8').catch(() => '')).trim())
  if (admins.some(({ id }) => id === inFile)) return path
  if (admins.length > 0 || hasManager) return undefined
  await adminLog.append({
    principal: SERVER.id,
    principalName: SERVER.name,
    address: '',
    action: 'token.create',
    object: 'root',
    outcome: 'allowed',
    details: { role: 'admin', namespaces: '*', file: path },
  })
  const { token, record } = access.createToken({ name: 'root', role: 'admin', namespaces: '*' }, SERVER)
  try {
    await rm(path, { force: true })
    // Made by us or not at all: whoever put something there meanwhile does not get the token.
    const file = await open(path, 'wx', 0o600)
    try {
      await file.writeFile(`${token}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    access.revokeToken(record.id)
    throw new WeirError('store.unavailable', `Cannot write the first token to "${path}"`, { cause: error })
  }
  return path
}
