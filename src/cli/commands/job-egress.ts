import { shortId } from '../../model/ids.js'
import { printable } from '../../model/printable.js'
import { formatBytes } from '../../model/resources.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { listenForInterrupts } from '../interrupt.js'
import { wholeNumber } from '../whole-number.js'
import { LIST_FORMATS, printList, printObject, yamlOf } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { Reconnection } from '../reconnection.js'
import { renderCsv } from '../table.js'
import { clockTime, dateTime } from '../times.js'
import type { WeirClient } from '../../client/index.js'
import type { AuditRecord } from '../../model/audit.js'
import type { CliContext } from '../context.js'
import type { ListFormat } from '../output-format.js'
import type { Column } from '../table.js'
import type { Terminal } from '../terminal.js'
import type { PageFlags } from './job-lists.js'

export interface EgressFlags extends PageFlags {
  follow?: boolean
  denied?: boolean
  suggest?: boolean
  group?: boolean
  executionId?: string
}

/** `weir job egress ID`: every attempt of the job to reach something, allowed or refused. */
export async function jobEgress(id: string, flags: EgressFlags, context: CliContext): Promise<number> {
  const format = readChoice('--output', flags.output ?? 'table', LIST_FORMATS)
  const interrupts = listenForInterrupts()
  try {
    return await withClient(flags, context, (client) =>
      flags.follow === true
        ? followRecords(client, id, { ...flags, format }, context.terminal, interrupts.first)
        : listRecords(client, id, flags, context.terminal, interrupts.first),
    )
  } catch (error) {
    if (interrupts.first.aborted) return interrupts.exitCode
    throw error
  } finally {
    interrupts.dispose()
  }
}

async function listRecords(
  client: WeirClient,
  id: string,
  flags: EgressFlags,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const request = {
    executionId: flags.executionId,
    denied: flags.denied,
    limit: wholeNumber('--limit', flags.limit),
    nextToken: flags.nextToken,
  }
  const { Items, NextToken } = await client.egress(id, request, { signal })
  const format = await printList(terminal, { rows: Items, columns: RECORD_COLUMNS, items: Items }, flags)
  if (format === 'table' && Items.length === 0) terminal.talk('The job tried to reach nothing')
  if (format === 'table' && NextToken !== '') {
    const same = [
      flags.denied === true ? ' --denied' : '',
      flags.executionId === undefined ? '' : ` --execution-id ${flags.executionId}`,
      flags.limit === undefined ? '' : ` --limit ${flags.limit}`,
    ].join('')
    suggest(terminal, [['Next page:', `weir job egress ${shortId(id)}${same} --next-token ${NextToken}`]])
  }
  return EXIT.ok
}

/** One line per record as it happens; with JSON one object per line, with YAML one document per record. */
async function followRecords(
  client: WeirClient,
  id: string,
  { executionId, denied, format, hideHeader }: EgressFlags & { format: ListFormat },
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const whileRead = AbortSignal.any([signal, terminal.outputClosed])
  let isFirst = true
  try {
    const reconnection = new Reconnection(client, (line) =>
      terminal.talk(terminal.talkStyle.yellow(`── ${line}`)),
    )
    for await (const record of recordsOf(client, id, { executionId, denied }, reconnection, whileRead)) {
      if (format === 'json') await printObject(terminal, record, 'json', false)
      else if (format === 'yaml') await terminal.data(`---\n${await yamlOf(record)}`)
      else if (format === 'csv')
        await terminal.data(renderCsv([record], RECORD_COLUMNS, hideHeader === true || !isFirst))
      else await terminal.data(`${recordLine(record, terminal)}\n`)
      isFirst = false
    }
  } catch (error) {
    if (!terminal.outputClosed.aborted) throw error
  }
  return EXIT.ok
}

/** Each record once, also when the server goes away and comes back: it begins again, and of each execution as many are known. */
async function* recordsOf(
  client: WeirClient,
  id: string,
  request: { executionId?: string; denied?: boolean },
  reconnection: Reconnection,
  signal: AbortSignal,
): AsyncIterable<AuditRecord> {
  const known = new Map<string, number>()
  for (;;) {
    const again = new Map<string, number>()
    try {
      for await (const record of client.followEgress(id, request, { signal })) {
        const count = (again.get(record.executionId) ?? 0) + 1
        again.set(record.executionId, count)
        if (count <= (known.get(record.executionId) ?? 0)) continue
        known.set(record.executionId, count)
        yield record
      }
      return
    } catch (error) {
      await reconnection.wait(error, signal)
    }
  }
}

/** A record as one line, every value escaped. */
export function recordLine(record: AuditRecord, { dataStyle }: Pick<Terminal, 'dataStyle'>): string {
  const verdict = record.decision === 'allow' ? dataStyle.green('allow') : dataStyle.red('deny ')
  const bytes =
    record.decision === 'allow'
      ? `${formatBytes(record.bytesUp)} up, ${formatBytes(record.bytesDown)} down`
      : printable(record.code)
  return [
    clockTime(new Date(record.timeMs).toISOString()),
    shortId(record.executionId),
    verdict,
    printable(record.method).padEnd(7),
    targetOf(record),
    bytes,
  ].join('  ')
}

const RECORD_COLUMNS: readonly Column<AuditRecord>[] = [
  { header: 'TIME', value: ({ timeMs }) => dateTime(timeMs), cutFirst: 4 },
  { header: 'EXECUTION', value: ({ executionId }) => shortId(executionId), cutFirst: 5 },
  { header: 'DECISION', value: ({ decision }) => decision, cutFirst: 0 },
  { header: 'METHOD', value: ({ method }) => method, cutFirst: 0 },
  { header: 'HOST', value: targetOf, cutFirst: 2 },
  { header: 'ADDRESS', value: ({ dialled }) => dialled, cutFirst: 6 },
  {
    header: 'STATUS',
    value: ({ status }) => (status === 0 ? '' : String(status)),
    alignRight: true,
    cutFirst: 3,
  },
  { header: 'UP', value: ({ bytesUp }) => formatBytes(bytesUp), alignRight: true, cutFirst: 0 },
  { header: 'DOWN', value: ({ bytesDown }) => formatBytes(bytesDown), alignRight: true, cutFirst: 0 },
  {
    header: 'WHY',
    value: ({ code, rule, ruleOwner }) => (code === '' ? `${rule} (${ruleOwner})` : code),
    cutFirst: 2,
  },
]

/** The host as it was judged, or as it was sent when it could not be read. */
function targetOf({ host, hostAsSent, port }: AuditRecord): string {
  const name = printable(host === '' ? hostAsSent : host)
  return port === 0 ? name : `${name}:${port}`
}
