import { toWeirError } from '../errors.js'
import type { PackedEgressLists } from '../model/egress-lists.js'
import type { NodeId, NodeInfo } from '../model/state.js'
import type { SyncRequest, SyncResponse } from '../model/sync.js'
import { SYNC_SUBJECT, type Chance, type Clock, type Transport } from '../ports/index.js'
import { sleepFor } from './bounded-work.js'
import type { ExecutionBook, Urgency } from './execution-book.js'
import type { ComputeLimits, ComputeLogger } from './options.js'

/** What the agent talks with and about. */
export interface SyncParts {
  nodeId: NodeId
  incarnation: string
  transport: Transport
  clock: Clock
  chance: Chance
  book: ExecutionBook
  info: () => NodeInfo
  /** The lists behind `listsDigest` of the info. */
  egressLists: () => PackedEgressLists
  /** Digest of the network's egress list that is in force; undefined when none is known. */
  networkEgress: () => string | undefined
  /** Brings what is desired into effect; returns at once. */
  apply: (response: SyncResponse) => void
  limits: ComputeLimits
  logger: ComputeLogger
}

/**
 * The node's half of the conversation in `model/sync.ts`: one request at a time, at once when an execution ended or
 * the orchestrator nudges, 50 ms after any other change, otherwise every `syncIntervalMs`. What was not acknowledged is sent again. While the
 * orchestrator is away the tries get rarer; changes of the node do not hurry them, a nudge does.
 */
export class SyncAgent {
  readonly #parts: SyncParts
  readonly #closing = new AbortController()
  #knownRevision = 0
  /** The orchestrator asked for the egress lists. */
  #wantsLists = false
  #failures = 0
  /** When the next exchange is due; Infinity = not wanted. */
  #dueMs = 0
  #wake = new AbortController()
  #loop: Promise<void> = Promise.resolve()

  constructor(parts: SyncParts) {
    this.#parts = parts
  }

  start(): void {
    this.#loop = this.#converse()
  }

  trigger(urgency: Urgency | 'nudge'): void {
    if (urgency === 'nudge') this.#failures = 0
    const waitMs = urgency === 'soon' ? SOON_MS : 0
    const dueMs = this.#parts.clock.now() + waitMs
    if (dueMs >= this.#dueMs) return
    this.#dueMs = dueMs
    this.#wake.abort()
  }

  /**
   * Says goodbye with all that is not acknowledged, unless `farewell` is false; gives up after a few seconds. Idempotent: only
   * the first call counts.
   */
  async close({ farewell = true } = {}): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort()
    this.#wake.abort()
    const patience = new AbortController()
    const left = await Promise.race([
      this.#loop.then(() => true),
      sleepFor(this.#parts.clock, GOODBYE_MS, patience.signal).then(() => false),
    ])
    patience.abort()
    // An exchange that hangs means that nobody hears a goodbye either.
    if (!left || !farewell) return
    for (let tries = 0; tries < GOODBYES_MAX; tries++) {
      const more = await this.#exchange(true)
      if (more !== true) return
    }
  }

  async #converse(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      this.#dueMs = Infinity
      this.#wake = new AbortController()
      const again = await this.#exchange(false)
      this.#failures = again === undefined ? this.#failures + 1 : 0
      if (again !== true) await this.#pause()
    }
  }

  /** True: there is more to say at once. Undefined: no answer. */
  async #exchange(leaving: boolean): Promise<boolean | undefined> {
    const { transport, limits, logger } = this.#parts
    const { reports, more } = this.#parts.book.reports(REPORT_BYTES_MAX)
    const networkEgress = this.#parts.networkEgress()
    const request: SyncRequest = {
      nodeId: this.#parts.nodeId,
      incarnation: this.#parts.incarnation,
      info: this.#parts.info(),
      knownRevision: this.#knownRevision,
      observed: reports,
      leaving,
      ...(networkEgress === undefined ? {} : { networkEgress }),
      ...(this.#wantsLists ? { egressLists: this.#parts.egressLists() } : {}),
    }
    const timeoutMs = leaving ? Math.min(GOODBYE_MS, limits.syncTimeoutMs) : limits.syncTimeoutMs
    try {
      const response = (await transport.request(SYNC_SUBJECT, request, timeoutMs)) as SyncResponse
      // Only what makes progress is hurried: an orchestrator that acknowledges nothing hears from us at intervals.
      const progress = Object.keys(response.acknowledged).length > 0
      // One that asks again for what it was sent hears it at intervals.
      const isNewWish = response.wantsEgressLists === true && !this.#wantsLists
      this.#wantsLists = response.wantsEgressLists === true
      return this.#take(response) || (more && progress) || isNewWish
    } catch (error) {
      const { code, message, details } = toWeirError(error)
      // A transport that is not connected says so itself.
      const level = this.#failures === 0 && details.offline !== true ? 'warn' : 'debug'
      logger[level]({ code, message }, 'the orchestrator does not answer; the node keeps trying')
      return undefined
    }
  }

  /** True when the orchestrator seems to have lost what it told us: then ask for everything. */
  #take(response: SyncResponse): boolean {
    this.#parts.book.acknowledge(response.acknowledged)
    if (!response.complete && response.revision < this.#knownRevision) {
      this.#knownRevision = 0
      return true
    }
    this.#knownRevision = response.revision
    if (!this.#closing.signal.aborted) this.#parts.apply(response)
    return false
  }

  async #pause(): Promise<void> {
    const { clock, limits, chance } = this.#parts
    const away = this.#failures > 0
    const backoffMs = Math.min(limits.syncBackoffMaxMs, BACKOFF_MS * 2 ** Math.min(this.#failures, 16))
    const untilMs = clock.now() + (away ? backoffMs * (0.5 + chance.random() / 2) : limits.syncIntervalMs)
    while (!this.#closing.signal.aborted) {
      const stillAway = away && this.#failures > 0
      const nextMs = stillAway ? untilMs : Math.min(untilMs, this.#dueMs)
      const waitMs = nextMs - clock.now()
      if (waitMs <= 0) return
      if (this.#wake.signal.aborted) this.#wake = new AbortController()
      await sleepFor(clock, waitMs, this.#wake.signal)
    }
  }
}

const SOON_MS = 50
const BACKOFF_MS = 125
const GOODBYE_MS = 3_000
const GOODBYES_MAX = 20
/** Messages are at most 1 MiB; the node's info needs room too. */
const REPORT_BYTES_MAX = 384 * 1024
