import { isTerminalJobState, isTerminalObservedState } from '../../../src/model/index.js'
import type { Execution, Job } from '../../../src/model/index.js'
import type { JobStore, Snapshot } from '../../../src/ports/index.js'
import { checkHistory, type ClockSteppedBack } from './history-promises.js'
import type { Records } from './record-promises.js'
import { isThere, labelsSuit, suits } from './suitability.js'
import { temperOf, type Acknowledged } from './users.js'
import type { WorldNode } from './world-node.js'

export interface EndView {
  /** `steady`: all is well and everybody wants what they want. `over`: nobody wants anything any more. */
  phase: 'steady' | 'over'
  records: Records
  snapshot: Snapshot
  store: JobStore
  nodes: WorldNode[]
  acknowledged: Acknowledged
  finished: ReadonlySet<string>
  begun: ReadonlyMap<string, string>
  steppedBack: ClockSteppedBack
}

/** What is not as it has to be when everything has healed. */
export async function checkEnd(view: EndView): Promise<string[]> {
  const problems = [...checkAcknowledged(view), ...checkStore(view)]
  for (const job of view.records.jobs.values()) {
    const executions = view.records.byJob.get(job.id) ?? []
    problems.push(...checkTruth(job, executions, view), ...checkJobEnd(job, executions, view))
    if (view.phase === 'over') {
      const { events } = await view.store.history(job.id, { level: 'all', afterSequence: 0, limit: 0 })
      problems.push(...checkHistory(job, executions, events, view.steppedBack))
    }
  }
  problems.push(...(view.phase === 'steady' ? checkSteady(view) : checkOver(view)))
  return problems
}

function checkAcknowledged({ acknowledged, records }: EndView): string[] {
  const problems: string[] = []
  for (const id of acknowledged.jobs.keys()) {
    if (!records.jobs.has(id)) problems.push(`${id} was acknowledged and is lost`)
  }
  for (const [token, ids] of acknowledged.tokens) {
    if (ids.size > 1) problems.push(`${token} was answered with ${[...ids].join(' and ')}`)
  }
  const tokens = new Map<string, string>()
  for (const { id, idempotencyToken: token } of records.jobs.values()) {
    if (token === undefined) continue
    if (tokens.has(token)) problems.push(`${token} made ${tokens.get(token)} and ${id}`)
    tokens.set(token, id)
  }
  for (const id of acknowledged.stopped) {
    const state = records.jobs.get(id)?.state
    if (state !== undefined && state !== 'Stopped') problems.push(`${id} was stopped and is ${state}`)
  }
  return problems
}

/** What the store answers is what was committed. */
function checkStore({ records, snapshot }: EndView): string[] {
  const problems: string[] = []
  for (const job of records.jobs.values()) {
    if (snapshot.job(job.id)?.revision !== job.revision) problems.push(`the store has an older ${job.id}`)
  }
  for (const one of records.executions.values()) {
    if (snapshot.execution(one.id)?.revision !== one.revision)
      problems.push(`the store has an older ${one.id}`)
  }
  return problems
}

/** No record says what has not happened. */
function checkTruth(job: Job, executions: readonly Execution[], { finished, begun }: EndView): string[] {
  const problems: string[] = []
  for (const { id, observed } of executions) {
    if (observed.state === 'Completed' && !finished.has(id))
      problems.push(`${id} is Completed and never ended`)
    if (observed.state === 'Rejected' && begun.has(id)) problems.push(`${id} is Rejected and has run`)
  }
  const completed = new Set(
    executions.filter(({ observed }) => observed.state === 'Completed').map(({ slot }) => slot),
  )
  const { Type, Count } = job.spec
  if (job.state === 'Completed') {
    if (Type === 'service' || Type === 'daemon') problems.push(`${job.id} is a ${Type} and Completed`)
    if (Type === 'batch' && completed.size < Count)
      problems.push(`${job.id} is Completed with ${completed.size} of ${Count}`)
    const open = executions.filter(
      ({ observed }) => observed.state !== 'Completed' && observed.state !== 'Rejected',
    )
    if (Type === 'ops' && open.length > 0)
      problems.push(`${job.id} is Completed without ${open.map(({ id }) => id).join(' ')}`)
  }
  if (job.state === 'Failed') problems.push(...checkReason(job, executions))
  return problems
}

function checkReason(job: Job, executions: readonly Execution[]): string[] {
  const { message } = job
  const failed = executions.filter(
    ({ observed, desired }) => observed.state === 'Failed' || desired.state === 'Stopped',
  )
  const { QueueTimeout, TotalTimeout } = job.spec.Tasks[0].Timeouts
  const afterMs = job.modifyTimeMs - job.createTimeMs
  const isTrue =
    (message.startsWith('Job timed out') && TotalTimeout > 0 && afterMs >= TotalTimeout * 1000) ||
    (message.includes('retried too many times') && failed.length >= 1) ||
    (message.includes('one or more executions failed') && failed.length > 0) ||
    (message.startsWith('not enough nodes') &&
      (job.spec.Type === 'service' || afterMs >= QueueTimeout * 1000)) ||
    (message.startsWith('not matching nodes') && job.spec.Type === 'ops')
  return isTrue ? [] : [`${job.id} is Failed after ${afterMs} ms for no true reason: ${message}`]
}

