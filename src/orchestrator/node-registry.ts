import { WeirError } from '../errors.js'
import { isSameJson } from '../model/index.js'
import type { Evaluation, Job, NodeId, NodeInfo, NodeRecord, SyncRequest, TimeMs } from '../model/index.js'
import type { Change, Clock, Snapshot } from '../ports/index.js'
import { EgressListBook, withoutLongLists } from './egress-list-book.js'
import { evaluationOf } from './evaluations.js'
import type { Fleet } from './fleet.js'
import type { OrchestratorLimits, OrchestratorLogger } from './options.js'
import type { Writer } from './writer.js'

/** How old the stored time of a node's last message may become. */
const PERSIST_EVERY_MS = 60_000
/** Two looks at the clock may be so much further apart than they should be. */
const AWAY_MS = 2_000
/** Nodes that may register; more are refused. */
const NODES_MAX = 10_000

export interface NodeRegistryParts {
  writer: Writer
  fleet: Fleet
  clock: Clock
  limits: OrchestratorLimits
  approveNodes: boolean | ((info: NodeInfo) => boolean)
  logger: OrchestratorLogger
}

/** A node as it said it is a moment ago; the store hears of it when something matters. */
interface KnownNode {
  record: NodeRecord
  persistedMs: TimeMs
  /** Silence is counted from here. */
  heardMs: TimeMs
  /** True once the jobs of its executions were told that it is lost. */
  isGivenUp: boolean
  /** True while the store does not know of a change that matters, and the jobs it concerns were not told. */
  isUnsaved: boolean
}

/**
 * Who the nodes are, whether they are there, and what they offer. Load and last contact change with every message and
 * live in memory only; what decides about placement is stored.
 */
export class NodeRegistry {
  readonly #parts: NodeRegistryParts
  readonly #nodes = new Map<NodeId, KnownNode>()
  /** Those that may come to be lost by the mere passing of time. */
  readonly #silent = new Map<NodeId, KnownNode>()
  readonly #lists = new EgressListBook()

  /** Nodes that are being forgotten, with their revisions: one that registers anew meanwhile goes on from there. */
  readonly #deleting = new Map<NodeId, number>()
  /** When the clock was looked at last. */
  #listenedMs: TimeMs

  constructor(parts: NodeRegistryParts) {
    this.#parts = parts
    this.#listenedMs = parts.clock.now()
  }

