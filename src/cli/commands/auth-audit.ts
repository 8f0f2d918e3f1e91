import { printable } from '../../model/printable.js'
import { withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { printList } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { LIST_FORMATS } from '../output-format.js'
import { dateTime } from '../times.js'
import type { WireAdminRecord } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

export interface AuditFlags {
  limit?: string
  nextToken?: string
  verify?: boolean
}

/** `weir auth audit`: who did what; with `--verify` ends with 1 when the chain of records is broken. */
export async function authAudit(
  flags: GlobalFlags & ListFlags & AuditFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const limit = Number(flags.limit ?? '50')
  const page = await withClient(flags, context, (client) =>
    client.adminLog({
      limit: Number.isInteger(limit) && limit > 0 ? Math.min(limit, 1_000) : 50,
      ...(flags.nextToken === undefined ? {} : { nextToken: flags.nextToken }),
      ...(flags.verify === true ? { verify: true } : {}),
    }),
  )
  const format = readChoice('--output', flags.output ?? 'table', LIST_FORMATS)
  const items = format === 'json' || format === 'yaml' ? page : page.Items
  await printList(terminal, { rows: page.Items, columns: COLUMNS, items }, flags)
  if (page.NextToken !== '' && format === 'table')
    terminal.talk(`Older records: weir auth audit --next-token ${printable(page.NextToken)}`)
  const { Verdict: verdict } = page
  if (verdict === undefined) return EXIT.ok
  terminal.talk(
    printable(
      verdict.intact
        ? `The chain is intact: ${verdict.records ?? 0} records from number ${verdict.firstSequence ?? 0}, head ${verdict.head ?? ''}`
        : `The chain is broken at number ${verdict.brokenAt ?? 0}: ${verdict.reason ?? ''}`,
    ),
  )
  return verdict.intact ? EXIT.ok : EXIT.no
}

const COLUMNS: readonly Column<WireAdminRecord>[] = [
  { header: 'NO', value: ({ sequence }) => String(sequence), cutFirst: 1 },
  {
    header: 'TIME',
    value: ({ timeMs }) => dateTime(timeMs),
    cutFirst: 0,
  },
  { header: 'WHO', value: ({ principal, principalName }) => principalName || principal || '-', cutFirst: 2 },
  { header: 'FROM', value: ({ address }) => address || '-', cutFirst: 3 },
  { header: 'ACTION', value: ({ action }) => action, cutFirst: 0 },
  { header: 'OBJECT', value: ({ object }) => object, cutFirst: 4 },
  { header: 'OUTCOME', value: ({ outcome }) => outcome, cutFirst: 1 },
  {
    header: 'DETAILS',
    value: ({ details = {} }) =>
      Object.entries(details)
        .map(([key, value]) => `${key}=${value}`)
        .join(' '),
    cutFirst: 5,
  },
]
