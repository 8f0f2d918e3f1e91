import { shortId } from '../../model/ids.js'
import { formatBytes } from '../../model/resources.js'
import { printable } from '../../model/printable.js'
import { suggest, withClient } from '../context.js'
import { EGRESS_COLUMNS, egressRows, egressTotals, limitsLine } from '../egress-lines.js'
import { eventLine } from '../event-line.js'
import { jobFacts } from '../job-facts.js'
import { executionState } from '../execution-words.js'
import { EXIT } from '../exit-codes.js'
import { readJobView } from '../job-view-flags.js'
import { OBJECT_FORMATS, jsonOf, printObject, yamlOf } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { renderTable } from '../table.js'
import { ago, dateTime, formatDuration, millisecondsOf } from '../times.js'
import { Screen, watch } from '../watch.js'
import { HISTORY_COLUMNS, hasEnded } from './job-lists.js'
import type { DescribedJob, WireExecution, WireHistoryItem, WireJob } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { JobViewFlags } from '../job-view-flags.js'
import type { ObjectFormat } from '../output-format.js'
import type { Column } from '../table.js'
import type { Terminal } from '../terminal.js'

export interface DescribeFlags extends GlobalFlags, JobViewFlags {
  output?: string
  pretty?: boolean
  watch?: boolean
}

/** `weir job describe ID`: everything about a job on one page. With `--watch` until it has ended. */
export async function jobDescribe(id: string, flags: DescribeFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const format = flags.output === undefined ? undefined : readChoice('--output', flags.output, OBJECT_FORMATS)
  const wanted = { include: ['executions', 'history'] as const, ...readJobView(flags) }
  return withClient(flags, context, async (client) => {
    if (flags.watch === true) {
      return watchDescription(terminal, format, (signal) => client.job(id, { ...wanted, signal }))
    }
    const described = await client.job(id, wanted)
    if (format !== undefined) {
      await printObject(terminal, described, format, flags.pretty ?? terminal.outIsTerminal)
      return EXIT.ok
    }
    await terminal.data(describeText(described, terminal, Date.now()))
    suggestNext(described, terminal)
    return EXIT.ok
  })
}

/**
 * On a terminal the page is drawn again in place. Elsewhere every event is appended as a line, and at the end the state;
 * as JSON or YAML the whole description whenever it has changed.
 */
async function watchDescription(
  terminal: Terminal,
  format: ObjectFormat | undefined,
  load: (signal: AbortSignal) => Promise<DescribedJob>,
): Promise<number> {
  const isOver = ({ Job }: DescribedJob): boolean => hasEnded(Job)
  if (format === undefined && terminal.outIsTerminal) {
    const screen = new Screen(terminal)
    const show = (described: DescribedJob, note: string): Promise<void> => {
      const head = note === '' ? '' : `${terminal.dataStyle.dim(note)}\n`
      return screen.draw(`${head}${describeText(described, terminal, Date.now())}`, isOver(described))
    }
    return watch(terminal, { load, isOver, show, close: () => screen.close() })
  }
  let last = ''
  let eventsSeen = 0
  const show = async (described: DescribedJob): Promise<void> => {
    if (format === undefined) {
      const events = described.History?.Items ?? []
      for (const event of events.slice(eventsSeen))
        await terminal.data(`${eventLine(event, terminal.dataStyle)}\n`)
      eventsSeen = events.length
      if (isOver(described)) await terminal.data(`State = ${described.Job.State.StateType}\n`)
      return
    }
    const text = format === 'json' ? `${jsonOf(described, false)}\n` : `---\n${await yamlOf(described)}`
    if (text !== last) await terminal.data(text)
    last = text
  }
  return watch(terminal, { load, isOver, show })
}

