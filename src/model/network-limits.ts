import { WeirError } from '../errors.js'
import type { DomainBudgetSpec, NetworkLimitsSpec } from './job-spec.js'
import { quoted } from './printable.js'
import { compactQuantity, parseBytes } from './resources.js'

/** Bounds of what one execution may send and receive through the gateway. 0 = no bound, where a field says so. */
export interface EgressLimits {
  bitsPerSecondUp: number
  bitsPerSecondDown: number
  /** Payload for the whole execution; 0 = no bound. */
  bytesUpMax: number
  bytesDownMax: number
  /** Requests and tunnels begun per second. */
  requestsPerSecond: number
  /** At the same time. */
  connectionsMax: number
  /** At the same time to one host and port, of all executions of the job on the node; 0 = no bound. */
  hostConnectionsMax: number
  /** Different names that one execution may have looked up. */
  hostNamesMax: number
  /** Bounds of single domains, inside those of the execution. */
  budgets: DomainBudget[]
}

/** Payload to and from all hosts that the pattern matches, in one execution; 0 = no bound. */
export interface DomainBudget {
  /** Canonical host pattern. */
  domain: string
  bytesUpMax: number
  bytesDownMax: number
}

/**
 * Bits per second as people write them: `500kbit`, `2mbit`, `1gbit` (powers of 1000, also `2mbit/s`), no unit means bits.
 * Throws `spec.invalid`, also for less than 8 kbit/s: nothing would get through before its time limits.
 */
export function parseBitRate(text: string): number {
  const match = BIT_RATE.exec(compactQuantity(text))
  const rate = match === null ? NaN : Math.floor(Number(match[1]) * 1000 ** UNITS.indexOf(match[2] ?? ''))
  if (!(rate >= BITS_PER_SECOND_MIN && rate <= Number.MAX_SAFE_INTEGER)) {
    throw new WeirError('spec.invalid', `invalid rate value: ${quoted(text, 60)}`, {
      hint: 'Write bits per second from 8kbit on, for example 500kbit, 2mbit or 1gbit.',
    })
  }
  return rate
}

/** Bytes of a budget; throws `spec.invalid` for none at all, which would be no network. */
export function parseBudgetBytes(text: string): number {
  const bytes = parseBytes(text, 'budget')
  if (bytes > 0) return bytes
  throw new WeirError('spec.invalid', `invalid budget value: ${quoted(text, 60)}`, {
    hint: 'Write an amount above zero, for example 100mb or 1gb; leave it out for no budget.',
  })
}

/** For people: `10 Mbit/s`. */
export function formatBitRate(bitsPerSecond: number): string {
  for (const [unit, factor] of [
    ['Gbit/s', 1e9],
    ['Mbit/s', 1e6],
    ['kbit/s', 1e3],
  ] as const) {
    if (bitsPerSecond >= factor) return `${Math.round((bitsPerSecond / factor) * 100) / 100} ${unit}`
  }
  return `${bitsPerSecond} bit/s`
}

/**
 * What a job asks for, as numbers; absent = it asks for nothing less than the node gives. `count` executions share what
 * holds for the job as a whole.
 */
export function askedEgressLimits(spec: NetworkLimitsSpec | undefined, count = 1): Partial<EgressLimits> {
  if (spec === undefined) return {}
  const { BitsPerSecondUp, BitsPerSecondDown, BytesUpMax, BytesDownMax } = spec
  const shared = spec.HostConnectionsMax
  return {
    ...(BitsPerSecondUp !== undefined && { bitsPerSecondUp: parseBitRate(BitsPerSecondUp) }),
    ...(BitsPerSecondDown !== undefined && { bitsPerSecondDown: parseBitRate(BitsPerSecondDown) }),
    ...(BytesUpMax !== undefined && { bytesUpMax: parseBytes(BytesUpMax) }),
    ...(BytesDownMax !== undefined && { bytesDownMax: parseBytes(BytesDownMax) }),
    ...(spec.RequestsPerSecond !== undefined && { requestsPerSecond: spec.RequestsPerSecond }),
    ...(spec.ConnectionsMax !== undefined && { connectionsMax: spec.ConnectionsMax }),
    ...(shared !== undefined && { hostConnectionsMax: Math.max(1, Math.floor(shared / Math.max(1, count))) }),
    ...(spec.HostNamesMax !== undefined && { hostNamesMax: spec.HostNamesMax }),
    ...(spec.Budgets !== undefined && { budgets: spec.Budgets.map(budgetOf) }),
  }
}

/** The operator's maxima win: a job can only ask for less. */
export function narrowedEgressLimits(most: EgressLimits, asked: Partial<EgressLimits>): EgressLimits {
  return {
    bitsPerSecondUp: least(most.bitsPerSecondUp, asked.bitsPerSecondUp),
    bitsPerSecondDown: least(most.bitsPerSecondDown, asked.bitsPerSecondDown),
    bytesUpMax: least(most.bytesUpMax, asked.bytesUpMax),
    bytesDownMax: least(most.bytesDownMax, asked.bytesDownMax),
    requestsPerSecond: least(most.requestsPerSecond, asked.requestsPerSecond),
    connectionsMax: least(most.connectionsMax, asked.connectionsMax),
    hostConnectionsMax: least(most.hostConnectionsMax, asked.hostConnectionsMax),
    hostNamesMax: least(most.hostNamesMax, asked.hostNamesMax),
    budgets: [...most.budgets, ...(asked.budgets ?? [])],
  }
}

/** 0 and absent are no bound. */
function least(own: number, asked = 0): number {
  if (!(asked > 0)) return own
  return own > 0 ? Math.min(own, asked) : asked
}

function budgetOf({ Domain, BytesUpMax = '', BytesDownMax = '' }: DomainBudgetSpec): DomainBudget {
  return { domain: Domain, bytesUpMax: parseBytes(BytesUpMax), bytesDownMax: parseBytes(BytesDownMax) }
}

const BITS_PER_SECOND_MIN = 8_000
const UNITS = ['', 'k', 'm', 'g', 't']
const BIT_RATE = /^(\d{1,15}(?:\.\d{1,9})?)(?:([kmgt]?)bit(?:\/s|ps)?)?$/