function checkJobEnd(job: Job, executions: readonly Execution[], { phase }: EndView): string[] {
  if (isTerminalJobState(job.state)) {
    const wanted = executions.filter(({ desired }) => desired.state === 'Running')
    return wanted.length === 0
      ? []
      : [`${job.id} is ${job.state} and wants ${wanted.map(({ id }) => id).join(' ')}`]
  }
  if (phase === 'over') return [`${job.id} (${job.spec.Type}) is ${job.state} for ever: ${job.message}`]
  return []
}

/** Services have their count, daemons are everywhere and nowhere else. */
function checkSteady({ records, nodes }: EndView): string[] {
  const problems: string[] = []
  const there = [...records.nodes.values()].filter(isThere)
  for (const node of nodes) {
    const record = records.nodes.get(node.nodeId)
    if (record?.connection !== 'CONNECTED')
      problems.push(`${node.nodeId} is there and counts as ${record?.connection}`)
  }
  for (const job of records.jobs.values()) {
    // Others end by themselves, or are not wanted where they failed.
    if (isTerminalJobState(job.state) || temperOf(job.spec) !== 'endless') continue
    const live = (records.byJob.get(job.id) ?? []).filter(
      ({ desired, observed }) => desired.state === 'Running' && !isTerminalObservedState(observed.state),
    )
    if (job.spec.Type === 'daemon') {
      const on = new Set(live.map(({ nodeId }) => nodeId))
      for (const { info } of there) {
        const wanted = suits(job.spec, info)
        if (wanted && !on.has(info.nodeId)) problems.push(`daemon ${job.id} is missing on ${info.nodeId}`)
        if (!labelsSuit(job.spec, info.labels) && on.has(info.nodeId))
          problems.push(`daemon ${job.id} stays on ${info.nodeId}`)
      }
      for (const { nodeId } of live) {
        if (!there.some(({ info }) => info.nodeId === nodeId))
          problems.push(`daemon ${job.id} is wanted on ${nodeId}, which is not there`)
      }
    }
    if (job.spec.Type === 'service' && live.length < job.spec.Count && job.state !== 'Queued') {
      const busy = new Set(live.map(({ nodeId }) => nodeId))
      const free = there.filter(({ info }) => suits(job.spec, info) && !busy.has(info.nodeId))
      if (free.length === 0) continue
      const full = job.message.startsWith('not enough')
      if (
        !full &&
        !hasNoRoom(
          job,
          free.map(({ info }) => info.nodeId),
          records,
        )
      ) {
        problems.push(
          `service ${job.id} has ${live.length} of ${job.spec.Count} although ${free.length} nodes suit`,
        )
      }
    }
  }
  return problems
}

/** True when what is placed on each of the nodes leaves no room to wait either; refusals count as no room. */
function hasNoRoom(job: Job, nodeIds: readonly string[], records: Records): boolean {
  return nodeIds.every((nodeId) => {
    const refused = (records.byJob.get(job.id) ?? []).some(
      (one) =>
        one.nodeId === nodeId && (one.observed.state === 'Rejected' || one.observed.state === 'Failed'),
    )
    if (refused) return true
    const cpu = [...records.executions.values()]
      .filter((one) => one.nodeId === nodeId && !isTerminalObservedState(one.observed.state))
      .reduce((sum, { resources }) => sum + resources.cpu, 0)
    const asked = Number(job.spec.Tasks[0].Resources.CPU.replace('500m', '0.5'))
    return cpu + asked > (records.nodes.get(nodeId)?.info.maxCapacity.cpu ?? 0) * 2.5
  })
}

function checkOver({ records, snapshot, nodes }: EndView): string[] {
  const problems: string[] = []
  for (const node of nodes) {
    if (node.running().length > 0) problems.push(`${node.nodeId} still runs ${node.running().join(' ')}`)
  }
  for (const one of records.executions.values()) {
    if (!isTerminalObservedState(one.observed.state)) {
      problems.push(`${one.id} on ${one.nodeId} is ${one.desired.state}/${one.observed.state} for ever`)
    }
  }
  const left = [...snapshot.evaluations()]
  if (left.length > 0)
    problems.push(
      `evaluations are left: ${left.map(({ trigger, jobId }) => `${trigger} of ${jobId}`).join(', ')}`,
    )
  const active = [...snapshot.activeJobs()]
  if (active.length > 0)
    problems.push(`still active: ${active.map(({ id, state }) => `${id} ${state}`).join(', ')}`)
  return problems
}
