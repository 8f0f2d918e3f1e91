import { shortId } from '../../model/ids.js'
import { JOB_STATES, type JobState } from '../../model/state.js'
import { withClient, suggest } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { wholeNumber } from '../whole-number.js'
import { readJobView } from '../job-view-flags.js'
import { pageOf, suggestNextPage } from '../next-page.js'
import { printList } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { dateTime, millisecondsOf } from '../times.js'
import { watchList } from '../watch-list.js'
import type { WireExecution, WireHistoryItem, WireJob } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { JobViewFlags } from '../job-view-flags.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'
import { executionState, DESIRED_STATES } from '../execution-words.js'

/** The flags of commands that page through lists. */
export interface PageFlags extends ListFlags, GlobalFlags {
  limit?: string
  nextToken?: string
  orderBy?: string
  orderReversed?: boolean
  watch?: boolean
}

const ORDERS = ['created_at', 'modified_at'] as const

/** `weir job list`. */
export async function jobList(
  flags: PageFlags & { labels?: string; namespace?: string; state?: string[] },
  context: CliContext,
): Promise<number> {
  const limit = wholeNumber('--limit', flags.limit) ?? 10
  const query = {
    labels: [flags.labels ?? 'bacalhau_canary!=true'],
    namespace: flags.namespace,
    states: readStates(flags.state),
    limit,
    nextToken: flags.nextToken,
    orderBy: flags.orderBy === undefined ? undefined : readChoice('--order-by', flags.orderBy, ORDERS),
    // The newest jobs are what people look for.
    reverse: flags.orderReversed !== true,
  }
  const columns = jobColumns(flags.wide ?? false)
  return withClient(flags, context, async (client) => {
    if (flags.watch === true) {
      const load = async (signal: AbortSignal): Promise<{ rows: WireJob[] }> => ({
        rows: (await client.jobs(query, { signal })).Items,
      })
      return watchList(context.terminal, { columns, keyOf: ({ ID }) => ID, load }, flags)
    }
    const { Items, NextToken } = await client.jobs(query)
    const format = await printList(context.terminal, { rows: Items, columns, items: Items }, flags)
    suggestNextPage(context.terminal, ['job', 'list'], flags, { limit, nextToken: NextToken })
    const [first] = Items
    if (format === 'table' && first === undefined) context.terminal.talk('No job was found')
    if (format === 'table' && first !== undefined) {
      suggest(context.terminal, [['Details:', `weir job describe ${shortId(first.ID)}`]])
    }
    return EXIT.ok
  })
}

const STATE_WORDS = JOB_STATES.map((state) => state.toLowerCase())

/** Comma-separated or repeated, in any case. */
function readStates(texts: readonly string[] = []): JobState[] {
  const words = texts.flatMap((text) => text.split(','))
  const chosen = words.map((word) => readChoice('--state', word, STATE_WORDS))
  return JOB_STATES.filter((state) => chosen.includes(state.toLowerCase()))
}

function jobColumns(isWide: boolean): Column<WireJob>[] {
  return [
    { header: 'CREATED', value: ({ CreateTime }) => dateTime(millisecondsOf(CreateTime)), cutFirst: 3 },
    { header: 'ID', value: ({ ID }) => (isWide ? ID : shortId(ID)), cutFirst: 0 },
    { header: 'NAME', value: ({ Name, ID }) => (Name === ID ? '' : Name), cutFirst: 2 },
    { header: 'JOB', value: ({ Tasks }) => Tasks[0]?.Engine.Type ?? '', cutFirst: 5 },
    { header: 'TYPE', value: ({ Type }) => Type, cutFirst: 4 },
    { header: 'STATE', value: ({ State }) => State.StateType, cutFirst: 0 },
    ...(isWide ? [{ header: 'MESSAGE', value: ({ State }: WireJob) => State.Message ?? '' }] : []),
  ]
}