/** The page as text; every value is escaped. */
export function describeText(
  described: DescribedJob,
  terminal: Pick<Terminal, 'columns' | 'dataStyle'>,
  nowMs: number,
): string {
  const { Job, Executions, History } = described
  const executions = Executions?.Items ?? []
  const history = History?.Items ?? []
  const layout = { columns: terminal.columns, plain: true, style: terminal.dataStyle }
  const sections: (readonly [title: string, body: string])[] = [
    ['', headText(Job, submittedMs(Job, history), nowMs)],
    ['Summary', summaryText(executions)],
    ['Network', networkText(Job, executions, terminal)],
    [
      'Job History',
      tableOf(
        history.filter(isJobLevel),
        HISTORY_COLUMNS.filter(({ header }) => header !== 'EXECUTION' && header !== 'LEVEL'),
        layout,
      ),
    ],
    ['Executions', tableOf(executions, executionColumns(nowMs), layout)],
    ...executions.map(
      (execution) =>
        [
          `Execution ${shortId(execution.ID)} History`,
          tableOf(
            history.filter(({ ExecutionID }) => ExecutionID === execution.ID),
            HISTORY_COLUMNS.filter(({ header }) => header !== 'EXECUTION' && header !== 'LEVEL'),
            layout,
          ),
        ] as const,
    ),
    ...outputSections(executions),
  ]
  return sections
    .filter(([, body]) => body !== '')
    .map(([title, body]) => (title === '' ? body : `${terminal.dataStyle.bold(title)}\n${body}`))
    .join('\n')
}

/** A version begins with an event that says so; of those that are too old to have one, the job itself is what is known. */
function submittedMs(job: WireJob, history: readonly WireHistoryItem[]): number {
  const submission = history.find((item) => isJobLevel(item) && item.Event.Topic === 'Submission')
  return submission === undefined ? millisecondsOf(job.CreateTime) : Date.parse(submission.Time)
}

function headText(job: WireJob, startedMs: number, nowMs: number): string {
  const isCounted = job.Type === 'batch' || job.Type === 'service'
  const pairs: (readonly [string, string])[] = [
    ['ID', job.ID],
    ['Name', job.Name],
    ['Namespace', job.Namespace],
    ['Type', job.Type],
    ['State', job.State.StateType],
    ['Message', job.State.Message ?? ''],
    ['Hint', job.State.Details?.Hint ?? ''],
    ['Count', isCounted ? String(job.Count) : ''],
    ...jobFacts(job, startedMs, nowMs),
    ['Created Time', dateTime(millisecondsOf(job.CreateTime))],
    ['Modified Time', dateTime(millisecondsOf(job.ModifyTime))],
    ['Version', String(job.Version)],
  ]
  return pairs
    .filter(([, value]) => value !== '')
    .map(
      ([key, value]) =>
        `${key.padEnd(13)} = ${value
          .split('\n')
          .map((line) => printable(line))
          .join('\n                ')}\n`,
    )
    .join('')
}

function summaryText(executions: readonly WireExecution[]): string {
  const counts = new Map<string, number>()
  for (const execution of executions) {
    const state = executionState(execution)
    counts.set(state, (counts.get(state) ?? 0) + 1)
  }
  return [...counts].map(([state, count]) => `${state} = ${count}\n`).join('')
}

