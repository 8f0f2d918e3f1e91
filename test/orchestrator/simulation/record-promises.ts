import { isTerminalJobState, isTerminalObservedState } from '../../../src/model/index.js'
import type { Evaluation, Execution, Job, NewHistoryEvent, NodeRecord } from '../../../src/model/index.js'
import type { Change } from '../../../src/ports/index.js'

/** Everything durable, as the changes leave it. */
export interface Records {
  jobs: Map<string, Job>
  executions: Map<string, Execution>
  /** In order of creation. */
  byJob: Map<string, Execution[]>
  evaluations: Map<string, Evaluation>
  nodes: Map<string, NodeRecord>
  history: Map<string, NewHistoryEvent[]>
  revision: number
}

export function noRecords(): Records {
  return {
    jobs: new Map(),
    executions: new Map(),
    byJob: new Map(),
    evaluations: new Map(),
    nodes: new Map(),
    history: new Map(),
    revision: 0,
  }
}

/** What a change breaks, given all that was durable before: one line per promise. */
export function checkChange(change: Change, revision: number, before: Records, triesMax: number): string[] {
  return [
    ...(revision > before.revision ? [] : [`revision ${revision} comes after ${before.revision}`]),
    ...(change.jobs ?? []).flatMap((job) =>
      checkJob(job, before.jobs.get(job.id), before.byJob.get(job.id) ?? []),
    ),
    ...(change.executions ?? []).flatMap((one) =>
      checkExecution(one, before.executions.get(one.id), before, change),
    ),
    ...(change.nodes ?? []).flatMap((node) => checkNode(node, before.nodes.get(node.info.nodeId))),
    ...(change.deleteExecutions ?? []).flatMap((id) => checkForgotten(id, before)),
    ...checkSlots(change, before, triesMax),
  ]
}

/** Takes the change in. */
export function applyChange(change: Change, revision: number, records: Records): void {
  records.revision = revision
  for (const job of change.jobs ?? []) records.jobs.set(job.id, job)
  for (const execution of change.executions ?? []) {
    const siblings = records.byJob.get(execution.jobId) ?? []
    const at = siblings.findIndex((one) => one.id === execution.id)
    if (at < 0) siblings.push(execution)
    else siblings[at] = execution
    records.byJob.set(execution.jobId, siblings)
    records.executions.set(execution.id, execution)
  }
  for (const one of change.evaluations ?? []) records.evaluations.set(one.id, one)
  for (const id of change.deleteEvaluations ?? []) records.evaluations.delete(id)
  for (const node of change.nodes ?? []) records.nodes.set(node.info.nodeId, node)
  for (const id of change.deleteNodes ?? []) records.nodes.delete(id)
  for (const event of change.history ?? []) {
    const events = records.history.get(event.jobId) ?? []
    records.history.set(event.jobId, events)
    events.push(event)
  }
  for (const id of change.deleteExecutions ?? []) {
    const jobId = records.executions.get(id)?.jobId ?? ''
    records.executions.delete(id)
    records.byJob.set(
      jobId,
      (records.byJob.get(jobId) ?? []).filter((one) => one.id !== id),
    )
  }
  for (const id of change.deleteJobs ?? []) {
    for (const { id: executionId } of records.byJob.get(id) ?? []) records.executions.delete(executionId)
    records.byJob.delete(id)
    records.jobs.delete(id)
    records.history.delete(id)
  }
}

function checkJob(job: Job, before: Job | undefined, executions: readonly Execution[]): string[] {
  const problems: string[] = []
  const said = (what: string): void => void problems.push(`${job.id} ${what}`)
  if (before === undefined) {
    if (job.revision !== 1) said(`begins with revision ${job.revision}`)
    return problems
  }
  if (job.revision !== before.revision + 1) said(`has revision ${job.revision} after ${before.revision}`)
  if (isTerminalJobState(before.state)) said(`was ${before.state} and changes to ${job.state}`)
  if (job.createTimeMs !== before.createTimeMs) said('changes its creation')
  const completed = new Set(
    executions.filter(({ observed }) => observed.state === 'Completed').map(({ slot }) => slot),
  )
  const isDone = job.spec.Type === 'batch' && completed.size >= job.spec.Count
  const timedOut = job.message.startsWith('Job timed out')
  if (job.state === 'Failed' && isDone && !timedOut) said('is Failed with all slots completed')
  if (job.state === 'Completed' && job.spec.Type === 'batch' && !isDone) said('is Completed too early')
  if (job.state === 'Pending' && before.state !== 'Pending') said(`was ${before.state} and is Pending again`)
  return problems
}

const RANK = { New: 0, Accepted: 1, Preparing: 2, Running: 3, Publishing: 4 }

