import { egressSummaryFields, jobVersionOf } from '../../model/index.js'
import type {
  EgressLimits,
  Execution,
  Job,
  ObservedExecution,
  ObservedState,
  Resources,
  RunOutput,
} from '../../model/index.js'
import { filledOrNothing, listOrNothing, textOrNothing, type WireObject } from './job.js'
import { nanoseconds, rfc3339 } from './time.js'

/** Bacalhau's numbers of what a node observes. Preparing is its BidAccepted; Running is its Running. */
export const COMPUTE_STATE_NUMBERS: Readonly<Record<ObservedState, number>> = {
  New: 1,
  Accepted: 3,
  Rejected: 4,
  Preparing: 5,
  Running: 6,
  Publishing: 7,
  Completed: 9,
  Failed: 10,
  Cancelled: 11,
}

/** Bacalhau's numbers of what the orchestrator wants (0, "wait for approval", does not exist here). */
export const DESIRED_STATE_NUMBERS = { Running: 1, Stopped: 2 } as const

/**
 * An execution as Bacalhau's clients read it, with the additional keys `Attempt`, `StartTime`, `EndTime`, `Egress`,
 * `EgressLimits` and `EgressReceipt`.
 */
export function executionToWire(execution: Execution, job: Job): WireObject {
  const { observed, desired } = execution
  return {
    ID: execution.id,
    Namespace: execution.namespace,
    EvalID: execution.evaluationId,
    Name: '',
    NodeID: execution.nodeId,
    JobID: execution.jobId,
    AllocatedResources: { Tasks: { [job.spec.Tasks[0].Name]: resourcesToWire(execution.resources) } },
    DesiredState: {
      StateType: DESIRED_STATE_NUMBERS[desired.state],
      Message: textOrNothing(desired.message),
    },
    ComputeState: computeState(observed),
    PublishedResult: observed.publishedResult ?? { Type: '' },
    RunOutput: observed.runOutput === undefined ? null : runOutputToWire(observed.runOutput),
    PreviousExecution: '',
    NextExecution: '',
    FollowupEvalID: '',
    Revision: execution.revision,
    CreateTime: nanoseconds(execution.createTimeMs),
    ModifyTime: nanoseconds(execution.modifyTimeMs),
    JobVersion: jobVersionOf(execution),
    PartitionIndex: execution.slot,
    Attempt: execution.attempt,
    StartTime: observed.startTimeMs === undefined ? undefined : rfc3339(observed.startTimeMs),
    EndTime: observed.endTimeMs === undefined ? undefined : rfc3339(observed.endTimeMs),
    Egress: observed.egress === undefined ? undefined : egressSummaryFields(observed.egress),
    EgressLimits: observed.egressLimits === undefined ? undefined : egressLimitsToWire(observed.egressLimits),
    EgressReceipt: observed.receipt,
  }
}

/** Amounts as numbers; what is zero is left out. */
export function resourcesToWire(resources: Resources): WireObject {
  return {
    CPU: resources.cpu || undefined,
    Memory: Math.floor(resources.memoryBytes) || undefined,
    Disk: Math.floor(resources.diskBytes) || undefined,
    GPU: Math.floor(resources.gpu) || undefined,
  }
}

function computeState(observed: ObservedExecution): WireObject {
  const details: Record<string, string> = {}
  if (observed.code !== '') details.ErrorCode = observed.code
  if (observed.hint !== '') details.Hint = observed.hint
  if (observed.retryable) details.Retryable = 'true'
  return {
    StateType: COMPUTE_STATE_NUMBERS[observed.state],
    Message: textOrNothing(observed.message),
    Details: filledOrNothing(details),
  }
}

/** `stderr` is lower case on the wire, unlike its siblings. */
function runOutputToWire(output: RunOutput): WireObject {
  return {
    Stdout: output.stdout,
    StdoutTruncated: output.stdoutTruncated,
    stderr: output.stderr,
    StderrTruncated: output.stderrTruncated,
    ExitCode: output.exitCode,
    ErrorMsg: output.errorMessage,
  }
}

/** What is not bounded is left out. */
function egressLimitsToWire(limits: EgressLimits): WireObject {
  return {
    BitsPerSecondUp: limits.bitsPerSecondUp,
    BitsPerSecondDown: limits.bitsPerSecondDown,
    BytesUpMax: limits.bytesUpMax || undefined,
    BytesDownMax: limits.bytesDownMax || undefined,
    RequestsPerSecond: limits.requestsPerSecond,
    ConnectionsMax: limits.connectionsMax,
    HostConnectionsMax: limits.hostConnectionsMax || undefined,
    HostNamesMax: limits.hostNamesMax,
    Budgets: listOrNothing(
      limits.budgets.map(({ domain, bytesUpMax, bytesDownMax }) => ({
        Domain: domain,
        BytesUpMax: bytesUpMax || undefined,
        BytesDownMax: bytesDownMax || undefined,
      })),
    ),
  }
}
