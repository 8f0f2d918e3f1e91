import type { HistoryEvent } from '../../model/index.js'
import { filledOrNothing, type WireObject } from './job.js'
import { rfc3339 } from './time.js'

/**
 * A history item as Bacalhau's clients read it. `withEmptyStates` adds the empty state object that clients of version
 * 1.4 dereference.
 */
export function historyToWire(event: HistoryEvent, withEmptyStates: boolean): WireObject {
  const isJobLevel = event.executionId === undefined
  const time = rfc3339(event.timeMs)
  return {
    SeqNum: event.sequence,
    Type: isJobLevel ? 'JobLevel' : 'ExecutionLevel',
    JobID: event.jobId,
    ExecutionID: event.executionId,
    JobVersion: event.jobVersion,
    Event: {
      Message: event.message,
      Topic: event.topic,
      Timestamp: time,
      Details: filledOrNothing(event.details),
    },
    Time: time,
    JobState: withEmptyStates && isJobLevel ? {} : undefined,
    ExecutionState: withEmptyStates && !isJobLevel ? {} : undefined,
  }
}
