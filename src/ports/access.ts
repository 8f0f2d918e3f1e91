import type { NamespaceScope, Principal, Role } from '../model/access.js'

/** What is kept about an API token: everything but the token. */
export interface TokenRecord {
  /** `t-` and 12 characters; part of the token, so it can be looked up without a secret. */
  id: string
  name: string
  /** Hex SHA-256 of the token's text. */
  hash: string
  role: Role
  namespaces: NamespaceScope
  createdMs: number
  /** Id of the principal that made it; `server` for the first one. */
  createdBy: string
  /** Absent = it does not expire. */
  expiresMs?: number
  /** Absent = never used. May lag behind by a minute. */
  lastUsedMs?: number
  /** Absent = not revoked. */
  revokedMs?: number
}

/** Keeps tokens. Called from one process. */
export interface TokenStore {
  /** Oldest first. */
  all(): TokenRecord[]
  /** Durable when it returns. Throws `access.too_many` when the store is full of usable tokens, `store.unavailable`. */
  add(record: TokenRecord): void
  /** Durable when it returns. */
  revoke(id: string, revokedMs: number): void
  /** When tokens were last used, by id. */
  touch(uses: ReadonlyMap<string, number>): void
  close(): void
}

/** How a caller proves who it is. */
export type Credential =
  | { kind: 'bearer'; token: string }
  | { kind: 'basic'; username: string; password: string }

export interface NewToken {
  name: string
  role: Role
  namespaces: NamespaceScope
  /** Absent = it does not expire. */
  expiresMs?: number
}

/** Everything the API asks about users and tokens. */
export interface Access {
  /**
   * Who the credential belongs to. Rejects with `api.unauthorized`, or `api.overload` when this address has failed too
   * often; a credential that is right is not held up by the failures of others.
   */
  authenticate(credential: Credential, address: string): Promise<Principal>
  /** Aborts when the principal loses its rights: revoked or expired. */
  endOf(principal: Principal): AbortSignal
  /** Newest last. */
  tokens(): TokenRecord[]
  /** The text is not kept and cannot be shown again. Throws `access.invalid`, `access.too_many`, `store.unavailable`. */
  createToken(token: NewToken, by: Principal): { token: string; record: TokenRecord }
  /** At once, open streams included. Throws `access.not_found`; a token that is revoked already stays so. */
  revokeToken(id: string): TokenRecord
}

/** One line about an administrative action. */
export interface AdminAction {
  /** Id of who acts; empty when nobody was recognised. */
  principal: string
  principalName: string
  /** Network address of the caller; empty for the server itself. */
  address: string
  /** For example `token.create`. */
  action: string
  /** What it was done to: an id, a name. */
  object: string
  /** `allowed` is written before the action is carried out; `failed` follows when it could not be. */
  outcome: 'allowed' | 'denied' | 'failed'
  /** Plain values that say more; never secrets. */
  details?: Readonly<Record<string, string>>
}

/**
 * A line as it is kept. `hash` = SHA-256 over the JSON of the record without `hash`; `previousHash` is the hash of the
 * line before (64 zeros for the first).
 */
export interface AdminRecord extends AdminAction {
  timeMs: number
  /** From 1, without gaps. */
  sequence: number
  previousHash: string
  hash: string
}

/** Result of checking the whole chain that is still kept. */
export type AdminVerdict =
  | { intact: true; records: number; firstSequence: number; head: string }
  | { intact: false; brokenAt: number; reason: string }

/** Append-only record of administrative actions. */
export interface AdminLog {
  /** Durable when it resolves. Rejects with `audit.unavailable`: the action must not be carried out then. */
  append(action: AdminAction): Promise<AdminRecord>
  /** The newest so many whose sequence is below `before`, newest last. */
  read(query: { before?: number; limit: number }): Promise<AdminRecord[]>
  verify(): Promise<AdminVerdict>
  close(): Promise<void>
}
