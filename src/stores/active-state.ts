import { WeirError } from '../errors.js'
import { isTerminalJobState, isTerminalObservedState } from '../model/index.js'
import type {
  Evaluation,
  EvaluationId,
  Execution,
  ExecutionId,
  Job,
  JobId,
  NodeId,
  NodeRecord,
} from '../model/index.js'
import type { Change, Revision, Snapshot } from '../ports/index.js'

/** Where jobs are that have ended: read when somebody asks for one. */
export interface Archive {
  job(id: JobId): Job | undefined
  /** Oldest first. */
  executionsOfJob(id: JobId): Execution[]
  execution(id: ExecutionId): Execution | undefined
}

/** What a store holds in memory after a start. */
export interface ActiveRecords {
  revision: Revision
  jobs: Job[]
  /** All executions of those jobs, oldest first. */
  executions: Execution[]
  evaluations: Evaluation[]
  nodes: NodeRecord[]
}

/** What a change does to the jobs it touches. */
export interface Prepared {
  /** Jobs that are written, and those that begin or cease to be active: whether they are active then. */
  active: ReadonlyMap<JobId, boolean>
  /** Jobs that are new or have other labels than before. */
  relabelled: readonly JobId[]
}

/** True while the node may still hold the execution or the orchestrator still wants it. */
export function isActiveExecution(execution: Execution): boolean {
  return !isTerminalObservedState(execution.observed.state) || execution.desired.state === 'Running'
}

export function isActiveJob(job: Job, executions: readonly Execution[]): boolean {
  return !isTerminalJobState(job.state) || executions.some(isActiveExecution)
}

/**
 * Everything active, in memory: shared by all stores. Ended jobs leave it, so its size follows the work at hand.
 *
 * Snapshots are frozen without copying: each commit leaves the replaced records in a chain of undo notes, and a
 * snapshot reads the notes that were added after it was taken. Old notes are garbage as soon as no snapshot is older.
 * Records are frozen when they are applied, so nobody can change history by accident.
 */
export class ActiveState {
  readonly #archive: Archive
  readonly #jobs = new Map<JobId, Job>()
  readonly #executions = new Map<ExecutionId, Execution>()
  readonly #byJob = new Map<JobId, readonly Execution[]>()
  readonly #byNode = new Map<NodeId, Map<ExecutionId, Execution>>()
  readonly #evaluations = new Map<EvaluationId, Evaluation>()
  readonly #nodes = new Map<NodeId, NodeRecord>()
  #undo: Undo = emptyUndo()
  #revision: Revision = 0

  constructor(archive: Archive, records?: ActiveRecords) {
    this.#archive = archive
    if (records === undefined) return
    this.#revision = records.revision
    for (const job of records.jobs) this.#jobs.set(job.id, deepFreeze(job))
    for (const execution of records.executions) this.#putExecution(deepFreeze(execution))
    for (const evaluation of records.evaluations) this.#evaluations.set(evaluation.id, deepFreeze(evaluation))
    for (const node of records.nodes) this.#nodes.set(node.info.nodeId, deepFreeze(node))
  }

  get revision(): Revision {
    return this.#revision
  }

  /** Jobs held in memory: for tests of the promise that ended ones are not. */
  get size(): number {
    return this.#jobs.size + this.#executions.size
  }

  snapshot(): Snapshot {
    return new StateSnapshot(
      this.#revision,
      {
        archive: this.#archive,
        jobs: this.#jobs,
        executions: this.#executions,
        byJob: this.#byJob,
        byNode: this.#byNode,
        evaluations: this.#evaluations,
        nodes: this.#nodes,
      },
      this.#undo,
    )
  }

