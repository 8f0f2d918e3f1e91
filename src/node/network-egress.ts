import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NetworkEgressFollower } from '../compute/index.js'
import { toWeirError, WeirError } from '../errors.js'
import { digestNetworkPolicy, type NetworkEgressPolicy, readNetworkPolicy } from '../model/index.js'
import { writeWhole } from '../write-whole.js'

/** What could not be put in force is tried again after so long. */
const RETRY_MS = 1_000
const FILE_BYTES_MAX = 8 * 1024 * 1024

/** What the follower needs to know of the world. */
export interface NetworkEgressParts {
  /** Where the last known list is kept, for a start without the orchestrator. */
  file: string
  /** Puts a list in force; called for one at a time, again until it works or the list is replaced. */
  apply: (policy: NetworkEgressPolicy) => Promise<void>
  warn: (error: WeirError) => void
}

/** The network's egress list on a node. */
export interface NetworkEgress extends NetworkEgressFollower {
  /** The list to begin with; undefined = none is known. */
  readonly first: NetworkEgressPolicy | undefined
  /** Resolves when nothing is under way. Idempotent. */
  close(): Promise<void>
}

/**
 * Follows the egress list of the network: the newest that the orchestrator told is in force at once and kept in a file.
 * What cannot be read, a file or what the orchestrator tells, allows nothing until a list was told that can: it may have held
 * less than everything, or less than the list before.
 */
export async function openNetworkEgress(parts: NetworkEgressParts): Promise<NetworkEgress> {
  const kept = await readKept(parts)
  return new Follower(parts, kept)
}

/** Stands in for a list that cannot be read. */
const NOTHING: NetworkEgressPolicy = Object.freeze({ version: 0, allow: [], deny: [] })

interface Kept {
  policy: NetworkEgressPolicy | undefined
  /** False: it stands in for a file that cannot be read. */
  isKnown: boolean
}

class Follower implements NetworkEgress {
  readonly first: NetworkEgressPolicy | undefined
  readonly #parts: NetworkEgressParts
  readonly #closing = new AbortController()
  #known: string | undefined
  /** What was heard last, and of that what is not yet in force. */
  #newest: NetworkEgressPolicy | undefined
  #wanted: NetworkEgressPolicy | undefined
  #working: Promise<void> | undefined

  constructor(parts: NetworkEgressParts, { policy, isKnown }: Kept) {
    this.#parts = parts
    this.first = policy
    this.#known = policy === undefined || !isKnown ? undefined : digestNetworkPolicy(policy)
  }

  known(): string | undefined {
    return this.#known
  }

  heard(told: unknown): NetworkEgressPolicy {
    let policy = NOTHING
    try {
      policy = readNetworkPolicy(told)
      this.#known = digestNetworkPolicy(policy)
    } catch (error) {
      // It is told again and again, since it does not become known.
      this.#known = undefined
      const { message } = toWeirError(error)
      this.#parts.warn(
        new WeirError(
          'config.invalid',
          `The egress list of the network cannot be used; nothing is allowed until it can: ${message}`,
          { cause: error },
        ),
      )
    }
    if (policy === NOTHING && this.#newest === NOTHING) return policy
    this.#newest = policy
    this.#wanted = policy
    this.#working ??= this.#work()
    return policy
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#working
  }

  async #work(): Promise<void> {
    for (let policy = this.#wanted; policy !== undefined; policy = this.#wanted) {
      const done = await this.#putInForce(policy)
      if (done && this.#wanted === policy) this.#wanted = undefined
      if (this.#closing.signal.aborted) break
      if (!done && this.#wanted === policy)
        await sleep(RETRY_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined)
    }
    this.#working = undefined
  }

  /** In force first: what is kept is for the next start only. */
  async #putInForce(policy: NetworkEgressPolicy): Promise<boolean> {
    try {
      await this.#parts.apply(policy)
      await writeWhole(this.#parts.file, JSON.stringify(policy))
      return true
    } catch (error) {
      this.#parts.warn(
        toWeirError(error, 'internal', 'The egress list of the network cannot be put in force or kept'),
      )
      return false
    }
  }
}

async function readKept({ file, warn }: NetworkEgressParts): Promise<Kept> {
  try {
    const text = await readFile(file, 'utf8')
    if (text.length > FILE_BYTES_MAX) throw new Error('it is too long')
    return { policy: readNetworkPolicy(JSON.parse(text)), isKnown: true }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { policy: undefined, isKnown: false }
    warn(
      toWeirError(
        error,
        'config.invalid',
        `The kept egress list of the network (${file}) cannot be read; nothing is allowed until the orchestrator has told it again`,
      ),
    )
    return { policy: NOTHING, isKnown: false }
  }
}
