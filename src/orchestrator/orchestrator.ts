import { WeirError, toWeirError } from '../errors.js'
import {
  digestNetworkPolicy,
  isTerminalJobState,
  isTerminalObservedState,
  jobVersionOf,
  NO_NETWORK_POLICY,
  newEvaluationId,
  runsToEnd,
} from '../model/index.js'
import type {
  AuditRecord,
  Execution,
  HistoryEvent,
  Job,
  JobId,
  NetworkEgressPolicy,
  NodeRecord,
  SpecConfig,
} from '../model/index.js'
import type { NodeConnection, NodeId, NodeMembership } from '../model/index.js'
import { BLOB_SUBJECT, explainSubject, SYNC_SUBJECT } from '../ports/index.js'
import type {
  Change,
  Closable,
  EgressCheck,
  EgressCheckRequest,
  EgressExplanation,
  EgressQuestion,
  HistoryQuery,
  JobDiff,
  JobQuery,
  JobService,
  JobView,
  LogItem,
  LogQuery,
  RerunRequest,
  Snapshot,
  SubmitRequest,
  SubmitResponse,
} from '../ports/index.js'
import { createBlobDesk } from './blob-desk.js'
import { Broker, type Want } from './broker.js'
import { DesiredAnswers } from './desired-answer.js'
import { DesiredFeed } from './desired-feed.js'
import { checkEgress } from './egress-check.js'
import { makeEvaluation } from './evaluations.js'
import { Fleet } from './fleet.js'
import { findExecution, findJob, findNode, findVersion, meantNode } from './id-lookup.js'
import { readDemand } from './job-demand.js'
import { followExecutions, type FollowParts } from './job-follow.js'
import { JobWatch } from './job-watch.js'
import { nodeError, readExplanation } from './node-answer.js'
import { NodeReader } from './node-reader.js'
import { NodeRegistry } from './node-registry.js'
import { Nudger } from './nudger.js'
import { DEFAULT_LIMITS, SILENT_LOGGER } from './options.js'
import type { OrchestratorLimits, OrchestratorLogger, OrchestratorOptions } from './options.js'
import type { NodePast } from './placement.js'
import { Planner } from './planner.js'
import { Reservations } from './reservations.js'
import { Retention } from './retention.js'
import { requireSignatures } from './submission.js'
import { Submissions } from './submissions.js'
import { createSyncHandler } from './sync-handler.js'
import { clip } from './wording.js'
import { Writer } from './writer.js'

/** The brain of the network: takes jobs, decides where they run, remembers what happened. */
export interface Orchestrator extends JobService {
  /** Takes up what the store holds, answers nodes and schedules. Rejects with `store.unavailable`. */
  start(): Promise<void>
  /** Stops scheduling and answering; resolves when nothing is under way. Store and transport stay open. Idempotent. */
  close(): Promise<void>
  /** The egress list of the network that is in force. */
  networkEgress(): NetworkEgressPolicy
  /**
   * Replaces the egress list of the network: it counts for placement at once and is told to each node. Give each list
   * another version. Rejects with `pattern.invalid`; then the old one stays.
   */
  setNetworkEgress(policy: NetworkEgressPolicy): Promise<void>
}

export function createOrchestrator(options: OrchestratorOptions): Orchestrator {
  return new OrchestratorNode(options)
}

const REASON_LENGTH_MAX = 1_024

class OrchestratorNode implements Orchestrator {
  readonly #options: OrchestratorOptions
  readonly #limits: OrchestratorLimits
  readonly #logger: OrchestratorLogger
  readonly #writer: Writer
  readonly #broker: Broker
  readonly #fleet = new Fleet()
  readonly #reservations: Reservations
  readonly #registry: NodeRegistry
  readonly #watch = new JobWatch()
  readonly #nudger: Nudger
  readonly #reader: NodeReader
  readonly #closing = new AbortController()
  readonly #submissions: Submissions
  #networkEgress: { policy: NetworkEgressPolicy; digest: string }
  #serving: Closable[] = []
  #loops: Promise<void>[] = []

