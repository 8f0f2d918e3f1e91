import { WeirError } from '../../errors.js'
import { printable } from '../../model/printable.js'
import { EXIT } from '../exit-codes.js'
import { listenForInterrupts } from '../interrupt.js'
import { LIST_FORMATS, printList } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { wholeNumber } from '../whole-number.js'
import type { RowResult, Verdict } from '../../conformance/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'
import type { Terminal } from '../terminal.js'

export interface ConformanceFlags extends GlobalFlags, ListFlags {
  proxy: string
  user?: string
  rows?: string
  patience?: string
  all?: boolean
  strict?: boolean
}

/** `weir egress conformance`: attacks a proxy with every row of the corpus; 1 when it let something out or broke. */
export async function egressConformance(
  command: readonly string[],
  flags: ConformanceFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const format = readChoice('--output', flags.output ?? 'table', LIST_FORMATS)
  const { host, port } = readProxy(flags.proxy)
  const patience = wholeNumber('--patience', flags.patience)
  const interrupts = listenForInterrupts()
  try {
    const { runConformance, PROXY_CONFIGURATION } = await import('../../conformance/index.js')
    let count = 0
    const results = await runConformance({
      host,
      port,
      ...(flags.user === undefined ? {} : { user: flags.user }),
      ...(command.length === 0 ? {} : { command }),
      ...(flags.rows === undefined ? {} : { rows: flags.rows.split(',') }),
      ...(patience === undefined ? {} : { patienceMs: patience * 1000 }),
      onReady: (world) => {
        if (command.length === 0) sayWhatToStart(world, flags.proxy, PROXY_CONFIGURATION, terminal)
      },
      onRow: ({ id, verdict }) => terminal.progress(`${++count} ${id} ${verdict}`),
      signal: interrupts.first,
    })
    const shown = results.filter(
      ({ verdict }) => flags.all === true || (verdict !== 'pass' && verdict !== 'not applicable'),
    )
    await printList(terminal, { rows: shown, columns: COLUMNS, items: results }, flags)
    if (format === 'table') for (const line of countLines(results)) await terminal.data(`${line}\n`)
    return failed(results, flags.strict === true) ? EXIT.no : EXIT.ok
  } catch (error) {
    if (interrupts.first.aborted) return interrupts.exitCode
    throw error
  } finally {
    interrupts.dispose()
  }
}

function readProxy(text: string): { host: string; port: number } {
  const match = /^(?:http:\/\/)?(\[[0-9a-f:]+\]|[^/:@]+):(\d{1,5})\/?$/i.exec(text)
  if (match !== null) return { host: match[1] ?? '', port: Number(match[2]) }
  throw new WeirError('cli.usage', `Cannot read the proxy "${text}"`, {
    hint: 'Write http://127.0.0.1:PORT; a credential goes into --user',
  })
}

function sayWhatToStart(
  { namespace, resolvConf }: { namespace: string; resolvConf: string },
  proxy: string,
  {
    allow,
    deny,
    dnsServers,
  }: { allow: readonly string[]; deny: readonly string[]; dnsServers: readonly string[] },
  terminal: Terminal,
): void {
  terminal.talk(`Start the proxy now, in the namespace ${namespace}, listening on ${proxy} there:`)
  terminal.talk(`  ip netns exec ${namespace} YOUR-PROXY`)
  terminal.talk(
    `It allows HTTP on port 80 and CONNECT on 443 to ${allow.join(', ')} (api.test on 8443 only);`,
  )
  terminal.talk(`it denies ${deny.join(', ')}; its DNS server is ${dnsServers.join(', ')} (${resolvConf})`)
}

function failed(results: readonly RowResult[], strict: boolean): boolean {
  return results.some(
    ({ verdict }) =>
      verdict === 'hole' ||
      verdict === 'broken' ||
      (strict && (verdict === 'answer' || verdict === 'lenient')),
  )
}

const COLUMNS: readonly Column<RowResult>[] = [
  { header: 'ROW', value: ({ id }) => id, cutFirst: 0 },
  { header: 'VERDICT', value: ({ verdict }) => verdict, cutFirst: 0 },
  { header: 'ATTACK', value: ({ title }) => title, cutFirst: 2 },
  { header: 'EXPECTED', value: ({ expected }) => expected, cutFirst: 4 },
  { header: 'SEEN', value: seenOf, cutFirst: 3 },
]

function seenOf({ findings, reason }: RowResult): string {
  const [first] = findings
  return first === undefined ? reason : printable(`${first.what}: ${first.seen}`.slice(0, 200))
}

const VERDICTS: readonly Verdict[] = ['pass', 'answer', 'lenient', 'hole', 'broken', 'not applicable']

/** Counts by category and in all. */
function countLines(results: readonly RowResult[]): string[] {
  const categories = [...new Set(results.map(({ category }) => category))]
  const line = (name: string, rows: readonly RowResult[]): string => {
    const counts = VERDICTS.map(
      (verdict) => [rows.filter((row) => row.verdict === verdict).length, verdict] as const,
    )
    return `${name}: ${counts
      .filter(([count]) => count > 0)
      .map(([count, verdict]) => `${count} ${verdict}`)
      .join(', ')}`
  }
  return [
    ...categories.map((category) =>
      line(
        category,
        results.filter((row) => row.category === category),
      ),
    ),
    line('all', results),
  ]
}