  /** A node could not report while the orchestrator was away: its silence counts from now. */
  load(snapshot: Snapshot): void {
    const { clock, limits } = this.#parts
    const now = (this.#listenedMs = clock.now())
    for (const record of snapshot.nodes()) {
      const silentMs = record.connection === 'CONNECTED' ? 0 : limits.disconnectAfterMs
      this.#keep({
        record,
        persistedMs: record.lastSyncMs,
        heardMs: now - silentMs,
        isGivenUp: false,
        isUnsaved: false,
      })
    }
    this.#parts.fleet.follow(snapshot)
  }

  records(): NodeRecord[] {
    return [...this.#nodes.values()].map((node) => node.record)
  }

  get(id: NodeId): NodeRecord | undefined {
    return this.#nodes.get(id)?.record
  }

  /** What the scheduler sees, at this time and with what executions hold by the snapshot. */
  views(snapshot: Snapshot, now: TimeMs): Fleet {
    const { fleet } = this.#parts
    for (const [id, node] of this.#silent) {
      const view = fleet.get(id)
      if (view !== undefined) view.lost = this.#isLost(node, now)
    }
    fleet.follow(snapshot)
    return fleet
  }

  /** A node has spoken. Resolves when what matters is durable. `wantsLists`: it is to be asked for its egress lists. */
  async heard(request: SyncRequest): Promise<{ record: NodeRecord; wantsLists: boolean }> {
    const { clock, limits } = this.#parts
    const now = clock.now()
    const before = this.#nodes.get(request.nodeId)
    if (before === undefined && this.#nodes.size >= NODES_MAX) {
      throw new WeirError(
        'api.overload',
        `Cannot register node "${request.nodeId}": there are ${NODES_MAX} already`,
      )
    }
    const own = { ...request.info, nodeId: request.nodeId }
    const { info, wanted } = this.#lists.heard(own, request.egressLists)
    const next = this.#nextRecord({ ...request, info }, before?.record, now)
    const changed = before === undefined || before.isUnsaved || !isLastingSame(before.record, next)
    const record = changed && isOther(before?.record, next) ? { ...next, changedMs: now } : next
    const node: KnownNode = {
      record,
      persistedMs: changed ? now : (before?.persistedMs ?? now),
      heardMs: request.leaving ? now - limits.disconnectAfterMs : now,
      isGivenUp: false,
      isUnsaved: false,
    }
    this.#keep(node, changed)
    if (changed) await this.#storeChange(node, before?.record)
    else if (now - node.persistedMs >= PERSIST_EVERY_MS) {
      node.persistedMs = now
      await this.#store({ nodes: [record] })
    }
    return { record, wantsLists: wanted && record.membership === 'APPROVED' && !request.leaving }
  }

  /**
   * To be called every `sweepMs`, whatever else is under way: silence counts only while somebody listens. When the clock
   * was set, or this process stood still, no node fell silent by that.
   */
  listen(): void {
    const { clock, limits, logger } = this.#parts
    const now = clock.now()
    const passedMs = now - this.#listenedMs
    this.#listenedMs = now
    const awayMs = passedMs < 0 ? passedMs : Math.max(0, passedMs - limits.sweepMs)
    if (Math.abs(awayMs) <= AWAY_MS) return
    logger.warn({ awayMs }, 'The clock was set or the process stood still; nodes get that time')
    // Some have spoken since: nobody was heard later than now.
    for (const node of this.#nodes.values()) node.heardMs = Math.min(node.heardMs + Math.max(0, awayMs), now)
  }

  /** Looks for nodes that fell silent. */
  async sweep(): Promise<void> {
    this.listen()
    const { clock, limits, logger } = this.#parts
    const now = clock.now()
    for (const node of this.#nodes.values()) {
      const { nodeId } = node.record.info
      if (node.record.connection === 'CONNECTED' && now - node.heardMs >= limits.disconnectAfterMs) {
        logger.warn({ nodeId }, 'A node is silent and counts as disconnected')
        const before = node.record
        node.record = { ...before, connection: 'DISCONNECTED', revision: before.revision + 1 }
        this.#keep(node)
        await this.#storeChange(node, before)
      } else if (node.isUnsaved) {
        await this.#storeChange(node, node.record)
      }
      if (!node.isGivenUp && this.#isLost(node, now)) {
        logger.warn({ nodeId }, 'A node is lost; its executions are given up')
        await this.#store({}, nodeId)
        node.isGivenUp = true
      }
    }
  }

  /** What nodes offer has changed without a word of theirs: jobs that run wherever they can are looked at again. */
  async offersChanged(): Promise<void> {
    await this.#store({}, undefined, true)
  }

  /** Approves or rejects. Rejects with `node.not_found` or `node.conflict`. */
  async decide(id: NodeId, membership: 'APPROVED' | 'REJECTED'): Promise<void> {
    const node = this.#known(id)
    const before = node.record
    if (before.membership === membership) {
      throw new WeirError(
        'node.conflict',
        `Cannot change node "${id}": it is ${membership.toLowerCase()} already`,
      )
    }
    node.record = { ...before, membership, revision: before.revision + 1 }
    this.#keep(node)
    try {
      await this.#storeChange(node, before)
    } catch (error) {
      // The operator is told that it did not happen; the node may have spoken meanwhile.
      const known = this.#nodes.get(id) ?? node
      known.record = { ...known.record, membership: before.membership }
      known.isUnsaved = true
      this.#keep(known)
      throw error
    }
  }

  /** Forgets a node; its executions count as lost. Rejects with `node.not_found`. */
  async delete(id: NodeId): Promise<void> {
    const node = this.#known(id)
    this.#drop(id)
    this.#deleting.set(id, node.record.revision)
    try {
      await this.#store({ deleteNodes: [id] }, id)
    } catch (error) {
      if (!this.#nodes.has(id)) this.#keep(node)
      throw error
    } finally {
      this.#deleting.delete(id)
    }
  }

  /** Here and in the fleet, which has to see the same. */
  #keep(node: KnownNode, isMaterial = true): void {
    const { nodeId } = node.record.info
    this.#nodes.set(nodeId, node)
    if (node.record.connection === 'CONNECTED') this.#silent.delete(nodeId)
    else this.#silent.set(nodeId, node)
    // First: whether a node is there is counted when it is put.
    const view = this.#parts.fleet.get(nodeId)
    if (view !== undefined && node.record.connection === 'CONNECTED') view.lost = false
    this.#parts.fleet.put(node.record, isMaterial)
  }

  #drop(id: NodeId): void {
    this.#nodes.delete(id)
    this.#silent.delete(id)
    this.#lists.forget(id)
    this.#parts.fleet.delete(id)
  }

  #known(id: NodeId): KnownNode {
    const node = this.#nodes.get(id)
    if (node !== undefined) return node
    throw new WeirError('node.not_found', `Cannot find node "${id}"`, {
      hint: 'List the nodes with "weir node list".',
    })
  }

  #nextRecord(request: SyncRequest, before: NodeRecord | undefined, now: TimeMs): NodeRecord {
    const connection = request.leaving ? 'DISCONNECTED' : 'CONNECTED'
    const joins = connection === 'CONNECTED' && before?.connection !== 'CONNECTED'
    return {
      info: request.info,
      membership: before?.membership ?? (this.#approves(request.info) ? 'APPROVED' : 'PENDING'),
      connection,
      incarnation: request.incarnation,
      lastSyncMs: now,
      connectedSinceMs: joins ? now : (before?.connectedSinceMs ?? now),
      ...(before?.changedMs === undefined ? {} : { changedMs: before.changedMs }),
      revision: (before?.revision ?? this.#deleting.get(request.nodeId) ?? 0) + 1,
    }
  }

  #approves(info: NodeInfo): boolean {
    const { approveNodes } = this.#parts
    return typeof approveNodes === 'function' ? approveNodes(info) : approveNodes
  }

  #isLost(node: KnownNode, now: TimeMs): boolean {
    const { disconnectAfterMs, lostGraceMs } = this.#parts.limits
    return node.record.connection === 'DISCONNECTED' && now - node.heardMs >= disconnectAfterMs + lostGraceMs
  }

  /** Stores a node that changed; jobs that could profit, or lost something by it, are looked at again. */
  async #storeChange(node: KnownNode, before: NodeRecord | undefined): Promise<void> {
    const { record } = node
    const isUsable = record.connection === 'CONNECTED' && record.membership === 'APPROVED'
    const { nodeId } = record.info
    node.isUnsaved = true
    await this.#store(
      { nodes: [record] },
      before !== undefined && record.membership === 'REJECTED' ? nodeId : undefined,
      isUsable,
    )
    node.isUnsaved = false
  }

  /** In one commit: the change, and evaluations for the jobs that run on `leaving` and for daemons that could join. */
  async #store(change: Change, leaving?: NodeId, joins = false): Promise<void> {
    const now = this.#parts.clock.now()
    await this.#parts.writer.transact((snapshot) => {
      const evaluations = new Map<string, Evaluation>()
      const look = (job: Job | undefined, trigger: Evaluation['trigger']): void => {
        if (job !== undefined) evaluations.set(job.id, evaluationOf(job, trigger, now))
      }
      if (joins) {
        for (const job of snapshot.activeJobs()) if (job.spec.Type === 'daemon') look(job, 'node-join')
      }
      for (const execution of leaving === undefined ? [] : snapshot.activeExecutionsOnNode(leaving)) {
        if (execution.desired.state === 'Running') look(snapshot.job(execution.jobId), 'node-leave')
      }
      const nodes = change.nodes?.map((node) => ({ ...node, info: withoutLongLists(node.info) }))
      const whole = { ...change, ...(nodes === undefined ? {} : { nodes }) }
      return { change: { ...whole, evaluations: [...evaluations.values()] }, result: undefined }
    })
  }
}

