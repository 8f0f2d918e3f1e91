import { isWeirError, toWeirError } from '../errors.js'
import { isTerminalObservedState, newExecutionId, runsToEnd } from '../model/index.js'
import type { Evaluation, Execution, ExecutionId, Job, JobId, TimeMs } from '../model/index.js'
import type { Chance, Change, Clock, Snapshot } from '../ports/index.js'
import { STOP_JOB_FAILED } from './attempts.js'
import type { Broker } from './broker.js'
import { lookAgainId, lookAgainOf } from './evaluations.js'
import type { NodeRegistry } from './node-registry.js'
import type { NodeViews } from './node-view.js'
import type { OrchestratorLimits, OrchestratorLogger } from './options.js'
import { applyPlan, type Plan } from './plan.js'
import { reconcile } from './reconcile.js'
import type { Reservations } from './reservations.js'
import type { Writer } from './writer.js'

const STORE_RETRY_MS = 1_000

export interface PlannerParts {
  writer: Writer
  broker: Broker
  registry: NodeRegistry
  reservations: Reservations
  clock: Clock
  chance: Chance
  limits: OrchestratorLimits
  logger: OrchestratorLogger
}

/**
 * Takes due evaluations, reconciles their jobs on one snapshot, and commits all plans at once. Each plan sees what the
 * plans before it put on the nodes. A crash in between loses nothing: the evaluations are still in the store.
 */
export class Planner {
  readonly #parts: PlannerParts
  /** Jobs that no longer need the node that may be kept free for them. */
  readonly #settled: JobId[] = []

  constructor(parts: PlannerParts) {
    this.#parts = parts
  }

  /** Works until the signal aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { broker, clock, logger } = this.#parts
    while (!signal.aborted) {
      try {
        await broker.ready(signal)
        await this.#pass()
      } catch (error) {
        if (signal.aborted) return
        logger.error({ error: toWeirError(error).message }, 'Cannot store plans; trying again')
        await clock.sleep(STORE_RETRY_MS, signal).catch(() => undefined)
      }
    }
  }

  /** Jobs are taken where it is decided on them, so that nobody who came later gets what those who wait were woken for. */
  async #pass(): Promise<void> {
    const { broker, writer, reservations, clock, limits } = this.#parts
    let jobs: JobId[] = []
    try {
      await writer.transact((snapshot) => {
        broker.giveBack(jobs)
        const now = clock.now()
        const nodes = this.#parts.registry.views(snapshot, now)
        reservations.expire(now)
        jobs = broker.take(limits.jobsPerPass)
        return { change: this.#decide(jobs, snapshot, nodes, now), result: undefined }
      })
    } catch (error) {
      broker.giveBack(jobs)
      throw error
    }
  }