/** `weir job executions ID`. With `--watch` until the job has ended. */
export async function jobExecutions(
  id: string,
  flags: PageFlags & JobViewFlags,
  context: CliContext,
): Promise<number> {
  const limit = wholeNumber('--limit', flags.limit) ?? 20
  const view = readJobView(flags)
  const query = {
    ...view,
    orderBy: flags.orderBy === undefined ? undefined : readChoice('--order-by', flags.orderBy, ORDERS),
    reverse: flags.orderReversed,
  }
  const columns = executionColumns(flags.wide ?? false, flags.allVersions)
  return withClient(flags, context, async (client) => {
    if (flags.watch === true) {
      const load = async (signal: AbortSignal): Promise<{ rows: WireExecution[]; isOver: boolean }> => {
        // The job first: what ended it is then among the executions.
        const { Job } = await client.job(id, { ...view, signal })
        const { Items } = await client.executions(id, query, { signal })
        return { rows: pageOf(Items, limit, flags.nextToken).items, isOver: hasEnded(Job) }
      }
      return watchList(context.terminal, { columns, keyOf: ({ ID }) => ID, load }, flags)
    }
    const page = pageOf((await client.executions(id, query)).Items, limit, flags.nextToken)
    const list = { rows: page.items, columns, items: page.items }
    const format = await printList(context.terminal, list, flags)
    suggestNextPage(context.terminal, ['job', 'executions', id], flags, { limit, nextToken: page.nextToken })
    if (format === 'table') suggest(context.terminal, [['Output:', `weir job logs ${shortId(id)}`]])
    return EXIT.ok
  })
}

/** Nothing will happen to it any more. */
export function hasEnded({ State }: Pick<WireJob, 'State'>): boolean {
  return ['Completed', 'Failed', 'Stopped'].includes(State.StateType)
}

export function executionColumns(isWide: boolean, allVersions = false): Column<WireExecution>[] {
  return [
    ...(allVersions ? [versionColumn<WireExecution>()] : []),
    { header: 'CREATED', value: ({ CreateTime }) => dateTime(millisecondsOf(CreateTime)), cutFirst: 4 },
    { header: 'MODIFIED', value: ({ ModifyTime }) => dateTime(millisecondsOf(ModifyTime)), cutFirst: 7 },
    { header: 'ID', value: ({ ID }) => (isWide ? ID : shortId(ID)), cutFirst: 0 },
    { header: 'NODE', value: ({ NodeID }) => (isWide ? NodeID : shortId(NodeID)), cutFirst: 3 },
    { header: 'REV.', value: ({ Revision }) => String(Revision), alignRight: true, cutFirst: 6 },
    { header: 'STATE', value: executionState, cutFirst: 0 },
    {
      header: 'DESIRED',
      value: ({ DesiredState }) => DESIRED_STATES[DesiredState.StateType] ?? '',
      cutFirst: 5,
    },
    {
      header: 'EXIT',
      value: ({ RunOutput }) => String(RunOutput?.ExitCode ?? ''),
      alignRight: true,
      cutFirst: 0,
    },
    { header: 'COMMENT', value: ({ ComputeState }) => ComputeState.Message ?? '', cutFirst: 2 },
  ]
}

function versionColumn<Row extends { JobVersion: number }>(): Column<Row> {
  return { header: 'VERSION', value: ({ JobVersion }) => String(JobVersion), alignRight: true, cutFirst: 0 }
}

const EVENT_TYPES = ['all', 'job', 'execution'] as const

/** `weir job history ID`. */
export async function jobHistory(
  id: string,
  flags: PageFlags & JobViewFlags & { eventType?: string; executionId?: string },
  context: CliContext,
): Promise<number> {
  const limit = wholeNumber('--limit', flags.limit)
  const request = {
    ...readJobView(flags),
    eventType: readChoice('--event-type', flags.eventType ?? 'all', EVENT_TYPES),
    executionId: flags.executionId,
    limit,
    nextToken: flags.nextToken,
  }
  const page = await withClient(flags, context, (client) => client.history(id, request))
  const items = flags.orderReversed === true ? page.Items.toReversed() : page.Items
  const columns = [
    ...(flags.allVersions === true ? [versionColumn<WireHistoryItem>()] : []),
    ...HISTORY_COLUMNS,
  ]
  await printList(context.terminal, { rows: items, columns, items }, flags)
  if (limit !== undefined) {
    const nextToken = items.length < limit ? '' : page.NextToken
    suggestNextPage(context.terminal, ['job', 'history', id], flags, { limit, nextToken })
  }
  return EXIT.ok
}

export const HISTORY_COLUMNS: readonly Column<WireHistoryItem>[] = [
  { header: 'TIME', value: ({ Time }) => dateTime(Date.parse(Time)), cutFirst: 5 },
  { header: 'LEVEL', value: ({ Type }) => Type, cutFirst: 6 },
  { header: 'EXECUTION', value: ({ ExecutionID }) => shortId(ExecutionID ?? ''), cutFirst: 4 },
  { header: 'TOPIC', value: ({ Event }) => Event.Topic, cutFirst: 3 },
  { header: 'EVENT', value: ({ Event }) => Event.Message, cutFirst: 2 },
]