/** True when nothing of the node is other than before but load and time. Asked with every message. */
function isLastingSame(before: NodeRecord, next: NodeRecord): boolean {
  return (
    before.membership === next.membership &&
    before.connection === next.connection &&
    before.incarnation === next.incarnation &&
    isInfoSame(before.info, next.info)
  )
}

/** True when a job that this node refused may be welcome now. */
function isOther(before: NodeRecord | undefined, next: NodeRecord): boolean {
  if (before === undefined || before.incarnation !== next.incarnation) return true
  return !isInfoSame(before.info, next.info)
}

function isInfoSame(before: NodeInfo, next: NodeInfo): boolean {
  const [known, told] = [before.egress, next.egress]
  // Of long lists the digest says whether they are the same; whether they are known yet decides about placement as well.
  const isLong = known.listsDigest !== undefined && known.listsDigest === told.listsDigest
  if (isLong && known.allow.length + known.deny.length !== told.allow.length + told.deny.length) return false
  return (
    isSameJson(before, next, FLEETING) && isSameJson(known, told, isLong ? FLEETING_LONG : FLEETING_EGRESS)
  )
}

const FLEETING: ReadonlySet<string> = new Set([
  'availableCapacity',
  'queuedCapacity',
  'runningExecutions',
  'queuedExecutions',
  'egress',
])
const FLEETING_EGRESS: ReadonlySet<string> = new Set(['gateway'])
const FLEETING_LONG: ReadonlySet<string> = new Set(['gateway', 'allow', 'deny', 'keys'])
