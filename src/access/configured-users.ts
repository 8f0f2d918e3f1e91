import { WeirError } from '../errors.js'
import {
  namespaceProblem,
  PERMISSIONS,
  permissionsOf,
  type NamespaceScope,
  type Permission,
  type Principal,
} from '../model/access.js'
import { readStoredPassword, type StoredPassword } from './password.js'
import { hashSecret } from './token-text.js'

/** A user of the configuration: with a key, with name and password, or with both. */
export interface ConfiguredUser {
  principal: Principal
  /** Hex SHA-256. */
  keyHash?: string
  /** Lower case. */
  username?: string
  password?: StoredPassword
}

const USERS_MAX = 1_000
const FIELDS = ['Alias', 'Username', 'Password', 'APIKey', 'Capabilities', 'Namespaces']

/**
 * Reads `API.Auth.Users` in the shape of Bacalhau 1.9: `Alias`, `Username`, `Password`, `APIKey`,
 * `Capabilities: [{Actions: […]}]`; and `Namespaces`, which is ours (absent = all, as in Bacalhau; empty = none).
 * Throws `config.invalid` with every mistake; secrets are never quoted.
 */
export function readConfiguredUsers(entries: readonly unknown[]): ConfiguredUser[] {
  const problems: string[] = []
  const users = entries.slice(0, USERS_MAX).flatMap((entry, index) => {
    const say = (problem: string): void => {
      problems.push(`API.Auth.Users[${index}]: ${problem}`)
    }
    return readUser(entry, index, say) ?? []
  })
  if (entries.length > USERS_MAX)
    problems.push(`API.Auth.Users: at most ${USERS_MAX} users can be configured`)
  for (const [what, values] of [
    ['APIKey', users.map(({ keyHash }) => keyHash)],
    ['Username', users.map(({ username }) => username)],
  ] as const) {
    const given = values.filter((value) => value !== undefined)
    if (new Set(given).size < given.length) problems.push(`API.Auth.Users: two users have the same ${what}`)
  }
  if (problems.length === 0) return users
  throw new WeirError(
    'config.invalid',
    ['Cannot use the users of the configuration:', ...problems.map((problem) => `  ${problem}`)].join('\n'),
    { hint: 'see "Users of the configuration" in docs/users-and-tokens.md' },
  )
}

type Say = (problem: string) => void

function readUser(entry: unknown, index: number, say: Say): ConfiguredUser | undefined {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) {
    say('expected a map')
    return undefined
  }
  const fields = new Map(Object.entries(entry).map(([name, value]) => [name.toLowerCase(), value as unknown]))
  for (const name of fields.keys()) {
    if (!FIELDS.some((field) => field.toLowerCase() === name))
      say(`unknown field ${JSON.stringify(name.slice(0, 40))}; there are ${FIELDS.join(', ')}`)
  }
  const username = readText(fields, 'Username', say)
  const key = readText(fields, 'APIKey', say)
  const passwordText = readText(fields, 'Password', say)
  const password = passwordText === undefined ? undefined : readStoredPassword(passwordText)
  if (typeof password === 'string') say(`Password: ${password}`)
  if (username !== undefined && !/^[A-Za-z0-9]{1,100}$/.test(username))
    say('Username: a name has 1 to 100 letters and digits')
  if (key !== undefined && !/^[\x21-\x7e]{20,255}$/.test(key))
    say('APIKey: a key has 20 to 255 printable characters without spaces')
  if ((username === undefined) !== (passwordText === undefined)) say('Username and Password belong together')
  if (key === undefined && username === undefined) say('give an APIKey, or Username and Password')
  const name = readText(fields, 'Alias', say) ?? username ?? `user ${index + 1}`
  return {
    principal: {
      id: `user:${username?.toLowerCase() ?? name}`,
      name,
      kind: 'user',
      permissions: readCapabilities(fields.get('capabilities'), say),
      namespaces: readNamespaces(fields.get('namespaces'), say),
    },
    ...(key === undefined ? {} : { keyHash: hashSecret(key) }),
    ...(username === undefined ? {} : { username: username.toLowerCase() }),
    ...(password === undefined || typeof password === 'string' ? {} : { password }),
  }
}

function readText(fields: ReadonlyMap<string, unknown>, name: string, say: Say): string | undefined {
  const value = fields.get(name.toLowerCase())
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value === 'string' && value.length <= 4_096) return value
  say(`${name}: expected text`)
  return undefined
}

/** `[{Actions: [read:job, …]}]`; `read:*`, `write:*` and `*` stand for several. Absent and empty: nothing is allowed. */
function readCapabilities(value: unknown, say: Say): ReadonlySet<Permission> {
  const granted = new Set<Permission>()
  for (const capability of asList(value)) {
    const actions = (capability as { Actions?: unknown; actions?: unknown } | null) ?? {}
    for (const action of asList(actions.Actions ?? actions.actions)) {
      const found = expand(action)
      if (found.length === 0)
        say(`Capabilities: ${JSON.stringify(String(action).slice(0, 40))} is none of ${ACTIONS.join(', ')}`)
      for (const permission of found) granted.add(permission)
    }
  }
  return granted
}

const ACTIONS = [...PERMISSIONS.filter((one) => one !== 'manage:access'), 'read:*', 'write:*', '*']

function expand(action: unknown): readonly Permission[] {
  if (action === '*') return [...permissionsOf('admin')]
  if (action === 'read:*' || action === 'write:*')
    return PERMISSIONS.filter((one) => one.startsWith(action.slice(0, -1)))
  return PERMISSIONS.filter((one) => one === action && one !== 'manage:access')
}

function readNamespaces(value: unknown, say: Say): NamespaceScope {
  if (value === undefined || value === null) return '*'
  const names = asList(value).map(String)
  if (names.includes('*')) return '*'
  for (const name of names) {
    const problem = namespaceProblem(name)
    if (problem !== undefined) say(`Namespaces: ${problem}`)
  }
  return names
}

function asList(value: unknown): readonly unknown[] {
  if (value === undefined || value === null) return []
  return Array.isArray(value) ? value : [value]
}