  /**
   * Call before the change is written: loads the ended jobs it touches, and tells what it does to jobs. Throws `internal`
   * for an execution or a line of history without a job.
   */
  prepare(change: Change): Prepared {
    const stored = new Map((change.jobs ?? []).map((job) => [job.id, job]))
    for (const { jobId } of change.history ?? []) {
      if (this.#jobs.has(jobId) || stored.has(jobId) || this.#archive.job(jobId) !== undefined) continue
      throw new WeirError('internal', `Cannot store the history of unknown job "${jobId}"`)
    }
    const changed = groupByJob(change.executions ?? [])
    const active = new Map<JobId, boolean>()
    const relabelled: JobId[] = []
    for (const id of touchedJobs(change)) {
      const before = this.#jobs.get(id) ?? this.#archive.job(id)
      const job = stored.get(id) ?? before
      if (job === undefined)
        throw new WeirError('internal', `Cannot store an execution of unknown job "${id}"`)
      const wasActive = this.#jobs.has(id)
      if (before !== undefined && !wasActive) this.#warm(before)
      const isActive = isActiveJob(job, this.#executionsAfter(id, changed.get(id) ?? []))
      if (isActive !== wasActive || stored.has(id)) active.set(id, isActive)
      if (before?.spec.Labels !== job.spec.Labels) relabelled.push(id)
    }
    return { active, relabelled }
  }

  /** Undoes {@link prepare} for a change that will not be applied. */
  abandon(change: Change): void {
    for (const id of touchedJobs(change)) if (!this.#isActive(id)) this.#evict(id)
  }

  /** Makes the change visible. Never throws. */
  apply(change: Change, revision: Revision): void {
    const undo = this.#undo
    const touched = touchedJobs(change)
    for (const id of touched) undo.jobs.set(id, { job: this.#jobs.get(id), active: this.#isActive(id) })
    for (const job of change.jobs ?? []) this.#jobs.set(job.id, deepFreeze(job))
    for (const execution of change.executions ?? []) {
      undo.executions.set(execution.id, this.#executions.get(execution.id))
      this.#putExecution(deepFreeze(execution))
    }
    for (const evaluation of change.evaluations ?? []) {
      remember(undo.evaluations, this.#evaluations, evaluation.id)
      this.#evaluations.set(evaluation.id, deepFreeze(evaluation))
    }
    for (const id of change.deleteEvaluations ?? []) {
      remember(undo.evaluations, this.#evaluations, id)
      this.#evaluations.delete(id)
    }
    for (const node of change.nodes ?? []) {
      remember(undo.nodes, this.#nodes, node.info.nodeId)
      this.#nodes.set(node.info.nodeId, deepFreeze(node))
    }
    for (const id of change.deleteNodes ?? []) {
      remember(undo.nodes, this.#nodes, id)
      this.#nodes.delete(id)
    }
    for (const id of touched) if (!this.#isActive(id)) this.#evict(id)
    for (const id of change.deleteExecutions ?? []) this.#forgetExecution(id)
    for (const id of change.deleteJobs ?? []) this.#evict(id)
    this.#revision = revision
    this.#undo = undo.next = emptyUndo()
  }

  #isActive(id: JobId): boolean {
    const job = this.#jobs.get(id)
    return job !== undefined && isActiveJob(job, this.#byJob.get(id) ?? [])
  }

  #executionsAfter(id: JobId, changed: readonly Execution[]): Execution[] {
    const ids = new Set(changed.map((execution) => execution.id))
    return [...(this.#byJob.get(id) ?? []).filter((execution) => !ids.has(execution.id)), ...changed]
  }

  #putExecution(execution: Execution): void {
    const previous = this.#executions.get(execution.id)
    const siblings = this.#byJob.get(execution.jobId) ?? []
    this.#executions.set(execution.id, execution)
    this.#byJob.set(
      execution.jobId,
      previous === undefined
        ? [...siblings, execution]
        : siblings.map((other) => (other.id === execution.id ? execution : other)),
    )
    if (previous !== undefined && previous.nodeId !== execution.nodeId) this.#leaveNode(previous)
    if (!isActiveExecution(execution)) return this.#leaveNode(execution)
    const onNode = this.#byNode.get(execution.nodeId)
    if (onNode === undefined) this.#byNode.set(execution.nodeId, new Map([[execution.id, execution]]))
    else onNode.set(execution.id, execution)
  }

  #leaveNode(execution: Execution): void {
    const onNode = this.#byNode.get(execution.nodeId)
    if (onNode?.delete(execution.id) === true && onNode.size === 0) this.#byNode.delete(execution.nodeId)
  }

  #warm(job: Job): void {
    this.#jobs.set(job.id, deepFreeze(job))
    for (const execution of this.#archive.executionsOfJob(job.id)) this.#putExecution(deepFreeze(execution))
  }

  #forgetExecution(id: ExecutionId): void {
    const execution = this.#executions.get(id)
    if (execution === undefined) return
    this.#executions.delete(id)
    this.#leaveNode(execution)
    const others = (this.#byJob.get(execution.jobId) ?? []).filter((other) => other.id !== id)
    this.#byJob.set(execution.jobId, others)
  }

  #evict(id: JobId): void {
    for (const execution of this.#byJob.get(id) ?? []) {
      this.#executions.delete(execution.id)
      this.#leaveNode(execution)
    }
    this.#byJob.delete(id)
    this.#jobs.delete(id)
  }
}

interface Undo {
  readonly jobs: Map<JobId, { job: Job | undefined; active: boolean }>
  readonly executions: Map<ExecutionId, Execution | undefined>
  readonly evaluations: Map<EvaluationId, Evaluation | undefined>
  readonly nodes: Map<NodeId, NodeRecord | undefined>
  next?: Undo
}

interface Live {
  archive: Archive
  jobs: ReadonlyMap<JobId, Job>
  executions: ReadonlyMap<ExecutionId, Execution>
  byJob: ReadonlyMap<JobId, readonly Execution[]>
  byNode: ReadonlyMap<NodeId, ReadonlyMap<ExecutionId, Execution>>
  evaluations: ReadonlyMap<EvaluationId, Evaluation>
  nodes: ReadonlyMap<NodeId, NodeRecord>
}

/** The live maps, corrected by what was replaced since. */
class StateSnapshot implements Snapshot {
  readonly revision: Revision
  readonly #live: Live
  readonly #since: Undo = emptyUndo()
  #next: Undo

  constructor(revision: Revision, live: Live, next: Undo) {
    this.revision = revision
    this.#live = live
    this.#next = next
  }

  *activeJobs(): Iterable<Job> {
    const { jobs: replaced } = this.#replaced()
    const found: Job[] = []
    for (const job of this.#live.jobs.values()) if (!replaced.has(job.id)) found.push(job)
    for (const { job, active } of replaced.values()) if (job !== undefined && active) found.push(job)
    yield* found
  }

  job(id: JobId): Job | undefined {
    const note = this.#replaced().jobs.get(id)
    return note === undefined ? (this.#live.jobs.get(id) ?? this.#live.archive.job(id)) : note.job
  }

  executionsOfJob(id: JobId): readonly Execution[] {
    const { executions: replaced } = this.#replaced()
    const now =
      this.#live.byJob.get(id) ?? (this.#live.jobs.has(id) ? [] : this.#live.archive.executionsOfJob(id))
    if (replaced.size === 0) return now
    return now
      .map((execution) => (replaced.has(execution.id) ? replaced.get(execution.id) : execution))
      .filter((execution) => execution !== undefined)
  }

  execution(id: ExecutionId): Execution | undefined {
    const { executions: replaced } = this.#replaced()
    if (replaced.has(id)) return replaced.get(id)
    return this.#live.executions.get(id) ?? this.#live.archive.execution(id)
  }

  activeExecutionsOnNode(id: NodeId): readonly Execution[] {
    const { executions: replaced } = this.#replaced()
    const now = [...(this.#live.byNode.get(id)?.values() ?? [])]
    if (replaced.size === 0) return now
    const before = [...replaced.values()].filter(
      (execution) => execution !== undefined && execution.nodeId === id && isActiveExecution(execution),
    ) as Execution[]
    return [...now.filter((execution) => !replaced.has(execution.id)), ...before]
  }

  evaluations(): Iterable<Evaluation> {
    return corrected(this.#live.evaluations, this.#replaced().evaluations)
  }

  nodes(): Iterable<NodeRecord> {
    return corrected(this.#live.nodes, this.#replaced().nodes)
  }

  node(id: NodeId): NodeRecord | undefined {
    const { nodes: replaced } = this.#replaced()
    return replaced.has(id) ? replaced.get(id) : this.#live.nodes.get(id)
  }

  /** Reads the notes that were added since the last look; the oldest note about a record is the one that counts. */
  #replaced(): Undo {
    for (let note = this.#next; note.next !== undefined; note = this.#next) {
      for (const key of ['jobs', 'executions', 'evaluations', 'nodes'] as const) {
        const known = this.#since[key] as Map<string, unknown>
        for (const [id, record] of note[key]) if (!known.has(id)) known.set(id, record)
      }
      this.#next = note.next
    }
    return this.#since
  }
}

function emptyUndo(): Undo {
  return { jobs: new Map(), executions: new Map(), evaluations: new Map(), nodes: new Map() }
}

function remember<T>(undo: Map<string, T | undefined>, live: ReadonlyMap<string, T>, id: string): void {
  if (!undo.has(id)) undo.set(id, live.get(id))
}

function corrected<T>(live: ReadonlyMap<string, T>, replaced: ReadonlyMap<string, T | undefined>): T[] {
  if (replaced.size === 0) return [...live.values()]
  const found = [...live].filter(([id]) => !replaced.has(id)).map(([, record]) => record)
  for (const record of replaced.values()) if (record !== undefined) found.push(record)
  return found
}

function groupByJob(executions: readonly Execution[]): Map<JobId, Execution[]> {
  const groups = new Map<JobId, Execution[]>()
  for (const execution of executions) {
    const group = groups.get(execution.jobId)
    if (group === undefined) groups.set(execution.jobId, [execution])
    else group.push(execution)
  }
  return groups
}

function touchedJobs(change: Change): Set<JobId> {
  const touched = new Set<JobId>()
  for (const job of change.jobs ?? []) touched.add(job.id)
  for (const execution of change.executions ?? []) touched.add(execution.jobId)
  return touched
}

/** Stops at what is frozen already: a new version of a record shares most of its parts with the old one. */
function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const part of Object.values(value)) deepFreeze(part)
  return value
}
