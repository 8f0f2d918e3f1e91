import { isTerminalObservedState, jobVersionOf } from '../model/index.js'
import type { Execution, Job, TimeMs } from '../model/index.js'
import type { NodeViews } from './node-view.js'
import type { SchedulingLimits } from './options.js'
import type { Stop } from './plan.js'

export const STOP_REPLACED = 'Execution stop requested because job has been updated'

/** The executions of a job that count for its rules, and what is left of the versions before. */
export interface VersionsApart {
  current: readonly Execution[]
  /** Executions of older versions that somebody still wants; they are stopped with the update itself, as a rule. */
  stops: Stop[]
  /** Until then nothing is started: a program of an older version may still run. Absent = it does not. */
  waitUntilMs?: TimeMs
}

/**
 * Keeps the versions of a job apart: executions of older ones are over for its rules. They get a while to stop, so that
 * two versions never run side by side and the room they held is free; after that, or when their node is gone, the new
 * version starts regardless. Pure.
 */
export function keepApart(
  job: Job,
  executions: readonly Execution[],
  nodes: NodeViews,
  now: TimeMs,
  { replaceGraceMs }: Pick<SchedulingLimits, 'replaceGraceMs'>,
): VersionsApart {
  if (job.version <= 1) return { current: executions, stops: [] }
  const older = executions.filter((execution) => jobVersionOf(execution) < job.version)
  const stops = older
    .filter(({ desired }) => desired.state === 'Running')
    .map(({ id }) => ({ executionId: id, message: STOP_REPLACED }))
  const waitUntilMs = older
    .filter((execution) => mayStillRun(execution, nodes))
    .map(({ desired }) => (desired.state === 'Running' ? now : desired.sinceMs) + replaceGraceMs)
    .reduce((latest, atMs) => Math.max(latest, atMs), 0)
  return {
    current: executions.filter((execution) => jobVersionOf(execution) >= job.version),
    stops,
    ...(waitUntilMs > now ? { waitUntilMs } : {}),
  }
}

function mayStillRun({ observed, nodeId }: Execution, nodes: NodeViews): boolean {
  if (isTerminalObservedState(observed.state)) return false
  const node = nodes.get(nodeId)
  return node !== undefined && !node.lost && node.record.membership !== 'REJECTED'
}
