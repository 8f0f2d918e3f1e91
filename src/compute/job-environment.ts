import { task } from '../model/task-accessors.js'
import type { NodeId } from '../model/state.js'
import type { DesiredExecution } from '../model/sync.js'

/**
 * What the job's program finds in its environment. Later wins:
 * 1. the task's own `Env` (the engine's own variables rank below all of these, the executor sees to that);
 * 2. who it is: `WEIR_JOB_ID`, `WEIR_EXECUTION_ID`, `WEIR_NODE_ID`, `WEIR_JOB_TYPE`, `WEIR_PARTITION_INDEX` (the slot, from 0),
 *    `WEIR_PARTITION_COUNT`, each with a twin that begins with `BACALHAU_`;
 * 3. the variables of the egress lease.
 */
export function jobEnvironment(
  nodeId: NodeId,
  desired: DesiredExecution,
  leaseEnv: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const { jobId, executionId, jobSpec, slot } = desired
  const self: Record<string, string> = {
    JOB_ID: jobId,
    EXECUTION_ID: executionId,
    NODE_ID: nodeId,
    JOB_TYPE: jobSpec.Type,
    PARTITION_INDEX: String(slot),
    PARTITION_COUNT: String(jobSpec.Count),
  }
  const environment: Record<string, string> = { ...task(jobSpec).Env }
  for (const [name, value] of Object.entries(self)) {
    environment[`WEIR_${name}`] = value
    environment[`BACALHAU_${name}`] = value
  }
  return { ...environment, ...leaseEnv }
}
