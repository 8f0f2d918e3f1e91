import { WeirError } from '../../errors.js'
import { quoted, printable } from '../../model/printable.js'
import { withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { followLogs } from '../follow-logs.js'
import { listenForInterrupts } from '../interrupt.js'
import { readJobView } from '../job-view-flags.js'
import { LogPrinter } from '../log-printer.js'
import { outcomeOf } from '../outcome.js'
import { readSince } from '../read-since.js'
import { Reconnection } from '../reconnection.js'
import { hasEnded } from './job-lists.js'
import type { DescribedJob, LogChunk, LogsRequest, WeirClient, WireExecution } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { JobViewFlags } from '../job-view-flags.js'
import type { Terminal } from '../terminal.js'

export interface LogFlags extends GlobalFlags, JobViewFlags {
  follow?: boolean
  /** True or empty without a number: skip what is there. */
  tail?: string | true
  since?: string
  timestamps?: boolean
  executionId?: string
  /** False with `--no-prefix`. */
  prefix?: boolean
}

/**
 * `weir job logs ID`: the output of every execution of a job, standard output to ours, standard error to ours. With
 * `--follow` until the job has ended, through new tries. Ends with 0 at the end of the output, however the job ended.
 */
export async function jobLogs(id: string, flags: LogFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const view = readJobView(flags)
  const request: LogsRequest = {
    ...view,
    ...readTail(flags.tail),
    sinceMs: readSince(flags.since, Date.now()),
    executionId: flags.executionId,
    follow: flags.follow,
    allExecutions: true,
  }
  const interrupts = listenForInterrupts()
  try {
    await withClient(flags, context, async (client) => {
      const signal = AbortSignal.any([interrupts.first, terminal.outputClosed])
      const described = await client.job(id, { ...view, include: ['executions'], signal })
      const layout = {
        timestamps: flags.timestamps === true,
        prefix: readPrefix(flags, described),
      }
      const { ID } = described.Job
      const reconnection = new Reconnection(client, (line) =>
        terminal.talk(terminal.talkStyle.yellow(`── ${line}`)),
      )
      const chunks =
        flags.follow === true
          ? followLogs(client, ID, request, reconnection, signal)
          : client.logs(ID, request, { signal })
      await printLogs(chunks, new LogPrinter(terminal, layout))
      if (flags.follow === true && flags.executionId === undefined)
        await sayHowItEnded(client, ID, view, terminal)
    })
    return EXIT.ok
  } catch (error) {
    if (terminal.outputClosed.aborted) return EXIT.ok
    // Looking away changes nothing about the job.
    if (interrupts.first.aborted) return interrupts.exitCode
    throw error
  } finally {
    interrupts.dispose()
  }
}

async function printLogs(chunks: AsyncIterable<LogChunk>, printer: LogPrinter): Promise<void> {
  try {
    for await (const chunk of chunks) await printer.print(chunk)
  } finally {
    await printer.finish()
  }
}

/** On standard error, so that the output stays the program's own. */
async function sayHowItEnded(
  client: WeirClient,
  id: string,
  view: ReturnType<typeof readJobView>,
  terminal: Terminal,
): Promise<void> {
  const { Job, Executions } = await client.job(id, { ...view, include: ['executions'] })
  if (!hasEnded(Job)) return
  const { succeeded, summary } = outcomeOf(Job, Executions?.Items ?? [])
  const text = summary.split('\n').map((line) => printable(line))
  terminal.talk(
    (succeeded ? terminal.talkStyle.green : terminal.talkStyle.yellow)(`── ${text.join('\n   ')}`),
  )
}

/** A number of lines, or nothing of what is there: `--tail` alone, as Bacalhau's client has it. */
function readTail(tail: LogFlags['tail']): Pick<LogsRequest, 'fromEnd' | 'tailLines'> {
  if (tail === undefined) return {}
  if (tail === true || tail === '') return { fromEnd: true }
  if (/^\d{1,9}$/.test(tail)) return { tailLines: Number(tail) }
  throw new WeirError('cli.usage', `Cannot use --tail ${quoted(tail)}: it is not a number of lines`, {
    hint: 'Write --tail 100, or --tail alone to skip what is there already',
  })
}

/** What can have several executions says whose line is whose from the start; a job that is tried again, from then on. */
function readPrefix(
  { prefix, executionId }: LogFlags,
  { Job, Executions }: DescribedJob,
): 'always' | 'several' | 'never' {
  if (prefix === false || executionId !== undefined) return 'never'
  const isSpread = Job.Type === 'ops' || Job.Type === 'daemon' || Job.Count > 1
  const ran = (Executions?.Items ?? []).filter(hasRun).length
  return ran > 1 || (isSpread && ran !== 1) ? 'always' : 'several'
}

/** 4 and 8: refused, so that nothing ran. */
function hasRun({ ComputeState }: WireExecution): boolean {
  return ComputeState.StateType !== 4 && ComputeState.StateType !== 8
}
