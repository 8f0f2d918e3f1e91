import { addResources, isTerminalObservedState, NO_RESOURCES } from '../../../src/model/index.js'
import type { Execution } from '../../../src/model/index.js'
import type { OrchestratorLimits } from '../../../src/orchestrator/options.js'
import type { Change } from '../../../src/ports/index.js'
import type { Records } from './record-promises.js'

export interface PlacementContext {
  limits: OrchestratorLimits
  /** True when what is stored of the node is what the scheduler knows of it. */
  isSettled: (nodeId: string) => boolean
}

/** What new executions break, given all that was durable before. */
export function checkPlacements(change: Change, before: Records, context: PlacementContext): string[] {
  const fresh = (change.executions ?? []).filter(({ id }) => !before.executions.has(id))
  if (fresh.length === 0) return []
  return [...checkLoad(fresh, change, before, context)]
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
