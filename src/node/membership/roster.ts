import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { WeirError } from '../../errors.js'
import type { NodeId } from '../../model/index.js'
import type { Chance, Clock, NewNodeToken, NodeToken, NodeTokenService } from '../../ports/index.js'
import { isPublicKey, keyPairOfSecret, type NatsUser } from '../../transports/index.js'
import { writeWhole } from '../../write-whole.js'

/** A machine that joined, and the key it proved to hold. */
export interface Member {
  nodeId: NodeId
  publicKey: string
  joinTimeMs: number
}

export interface RosterOptions {
  /** Made when missing. */
  file: string
  clock: Clock
  chance: Chance
  /** `Orchestrator.Auth.Token`: a join token without end. Empty = none. */
  sharedSecret: string
  /** The orchestrator's own key. */
  publicKey: string
}

/** Whom the network knows by key, and which join tokens are open. Kept in one file; secrets are never in it. */
export interface Roster extends NodeTokenService {
  member(nodeId: NodeId): Member | undefined
  memberWithKey(publicKey: string): Member | undefined
  members(): Member[]
  /** Everybody who may connect now. */
  users(): NatsUser[]
  /** The id of the token with this key, if it can be used now. */
  openToken(publicKey: string): string | undefined
  /** Resolves when the machine is on the roster and may connect; counts as a use of the token. */
  add(member: Member, tokenId: string): Promise<void>
  /** The machine is forgotten and disconnected; it may join again. */
  forget(nodeId: NodeId): Promise<void>
  /** The machine stays known and is disconnected; not kept over a restart. */
  shutOut(nodeId: NodeId): Promise<void>
  letIn(nodeId: NodeId): Promise<void>
  /** Ends what time has ended (tokens that expired), and tries again what could not be put in force. */
  sweep(): Promise<void>
  /** Called with each change of {@link users}; what it rejects with, the change rejects with. */
  onChange(apply: (users: NatsUser[]) => Promise<void>): void
}

/** Reads the roster. Rejects with `store.unavailable` when the file is damaged or cannot be read. */
export async function openRoster(options: RosterOptions): Promise<Roster> {
  return new RosterFile(options, await readRoster(options.file))
}

/** Id of the token that stands in the configuration. */
export const CONFIGURED_TOKEN = 'configured'

const MEMBERS_MAX = 10_000
const TOKENS_MAX = 1_000
const DAY_MS = 24 * 3_600_000
/** How long the connection of the last one who joined with a token is left open. */
const LAST_ANSWER_MS = 10_000
const EXPIRY_MS_MAX = 10 * 365 * DAY_MS

interface StoredToken extends NodeToken {
  publicKey: string
  /** The last use: whoever joined with it is still waiting for the answer over the connection that it opened. */
  usedUpTimeMs?: number
}

interface StoredRoster {
  version: 1
  members: Member[]
  tokens: StoredToken[]
}

class RosterFile implements Roster {
  readonly #options: RosterOptions
  readonly #members = new Map<NodeId, Member>()
  readonly #tokens = new Map<string, StoredToken>()
  readonly #shutOut = new Set<NodeId>()
  readonly #sharedKey: string | undefined
  #apply: (users: NatsUser[]) => Promise<void> = async () => {}
  #saving: Promise<void> = Promise.resolve()
  /** False when the last change could not be put in force. */
  #isInForce = true

  constructor(options: RosterOptions, stored: StoredRoster) {
    this.#options = options
    const { sharedSecret } = options
    this.#sharedKey = sharedSecret === '' ? undefined : keyPairOfSecret(sharedSecret).publicKey
    for (const member of stored.members) this.#members.set(member.nodeId, member)
    for (const token of stored.tokens) this.#tokens.set(token.id, token)
  }

  onChange(apply: (users: NatsUser[]) => Promise<void>): void {
    this.#apply = apply
  }

  member(nodeId: NodeId): Member | undefined {
    return this.#members.get(nodeId)
  }

