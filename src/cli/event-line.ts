import { shortId } from '../model/ids.js'
import { printable } from '../model/printable.js'
import { clockTime } from './times.js'
import type { WireHistoryItem } from '../client/index.js'
import type { Style } from './terminal.js'

const TOPIC_WIDTH = 21

/** One event of a job's history as a line of progress: time, execution, topic, message. */
export function eventLine({ Event, ExecutionID, Time }: WireHistoryItem, style: Style): string {
  const { Details = {} } = Event
  const who = ExecutionID === undefined || ExecutionID === '' ? '' : shortId(ExecutionID)
  const isError = Details.IsError === 'true'
  const message = printable(Event.Message)
  return [
    style.dim(clockTime(Time)),
    printable(who).padEnd(10),
    style.cyan(printable(Event.Topic).padEnd(TOPIC_WIDTH)),
    isError ? style.red(`Error: ${message}`) : message,
  ].join('  ')
}
