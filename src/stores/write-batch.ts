import type {
  Evaluation,
  EvaluationId,
  Execution,
  ExecutionId,
  Job,
  JobId,
  NewHistoryEvent,
  NodeId,
  NodeRecord,
} from '../model/index.js'
import type { Change } from '../ports/index.js'
import type { Prepared } from './active-state.js'

/**
 * Changes that are to be written together. Of each record only its last version: under load a job is often changed more
 * than once between two flushes to the disk.
 */
export class WriteBatch {
  readonly jobs = new Map<JobId, Job>()
  /** In the order in which they were first seen. */
  readonly executions = new Map<ExecutionId, Execution>()
  /** Undefined = to be deleted; likewise below. */
  readonly evaluations = new Map<EvaluationId, Evaluation | undefined>()
  readonly nodes = new Map<NodeId, NodeRecord | undefined>()
  readonly history: NewHistoryEvent[] = []
  /** Jobs that became active, or are no longer, or are written anyway. */
  readonly active = new Map<JobId, boolean>()
  /** Jobs whose labels have to be written anew. */
  readonly relabelled = new Set<JobId>()
  /** Jobs of the executions. */
  readonly #jobIds = new Set<JobId>()

  get isEmpty(): boolean {
    const { jobs, executions, evaluations, nodes, history, active } = this
    return jobs.size + executions.size + evaluations.size + nodes.size + history.length + active.size === 0
  }

  /** True for a change of which the order against others matters; it has to be written by itself. */
  static isOwn({ deleteJobs, deleteExecutions, replacedJobs }: Change): boolean {
    return [deleteJobs, deleteExecutions, replacedJobs].some((list) => list !== undefined && list.length > 0)
  }

  add(change: Change, { active, relabelled }: Prepared): void {
    for (const job of change.jobs ?? []) this.jobs.set(job.id, job)
    for (const execution of change.executions ?? []) {
      this.executions.set(execution.id, execution)
      this.#jobIds.add(execution.jobId)
    }
    for (const evaluation of change.evaluations ?? []) this.evaluations.set(evaluation.id, evaluation)
    for (const id of change.deleteEvaluations ?? []) this.evaluations.set(id, undefined)
    for (const node of change.nodes ?? []) this.nodes.set(node.info.nodeId, node)
    for (const id of change.deleteNodes ?? []) this.nodes.set(id, undefined)
    for (const event of change.history ?? []) this.history.push(event)
    for (const [id, isActive] of active) this.active.set(id, isActive)
    for (const id of relabelled) this.relabelled.add(id)
  }

  hasExecutionsOf(jobId: JobId): boolean {
    return this.#jobIds.has(jobId)
  }
}
