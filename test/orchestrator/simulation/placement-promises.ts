import { addResources, isTerminalObservedState, NO_RESOURCES } from '../../../src/model/index.js'
import { taskResources } from '../../../src/model/index.js'
import type { Execution, Job, NodeRecord, Resources } from '../../../src/model/index.js'
import type { OrchestratorLimits } from '../../../src/orchestrator/options.js'
import type { Change } from '../../../src/ports/index.js'
import type { Records } from './record-promises.js'
import { isThere, suits } from './suitability.js'

export interface PlacementContext {
  limits: OrchestratorLimits
  /** True when what is stored of the node is what the scheduler knows of it. */
  isSettled: (nodeId: string) => boolean
  /** True when for some seconds nothing happened to the node or the job, and nothing kept the orchestrator from acting. */
  isCalm: (id: string) => boolean
}

/** What new executions break, given all that was durable before. */
export function checkPlacements(change: Change, before: Records, context: PlacementContext): string[] {
  const fresh = (change.executions ?? []).filter(({ id }) => !before.executions.has(id))
  if (fresh.length === 0) return []
  return [
    ...checkLoad(fresh, change, before, context),
    ...checkOrder(fresh, change, before, context),
    ...checkRetries(fresh, before, context),
  ]
}

/** What is placed on a node together is at most its capacity and what may wait there. */
function checkLoad(
  fresh: readonly Execution[],
  change: Change,
  before: Records,
  { limits: { nodeQueueFactor }, isSettled }: PlacementContext,
): string[] {
  const problems: string[] = []
  const limited = fresh.filter(({ jobId }) => {
    const type = (change.jobs?.find(({ id }) => id === jobId) ?? before.jobs.get(jobId))?.spec.Type
    return type === 'batch' || type === 'service'
  })
  for (const nodeId of new Set(limited.map((one) => one.nodeId))) {
    const node = change.nodes?.find(({ info }) => info.nodeId === nodeId) ?? before.nodes.get(nodeId)
    if (node === undefined || !isSettled(nodeId)) continue
    const changed = new Set((change.executions ?? []).map(({ id }) => id))
    const all = [
      ...[...before.executions.values()].filter(({ id }) => !changed.has(id)),
      // Ops and daemons of the same plan may have come after.
      ...(change.executions ?? []).filter((one) => before.executions.has(one.id) || limited.includes(one)),
    ].filter((one) => one.nodeId === nodeId && !isTerminalObservedState(one.observed.state))
    const used = all.reduce((sum, { resources }) => addResources(sum, resources), NO_RESOURCES)
    const { maxCapacity } = node.info
    const factor = 1 + nodeQueueFactor
    if (used.cpu > maxCapacity.cpu * factor + 1e-6 || used.memoryBytes > maxCapacity.memoryBytes * factor) {
      problems.push(
        `${nodeId} is given ${used.cpu} cores, ${used.memoryBytes} bytes of ${maxCapacity.cpu}, ${maxCapacity.memoryBytes}`,
      )
    }
  }
  return problems
}

/** Nobody is given a node for which somebody with a higher priority waits. */
function checkOrder(
  fresh: readonly Execution[],
  change: Change,
  before: Records,
  { limits, isSettled, isCalm }: PlacementContext,
): string[] {
  const waiting = [...before.jobs.values()].filter(
    (job) =>
      job.state === 'Queued' &&
      waitsForRoom(job) &&
      (before.byJob.get(job.id) ?? []).length === 0 &&
      !fresh.some(({ jobId }) => jobId === job.id) &&
      isCalm(job.id),
  )
  if (waiting.length === 0) return []
  const problems: string[] = []
  for (const { jobId, nodeId } of fresh) {
    const job = change.jobs?.find(({ id }) => id === jobId) ?? before.jobs.get(jobId)
    const node = before.nodes.get(nodeId)
    if (job === undefined || node === undefined || !waitsForRoom(job)) continue
    if (!isThere(node) || !isSettled(nodeId) || !isCalm(nodeId)) continue
    for (const other of waiting) {
      const { Priority } = other.spec
      // Of equals, one that has waited long may have had the node kept free before an older one asked for it.
      if (Priority <= job.spec.Priority || !suits(other.spec, node.info)) continue
      const used = usedOn(nodeId, before)
      if (!fits(used, taskResources(other.spec.Tasks[0]), node, 1 + limits.nodeQueueFactor)) continue
      problems.push(
        `${jobId} (priority ${job.spec.Priority}) is put on ${nodeId}, where ${other.id} (priority ${Priority}) waits to go`,
      )
    }
  }
  return problems
}

/** A slot is tried again where it has not failed yet, if there is such a node with room. */
function checkRetries(
  fresh: readonly Execution[],
  before: Records,
  { isSettled, isCalm }: PlacementContext,
): string[] {
  // A node may be kept free for a job that waits.
  if ([...before.jobs.values()].some(({ state }) => state === 'Queued')) return []
  const problems: string[] = []
  for (const { id, jobId, nodeId } of fresh) {
    const job = before.jobs.get(jobId)
    if (job === undefined || !waitsForRoom(job)) continue
    if (job.spec.Constraints.some(({ Key }) => Key.startsWith('favour_'))) continue
    const past = before.byJob.get(jobId) ?? []
    const failedThere = past.some((one) => one.nodeId === nodeId && one.observed.state === 'Failed')
    if (!failedThere) continue
    const taken = new Set([...past, ...fresh].filter((one) => one.jobId === jobId).map((one) => one.nodeId))
    const better = [...before.nodes.values()].find(
      (node) =>
        isThere(node) &&
        !taken.has(node.info.nodeId) &&
        isSettled(node.info.nodeId) &&
        isCalm(node.info.nodeId) &&
        suits(job.spec, node.info) &&
        fits(usedOn(node.info.nodeId, before), taskResources(job.spec.Tasks[0]), node, 1) &&
        !fresh.some((one) => one.nodeId === node.info.nodeId),
    )
    if (better !== undefined)
      problems.push(`${id} is tried again on ${nodeId}, though ${better.info.nodeId} was not tried`)
  }
  return problems
}

function waitsForRoom({ spec }: Job): boolean {
  return spec.Type === 'batch' || spec.Type === 'service'
}

function usedOn(nodeId: string, { executions }: Records): Resources {
  return [...executions.values()]
    .filter((one) => one.nodeId === nodeId && !isTerminalObservedState(one.observed.state))
    .reduce((sum, { resources }) => addResources(sum, resources), NO_RESOURCES)
}

function fits(
  used: Resources,
  asked: Resources,
  { info: { maxCapacity } }: NodeRecord,
  factor: number,
): boolean {
  return (
    used.cpu + asked.cpu <= maxCapacity.cpu * factor &&
    used.memoryBytes + asked.memoryBytes <= maxCapacity.memoryBytes * factor
  )
}
