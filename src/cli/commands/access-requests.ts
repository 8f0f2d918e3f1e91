import { WeirError } from '../../errors.js'
import { shortId } from '../../model/ids.js'
import { printable } from '../../model/printable.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { type ObjectFormat, printList, printObject, readObjectOutput } from '../output-format.js'
import { shellWord } from '../shell-word.js'
import { dateTime } from '../times.js'
import type { WireAccessRequest, WireApproval } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

export interface AccessFlags extends GlobalFlags {
  reason?: string
  output?: string
  pretty?: boolean
}

export interface AccessListFlags extends GlobalFlags, ListFlags {
  state?: string
}

/** `weir network request DOMAIN… --reason TEXT`. */
export async function networkRequest(
  domains: readonly string[],
  flags: AccessFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const format = readObjectOutput(flags)
  const reason = requireReason(flags, 'ask for hosts', 'say what the job does with them')
  const asked = await withClient(flags, context, (client) => client.requestAccess(domains, reason))
  if (format !== undefined) return print(asked, format, flags, context)
  const { Request, New } = asked
  await terminal.data(`${Request.ID}\n`)
  const expires = dateTime(Date.parse(Request.ExpiresAt))
  terminal.talk(
    New
      ? `Request ${shortId(Request.ID)} is open until ${expires}`
      : `Request ${shortId(Request.ID)} for the same hosts is open already, until ${expires}`,
  )
  suggest(terminal, [['See how it stands:', `weir network requests ${shortId(Request.ID)}`]])
  return EXIT.ok
}

/** `weir network requests [ID]`. */
export async function networkRequests(
  id: string | undefined,
  flags: AccessListFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  if (id !== undefined) {
    const request = await withClient(flags, context, (client) => client.accessRequest(id))
    const format = flags.output ?? 'table'
    if (format === 'table') await terminal.data(render(request))
    else await printList(terminal, { rows: [request], columns: columnsOf(flags), items: request }, flags)
    return EXIT.ok
  }
  const state = flags.state?.trim().toLowerCase()
  const requests = await withClient(flags, context, (client) => client.accessRequests({ state }))
  const list = { rows: requests, columns: columnsOf(flags), items: requests }
  const format = await printList(terminal, list, flags)
  const open = requests.find(({ State }) => State === 'open')
  if (format === 'table' && open !== undefined)
    suggest(terminal, [['Look at one:', `weir network requests ${shortId(open.ID)}`]])
  return EXIT.ok
}

/** `weir network approve ID`: the hosts as they are shown now are named, so that nothing else can be approved. */
export async function networkApprove(id: string, flags: AccessFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const format = readObjectOutput(flags)
  const approval = await withClient(flags, context, async (client) => {
    const { ID, Domains, State } = await client.accessRequest(id)
    if (format === undefined && State === 'open')
      for (const domain of Domains) terminal.talk(`Approving ${printable(domain)}`)
    return client.approveAccess(ID, { domains: Domains, reason: flags.reason ?? '' })
  })
  if (format !== undefined) return print(approval, format, flags, context)
  for (const line of approvalLines(approval)) terminal.talk(line)
  suggest(terminal, nextOf(approval))
  return EXIT.ok
}

/** `weir network deny ID --reason TEXT`. */
export async function networkDeny(id: string, flags: AccessFlags, context: CliContext): Promise<number> {
  const format = readObjectOutput(flags)
  const reason = requireReason(flags, 'deny a request', 'the user is told it')
  const denied = await withClient(flags, context, async (client) =>
    client.denyAccess((await client.accessRequest(id)).ID, reason),
  )
  if (format !== undefined) return print(denied, format, flags, context)
  context.terminal.talk(`Request ${shortId(denied.ID)} is denied`)
  return EXIT.ok
}

function requireReason({ reason = '' }: AccessFlags, what: string, why: string): string {
  if (reason.trim() !== '') return reason
  throw new WeirError('cli.usage', `Cannot ${what} without a reason`, { hint: `Add --reason TEXT: ${why}` })
}

