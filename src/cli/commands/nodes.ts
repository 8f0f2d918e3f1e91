import { shortId } from '../../model/ids.js'
import { formatBytes, formatCpu } from '../../model/resources.js'
import { WeirError } from '../../errors.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { wholeNumber } from '../whole-number.js'
import { pageOf, suggestNextPage } from '../next-page.js'
import { OBJECT_FORMATS, printList, printObject } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { watchList } from '../watch-list.js'
import type { WireNode, WireResources } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { Column } from '../table.js'
import type { PageFlags } from './job-lists.js'

const SHOWN = ['labels', 'version', 'features', 'capacity', 'network'] as const
type Shown = (typeof SHOWN)[number]
const ORDERS = [
  'id',
  'type',
  'available_cpu',
  'available_memory',
  'available_disk',
  'available_gpu',
  'approval',
  'status',
] as const

export interface NodeListFlags extends PageFlags {
  show?: string
  labels?: string
  filterApproval?: string
  filterStatus?: string
}

/** `weir node list`. */
export async function nodeList(flags: NodeListFlags, context: CliContext): Promise<number> {
  const { filterApproval, filterStatus } = flags
  const query = {
    labels: flags.labels === undefined ? undefined : [flags.labels],
    approval:
      filterApproval === undefined
        ? undefined
        : readChoice('--filter-approval', filterApproval, ['approved', 'pending', 'rejected']),
    status:
      filterStatus === undefined
        ? undefined
        : readChoice('--filter-status', filterStatus, ['connected', 'disconnected']),
    orderBy: flags.orderBy === undefined ? undefined : readChoice('--order-by', flags.orderBy, ORDERS),
    reverse: flags.orderReversed,
  }
  const limit = wholeNumber('--limit', flags.limit) ?? 0
  const columns = nodeColumns(readShown(flags.show ?? 'labels,capacity'), flags.wide ?? false)
  return withClient(flags, context, async (client) => {
    if (flags.watch === true) {
      const load = async (signal: AbortSignal): Promise<{ rows: WireNode[] }> => ({
        rows: pageOf(await client.nodes(query, { signal }), limit, flags.nextToken).items,
      })
      return watchList(context.terminal, { columns, keyOf: ({ Info }) => Info.NodeID, load }, flags)
    }
    const { items, nextToken } = pageOf(await client.nodes(query), limit, flags.nextToken)
    const format = await printList(context.terminal, { rows: items, columns, items }, flags)
    suggestNextPage(context.terminal, ['node', 'list'], flags, { limit, nextToken })
    const [first] = items
    if (format === 'table' && first === undefined) context.terminal.talk('No node is known')
    if (format === 'table' && first !== undefined) {
      suggest(context.terminal, [['Details:', `weir node describe ${shortId(first.Info.NodeID)}`]])
    }
    return EXIT.ok
  })
}

/** `weir node describe ID`. */
export async function nodeDescribe(
  id: string,
  flags: GlobalFlags & { output?: string; pretty?: boolean },
  context: CliContext,
): Promise<number> {
  const node = await withClient(flags, context, (client) => client.node(id))
  const format = readChoice('--output', flags.output ?? 'yaml', OBJECT_FORMATS)
  await printObject(context.terminal, node, format, flags.pretty ?? context.terminal.outIsTerminal)
  return EXIT.ok
}

/** `weir node approve|reject|delete ID`. */
export async function nodeUpdate(
  id: string,
  action: 'approve' | 'reject' | 'delete',
  flags: GlobalFlags & { message?: string },
  context: CliContext,
): Promise<number> {
  const { Success, Error, Code, Hint } = await withClient(flags, context, (client) =>
    client.updateNode(id, action, flags.message ?? ''),
  )
  if (!Success) {
    const reason = Error ?? 'the server refused'
    const code = Code === 'node.not_found' || Code === 'node.ambiguous' ? Code : 'node.conflict'
    const message = reason.startsWith('Cannot ') ? reason : `Cannot ${action} node ${id}: ${reason}`
    throw new WeirError(code, message, { hint: Hint })
  }
  await context.terminal.data('Ok\n')
  return EXIT.ok
}

function readShown(text: string): Set<Shown> {
  return new Set(
    text
      .split(',')
      .filter((word) => word.trim() !== '')
      .map((word) => readChoice('--show', word, SHOWN)),
  )
}

function nodeColumns(shown: ReadonlySet<Shown>, isWide: boolean): Column<WireNode>[] {
  const columns: Column<WireNode>[] = [
    { header: 'ID', value: ({ Info }) => (isWide ? Info.NodeID : shortId(Info.NodeID)), cutFirst: 0 },
    { header: 'TYPE', value: ({ Info }) => Info.Roles?.join('+') ?? Info.NodeType, cutFirst: 3 },
    { header: 'APPROVAL', value: ({ Membership }) => Membership, cutFirst: 4 },
    { header: 'STATUS', value: ({ Connection }) => Connection, cutFirst: 0 },
  ]
  if (shown.has('labels')) columns.push({ header: 'LABELS', value: labelsText, cutFirst: 5 })
  if (shown.has('version')) columns.push({ header: 'VERSION', value: versionText, cutFirst: 6 })
  if (shown.has('features')) columns.push(...FEATURE_COLUMNS)
  if (shown.has('network')) columns.push({ header: 'NETWORK', value: networkText, cutFirst: 3 })
  if (shown.has('capacity')) columns.push(...CAPACITY_COLUMNS)
  return columns
}

const FEATURE_COLUMNS: readonly Column<WireNode>[] = [
  { header: 'ENGINES', value: ({ Info }) => listText(Info.ComputeNodeInfo?.ExecutionEngines), cutFirst: 4 },
  { header: 'INPUTS FROM', value: ({ Info }) => listText(Info.ComputeNodeInfo?.StorageSources), cutFirst: 4 },
  { header: 'OUTPUTS', value: ({ Info }) => listText(Info.ComputeNodeInfo?.Publishers), cutFirst: 4 },
]

const CAPACITY_COLUMNS: readonly Column<WireNode>[] = [
  capacityColumn('CPU', ({ CPU = 0 }) => formatCpu(CPU)),
  capacityColumn('MEMORY', ({ Memory = 0 }) => formatBytes(Memory)),
  capacityColumn('DISK', ({ Disk = 0 }) => formatBytes(Disk)),
  capacityColumn('GPU', ({ GPU = 0 }) => String(GPU)),
]

/** `available / max`. */
function capacityColumn(header: string, text: (amount: WireResources) => string): Column<WireNode> {
  const value = ({ Info: { ComputeNodeInfo: compute } }: WireNode): string =>
    compute === undefined ? '' : `${text(compute.AvailableCapacity)} / ${text(compute.MaxCapacity)}`
  return { header, value, alignRight: true, cutFirst: 0 }
}

function labelsText({ Info }: WireNode): string {
  return Object.entries(Info.Labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .toSorted()
    .join(' ')
}

function versionText({ Info }: WireNode): string {
  return Info.WeirVersion ?? Info.BacalhauVersion.GitVersion
}

function networkText({ Info }: WireNode): string {
  const { Egress } = Info
  if (Egress === undefined || !Egress.AcceptsNetworkedJobs) return 'none'
  const modes = [Egress.HTTPEngines.length > 0 ? 'http' : '', Egress.FullEngines.length > 0 ? 'full' : '']
  return modes.filter((mode) => mode !== '').join(', ') || 'none'
}

function listText(list: readonly string[] | undefined): string {
  return (list ?? []).join(', ')
}
