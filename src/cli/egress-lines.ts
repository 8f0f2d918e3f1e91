import { formatBytes } from '../model/resources.js'
import { printable } from '../model/printable.js'
import { formatBitRate } from '../model/network-limits.js'
import type { WireEgressLimits, WireEgressSummary, WireExecution } from '../client/index.js'
import type { EgressDestination } from '../model/state.js'
import type { Column } from './table.js'

/** One destination of a whole job. */
export interface EgressRow {
  host: string
  port: number
  allowed: number
  refused: number
  bytesUp: number
  bytesDown: number
  code: string
  advice: string
}

/** The destinations of all executions, those with refusals first, then by bytes. */
export function egressRows(executions: readonly WireExecution[]): EgressRow[] {
  const rows = new Map<string, EgressRow>()
  for (const destination of executions.flatMap(({ Egress }) => Egress?.Destinations ?? [])) {
    const key = `${destination.Host}\n${destination.Port}`
    const row = rows.get(key) ?? emptyRow(destination)
    row.allowed += destination.Allowed
    row.refused += destination.Refused
    row.bytesUp += destination.BytesUp
    row.bytesDown += destination.BytesDown
    row.code = destination.Code ?? row.code
    row.advice = destination.Advice ?? row.advice
    rows.set(key, row)
  }
  return sorted([...rows.values()])
}

/** The same for one summary that did not come from a server. */
export function destinationRows(destinations: readonly EgressDestination[]): EgressRow[] {
  return sorted(destinations.map((one) => ({ ...one, code: one.code ?? '', advice: one.advice ?? '' })))
}

function sorted(rows: readonly EgressRow[]): EgressRow[] {
  return rows.toSorted(
    (a, b) =>
      Number(b.refused > 0) - Number(a.refused > 0) || bytesOf(b) - bytesOf(a) || (a.host < b.host ? -1 : 1),
  )
}

export const EGRESS_COLUMNS: readonly Column<EgressRow>[] = [
  { header: 'HOST', value: ({ host, port }) => (port === 0 ? host : `${host}:${port}`), cutFirst: 2 },
  { header: 'ALLOWED', value: ({ allowed }) => String(allowed), alignRight: true, cutFirst: 0 },
  { header: 'REFUSED', value: ({ refused }) => String(refused), alignRight: true, cutFirst: 0 },
  { header: 'UP', value: ({ bytesUp }) => formatBytes(bytesUp), alignRight: true, cutFirst: 0 },
  { header: 'DOWN', value: ({ bytesDown }) => formatBytes(bytesDown), alignRight: true, cutFirst: 0 },
  { header: 'WHY REFUSED', value: ({ code }) => code },
  { header: 'WOULD BE ALLOWED BY', value: ({ advice }) => advice },
]

/** One line per refused destination, for the end of a run: at most five. */
export function refusedLines(executions: readonly WireExecution[]): string[] {
  const refused = egressRows(executions).filter((row) => row.refused > 0)
  const lines = refused.slice(0, LINES_MAX).map(({ host, port, refused: times, code, advice }) => {
    const how = advice === '' ? '' : `; ${printable(advice)} would allow it`
    return `Refused ${times}×: ${printable(host)}:${port} (${printable(code)})${how}`
  })
  if (refused.length > LINES_MAX) lines.push(`and ${refused.length - LINES_MAX} more refused destinations`)
  return lines
}

/** Sums over all executions; undefined when nothing tried to leave. */
export function egressTotals(
  executions: readonly WireExecution[],
): Omit<WireEgressSummary, 'Destinations'> | undefined {
  const summaries = executions.flatMap(({ Egress }) => (Egress === undefined ? [] : [Egress]))
  if (summaries.length === 0) return undefined
  const sum = (read: (summary: WireEgressSummary) => number): number =>
    summaries.reduce((total, summary) => total + read(summary), 0)
  return {
    Records: sum(({ Records }) => Records),
    Allowed: sum(({ Allowed }) => Allowed),
    Refused: sum(({ Refused }) => Refused),
    BytesUp: sum(({ BytesUp }) => BytesUp),
    BytesDown: sum(({ BytesDown }) => BytesDown),
    DestinationsTruncated: summaries.some(({ DestinationsTruncated }) => DestinationsTruncated),
    ChainHead: summaries.length === 1 ? (summaries[0]?.ChainHead ?? '') : '',
  }
}

const LINES_MAX = 5

function emptyRow({ Host, Port }: { Host: string; Port: number }): EgressRow {
  return { host: Host, port: Port, allowed: 0, refused: 0, bytesUp: 0, bytesDown: 0, code: '', advice: '' }
}

function bytesOf(row: EgressRow): number {
  return row.bytesUp + row.bytesDown
}

/** What the gateway holds an execution to, as one line. */
export function limitsLine(limits: WireEgressLimits): string {
  const rate = `${formatBitRate(limits.BitsPerSecondUp)} up, ${formatBitRate(limits.BitsPerSecondDown)} down`
  const parts = [
    rate,
    bytesText('', limits),
    `${limits.RequestsPerSecond} requests/s`,
    `${limits.ConnectionsMax} connections`,
    limits.HostConnectionsMax === undefined ? '' : `${limits.HostConnectionsMax} per host`,
    `${limits.HostNamesMax} host names`,
    ...(limits.Budgets ?? []).map((budget) => bytesText(`${printable(budget.Domain)}: `, budget)),
  ]
  return parts.filter((part) => part !== '').join('; ')
}

function bytesText(
  what: string,
  { BytesUpMax, BytesDownMax }: { BytesUpMax?: number; BytesDownMax?: number },
): string {
  const parts = [
    BytesUpMax === undefined ? '' : `at most ${formatBytes(BytesUpMax)} up`,
    BytesDownMax === undefined ? '' : `at most ${formatBytes(BytesDownMax)} down`,
  ].filter((part) => part !== '')
  return parts.length === 0 ? '' : `${what}${parts.join(', ')}`
}