async function print(
  value: unknown,
  format: ObjectFormat,
  { pretty }: AccessFlags,
  { terminal }: CliContext,
): Promise<number> {
  await printObject(terminal, value, format, pretty ?? terminal.outIsTerminal)
  return EXIT.ok
}

const LINES_MAX = 20

function approvalLines({ Request, Accepting, Refusing }: WireApproval): string[] {
  const { Added = [], NetworkVersion = 0 } = Request.Decision ?? {}
  const added =
    Added.length === 0
      ? 'the list of the network needed no change'
      : `${Added.length} added to the list of the network, version ${NetworkVersion}`
  const nodes = Refusing.length + Accepting
  const lines = [`Request ${shortId(Request.ID)} is approved: ${added}`]
  if (nodes > 0) lines.push(`${Accepting} of ${nodes} ${nodes === 1 ? 'node takes' : 'nodes take'} such jobs`)
  const refusing = Refusing.map(({ NodeID, Reasons, Missing }) => {
    const missing = Missing.map(({ Pattern, Owner, Code }) =>
      Code === 'egress.denied_by_operator'
        ? `${Pattern} is denied by the ${Owner}`
        : `${Pattern} is not in the ${Owner}'s list`,
    )
    return `${shortId(NodeID)} still refuses: ${[...Reasons, ...missing].join('; ')}`
  })
  const more = refusing.length > LINES_MAX ? [`… and ${refusing.length - LINES_MAX} more nodes`] : []
  return [...lines, ...refusing.slice(0, LINES_MAX), ...more].map((line) => printable(line))
}

/** What the operators of nodes that still refuse would run there. */
function nextOf({ Refusing }: WireApproval): [string, string][] {
  const lacking = Refusing.flatMap(({ Missing }) => Missing).filter(
    ({ Owner, Code }) => Owner === 'node' && Code !== 'egress.denied_by_operator',
  )
  const patterns = [...new Set(lacking.map(({ Pattern }) => shellWord(Pattern)))]
  if (patterns.length === 0) return []
  return [['On the machines of nodes that lack it:', `weir node allowlist add ${patterns.join(' ')}`]]
}

function render(request: WireAccessRequest): string {
  const { ID, State, Domains, CreatedAt, ExpiresAt, Askers, Decision } = request
  const time = (text: string): string => dateTime(Date.parse(text))
  const lines = [
    `${ID}  ${State}`,
    `asked    ${time(CreatedAt)}`,
    ...(State === 'open' ? [`expires  ${time(ExpiresAt)}`] : []),
    ...Askers.map(({ Name, Reason }) => `by       ${Name}: ${Reason}`),
    ...Domains.map((domain) => `host     ${domain}`),
  ]
  if (Decision !== undefined) {
    const by = Decision.By === '' ? '' : ` by ${Decision.By}`
    const reason = Decision.Reason === '' ? '' : `: ${Decision.Reason}`
    lines.push(`${State.padEnd(9)}${time(Decision.At)}${by}${reason}`)
    if (Decision.Added.length > 0)
      lines.push(
        `added    ${Decision.Added.join(', ')} (version ${Decision.NetworkVersion} of the network's list)`,
      )
  }
  if (State === 'open') lines.push(`decide   weir network approve ${shellWord(shortId(ID))}`)
  return `${lines.map((line) => printable(line)).join('\n')}\n`
}

function columnsOf({ wide = false }: ListFlags): Column<WireAccessRequest>[] {
  return [
    { header: 'ID', value: ({ ID }) => (wide ? ID : shortId(ID)), cutFirst: 0 },
    { header: 'STATE', value: ({ State }) => State, cutFirst: 0 },
    { header: 'HOSTS', value: ({ Domains }) => Domains.join(', '), cutFirst: 1 },
    { header: 'BY', value: ({ Askers }) => Askers.map(({ Name }) => Name).join(', '), cutFirst: 3 },
    {
      header: 'REASON',
      value: ({ Askers, Decision }) => Decision?.Reason || (Askers[0]?.Reason ?? ''),
      cutFirst: 2,
    },
    { header: 'ASKED', value: ({ CreatedAt }) => dateTime(Date.parse(CreatedAt)), cutFirst: 0 },
  ]
}
