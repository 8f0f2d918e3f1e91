import { isTerminalObservedState, versionTimeMs } from '../model/index.js'
import type {
  DesiredExecution,
  ExecutionId,
  JobSpec,
  NodeId,
  SyncRequest,
  SyncResponse,
  TaskSpec,
} from '../model/index.js'
import type { Snapshot } from '../ports/index.js'
import type { DesiredFeed } from './desired-feed.js'

/** Room for desired executions in one answer; a message holds 1 MiB. */
const DESIRED_BYTES_MAX = 768 * 1024

/** What is wanted of a node, as far as it fits into one message. */
export interface DesiredAnswer extends Pick<SyncResponse, 'desired' | 'revision' | 'complete'> {
  /** True when the node should ask again at once. */
  more: boolean
}

/**
 * Tells each node what it does not know yet, in parts where that is too large for one message.
 *
 * A list of everything that comes in parts ends with one that is complete again, so that a node stops what nobody here
 * knows. In that last part the executions of earlier parts come with a bare specification: the node has reported on them,
 * so it either holds them or has lost them, and never begins them.
 */
export class DesiredAnswers {
  readonly #feed: DesiredFeed
  /** Nodes in the middle of a list of everything, with what they know after its last part. */
  readonly #unfinished = new Map<NodeId, { incarnation: string; revision: number }>()

  constructor(feed: DesiredFeed) {
    this.#feed = feed
  }

  /** `everything` is for a node that spoke of executions nobody here knows. */
  answer(request: SyncRequest, snapshot: Snapshot, everything: boolean): DesiredAnswer {
    const { nodeId, knownRevision, incarnation } = request
    const changes = this.#feed.since(nodeId, knownRevision, everything)
    const before = this.#unfinished.get(nodeId)
    const goesOn =
      !changes.complete && before?.incarnation === incarnation && before.revision === knownRevision
    this.#unfinished.delete(nodeId)
    const desired: DesiredExecution[] = []
    let bytes = 0
    for (const { id, revision } of changes.ids) {
      const one = desiredExecution(snapshot, id, nodeId)
      if (one === undefined) continue
      // One alone is sent whatever its size.
      if (goesOn || changes.ids.length > 1) bytes += sizeOf(one)
      if (desired.length > 0 && bytes > DESIRED_BYTES_MAX) {
        const part = { desired, revision: revision - 1, complete: false, more: true }
        if (changes.complete || goesOn) this.#unfinished.set(nodeId, { incarnation, revision: part.revision })
        return part
      }
      desired.push(one)
    }
    const { revision } = changes
    if (!goesOn) return { desired, revision, complete: changes.complete, more: false }
    const earlier = this.#earlier(nodeId, knownRevision, snapshot)
    const fits = bytes + earlier.reduce((sum, one) => sum + sizeOf(one), 0) <= DESIRED_BYTES_MAX
    if (fits) return { desired: [...earlier, ...desired], revision, complete: true, more: false }
    // First this part; should the names alone be too many for one message, the node goes on without a complete list.
    const hasMore = desired.length > 0
    if (hasMore) this.#unfinished.set(nodeId, { incarnation, revision })
    return { desired, revision, complete: false, more: hasMore }
  }

  /** What the node was told in earlier parts. */
  #earlier(nodeId: NodeId, knownRevision: number, snapshot: Snapshot): DesiredExecution[] {
    return this.#feed
      .since(nodeId, knownRevision, true)
      .ids.filter(({ revision }) => revision <= knownRevision)
      .flatMap(({ id }) => desiredExecution(snapshot, id, nodeId) ?? [])
      .map((one) => ((one.observedSequence ?? 0) > 0 ? { ...one, jobSpec: bareSpec(one.jobSpec) } : one))
  }
}

/** Undefined when it is over: the node may have forgotten it, and must not run it again. */
function desiredExecution(snapshot: Snapshot, id: ExecutionId, nodeId: NodeId): DesiredExecution | undefined {
  const execution = snapshot.execution(id)
  const job = execution === undefined ? undefined : snapshot.job(execution.jobId)
  if (execution === undefined || job === undefined || execution.nodeId !== nodeId) return undefined
  if (isTerminalObservedState(execution.observed.state)) return undefined
  return {
    executionId: id,
    jobId: job.id,
    jobSpec: job.spec,
    slot: execution.slot,
    attempt: execution.attempt,
    state: execution.desired.state,
    message: execution.desired.message,
    createTimeMs: execution.createTimeMs,
    jobCreateTimeMs: versionTimeMs(job),
    observedSequence: execution.observed.sequence,
  }
}

/** All that can be large is left out. */
function bareSpec(spec: JobSpec): JobSpec {
  const [{ Name, Engine, Publisher, Resources, Network, Timeouts }] = spec.Tasks
  const task: TaskSpec = {
    Name,
    Engine: { Type: Engine.Type },
    Publisher: { Type: Publisher.Type },
    Env: {},
    Meta: {},
    InputSources: [],
    ResultPaths: [],
    Resources,
    Network: { ...Network, Domains: [] },
    Timeouts,
  }
  return { ...spec, Constraints: [], Meta: {}, Labels: {}, Tasks: [task] }
}

function sizeOf(one: DesiredExecution): number {
  return Buffer.byteLength(JSON.stringify(one))
}
