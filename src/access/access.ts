import { createHmac, randomBytes } from 'node:crypto'
import { WeirError } from '../errors.js'
import { namespaceProblem, permissionsOf, tokenNameProblem, type Principal } from '../model/access.js'
import type { Access, Clock, Credential, NewToken, TokenRecord, TokenStore } from '../ports/index.js'
import type { ConfiguredUser } from './configured-users.js'
import { FailedAttempts, sourceOf } from './failed-attempts.js'
import { passwordMatches, type StoredPassword } from './password.js'
import { hashesMatch, hashSecret, newTokenText, tokenIdIn } from './token-text.js'

export interface AccessOptions {
  store: TokenStore
  users?: readonly ConfiguredUser[]
  clock: Clock
  /** Called when the time of last use cannot be written: nobody is refused for that. */
  onTrouble?: (error: unknown) => void
}

const DAY_MS = 24 * 60 * 60 * 1000
const TOUCH_INTERVAL_MS = 60_000
const PASSWORD_CHECKS_MAX = 2
const PASSWORD_CHECKS_WAITING_MAX = 32
const KNOWN_PASSWORDS_MAX = 10_000

/** Users and tokens of one server. Tokens are held in memory; every change is in the store before it counts. */
export class TokenAccess implements Access {
  readonly #options: AccessOptions
  readonly #tokens: Map<string, TokenRecord>
  readonly #usersByKey: ReadonlyMap<string, ConfiguredUser>
  readonly #usersByName: ReadonlyMap<string, ConfiguredUser>
  readonly #failures: FailedAttempts
  /** Per user name, from everywhere: many addresses cannot guess faster than this together. */
  readonly #failuresOfUsers: FailedAttempts
  readonly #ends = new Map<string, AbortController>()
  readonly #closing = new AbortController()
  readonly #uses = new Map<string, number>()
  #touchedMs: number
  /** Keyed digests of names and passwords that were right: the slow hash is computed once. */
  readonly #knownPasswords = new Map<string, ConfiguredUser>()
  readonly #digestKey = randomBytes(32)
  #checks = 0
  readonly #waitingChecks: (() => void)[] = []

