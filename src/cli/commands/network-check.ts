import { WeirError } from '../../errors.js'
import { suggest, withClient } from '../context.js'
import { checkColumns, fittingLine, whatToDo } from '../egress-check-lines.js'
import { EXIT } from '../exit-codes.js'
import { printList, tableLayout } from '../output-format.js'
import { shellWord } from '../shell-word.js'
import { readPublicKeys } from '../signing-key.js'
import { renderTable } from '../table.js'
import { readJobFile, type TemplateFlags } from './job-run.js'
import type { WireEgressCheck } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

export interface NetworkCheckFlags extends GlobalFlags, ListFlags, TemplateFlags {
  domain?: string[]
  outboundUrl?: string[]
  signedBy?: string[]
  engine?: string
}

/** `weir network check [JOBFILE]`: which nodes would take a job with these hosts, or this job. 1 when none would. */
export async function networkCheck(
  file: string | undefined,
  flags: NetworkCheckFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const domains = [...(flags.domain ?? []), ...(flags.outboundUrl ?? [])]
  if (file === undefined && domains.length === 0) throw nothingAsked()
  if (file !== undefined && domains.length > 0) throw bothAsked()
  const signedBy = readPublicKeys(flags.signedBy)
  if (file !== undefined && signedBy.length > 0) throw bothAsked()
  const asked =
    file === undefined
      ? { domains, engine: flags.engine, signedBy }
      : { job: await jobOf(file, flags, context) }
  const check = await withClient(flags, context, (client) => client.checkEgress(asked))
  if (isTable(flags) && check.Domains.length > 0) {
    await terminal.data(renderTable(domainRows(check), DOMAIN_COLUMNS, tableLayout(terminal, flags)))
    await terminal.data('\n')
  }
  const columns = checkColumns(flags.wide ?? false)
  const format = await printList(terminal, { rows: check.Nodes, columns, items: check }, flags)
  if (format === 'table') conclude(check, { file, domains }, context)
  return check.Fitting > 0 ? EXIT.ok : EXIT.no
}

async function jobOf(file: string, flags: NetworkCheckFlags, context: CliContext): Promise<unknown> {
  return (await readJobFile(file, flags, context)).spec
}

function conclude(
  check: WireEgressCheck,
  { file, domains }: { file: string | undefined; domains: readonly string[] },
  { terminal }: CliContext,
): void {
  const { Fitting } = check
  terminal.talk(fittingLine(check, file === undefined ? 'a job with these hosts' : 'this job'))
  const names = domains.map((domain) => `--domain ${shellWord(domain)}`).join(' ')
  if (Fitting > 0) {
    const run =
      file === undefined ? `weir docker run --network http ${names} IMAGE` : `weir job run ${shellWord(file)}`
    suggest(terminal, [['Run it:', run]])
    return
  }
  suggest(terminal, whatToDo(check))
}

interface DomainRow {
  pattern: string
  accepting: number
  refusing: number
  reason: string
}

function domainRows({ Domains, Nodes, Fitting }: WireEgressCheck): DomainRow[] {
  const rows = Domains.map(({ Pattern, Accepting, Refusing, Reason }) => ({
    pattern: Pattern,
    accepting: Accepting,
    refusing: Refusing,
    reason: Reason,
  }))
  if (rows.length < 2) return rows
  const all = { pattern: 'all of them', accepting: Fitting, refusing: Nodes.length - Fitting, reason: '' }
  return [...rows, all]
}

const DOMAIN_COLUMNS: readonly Column<DomainRow>[] = [
  { header: 'DOMAIN', value: ({ pattern }) => pattern, cutFirst: 0 },
  { header: 'ACCEPTING', value: ({ accepting }) => String(accepting), alignRight: true, cutFirst: 0 },
  { header: 'REFUSING', value: ({ refusing }) => String(refusing), alignRight: true, cutFirst: 0 },
  { header: 'MOST FREQUENT REASON', value: ({ reason }) => reason },
]

function isTable({ output = 'table' }: ListFlags): boolean {
  return output.trim().toLowerCase() === 'table'
}

function nothingAsked(): WeirError {
  return new WeirError('cli.usage', 'Cannot check nothing: neither a host nor a job file is named', {
    hint: 'Write weir network check --domain example.com, or weir network check job.yaml',
  })
}

function bothAsked(): WeirError {
  return new WeirError(
    'cli.usage',
    'Cannot check a job file and --domain, --outbound-url or --signed-by at once',
    {
      hint: 'The hosts of a job and who signed it stand in its file',
    },
  )
}