  constructor(options: OrchestratorOptions) {
    const { store, transport, clock } = options
    this.#options = options
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits }
    this.#logger = options.logger ?? SILENT_LOGGER
    this.#writer = new Writer(store)
    this.#reservations = new Reservations(this.#fleet, this.#limits)
    const { nodeQueueFactor } = this.#limits
    this.#broker = new Broker(clock, (nodeId, { demand, ignoresLoad }, { jobId, priority }, max) =>
      this.#fleet.roomOn(
        nodeId,
        demand,
        {
          wanted: 1,
          past: NO_PAST,
          nodeQueueFactor: ignoresLoad ? Infinity : nodeQueueFactor,
          seed: jobId,
          priority,
        },
        max,
      ),
    )
    const policy = options.networkEgress ?? NO_NETWORK_POLICY
    this.#networkEgress = { policy, digest: digestNetworkPolicy(policy) }
    this.#fleet.setNetworkEgress(policy)
    this.#fleet.onRoom((nodeId) => this.#broker.room(nodeId))
    this.#writer.onCommitting((change, base) => this.#fleet.committing(change, base))
    this.#nudger = new Nudger(transport)
    const parts = {
      writer: this.#writer,
      fleet: this.#fleet,
      clock,
      limits: this.#limits,
      logger: this.#logger,
    }
    this.#registry = new NodeRegistry({ ...parts, approveNodes: options.approveNodes ?? true })
    this.#submissions = new Submissions(options, this.#writer, this.#limits)
    this.#reader = new NodeReader({ store, transport, watch: this.#watch, clock, limits: this.#limits })
  }

  async start(): Promise<void> {
    const { store, transport, clock, chance } = this.#options
    const feed = new DesiredFeed(clock.now())
    this.#takeUp(await store.snapshot(), feed)
    this.#writer.onCommit((change) => this.#committed(change, feed))
    const parts = {
      store,
      writer: this.#writer,
      broker: this.#broker,
      registry: this.#registry,
      reservations: this.#reservations,
      clock,
      chance,
      limits: this.#limits,
      logger: this.#logger,
    }
    const answers = new DesiredAnswers(feed)
    const { blobs } = this.#options
    if (blobs !== undefined)
      this.#serving.push(await transport.serve(BLOB_SUBJECT, createBlobDesk({ blobs, store })))
    this.#serving.push(
      await transport.serve(
        SYNC_SUBJECT,
        createSyncHandler({
          ...parts,
          answers,
          nudger: this.#nudger,
          networkEgress: () => this.#networkEgress,
        }),
      ),
    )
    const { signal } = this.#closing
    const retention = new Retention({ ...parts, feed })
    this.#loops = [
      new Planner(parts).run(signal),
      this.#repeat(this.#limits.sweepMs, 'Cannot look at the clock', async () => this.#registry.listen()),
      this.#repeat(this.#limits.sweepMs, 'Cannot store the state of nodes', () => this.#registry.sweep()),
      this.#repeat(this.#limits.forgetEveryMs, 'Cannot forget old jobs', () => retention.run(signal)),
    ]
    for (const node of this.#registry.records()) this.#nudger.nudge(node.info.nodeId)
  }

  /**
   * What the store holds. By itself, because a snapshot that is held keeps everything that was ever replaced since; a
   * function made beside one would hold it.
   */
  #takeUp(snapshot: Snapshot, feed: DesiredFeed): void {
    for (const job of snapshot.activeJobs()) {
      this.#submissions.count(job)
      for (const execution of snapshot.executionsOfJob(job.id)) feed.note(execution)
    }
    this.#registry.load(snapshot)
    this.#broker.load(snapshot.evaluations(), (jobId) => wantOf(snapshot, jobId))
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#nudger.close()
    await Promise.all(this.#serving.splice(0).map((one) => one.close()))
    await Promise.all(this.#loops.splice(0))
    await this.#writer.close()
  }

  networkEgress(): NetworkEgressPolicy {
    return this.#networkEgress.policy
  }

  async setNetworkEgress(policy: NetworkEgressPolicy): Promise<void> {
    this.#fleet.setNetworkEgress(policy)
    this.#networkEgress = { policy, digest: digestNetworkPolicy(policy) }
    for (const { info } of this.#registry.records()) this.#nudger.nudge(info.nodeId)
    await this.#registry.offersChanged()
  }

  submit(request: SubmitRequest): Promise<SubmitResponse> {
    return this.#submissions.submit(request)
  }

  diff(request: SubmitRequest): Promise<JobDiff> {
    return this.#submissions.diff(request)
  }

  rerun(idOrPrefix: string, request: RerunRequest): Promise<SubmitResponse> {
    return this.#submissions.rerun(idOrPrefix, request)
  }

  async versions(idOrPrefix: string, view: Pick<JobView, 'namespace'> = {}): Promise<Job[]> {
    const job = await this.job(idOrPrefix, { namespace: view.namespace })
    return [...(await this.#options.store.replacedVersions(job.id)), job]
  }

  async stop(
    idOrPrefix: string,
    reason: string,
    view: Pick<JobView, 'namespace'> = {},
  ): Promise<{ evaluationId: string }> {
    const { store, clock, chance } = this.#options
    const { id } = await findJob(store, idOrPrefix, view.namespace)
    return this.#writer.transact((snapshot) => {
      const job = snapshot.job(id)
      if (job === undefined) throw new WeirError('job.not_found', `Cannot find job "${id}"`)
      if (job.state === 'Stopped') return { result: { evaluationId: '' } }
      if (isTerminalJobState(job.state)) {
        throw new WeirError('job.terminal', `cannot stop job in state ${job.state}`, {
          details: { state: job.state },
        })
      }
      const now = clock.now()
      const why = clip(reason, REASON_LENGTH_MAX)
      const evaluation = makeEvaluation(newEvaluationId(chance), job, 'job-cancel', now, 0)
      const message = 'Job requested to stop before completion'
      const change: Change = {
        jobs: [
          {
            ...job,
            state: 'Stopped',
            message: why === '' ? message : why,
            details: {},
            stopRequest: { reason: why, atMs: now },
            revision: job.revision + 1,
            modifyTimeMs: now,
          },
        ],
        evaluations: [evaluation],
        history: [
          {
            jobId: id,
            topic: 'Scheduling',
            message,
            details: { NewState: 'Stopped', ...(why === '' ? {} : { Reason: why }) },
            timeMs: now,
            jobVersion: job.version,
          },
        ],
      }
      return { change, result: { evaluationId: evaluation.id } }
    })
  }

  async job(idOrPrefix: string, view: JobView = {}): Promise<Job> {
    const { store } = this.#options
    return findVersion(store, await findJob(store, idOrPrefix, view.namespace), view.jobVersion)
  }

  async jobs(query: JobQuery): Promise<{ jobs: Job[]; more: boolean }> {
    return this.#options.store.listJobs(query)
  }

  async executions(idOrPrefix: string, view: JobView = {}): Promise<Execution[]> {
    const job = await this.job(idOrPrefix, view)
    const all = (await this.#options.store.snapshot()).executionsOfJob(job.id)
    return all.filter(isOfVersion(job, view))
  }

  async history(
    idOrPrefix: string,
    query: HistoryQuery,
    view: JobView = {},
  ): Promise<{ events: HistoryEvent[]; finished: boolean }> {
    // The state first: whatever led to it is then among the events that are read after it.
    const job = await this.job(idOrPrefix, view)
    const hasEnded = await this.#hasEnded(job, query.executionId)
    const isOne = query.executionId !== undefined && query.executionId !== ''
    const isAny = view.allVersions === true || (isOne && !view.jobVersion)
    // A job without any other version needs no filter.
    const isOnly = !isAny && job.version <= 1 && !view.jobVersion
    const jobVersion = isAny || isOnly ? undefined : job.version
    const { events, more } = await this.#options.store.history(job.id, { ...query, jobVersion })
    return { events, finished: hasEnded && !more }
  }

  async results(idOrPrefix: string, view: JobView = {}): Promise<SpecConfig[]> {
    const job = await this.job(idOrPrefix, view)
    if (!runsToEnd(job.spec.Type)) return []
    return (await this.executions(job.id, view)).flatMap(({ observed }) =>
      observed.state === 'Completed' &&
      observed.publishedResult !== undefined &&
      observed.publishedResult.Type !== ''
        ? [observed.publishedResult]
        : [],
    )
  }

  async *logs(idOrPrefix: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogItem> {
    const job = await this.job(idOrPrefix, query)
    const isWhole = query.allExecutions === true
    yield* this.#readAll(job.id, query, isWhole ? notRefused : newestPerSlot, signal, {
      read: (id, gone, open) => this.#reader.output(id, { ...query, notices: isWhole }, gone, open),
      inOrder: isWhole,
      ...(isWhole ? { sayWaiting: waitingNotice } : {}),
    })
  }

  async *egress(
    idOrPrefix: string,
    query: { executionId?: string; follow: boolean } & JobView,
    signal: AbortSignal,
  ): AsyncIterable<AuditRecord> {
    const job = await this.job(idOrPrefix, query)
    yield* this.#readAll(job.id, query, notRefused, signal, {
      read: (id, gone) => this.#reader.egress(id, query, gone),
    })
  }

  async nodes(query: { membership?: NodeMembership; connection?: NodeConnection }): Promise<NodeRecord[]> {
    return this.#registry
      .records()
      .filter((node) => query.membership === undefined || node.membership === query.membership)
      .filter((node) => query.connection === undefined || node.connection === query.connection)
  }

  async checkEgress(request: EgressCheckRequest): Promise<EgressCheck> {
    if (request.spec !== undefined) requireSignatures(request.spec, this.#options.clock.now())
    const snapshot = await this.#options.store.snapshot()
    const views = this.#registry.views(snapshot, this.#options.clock.now())
    return checkEgress(request, views.values(), this.networkEgress().version)
  }

  async explainEgress(
    idOrPrefix: string,
    question: EgressQuestion,
  ): Promise<EgressExplanation & { nodeId: NodeId }> {
    // It only asks, so that the beginning of a name will do.
    const { nodeId } = findNode(this.#registry.records(), idOrPrefix).info
    const { transport } = this.#options
    try {
      const answer = await transport.request(explainSubject(nodeId), question, this.#limits.nodeAnswerMs)
      return { nodeId, ...readExplanation(answer, question, nodeId) }
    } catch (error) {
      throw nodeError(error, nodeId)
    }
  }

  async node(idOrPrefix: string): Promise<NodeRecord> {
    return findNode(this.#registry.records(), idOrPrefix)
  }

  async updateNode(
    idOrPrefix: string,
    action: 'approve' | 'reject' | 'delete',
    message: string,
  ): Promise<void> {
    const id = meantNode(this.#registry.records(), idOrPrefix)
    this.#logger.info(
      { nodeId: id, action, message: clip(message, REASON_LENGTH_MAX) },
      'An operator decides on a node',
    )
    const decide = async (): Promise<void> => {
      if (action === 'delete') await this.#registry.delete(id)
      else await this.#registry.decide(id, action === 'approve' ? 'APPROVED' : 'REJECTED')
    }
    const { onNodeDecision = async (_id, _action, carryOut) => carryOut() } = this.#options
    await onNodeDecision(id, action, decide)
    this.#nudger.nudge(id)
  }

  /** Keeps what is held in memory in step with the store. */
  #committed(change: Change, feed: DesiredFeed): void {
    for (const job of change.jobs ?? []) {
      this.#submissions.count(job)
    }
    const nodes = new Set<NodeId>()
    for (const execution of change.executions ?? []) if (feed.note(execution)) nodes.add(execution.nodeId)
    this.#broker.committed(change)
    this.#watch.committed(change)
    for (const nodeId of nodes) this.#nudger.nudge(nodeId)
  }

  /** Until the orchestrator closes; what fails is tried again the next time. */
  async #repeat(everyMs: number, failure: string, work: () => Promise<unknown>): Promise<void> {
    const { signal } = this.#closing
    while (!signal.aborted) {
      try {
        await this.#options.clock.sleep(everyMs, signal)
        await work()
      } catch (error) {
        if (signal.aborted) return
        this.#logger.error({ error: toWeirError(error).message }, `${failure}; trying again`)
      }
    }
  }

  async #hasEnded(job: Job, executionId: string | undefined): Promise<boolean> {
    if (isTerminalJobState(job.state)) return true
    if (executionId === undefined || executionId === '') return false
    const all = (await this.#options.store.snapshot()).executionsOfJob(job.id)
    const asked = all.filter((execution) => execution.id.startsWith(executionId))
    return asked.length > 0 && asked.every((execution) => isTerminalObservedState(execution.observed.state))
  }

  #readAll<T>(
    jobId: JobId,
    query: { executionId?: string; follow: boolean } & JobView,
    chooseAll: (executions: readonly Execution[]) => Execution[],
    signal: AbortSignal,
    how: Pick<FollowParts<T>, 'read' | 'inOrder' | 'sayWaiting'>,
  ): AsyncIterable<T> {
    const { executionId } = query
    const isOne = executionId !== undefined && executionId !== ''
    const choose = (executions: readonly Execution[], job: Job | undefined): Execution[] => {
      if (isOne) return [findExecution(executions, executionId)]
      const version = query.jobVersion || job?.version
      return chooseAll(executions.filter(isOfVersion({ version }, query)))
    }
    // One execution never becomes several: its end is the end.
    const follow = query.follow && !isOne
    return followExecutions(
      { store: this.#options.store, watch: this.#watch, jobId, follow, choose, ...how },
      signal,
    )
  }
}

const NO_PAST = new Map<NodeId, NodePast>()

/** What a job that waits for a node looks for; it is found out anew after a start. */
function wantOf(snapshot: Snapshot, jobId: JobId): Want | undefined {
  const job = snapshot.job(jobId)
  if (job === undefined) return undefined
  const { Type } = job.spec
  const ignoresLoad = Type === 'ops' || Type === 'daemon'
  try {
    return { demand: readDemand(job.spec), ignoresLoad, hasPast: snapshot.executionsOfJob(jobId).length > 0 }
  } catch {
    return undefined // Nobody can decide on such a job; the planner says so when its time comes.
  }
}

function waitingNotice(count: number): LogItem {
  const notice = `${count} more executions run; their output follows when others have ended`
  return { executionId: '', stream: 'stderr', data: new Uint8Array(), timeMs: 0, notice }
}

function notRefused(executions: readonly Execution[]): Execution[] {
  return executions.filter((execution) => execution.observed.state !== 'Rejected')
}

/** Of each slot the last one that was not refused. */
function newestPerSlot(executions: readonly Execution[]): Execution[] {
  const newest = new Map<number, Execution>()
  for (const execution of notRefused(executions)) newest.set(execution.slot, execution)
  return [...newest.values()]
}

/** Whether an execution belongs to the version of a job, or to any when all are asked for. */
function isOfVersion(
  { version = 1 }: { version?: number },
  { allVersions }: JobView,
): (execution: Execution) => boolean {
  return (execution) => allVersions === true || jobVersionOf(execution) === Math.max(version, 1)
}
