import { executionStateName } from '../client/index.js'
import type { WireExecution } from '../client/index.js'

/** What the orchestrator wants of an execution, by number. */
export const DESIRED_STATES: Readonly<Record<number, string>> = { 0: 'Pending', 1: 'Running', 2: 'Stopped' }

/** What the node reports, in one word. */
export function executionState({ ComputeState }: WireExecution): string {
  return executionStateName(ComputeState.StateType)
}