  constructor(options: AccessOptions) {
    const { store, users = [], clock } = options
    this.#options = options
    this.#tokens = new Map(store.all().map((record) => [record.id, record]))
    this.#usersByKey = new Map(
      users.flatMap((user) => (user.keyHash === undefined ? [] : [[user.keyHash, user]])),
    )
    this.#usersByName = new Map(
      users.flatMap((user) => (user.username === undefined ? [] : [[user.username, user]])),
    )
    this.#failures = new FailedAttempts(clock)
    this.#failuresOfUsers = new FailedAttempts(clock, { perSource: 100, forgiveAfterMs: 1_000 })
    this.#touchedMs = clock.now()
  }

  async authenticate(credential: Credential, address: string): Promise<Principal> {
    const source = sourceOf(address)
    if (credential.kind === 'basic') return this.#byPassword(credential, source)
    // Always hashed, whatever it looks like: the answer takes the same time.
    const hash = hashSecret(credential.token)
    const user = this.#usersByKey.get(hash)
    if (user !== undefined) return user.principal
    const record = this.#tokens.get(tokenIdIn(credential.token) ?? '')
    if (record === undefined || !hashesMatch(record.hash, hash))
      throw this.#failed(source, 'the token is not known here')
    const ended = this.#whyEnded(record)
    if (ended !== undefined) throw this.#failed(source, ended)
    this.#noteUse(record)
    return principalOf(record)
  }

  endOf(principal: Principal): AbortSignal {
    if (principal.kind !== 'token') return this.#closing.signal
    const record = this.#tokens.get(principal.id)
    if (record === undefined || this.#whyEnded(record) !== undefined) return AbortSignal.abort()
    const known = this.#ends.get(record.id)
    if (known !== undefined) return known.signal
    const end = new AbortController()
    this.#ends.set(record.id, end)
    if (record.expiresMs !== undefined) void this.#endAt(record.id, record.expiresMs, end)
    return end.signal
  }

  tokens(): TokenRecord[] {
    return [...this.#tokens.values()].map((record) => {
      const used = this.#uses.get(record.id)
      return used === undefined ? record : { ...record, lastUsedMs: used }
    })
  }

  createToken(token: NewToken, by: Principal): { token: string; record: TokenRecord } {
    const { store, clock } = this.#options
    checkNewToken(token, clock.now())
    const { id, text } = newTokenText()
    const record: TokenRecord = {
      id,
      name: token.name,
      hash: hashSecret(text),
      role: token.role,
      namespaces: token.namespaces === '*' ? '*' : [...new Set(token.namespaces)],
      createdMs: clock.now(),
      createdBy: by.id,
      ...(token.expiresMs === undefined ? {} : { expiresMs: token.expiresMs }),
    }
    store.add(record)
    this.#tokens.set(id, record)
    this.#forgetWhatTheStoreForgot()
    return { token: text, record }
  }

  revokeToken(id: string): TokenRecord {
    const record = this.#tokens.get(id)
    if (record === undefined)
      throw new WeirError('access.not_found', `Cannot find the token ${JSON.stringify(id.slice(0, 80))}`, {
        hint: 'List the tokens with `weir auth token list`.',
      })
    if (record.revokedMs !== undefined) return record
    const revokedMs = this.#options.clock.now()
    this.#options.store.revoke(id, revokedMs)
    const revoked = { ...record, revokedMs }
    this.#tokens.set(id, revoked)
    this.#end(id)
    return revoked
  }

  /** Ends every stream and writes what is left to be written. */
  close(): void {
    this.#closing.abort()
    for (const id of this.#ends.keys()) this.#end(id)
    this.#writeUses()
  }

  async #byPassword(
    { username, password }: { username: string; password: string },
    source: string,
  ): Promise<Principal> {
    const name = username.toLowerCase()
    const digest = createHmac('sha256', this.#digestKey).update(`${name}\0${password}`).digest('hex')
    const known = this.#knownPasswords.get(digest)
    if (known !== undefined) return known.principal
    const wait = Math.max(this.#failures.waitSeconds(source), this.#failuresOfUsers.waitSeconds(name))
    if (wait > 0) throw tooManyFailures(wait)
    const user = this.#usersByName.get(name)
    const stored = user?.password ?? this.#anyPassword()
    const matches = stored !== undefined && (await this.#inTurn(() => passwordMatches(stored, password)))
    if (!matches || user?.password === undefined) {
      this.#failuresOfUsers.add(name)
      throw this.#failed(source, 'the user name or the password is wrong')
    }
    if (this.#knownPasswords.size >= KNOWN_PASSWORDS_MAX) this.#knownPasswords.clear()
    this.#knownPasswords.set(digest, user)
    return user.principal
  }

  /** For names that do not exist: the answer must take as long as for those that do. */
  #anyPassword(): StoredPassword | undefined {
    const stored = [...this.#usersByName.values()].flatMap(({ password }) => password ?? [])
    return stored.find(({ kind }) => kind === 'scrypt') ?? stored[0]
  }

  /** Few at a time: a flood of wrong passwords must not take the threads of everybody else. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#checks >= PASSWORD_CHECKS_MAX) {
      if (this.#waitingChecks.length >= PASSWORD_CHECKS_WAITING_MAX) throw tooManyFailures(1)
      await new Promise<void>((resolve) => this.#waitingChecks.push(resolve))
    }
    this.#checks += 1
    try {
      return await work()
    } finally {
      this.#checks -= 1
      this.#waitingChecks.shift()?.()
    }
  }

  #failed(source: string, reason: string): WeirError {
    const wait = this.#failures.waitSeconds(source)
    this.#failures.add(source)
    if (wait > 0) return tooManyFailures(wait)
    return new WeirError('api.unauthorized', 'Request Unauthorized', { details: { reason } })
  }

  #whyEnded(record: TokenRecord): string | undefined {
    if (record.revokedMs !== undefined) return 'the token was revoked'
    if (record.expiresMs !== undefined && record.expiresMs <= this.#options.clock.now())
      return 'the token has expired'
    return undefined
  }

  #noteUse(record: TokenRecord): void {
    const now = this.#options.clock.now()
    this.#uses.set(record.id, now)
    if (now - this.#touchedMs < TOUCH_INTERVAL_MS) return
    this.#touchedMs = now
    this.#writeUses()
  }

  #writeUses(): void {
    if (this.#uses.size === 0) return
    try {
      this.#options.store.touch(this.#uses)
    } catch (error) {
      this.#options.onTrouble?.(error)
      return
    }
    for (const [id, lastUsedMs] of this.#uses) {
      const record = this.#tokens.get(id)
      if (record !== undefined) this.#tokens.set(id, { ...record, lastUsedMs })
    }
    this.#uses.clear()
  }

  /** In steps, because timers reach no further than 24 days. */
  async #endAt(id: string, expiresMs: number, end: AbortController): Promise<void> {
    const { clock } = this.#options
    const signal = AbortSignal.any([this.#closing.signal, end.signal])
    try {
      for (let left = expiresMs - clock.now(); left > 0; left = expiresMs - clock.now())
        await clock.sleep(Math.min(left, DAY_MS), signal)
    } catch {
      return // Revoked or closed before.
    }
    this.#end(id)
  }

  #end(id: string): void {
    this.#ends.get(id)?.abort()
    this.#ends.delete(id)
  }

  #forgetWhatTheStoreForgot(): void {
    const kept = new Set(this.#options.store.all().map((record) => record.id))
    for (const id of this.#tokens.keys()) if (!kept.has(id)) this.#tokens.delete(id)
  }
}

function principalOf(record: TokenRecord): Principal {
  return {
    id: record.id,
    name: record.name,
    kind: 'token',
    role: record.role,
    permissions: permissionsOf(record.role),
    namespaces: record.namespaces,
    ...(record.expiresMs === undefined ? {} : { expiresMs: record.expiresMs }),
  }
}

function checkNewToken({ name, role, namespaces, expiresMs }: NewToken, now: number): void {
  const nameProblem = tokenNameProblem(name)
  if (nameProblem !== undefined)
    throw invalid(`the name ${JSON.stringify(name.slice(0, 120))} will not do`, nameProblem)
  if (namespaces !== '*') {
    if (role === 'admin')
      throw invalid(
        'an admin is not bound to namespaces',
        'leave the namespaces out, or choose submitter or reader',
      )
    if (namespaces.length === 0 || namespaces.length > 100)
      throw invalid('it needs 1 to 100 namespaces', 'name them, or * for all')
    for (const namespace of namespaces) {
      const problem = namespaceProblem(namespace)
      if (problem !== undefined)
        throw invalid(`the namespace ${JSON.stringify(namespace.slice(0, 120))} will not do`, problem)
    }
  }
  if (expiresMs !== undefined && !(expiresMs > now))
    throw invalid('it would have expired already', 'choose a time in the future')
}

function invalid(problem: string, hint: string): WeirError {
  return new WeirError('access.invalid', `Cannot make the token: ${problem}`, { hint })
}

function tooManyFailures(seconds: number): WeirError {
  return new WeirError('api.overload', 'Too many failed attempts to authenticate', {
    hint: `Wait ${seconds} seconds, and check the credential.`,
    retryable: true,
    details: { retryAfterSeconds: seconds },
  })
}
