import { shortId } from '../../model/ids.js'
import { printable } from '../../model/printable.js'
import { suggestDomains } from '../../model/suggest-domains.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { OBJECT_FORMATS, printObject } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import type { AuditRecord } from '../../model/audit.js'
import type { WeirClient } from '../../client/index.js'
import type { CliContext } from '../context.js'
import type { EgressFlags } from './job-egress.js'

/**
 * `weir job egress --suggest ID`: the flags that would have allowed what was refused, exact names only; as YAML the whole
 * `Network` of the job file.
 */
export async function jobEgressSuggest(id: string, flags: EgressFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const format = flags.output === undefined ? undefined : readChoice('--output', flags.output, OBJECT_FORMATS)
  const { known, records } = await withClient(flags, context, async (client) => {
    const { Job } = await client.job(id)
    return {
      known: Job.Tasks[0]?.Network.Domains ?? [],
      records: await refusals(client, id, flags.executionId),
    }
  })
  const { domains, warnings } = suggestDomains(records)
  const missing = domains.map(({ domain }) => domain).filter((domain) => !known.includes(domain))
  if (format !== undefined) {
    const network = { Network: { Type: 'HTTP', Domains: [...known, ...missing] } }
    await printObject(terminal, network, format, flags.pretty ?? terminal.outIsTerminal)
  } else if (missing.length > 0) {
    const all = [...known, ...missing].map((domain) => `--domain ${printable(domain)}`)
    await terminal.data(`--network http ${all.join(' ')}\n`)
  } else {
    terminal.talk('Nothing was refused that the list of the job could allow')
  }
  for (const warning of warnings) terminal.talk(printable(warning))
  if (missing.length > 0 && format === undefined)
    suggest(terminal, [['For a job file:', `weir job egress --suggest --output yaml ${shortId(id)}`]])
  return EXIT.ok
}

/** Bounded: more names than this are no list that anybody reads. */
async function refusals(
  client: WeirClient,
  id: string,
  executionId: string | undefined,
): Promise<AuditRecord[]> {
  const records: AuditRecord[] = []
  for (let nextToken: string | undefined; records.length < RECORDS_MAX; ) {
    const page: Awaited<ReturnType<WeirClient['egress']>> = await client.egress(id, {
      denied: true,
      executionId,
      nextToken,
    })
    records.push(...page.Items)
    if (page.NextToken === '') break
    nextToken = page.NextToken
  }
  return records
}

const RECORDS_MAX = 100_000
