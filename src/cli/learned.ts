import { WeirError } from '../errors.js'
import { printable } from '../model/printable.js'
import { formatBytes } from '../model/resources.js'
import { groupDomains, suggestDomains } from '../model/suggest-domains.js'
import { checkColumns, fittingLine } from './egress-check-lines.js'
import { tableLayout } from './output-format.js'
import { shellWord } from './shell-word.js'
import { renderTable } from './table.js'
import type { WeirClient, WireEgressCheck, WireJob } from '../client/index.js'
import type { AuditRecord } from '../model/audit.js'
import type { DomainSuggestion, SuggestedDomain } from '../model/suggest-domains.js'
import type { Column } from './table.js'
import type { Terminal } from './terminal.js'

/** What a job needs to name, and who would let it. */
export interface Learned {
  /** The job was a learning one: the list is what it contacted. Else: its own list, and what that refused. */
  learns: boolean
  suggestion: DomainSuggestion
  /** The whole list that the job would have; empty: it needs none. */
  domains: string[]
  /** How much of it is new to the job. */
  missing: number
  /** Absent when there is nothing to ask about. */
  check?: WireEgressCheck
  /** Why the nodes were not asked; empty when they were. */
  unchecked: string
}

/**
 * Reads the records of a job. A learning job needs what it contacted; any other job needs, besides its own list, what that
 * refused. With `group` neighbours become one pattern. The nodes are asked unless `checks` is false.
 */
export async function learnFrom(
  client: WeirClient,
  job: WireJob,
  { executionId, group = false, checks = true }: { executionId?: string; group?: boolean; checks?: boolean },
): Promise<Learned> {
  const [task] = job.Tasks
  const learns = task?.Network.Learn === true
  const { records, isWhole } = await recordsOf(client, job.ID, { executionId, denied: !learns })
  const suggestion = suggestDomains(records)
  if (!isWhole) suggestion.warnings.push(`Only the first ${RECORDS_MAX} records were read`)
  const known = learns ? [] : (task?.Network.Domains ?? [])
  const missing = suggestion.domains.map(({ domain }) => domain).filter((domain) => !known.includes(domain))
  const domains = [...known, ...(group ? groupDomains(missing) : missing)]
  const learned = { learns, suggestion, domains, missing: missing.length, unchecked: '' }
  if (!checks || missing.length === 0) return learned
  try {
    return { ...learned, check: await client.checkEgress({ domains, engine: task?.Engine.Type }) }
  } catch (error) {
    // What was learnt is worth showing all the same.
    return { ...learned, unchecked: error instanceof WeirError ? error.message : String(error) }
  }
}

/** In the spelling of everything that the API answers. */
export function suggestionFields({ domains, onlyAsked, unknown, warnings }: DomainSuggestion): object {
  return {
    Suggested: domains.map(({ domain, attempts, refused, bytesUp, bytesDown }) => ({
      Domain: domain,
      Attempts: attempts,
      Refused: refused,
      BytesUp: bytesUp,
      BytesDown: bytesDown,
    })),
    OnlyAsked: onlyAsked,
    Unknown: unknown,
    Warnings: warnings,
  }
}

/** Said where there is no list. */
export function nothingLearned({ learns }: Learned): string {
  return learns ? 'The job has reached nothing' : 'Nothing was refused that the list of the job could allow'
}

/** The flags of a run command, ready to paste. */
export function networkFlags(domains: readonly string[]): string {
  return ['--network http', domainFlags(domains)].filter((part) => part !== '').join(' ')
}

export function domainFlags(domains: readonly string[]): string {
  return domains.map((domain) => `--domain ${shellWord(printable(domain))}`).join(' ')
}

/** What was contacted, line by line, for people. */
export function sayContacted(
  { domains, onlyAsked, unknown, warnings }: DomainSuggestion,
  terminal: Terminal,
): void {
  if (domains.length > 0) sayTable(domains, DOMAIN_COLUMNS, terminal)
  if (onlyAsked.length > 0) terminal.talk(`Only asked for by name, never connected to: ${listed(onlyAsked)}`)
  if (unknown.length > 0) terminal.talk(`Tried to reach, but not found: ${listed(unknown)}`)
  for (const warning of warnings) terminal.talk(printable(warning))
}

/** Which nodes would take a job with the list, and what keeps the others from it. */
export function sayChecked({ check, unchecked }: Learned, terminal: Terminal): void {
  if (unchecked !== '') terminal.talk(`The nodes could not be asked: ${printable(unchecked)}`)
  if (check === undefined) return
  sayTable(check.Nodes, checkColumns(false), terminal)
  terminal.talk(fittingLine(check, 'a job with these hosts'))
}

function sayTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[], terminal: Terminal): void {
  const layout = { ...tableLayout(terminal, {}), plain: true, style: terminal.talkStyle }
  for (const line of renderTable(rows, columns, layout).trimEnd().split('\n')) terminal.talk(line)
}

const DOMAIN_COLUMNS: readonly Column<SuggestedDomain>[] = [
  { header: 'DOMAIN', value: ({ domain }) => domain, cutFirst: 0 },
  { header: 'ATTEMPTS', value: ({ attempts }) => String(attempts), alignRight: true, cutFirst: 0 },
  { header: 'REFUSED', value: ({ refused }) => String(refused), alignRight: true, cutFirst: 0 },
  { header: 'UP', value: ({ bytesUp }) => formatBytes(bytesUp), alignRight: true, cutFirst: 0 },
  { header: 'DOWN', value: ({ bytesDown }) => formatBytes(bytesDown), alignRight: true, cutFirst: 0 },
]

function listed(names: readonly string[]): string {
  const shown = names.slice(0, NAMES_SHOWN).map((name) => printable(name))
  return `${shown.join(', ')}${names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : ''}`
}

/** Bounded: more records than this are no list that anybody reads. */
async function recordsOf(
  client: WeirClient,
  id: string,
  request: { executionId: string | undefined; denied: boolean },
): Promise<{ records: AuditRecord[]; isWhole: boolean }> {
  const records: AuditRecord[] = []
  for (let nextToken: string | undefined; records.length < RECORDS_MAX; ) {
    const page: Awaited<ReturnType<WeirClient['egress']>> = await client.egress(id, { ...request, nextToken })
    records.push(...page.Items)
    if (page.NextToken === '') return { records, isWhole: true }
    nextToken = page.NextToken
  }
  return { records, isWhole: false }
}

const RECORDS_MAX = 100_000
const NAMES_SHOWN = 20
