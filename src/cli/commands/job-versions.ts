import { shortId } from '../../model/ids.js'
import { printable } from '../../model/printable.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { readJobView } from '../job-view-flags.js'
import { printList, printObject } from '../output-format.js'
import { rerunJob } from '../run-job.js'
import { dateTime, millisecondsOf } from '../times.js'
import { readJobFile, type TemplateFlags } from './job-run.js'
import type { WireJob } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { JobViewFlags } from '../job-view-flags.js'
import type { ListFlags } from '../output-format.js'
import type { RunFlags } from '../run-job.js'
import type { Column } from '../table.js'
import type { Style } from '../terminal.js'

/** `weir job versions ID`: every version that is kept, the latest last. */
export async function jobVersions(
  id: string,
  flags: ListFlags & GlobalFlags & JobViewFlags,
  context: CliContext,
): Promise<number> {
  const { namespace } = flags
  const { Items } = await withClient(flags, context, (client) => client.versions(id, { namespace }))
  const format = await printList(context.terminal, { rows: Items, columns: COLUMNS, items: Items }, flags)
  const job = Items.at(-1)
  if (format === 'table' && job !== undefined) {
    const known = shortId(job.ID)
    suggest(context.terminal, [
      ['Details:', `weir job describe ${known} --version ${job.Version}`],
      ['Run again:', `weir job rerun ${known} --version ${job.Version}`],
    ])
  }
  return EXIT.ok
}

const COLUMNS: readonly Column<WireJob>[] = [
  { header: 'VERSION', value: ({ Version }) => String(Version), alignRight: true, cutFirst: 0 },
  { header: 'MODIFIED', value: ({ ModifyTime }) => dateTime(millisecondsOf(ModifyTime)), cutFirst: 3 },
  { header: 'TYPE', value: ({ Type }) => Type, cutFirst: 4 },
  { header: 'COUNT', value: ({ Count }) => String(Count), alignRight: true, cutFirst: 5 },
  { header: 'STATE', value: ({ State }) => State.StateType, cutFirst: 0 },
  { header: 'MESSAGE', value: ({ State }) => State.Message ?? '', cutFirst: 2 },
]

/** `weir job rerun ID`: runs a job again, as its next version, and watches it like a new one. */
export async function jobRerun(
  id: string,
  flags: GlobalFlags & JobViewFlags & RunFlags & { reason?: string; dryRun?: boolean },
  context: CliContext,
): Promise<number> {
  const { namespace, jobVersion } = readJobView(flags)
  return withClient(flags, context, async (client) => {
    if (flags.dryRun !== true)
      return rerunJob(client, id, { namespace, jobVersion, reason: flags.reason }, flags, context)
    const { Job } = await client.job(id, { namespace, jobVersion })
    await printObject(context.terminal, Job, 'yaml', false)
    return EXIT.ok
  })
}

/** `weir job diff FILE`: what submitting the file would change of the job that has its name. */
export async function jobDiff(
  file: string | undefined,
  flags: GlobalFlags & TemplateFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const { spec } = await readJobFile(file, flags, context)
  const { Diff, Warnings } = await withClient(flags, context, (client) => client.diff(spec))
  for (const warning of Warnings ?? [])
    terminal.talk(`${terminal.talkStyle.yellow('Warning:')} ${printable(warning)}`)
  if (Diff === '') terminal.talk('Nothing changes')
  await terminal.data(
    Diff.split(/(?<=\n)/)
      .map((line) => coloured(line, terminal.dataStyle))
      .join(''),
  )
  return EXIT.ok
}

function coloured(line: string, style: Style): string {
  const text = printable(line.replace(/\n$/, ''))
  const end = line.endsWith('\n') ? '\n' : ''
  if (line.startsWith('+')) return `${style.green(text)}${end}`
  return line.startsWith('-') ? `${style.red(text)}${end}` : `${text}${end}`
}
