import { toWeirError } from '../../errors.js'
import type { NodeId, NodeMembership } from '../../model/index.js'
import type { Orchestrator } from '../../orchestrator/index.js'
import type { Clock } from '../../ports/index.js'
import type { NodeLogger } from '../logger.js'
import type { Roster } from './roster.js'

export interface GatekeeperParts {
  roster: Roster
  clock: Clock
  logger: NodeLogger
}

/** Lets rejected nodes hear why before they are disconnected, and keeps out who is not wanted. */
export class Gatekeeper {
  readonly #parts: GatekeeperParts
  readonly #roster: Roster
  readonly #closing = new AbortController()
  readonly #underWay = new Set<Promise<void>>()
  #orchestrator: Orchestrator | undefined
  #openedMs = 0
  #sweeping: Promise<void> = Promise.resolve()

  constructor(parts: GatekeeperParts) {
    this.#parts = parts
    this.#roster = parts.roster
  }

  async open(orchestrator: Orchestrator): Promise<void> {
    this.#orchestrator = orchestrator
    for (const { info } of await orchestrator.nodes({ membership: 'REJECTED' }))
      await this.#roster.shutOut(info.nodeId)
    this.#openedMs = this.#parts.clock.now()
    this.#sweeping = this.#sweep()
  }

  async decided(
    id: NodeId,
    action: 'approve' | 'reject' | 'delete',
    decide: () => Promise<void>,
  ): Promise<void> {
    if (action === 'delete') {
      const [isKnown, isMember] = [await this.#hasSpoken(id), this.#roster.member(id) !== undefined]
      // The key first: a message that is under way must not bring the node back.
      await this.#roster.forget(id)
      // Whoever joined and never spoke is on the roster only.
      return isMember && !isKnown ? undefined : decide()
    }
    await decide()
    if (action === 'approve') return this.#roster.letIn(id)
    this.#background(this.#sayGoodbye(id), id)
  }

  async #hasSpoken(id: NodeId): Promise<boolean> {
    return (await membershipOf(this.#orchestrator, id)) !== undefined
  }

  /** A node that shouts is cut off for a while; its executions go on, and it reports when it is back. */
  cutOff(id: NodeId): void {
    if (this.#roster.member(id) === undefined) return
    this.#parts.logger.error(
      { nodeId: id },
      'a node floods the network with messages and is cut off for a minute',
    )
    this.#background(this.#pause(id), id)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await Promise.all([...this.#underWay, this.#sweeping])
  }

  #background(work: Promise<void>, nodeId: NodeId): void {
    const done = work
      .catch((error: unknown) => {
        if (this.#closing.signal.aborted) return
        this.#parts.logger.error({ nodeId, error: toWeirError(error).message }, 'a node is not shut out')
      })
      .finally(() => this.#underWay.delete(done))
    this.#underWay.add(done)
  }

  async #pause(id: NodeId): Promise<void> {
    await this.#roster.shutOut(id)
    await this.#parts.clock.sleep(FLOOD_PAUSE_MS, this.#closing.signal)
    if ((await membershipOf(this.#orchestrator, id)) !== 'REJECTED') await this.#roster.letIn(id)
  }

  /** The node asks for news at once, hears that it is rejected and ends what it runs; then it is disconnected. */
  async #sayGoodbye(id: NodeId): Promise<void> {
    const { clock } = this.#parts
    const sinceMs = clock.now()
    while (clock.now() - sinceMs < GOODBYE_MS) {
      await clock.sleep(LOOK_MS, this.#closing.signal)
      const record = await this.#orchestrator?.node(id).catch(() => undefined)
      if (record === undefined || record.membership !== 'REJECTED') return
      if (record.lastSyncMs > sinceMs) break
    }
    await this.#roster.shutOut(id)
  }

  /**
   * A key on the roster is a way in that no list shows until its node speaks, which takes seconds. Who does not, having
   * had the time since it joined and since we were there to listen, joins again.
   */
  async #forgetSilent(): Promise<void> {
    const { clock, logger } = this.#parts
    const now = clock.now()
    if (now - this.#openedMs < SILENT_MS) return
    const silent = this.#roster.members().filter(({ joinTimeMs }) => now - joinTimeMs >= SILENT_MS)
    const spoke = new Set((await this.#orchestrator?.nodes({}))?.map(({ info }) => info.nodeId))
    for (const { nodeId } of silent.filter((member) => !spoke.has(member.nodeId))) {
      await this.#roster.forget(nodeId)
      logger.warn({ nodeId }, 'a node joined and never spoke: it is forgotten, and has to join again')
    }
  }

  async #sweep(): Promise<void> {
    const { clock, logger } = this.#parts
    const { signal } = this.#closing
    while (!signal.aborted) {
      try {
        await clock.sleep(SWEEP_MS, signal)
        await this.#roster.sweep()
        await this.#forgetSilent()
      } catch (error) {
        if (!signal.aborted)
          logger.error({ error: toWeirError(error).message }, 'the roster of nodes is not in force')
      }
    }
  }
}

/** What is decided about a node; undefined for one that never spoke. */
export async function membershipOf(
  orchestrator: Orchestrator | undefined,
  id: NodeId,
): Promise<NodeMembership | undefined> {
  const nodes = (await orchestrator?.nodes({})) ?? []
  return nodes.find(({ info }) => info.nodeId === id)?.membership
}

const SWEEP_MS = 5_000
const SILENT_MS = 3_600_000
const LOOK_MS = 100
const GOODBYE_MS = 3_000
const FLOOD_PAUSE_MS = 60_000