  memberWithKey(publicKey: string): Member | undefined {
    for (const member of this.#members.values()) if (member.publicKey === publicKey) return member
    return undefined
  }

  members(): Member[] {
    return [...this.#members.values()]
  }

  users(): NatsUser[] {
    const users: NatsUser[] = [{ kind: 'orchestrator', publicKey: this.#options.publicKey }]
    for (const { nodeId, publicKey } of this.#members.values())
      if (!this.#shutOut.has(nodeId)) users.push({ kind: 'node', nodeId, publicKey })
    if (this.#sharedKey !== undefined) users.push({ kind: 'joiner', publicKey: this.#sharedKey })
    for (const token of this.#tokens.values())
      if (!this.#isOver(token)) users.push({ kind: 'joiner', publicKey: token.publicKey })
    return users
  }

  openToken(publicKey: string): string | undefined {
    if (publicKey === this.#sharedKey) return CONFIGURED_TOKEN
    for (const token of this.#tokens.values())
      if (token.publicKey === publicKey && this.#isOpen(token)) return token.id
    return undefined
  }

  async add(member: Member, tokenId: string): Promise<void> {
    if (this.#members.size >= MEMBERS_MAX) {
      throw new WeirError('node.refused', `Cannot take another node: ${MEMBERS_MAX} are known`, {
        hint: 'Delete nodes that are gone: weir node delete',
      })
    }
    this.#members.set(member.nodeId, member)
    this.#shutOut.delete(member.nodeId)
    const token = this.#tokens.get(tokenId)
    if (token !== undefined) this.#use(token, 1)
    try {
      await this.#save()
    } catch (error) {
      this.#members.delete(member.nodeId)
      if (token !== undefined) this.#use(token, -1)
      throw error
    }
    await this.#changed()
  }

  async forget(nodeId: NodeId): Promise<void> {
    const member = this.#members.get(nodeId)
    if (member === undefined) return
    this.#members.delete(nodeId)
    this.#shutOut.delete(nodeId)
    try {
      await this.#save()
    } catch (error) {
      this.#members.set(nodeId, member)
      throw error
    }
    await this.#changed()
  }

  async shutOut(nodeId: NodeId): Promise<void> {
    this.#shutOut.add(nodeId)
    await this.#changed()
  }

  async letIn(nodeId: NodeId): Promise<void> {
    if (this.#shutOut.delete(nodeId)) await this.#changed()
  }

  async create(wanted: NewNodeToken): Promise<{ token: NodeToken; secret: string }> {
    const { description, expiresAfterMs, usesMax } = checkWish(wanted)
    if (this.#tokens.size >= TOKENS_MAX)
      throw bad(`there are ${TOKENS_MAX} open tokens; revoke some: weir node token revoke ID`)
    const now = this.#options.clock.now()
    const secret = `weir-join_${randomBytes(32).toString('base64url')}`
    const token: StoredToken = {
      id: `t-${this.#options.chance.uuid().slice(0, 8)}`,
      description,
      createTimeMs: now,
      expireTimeMs: expiresAfterMs === 0 ? 0 : now + expiresAfterMs,
      usesMax,
      uses: 0,
      publicKey: keyPairOfSecret(secret).publicKey,
    }
    this.#tokens.set(token.id, token)
    try {
      await this.#save()
      await this.#changed()
    } catch (error) {
      this.#tokens.delete(token.id)
      throw error
    }
    return { token: shown(token), secret }
  }

  async list(): Promise<NodeToken[]> {
    return [...this.#tokens.values()].filter((token) => this.#isOpen(token)).map(shown)
  }

  async revoke(id: string): Promise<void> {
    const token = this.#tokens.get(id)
    if (token === undefined) {
      throw new WeirError(
        'node.token_not_found',
        `Cannot find join token ${JSON.stringify(id.slice(0, 80))}`,
        {
          hint: 'List the open ones with: weir node token list',
        },
      )
    }
    this.#tokens.delete(id)
    try {
      await this.#save()
    } catch (error) {
      this.#tokens.set(id, token)
      throw error
    }
    await this.#changed()
  }

  async sweep(): Promise<void> {
    const over = [...this.#tokens.values()].filter((token) => this.#isOver(token))
    if (over.length === 0) return this.#isInForce ? undefined : this.#changed()
    for (const { id } of over) this.#tokens.delete(id)
    await this.#save()
    await this.#changed()
  }

  #isOpen({ expireTimeMs, usesMax, uses }: StoredToken): boolean {
    return (
      (expireTimeMs === 0 || this.#options.clock.now() < expireTimeMs) && (usesMax === 0 || uses < usesMax)
    )
  }

  #isOver({ expireTimeMs, usedUpTimeMs }: StoredToken): boolean {
    const now = this.#options.clock.now()
    return (
      (expireTimeMs !== 0 && now >= expireTimeMs) ||
      (usedUpTimeMs !== undefined && now - usedUpTimeMs >= LAST_ANSWER_MS)
    )
  }

  #use(token: StoredToken, by: 1 | -1): void {
    token.uses += by
    if (token.usesMax !== 0 && token.uses >= token.usesMax) token.usedUpTimeMs = this.#options.clock.now()
    else delete token.usedUpTimeMs
  }

  async #changed(): Promise<void> {
    this.#isInForce = false
    await this.#apply(this.users())
    this.#isInForce = true
  }

  /** One write after the other; each writes what is known when it begins. */
  #save(): Promise<void> {
    const saving = this.#saving.then(() => this.#write())
    // The next write does not depend on the success of this one.
    this.#saving = saving.catch(() => {})
    return saving
  }

  async #write(): Promise<void> {
    const roster: StoredRoster = {
      version: 1,
      members: [...this.#members.values()],
      tokens: [...this.#tokens.values()],
    }
    try {
      await writeWhole(this.#options.file, `${JSON.stringify(roster, null, 1)}\n`)
    } catch (error) {
      throw new WeirError('store.unavailable', `Cannot write ${this.#options.file}: ${String(error)}`, {
        hint: 'Check the disk of the data directory',
        retryable: true,
        cause: error,
      })
    }
  }
}

async function readRoster(file: string): Promise<StoredRoster> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { version: 1, members: [], tokens: [] }
    throw damaged(file, error)
  }
  try {
    const roster = JSON.parse(text) as StoredRoster
    if (roster.version === 1 && roster.members.every(isMember) && roster.tokens.every(isToken)) return roster
  } catch (error) {
    throw damaged(file, error)
  }
  throw damaged(file)
}

function isMember({ nodeId, publicKey }: Member): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/.test(nodeId) && isPublicKey(publicKey)
}

function isToken({ id, publicKey, expireTimeMs, usesMax, uses }: StoredToken): boolean {
  return (
    typeof id === 'string' && isPublicKey(publicKey) && [expireTimeMs, usesMax, uses].every(Number.isFinite)
  )
}

function checkWish({
  description = '',
  expiresAfterMs = DAY_MS,
  usesMax = 1,
}: NewNodeToken): Required<NewNodeToken> {
  if (typeof description !== 'string' || description.length > 256) throw bad('its description is too long')
  if (!Number.isSafeInteger(expiresAfterMs) || expiresAfterMs < 0 || expiresAfterMs > EXPIRY_MS_MAX)
    throw bad('it may last ten years at most')
  if (!Number.isSafeInteger(usesMax) || usesMax < 0 || usesMax > 1_000_000)
    throw bad('the number of uses must be a whole number from 0 (any number) to 1,000,000')
  return { description, expiresAfterMs, usesMax }
}

function shown({ publicKey: _key, usedUpTimeMs: _time, ...token }: StoredToken): NodeToken {
  return token
}

function bad(reason: string): WeirError {
  return new WeirError('api.bad_request', `Cannot make a join token: ${reason}`)
}

function damaged(file: string, cause?: unknown): WeirError {
  return new WeirError('store.unavailable', `Cannot read the roster of nodes from ${file}`, {
    hint: 'Restore the file from a backup; without it every node has to join again',
    cause,
  })
}