function networkText(
  job: WireJob,
  executions: readonly WireExecution[],
  terminal: Pick<Terminal, 'columns' | 'dataStyle'>,
): string {
  const network = job.Tasks[0]?.Network
  const domains = (network?.Domains ?? []).slice(0, 20).map((domain) => printable(domain))
  const more = (network?.Domains?.length ?? 0) - domains.length
  const mode = `Mode = ${network?.Type ?? 'None'}${domains.length === 0 ? '' : ` (${domains.join(', ')}${more > 0 ? `, … ${more} more` : ''})`}\n`
  const limits = [
    ...new Set(
      executions.flatMap(({ EgressLimits }) =>
        EgressLimits === undefined ? [] : [limitsLine(EgressLimits)],
      ),
    ),
  ]
  const learning = network?.Learn === true ? 'Learning = every public host is open to it, and recorded\n' : ''
  const signers = (network?.Signatures ?? [])
    .slice(0, 8)
    .map(({ Key, Expires }) => `Signed by = ${printable(Key)} (good until ${printable(Expires)})\n`)
    .join('')
  const head = `${mode}${learning}${signers}${limits.map((line) => `Limits = ${line}\n`).join('')}`
  const totals = egressTotals(executions)
  if (totals === undefined) return head
  const attempts = totals.Allowed + totals.Refused
  const sum = `${attempts === 1 ? '1 attempt' : `${attempts} attempts`}: ${totals.Allowed} allowed, ${totals.Refused} refused; ${formatBytes(totals.BytesUp)} up, ${formatBytes(totals.BytesDown)} down\n`
  const cut = totals.DestinationsTruncated ? 'More destinations: weir job egress\n' : ''
  return `${head}${sum}${renderTable(egressRows(executions), EGRESS_COLUMNS, { columns: terminal.columns, plain: true, style: terminal.dataStyle })}${cut}`
}

function executionColumns(nowMs: number): Column<WireExecution>[] {
  return [
    { header: 'ID', value: ({ ID }) => shortId(ID), cutFirst: 0 },
    { header: 'NODE', value: ({ NodeID }) => shortId(NodeID), cutFirst: 3 },
    { header: 'STATE', value: executionState, cutFirst: 0 },
    {
      header: 'EXIT',
      value: ({ RunOutput }) => String(RunOutput?.ExitCode ?? ''),
      alignRight: true,
      cutFirst: 0,
    },
    { header: 'REV.', value: ({ Revision }) => String(Revision), alignRight: true, cutFirst: 6 },
    { header: 'CREATED', value: ({ CreateTime }) => ago(millisecondsOf(CreateTime), nowMs), cutFirst: 5 },
    { header: 'TOOK', value: tookText, cutFirst: 0 },
    { header: 'COMMENT', value: ({ ComputeState }) => ComputeState.Message ?? '', cutFirst: 2 },
  ]
}

function tookText({ StartTime, EndTime }: WireExecution): string {
  if (StartTime === undefined || EndTime === undefined) return ''
  return formatDuration(Date.parse(EndTime) - Date.parse(StartTime))
}

function outputSections(executions: readonly WireExecution[]): (readonly [string, string])[] {
  return executions.flatMap(({ ID, RunOutput }) => {
    if (RunOutput === null) return []
    const text = `${RunOutput.Stdout}${RunOutput.Stdout !== '' && !RunOutput.Stdout.endsWith('\n') ? '\n' : ''}${RunOutput.stderr}`
    if (text === '') return []
    const isCut = RunOutput.StdoutTruncated || RunOutput.StderrTruncated
    const lines = text
      .replace(/\n$/, '')
      .split('\n')
      .map((line) => `${printable(line)}\n`)
    const end = isCut ? `… Output truncated; weir job logs --execution-id ${shortId(ID)} shows all\n` : ''
    return [[`Output of ${shortId(ID)}`, `${lines.join('')}${end}`] as const]
  })
}

function tableOf<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  layout: Parameters<typeof renderTable>[2],
): string {
  return rows.length === 0 ? '' : renderTable(rows, columns, layout)
}

function isJobLevel({ Type }: WireHistoryItem): boolean {
  return Type === 'JobLevel'
}

function suggestNext({ Job, Executions }: DescribedJob, terminal: Terminal): void {
  const id = shortId(Job.ID)
  const hasResults = (Executions?.Items ?? []).some(
    ({ PublishedResult }) => (PublishedResult?.Type ?? '') !== '',
  )
  const isOver = hasEnded(Job)
  suggest(terminal, [
    ['Output:', `weir job logs ${id}`],
    ...(hasResults ? [['Results:', `weir job get ${id}`] as const] : []),
    ...(isOver ? [] : [['Stop it:', `weir job stop ${id}`] as const]),
  ])
}
