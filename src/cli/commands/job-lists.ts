import { shortId } from '../../model/ids.js'
import { withClient, suggest } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { wholeNumber } from '../job-from-flags.js'
import { printList } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { dateTime, millisecondsOf } from '../times.js'
import type { WireExecution, WireHistoryItem, WireJob } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'
import type { Terminal } from '../terminal.js'
import { executionState, DESIRED_STATES } from '../execution-words.js'

/** The flags of commands that page through lists. */
export interface PageFlags extends ListFlags, GlobalFlags {
  limit?: string
  nextToken?: string
  orderBy?: string
  orderReversed?: boolean
}

const ORDERS = ['created_at', 'modified_at'] as const

/** `weir job list`. */
export async function jobList(
  flags: PageFlags & { labels?: string; allNamespaces?: boolean; namespace?: string },
  context: CliContext,
): Promise<number> {
  const limit = wholeNumber('--limit', flags.limit) ?? 10
  const query = {
    labels: [flags.labels ?? 'bacalhau_canary!=true'],
    namespace: flags.namespace,
    limit,
    nextToken: flags.nextToken,
    orderBy: flags.orderBy === undefined ? undefined : readChoice('--order-by', flags.orderBy, ORDERS),
    // The newest jobs are what people look for.
    reverse: flags.orderReversed !== true,
  }
  const page = await withClient(flags, context, (client) => client.jobs(query))
  const format = await printList(
    context.terminal,
    { rows: page.Items, columns: jobColumns(flags.wide ?? false), items: page.Items },
    flags,
  )
  if (format === 'table') nextPage(context.terminal, 'weir job list', flags, limit, page.NextToken)
  const [first] = page.Items
  if (format === 'table' && first !== undefined) {
    suggest(context.terminal, [['Details:', `weir job describe ${shortId(first.ID)}`]])
  }
  return EXIT.ok
}

function jobColumns(isWide: boolean): Column<WireJob>[] {
  return [
    { header: 'CREATED', value: ({ CreateTime }) => dateTime(millisecondsOf(CreateTime)), cutFirst: 0 },
    { header: 'ID', value: ({ ID }) => (isWide ? ID : shortId(ID)), cutFirst: 0 },
    { header: 'NAME', value: ({ Name, ID }) => (Name === ID ? '' : Name), cutFirst: 2 },
    { header: 'JOB', value: ({ Tasks }) => Tasks[0]?.Engine.Type ?? '' },
    { header: 'TYPE', value: ({ Type }) => Type, cutFirst: 0 },
    { header: 'STATE', value: ({ State }) => State.StateType, cutFirst: 0 },
    ...(isWide ? [{ header: 'MESSAGE', value: ({ State }: WireJob) => State.Message ?? '' }] : []),
  ]
}

/** `weir job executions ID`. */
export async function jobExecutions(id: string, flags: PageFlags, context: CliContext): Promise<number> {
  const query = {
    limit: wholeNumber('--limit', flags.limit) ?? 20,
    orderBy: flags.orderBy === undefined ? undefined : readChoice('--order-by', flags.orderBy, ORDERS),
    reverse: flags.orderReversed,
  }
  const page = await withClient(flags, context, (client) => client.executions(id, query))
  const format = await printList(
    context.terminal,
    { rows: page.Items, columns: executionColumns(flags.wide ?? false), items: page.Items },
    flags,
  )
  if (format === 'table') suggest(context.terminal, [['Output:', `weir job logs ${shortId(id)}`]])
  return EXIT.ok
}

export function executionColumns(isWide: boolean): Column<WireExecution>[] {
  return [
    { header: 'CREATED', value: ({ CreateTime }) => dateTime(millisecondsOf(CreateTime)), cutFirst: 4 },
    { header: 'MODIFIED', value: ({ ModifyTime }) => dateTime(millisecondsOf(ModifyTime)), cutFirst: 5 },
    { header: 'ID', value: ({ ID }) => (isWide ? ID : shortId(ID)), cutFirst: 0 },
    { header: 'NODE', value: ({ NodeID }) => (isWide ? NodeID : shortId(NodeID)), cutFirst: 3 },
    { header: 'REV.', value: ({ Revision }) => String(Revision), alignRight: true, cutFirst: 0 },
    { header: 'STATE', value: executionState, cutFirst: 0 },
    {
      header: 'DESIRED',
      value: ({ DesiredState }) => DESIRED_STATES[DesiredState.StateType] ?? '',
      cutFirst: 0,
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

const EVENT_TYPES = ['all', 'job', 'execution'] as const

/** `weir job history ID`. */
export async function jobHistory(
  id: string,
  flags: PageFlags & { eventType?: string; executionId?: string },
  context: CliContext,
): Promise<number> {
  const limit = wholeNumber('--limit', flags.limit)
  const request = {
    eventType: readChoice('--event-type', flags.eventType ?? 'all', EVENT_TYPES),
    executionId: flags.executionId,
    limit,
    nextToken: flags.nextToken,
  }
  const page = await withClient(flags, context, (client) => client.history(id, request))
  const items = flags.orderReversed === true ? page.Items.toReversed() : page.Items
  const format = await printList(context.terminal, { rows: items, columns: HISTORY_COLUMNS, items }, flags)
  if (format === 'table' && limit !== undefined) {
    nextPage(
      context.terminal,
      `weir job history ${id}`,
      flags,
      limit,
      items.length < limit ? '' : page.NextToken,
    )
  }
  return EXIT.ok
}

export const HISTORY_COLUMNS: readonly Column<WireHistoryItem>[] = [
  { header: 'TIME', value: ({ Time }) => dateTime(Date.parse(Time)), cutFirst: 0 },
  { header: 'LEVEL', value: ({ Type }) => Type, cutFirst: 3 },
  { header: 'EXECUTION', value: ({ ExecutionID }) => shortId(ExecutionID ?? ''), cutFirst: 0 },
  { header: 'TOPIC', value: ({ Event }) => Event.Topic, cutFirst: 0 },
  { header: 'EVENT', value: ({ Event }) => Event.Message, cutFirst: 2 },
]

/** The whole command that shows the next page. */
function nextPage(
  terminal: Terminal,
  command: string,
  flags: PageFlags,
  limit: number,
  nextToken: string,
): void {
  if (nextToken === '') return
  const order = flags.orderBy === undefined ? '' : ` --order-by ${flags.orderBy}`
  const reversed = flags.orderReversed === true ? ' --order-reversed' : ''
  suggest(terminal, [
    ['Next page:', `${command}${order}${reversed} --limit ${limit} --next-token ${nextToken}`],
  ])
}