  #decide(jobs: readonly JobId[], snapshot: Snapshot, nodes: NodeViews, now: TimeMs): Change {
    const { broker, reservations } = this.#parts
    const changes = jobs.map((jobId) => this.#decideOne(jobId, broker.dueOf(jobId), snapshot, nodes, now))
    // Only now: what was kept free goes to whoever comes first among those that wait, not to whoever is looked at here.
    for (const jobId of this.#settled.splice(0)) reservations.settle(jobId)
    return mergeChanges(changes)
  }

  #decideOne(
    jobId: JobId,
    due: readonly Evaluation[],
    snapshot: Snapshot,
    nodes: NodeViews,
    now: TimeMs,
  ): Change {
    const done = due.map((evaluation) => evaluation.id)
    const job = snapshot.job(jobId)
    if (job === undefined) {
      this.#settled.push(jobId)
      return { deleteEvaluations: done }
    }
    const executions = snapshot.executionsOfJob(jobId)
    const plan = this.#reconcile(job, executions, nodes, now)
    this.#noteWaiting(job, executions, plan, now)
    const change = applyPlan(plan, {
      job,
      executions,
      now,
      evaluationId: done[0] ?? '',
      newExecutionId: () => newExecutionId(this.#parts.chance),
    })
    const deleteExecutions = worn(job, executions, this.#parts.limits.endedExecutionsMax)
    return { ...change, ...this.#nextLook(job, plan, done), deleteExecutions }
  }

  /** Who waits is woken when there is room, and after a while a node is kept free for it. */
  #noteWaiting(job: Job, executions: readonly Execution[], plan: Plan, now: TimeMs): void {
    const { broker, reservations } = this.#parts
    const { waiting } = plan
    if (waiting === undefined || plan.placements.length > 0) this.#settled.push(job.id)
    if (waiting === undefined) return
    const { demand, ignoresLoad, past } = waiting
    broker.waits(job.id, { demand, ignoresLoad, hasPast: past.size > 0 })
    if (plan.placements.length > 0) return
    const lastMs = executions.reduce((latest, { createTimeMs }) => Math.max(latest, createTimeMs), 0)
    reservations.waits(job, waiting, Math.max(job.createTimeMs, lastMs), now)
  }

  #reconcile(job: Job, executions: readonly Execution[], nodes: NodeViews, now: TimeMs): Plan {
    try {
      return reconcile(job, executions, nodes, now, this.#parts.limits)
    } catch (error) {
      // A job nobody can decide on must not stop the others, nor come back for ever.
      const { message, code } = toWeirError(error)
      this.#parts.logger.error({ jobId: job.id, error: message }, 'Cannot schedule a job')
      const details = { ErrorCode: isWeirError(error) ? code : 'internal' }
      return {
        placements: [],
        stops: executions
          .filter((execution) => execution.desired.state === 'Running')
          .map(({ id }) => ({ executionId: id, message: STOP_JOB_FAILED })),
        job: { state: 'Failed', message: `Cannot schedule the job: ${message}`, details },
        events: [
          {
            topic: 'Scheduling',
            message: `Cannot schedule the job: ${message}`,
            details: { ...details, IsError: 'true', NewState: 'Failed' },
          },
        ],
      }
    }
  }

  /** Evaluations that are done go; the one that waits for a time is written only when its time changes. */
  #nextLook(job: Job, plan: Plan, done: readonly string[]): Change {
    const id = lookAgainId(job.id)
    const waiting = this.#parts.broker.get(id)
    if (plan.lookAgain === undefined) {
      return { deleteEvaluations: waiting === undefined ? [...done] : [...new Set([...done, id])] }
    }
    const { atMs, trigger } = plan.lookAgain
    const isSame = waiting?.waitUntilMs === atMs && waiting.trigger === trigger && !done.includes(id)
    return {
      deleteEvaluations: done.filter((doneId) => doneId !== id),
      evaluations: isSame ? [] : [lookAgainOf(job, plan.lookAgain)],
    }
  }
}

function mergeChanges(changes: readonly Change[]): Change {
  const jobs = changes.flatMap((change) => change.jobs ?? [])
  const executions = changes.flatMap((change) => change.executions ?? [])
  const evaluations = changes.flatMap((change) => change.evaluations ?? [])
  const deleteEvaluations = changes.flatMap((change) => change.deleteEvaluations ?? [])
  const history = changes.flatMap((change) => change.history ?? [])
  const deleteExecutions = changes.flatMap((change) => change.deleteExecutions ?? [])
  return { jobs, executions, evaluations, deleteEvaluations, history, deleteExecutions }
}

/**
 * Ended executions of a job without an end that are too many: the oldest, half of them at a time. The newest ones stay,
 * and with them what the rules of the job read.
 */
function worn(job: Job, executions: readonly Execution[], max: number): ExecutionId[] {
  if (runsToEnd(job.spec.Type) || executions.length <= max) return []
  const ended = executions.filter(
    ({ desired, observed }) => desired.state === 'Stopped' && isTerminalObservedState(observed.state),
  )
  if (ended.length <= max) return []
  const newest = new Map(ended.map(({ id, slot }) => [slot, id]))
  return ended
    .slice(0, ended.length - Math.floor(max / 2))
    .filter(({ id, slot }) => newest.get(slot) !== id)
    .map(({ id }) => id)
}
