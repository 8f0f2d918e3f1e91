/**
 * Who may do what, as words: a role is a set of permissions, and a principal holds them in some namespaces.
 * Absent and empty lists grant nothing.
 */

export const ROLES = ['admin', 'submitter', 'reader'] as const
export type Role = (typeof ROLES)[number]

/** Reading and writing per kind of thing, in the words of Bacalhau's capabilities, and the management of access itself. */
export const PERMISSIONS = [
  'read:job',
  'write:job',
  'read:node',
  'write:node',
  'read:agent',
  'write:agent',
  'manage:access',
] as const
export type Permission = (typeof PERMISSIONS)[number]

/** Where a principal's job permissions hold: everywhere, or in these namespaces only. */
export type NamespaceScope = '*' | readonly string[]

/** Somebody whom the server knows. */
export interface Principal {
  /** `t-…` for a token, `user:name` for a configured user, `everyone` where nobody has to authenticate. */
  id: string
  name: string
  kind: 'token' | 'user' | 'everyone'
  /** Absent for configured users whose capabilities are no role. */
  role?: Role
  permissions: ReadonlySet<Permission>
  namespaces: NamespaceScope
  expiresMs?: number
}

const ROLE_PERMISSIONS: Readonly<Record<Role, readonly Permission[]>> = {
  admin: PERMISSIONS,
  submitter: ['read:job', 'write:job', 'read:node'],
  reader: ['read:job', 'read:node'],
}

export function permissionsOf(role: Role): ReadonlySet<Permission> {
  return new Set(ROLE_PERMISSIONS[role])
}

/** True when the principal's namespaces include this one. */
export function coversNamespace(scope: NamespaceScope, namespace: string): boolean {
  return scope === '*' || scope.includes(namespace)
}

/** What a caller is where nobody has to authenticate: everything is allowed, as on a machine of one's own. */
export const EVERYONE: Principal = Object.freeze({
  id: 'everyone',
  name: 'everyone',
  kind: 'everyone',
  role: 'admin',
  permissions: permissionsOf('admin'),
  namespaces: '*',
})

/** Why a name cannot be the name of a token; undefined when it can. */
export function tokenNameProblem(name: string): string | undefined {
  return /^[\p{L}\p{N}][\p{L}\p{N} ._@/-]{0,99}$/u.test(name)
    ? undefined
    : 'a name has 1 to 100 letters, digits, spaces or . _ @ / - and begins with a letter or digit'
}

/** Why a text cannot be a namespace of a token; undefined when it can. */
export function namespaceProblem(namespace: string): string | undefined {
  return /^[\x21-\x29\x2b-\x7e]{1,256}$/.test(namespace)
    ? undefined
    : 'a namespace has 1 to 256 printable characters without spaces, or is * for all'
}
