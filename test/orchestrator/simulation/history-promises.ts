import { isTerminalJobState, isTerminalObservedState } from '../../../src/model/index.js'
import type { Execution, HistoryEvent, Job } from '../../../src/model/index.js'

/** Whose clock wrote a line, for promises about times; undefined = it was never set. */
export type ClockSteppedBack = (writer: string) => boolean

/** What the history of one job says that is not so, or leaves out. */
export function checkHistory(
  job: Job,
  executions: readonly Execution[],
  events: readonly HistoryEvent[],
  steppedBack: ClockSteppedBack,
): string[] {
  const problems: string[] = []
  const said = (what: string): void => void problems.push(`the history of ${job.id} ${what}`)
  for (const [index, { sequence }] of events.entries()) {
    if (sequence !== index + 1) said(`has number ${sequence} at place ${index + 1}`)
  }
  const [first] = events
  if (first?.message !== 'Job submitted' || first.topic !== 'Submission')
    said('does not begin with the submission')
  checkJobLines(job, events, said)
  const known = new Set(executions.map(({ id }) => id))
  const forgets = job.spec.Type === 'service' || job.spec.Type === 'daemon'
  for (const { executionId } of events) {
    if (executionId !== undefined && !known.has(executionId) && !forgets)
      said(`speaks of unknown ${executionId}`)
  }
  for (const one of executions) {
    checkExecutionLines(
      one,
      events.filter(({ executionId }) => executionId === one.id),
      said,
    )
  }
  checkTimes(executions, events, steppedBack, said)
  return problems
}

const LEGAL: Readonly<Record<string, readonly string[]>> = {
  '': ['Queued', 'Running', 'Failed', 'Stopped', 'Completed'],
  Queued: ['Running', 'Failed', 'Stopped', 'Completed'],
  Running: ['Queued', 'Failed', 'Stopped', 'Completed'],
}

function checkJobLines(job: Job, events: readonly HistoryEvent[], said: (what: string) => void): void {
  let state = ''
  for (const { details, executionId } of events) {
    if (executionId !== undefined || details.NewState === undefined) continue
    if (LEGAL[state]?.includes(details.NewState) !== true)
      said(`goes from ${state || 'Pending'} to ${details.NewState}`)
    state = details.NewState
  }
  const is = job.state === 'Pending' ? '' : job.state
  if (state !== is) said(`ends with ${state || 'Pending'}, the job is ${job.state}`)
  const ended = events.findIndex((event) =>
    isTerminalJobState((event.details.NewState ?? '') as Job['state']),
  )
  if (ended < 0) return
  const later = events.slice(ended + 1).find((event) => event.message.startsWith('Requested execution'))
  if (later !== undefined) said('requests an execution after the end')
}

function checkExecutionLines(
  one: Execution,
  lines: readonly HistoryEvent[],
  said: (what: string) => void,
): void {
  const of = (what: string): void => said(`of ${one.id} ${what}`)
  const { state } = one.observed
  if (!(lines[0]?.message ?? '').startsWith('Requested execution on')) of('does not begin with the request')
  const texts = lines.map(({ topic, message }) => `${topic}: ${message}`)
  // A restart of its node may bring an execution back into the line, and have it prepared once more.
  const mayRepeat = lines.some(({ message }) => message.includes('restarted'))
  const isOnce = (text: string): boolean =>
    !text.includes('Waiting for room') &&
    (!mayRepeat || /^(Scheduling|Execution: (Running|Completed))/.test(text))
  const twice = texts.find((text, index) => texts.indexOf(text) !== index && isOnce(text))
  if (twice !== undefined) of(`says twice: ${twice}`)
  const running = lines.filter(({ topic, message }) => topic === 'Execution' && message === 'Running').length
  const hasRun = state === 'Running' || state === 'Publishing' || state === 'Completed'
  if (hasRun && running !== 1) of(`says ${running} times that it runs`)
  const completed = lines.filter(
    ({ topic, message }) => topic === 'Execution' && message.startsWith('Completed'),
  )
  const failed = lines.filter(({ details }) => details.FailsExecution === 'true')
  const refused = lines.filter(({ message }) => message.startsWith('rejected bid'))
  const ends = { Completed: completed, Failed: failed, Rejected: refused }
  for (const [name, found] of Object.entries(ends)) {
    const expected = state === name ? 1 : 0
    if (found.length !== expected) of(`says ${found.length} times that it is ${name}; it is ${state}`)
  }
  if (!isTerminalObservedState(state)) return
  const end = lines.indexOf((ends[state as keyof typeof ends] ?? [])[0] as HistoryEvent)
  const late =
    end < 0
      ? undefined
      : lines.slice(end + 1).find(({ topic, message }) => topic === 'Execution' && message === 'Running')
  if (late !== undefined) of('runs after its end')
}

const OWN_TOPICS = new Set([
  'Submission',
  'State Update',
  'Scheduling',
  'Queueing',
  'Job Timeout',
  'Exec Timeout',
])

function checkTimes(
  executions: readonly Execution[],
  events: readonly HistoryEvent[],
  steppedBack: ClockSteppedBack,
  said: (what: string) => void,
): void {
  const last = new Map<string, number>()
  const nodes = new Map(executions.map(({ id, nodeId }) => [id, nodeId]))
  for (const { topic, executionId, timeMs, sequence } of events) {
    if (!Number.isSafeInteger(timeMs)) said(`has a strange time in line ${sequence}`)
    const isOwn = OWN_TOPICS.has(topic)
    if (steppedBack(isOwn ? 'orchestrator' : (nodes.get(executionId ?? '') ?? ''))) continue
    const writer = isOwn ? 'orchestrator' : (executionId ?? '')
    // A node whose answer says no start gets the orchestrator's time: those lines are nobody's.
    if (topic === 'Exec Scanning') continue
    if (timeMs < (last.get(writer) ?? 0))
      said(`goes back in time in line ${sequence}, by ${(last.get(writer) ?? 0) - timeMs} ms`)
    last.set(writer, timeMs)
  }
}