function rank(state: Execution['observed']['state']): number {
  return state in RANK ? RANK[state as keyof typeof RANK] : 5
}

function checkExecution(
  one: Execution,
  before: Execution | undefined,
  records: Records,
  change: Change,
): string[] {
  const problems: string[] = []
  const said = (what: string): void => void problems.push(`${one.id} of ${one.jobId} ${what}`)
  if (before === undefined) {
    const job = change.jobs?.find(({ id }) => id === one.jobId) ?? records.jobs.get(one.jobId)
    if (job === undefined) said('belongs to no job')
    else if (isTerminalJobState(job.state)) said(`begins although its job is ${job.state}`)
    if (one.revision !== 1) said(`begins with revision ${one.revision}`)
    const attempts = (records.byJob.get(one.jobId) ?? []).filter(({ slot }) => slot === one.slot)
    const last = Math.max(-1, ...attempts.map(({ attempt }) => attempt))
    if (one.attempt !== last + 1) said(`is attempt ${one.attempt} of slot ${one.slot} after ${last}`)
    return problems
  }
  if (one.revision !== before.revision + 1) said(`has revision ${one.revision} after ${before.revision}`)
  if (one.nodeId !== before.nodeId || one.slot !== before.slot || one.jobId !== before.jobId) said('moves')
  if (before.desired.state === 'Stopped' && one.desired.state === 'Running') said('is wanted again')
  const [from, to] = [before.observed, one.observed]
  if (to.sequence < from.sequence) said(`goes back from report ${from.sequence} to ${to.sequence}`)
  if (isTerminalObservedState(from.state) && to.state !== from.state)
    said(`was ${from.state}, is ${to.state}`)
  // After a restart of its node what had not begun is prepared once more.
  const isNewProcess = from.state === 'Preparing' && to.sequence - from.sequence > 900_000
  if (rank(to.state) < rank(from.state) && !isNewProcess) said(`goes back from ${from.state} to ${to.state}`)
  if ((one.eventIndex ?? 0) < (before.eventIndex ?? 0)) said('forgets events')
  return problems
}

function checkNode(node: NodeRecord, before: NodeRecord | undefined): string[] {
  if (before === undefined || node.revision > before.revision) return []
  // The same once more, because nobody knew yet that it was stored.
  if (JSON.stringify(node) === JSON.stringify(before)) return []
  return [`${node.info.nodeId} has revision ${node.revision} after ${before.revision}`]
}

function checkForgotten(id: string, records: Records): string[] {
  const one = records.executions.get(id)
  if (one === undefined) return [`${id} is forgotten and was never known`]
  return isTerminalObservedState(one.observed.state) ? [] : [`${id} is forgotten while ${one.observed.state}`]
}

/** For each slot at most one is wanted; no slot is tried too often; ops and daemons take each node once. */
function checkSlots(change: Change, before: Records, triesMax: number): string[] {
  const problems: string[] = []
  const jobs = new Set((change.executions ?? []).map(({ jobId }) => jobId))
  for (const jobId of jobs) {
    const job = change.jobs?.find(({ id }) => id === jobId) ?? before.jobs.get(jobId)
    if (job === undefined) continue
    const changed = new Map((change.executions ?? []).map((one) => [one.id, one]))
    const known = (before.byJob.get(jobId) ?? []).map((one) => changed.get(one.id) ?? one)
    const fresh = [...changed.values()].filter((one) => one.jobId === jobId && !before.executions.has(one.id))
    const all = [...known, ...fresh]
    const wanted = all.filter(
      ({ desired, observed }) => desired.state === 'Running' && !isTerminalObservedState(observed.state),
    )
    const { Type, Count } = job.spec
    const places = wanted.map(({ slot, nodeId }) =>
      Type === 'batch' || Type === 'service' ? `slot ${slot}` : nodeId,
    )
    if (new Set(places).size < places.length)
      problems.push(`${jobId} wants two at once: ${places.join(', ')}`)
    if ((Type === 'batch' || Type === 'service') && wanted.length > Count) {
      problems.push(`${jobId} wants ${wanted.length} of ${Count}`)
    }
    if (Type === 'ops' && new Set(all.map(({ nodeId }) => nodeId)).size < all.length) {
      problems.push(`${jobId} goes to one node twice`)
    }
    if (Type !== 'batch') continue
    for (let slot = 0; slot < Count; slot++) {
      const tries = all.filter((one) => one.slot === slot && one.observed.state !== 'Rejected').length
      if (tries > triesMax) problems.push(`${jobId} tries slot ${slot} ${tries} times`)
    }
  }
  return problems
}
