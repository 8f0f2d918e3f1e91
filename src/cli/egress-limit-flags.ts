import { WeirError } from '../errors.js'
import type { DomainBudgetSpec, NetworkLimitsSpec } from '../model/job-spec.js'
import { parseBitRate, parseBudgetBytes } from '../model/network-limits.js'
import { quoted } from '../model/printable.js'
import type { FlagProblems } from './flag-problems.js'
import { wholeNumber } from './whole-number.js'

export interface EgressLimitFlags {
  egressRate?: string
  egressBudget?: string[]
  egressRequests?: string
}

/**
 * `--egress-rate`, `--egress-budget` and `--egress-requests` as the job's network limits; undefined without any. `prefix`
 * is what the flags are called by where there is nothing but egress.
 */
export function egressLimits(
  { egressRate, egressBudget, egressRequests }: EgressLimitFlags,
  problems: FlagProblems,
  prefix = '--egress-',
): NetworkLimitsSpec | undefined {
  const rate = problems.read(
    `${prefix}rate`,
    () => readDirections(`${prefix}rate`, egressRate, parseBitRate, problems),
    NOT_SAID,
  )
  const budgets = problems.readAll(`${prefix}budget`, egressBudget ?? [], (text) =>
    readBudget(`${prefix}budget`, text, problems),
  )
  const requests = problems.read(
    `${prefix}requests`,
    () => wholeNumber(`${prefix}requests`, egressRequests),
    undefined,
  )
  const whole = budgets.filter(({ Domain }) => Domain === '')
  const ofDomains = budgets.filter(({ Domain }) => Domain !== '')
  const limits: NetworkLimitsSpec = {
    ...(rate.up !== undefined && { BitsPerSecondUp: rate.up }),
    ...(rate.down !== undefined && { BitsPerSecondDown: rate.down }),
    ...amountsOf(whole),
    ...(requests !== undefined && { RequestsPerSecond: requests }),
    ...(ofDomains.length > 0 && { Budgets: ofDomains }),
  }
  return Object.keys(limits).length === 0 ? undefined : limits
}

/** The last one said counts. */
function amountsOf(
  budgets: readonly DomainBudgetSpec[],
): Pick<NetworkLimitsSpec, 'BytesUpMax' | 'BytesDownMax'> {
  const up = budgets.findLast(({ BytesUpMax }) => BytesUpMax !== undefined)?.BytesUpMax
  const down = budgets.findLast(({ BytesDownMax }) => BytesDownMax !== undefined)?.BytesDownMax
  return { ...(up !== undefined && { BytesUpMax: up }), ...(down !== undefined && { BytesDownMax: down }) }
}

interface Directions {
  up?: string
  down?: string
}

const NOT_SAID: Directions = {}

/** `100mb`, `up:10mb,down:1gb`, each with `DOMAIN=` in front. */
function readBudget(flag: string, text: string, problems: FlagProblems): DomainBudgetSpec {
  const equals = text.indexOf('=')
  const { up, down } = readDirections(flag, text.slice(equals + 1), parseBudgetBytes, problems)
  return {
    Domain: equals < 0 ? '' : text.slice(0, equals).trim(),
    ...(up !== undefined && { BytesUpMax: up }),
    ...(down !== undefined && { BytesDownMax: down }),
  }
}

/** One amount for both directions, or one for each that is named. Every amount is checked by `parse`; what is wrong goes to `problems`. */
function readDirections(
  flag: string,
  text: string | undefined,
  parse: (amount: string) => number,
  problems: FlagProblems,
): Directions {
  if (text === undefined) return {}
  const amounts: Directions = {}
  for (const part of text.split(',')) {
    const [, direction, amount = ''] = /^(?:\s*(up|down)\s*:)?([^:]*)$/.exec(part) ?? []
    if (amount.trim() === '') {
      throw new WeirError('cli.usage', `Cannot read the amount ${quoted(text)} of ${flag}`, {
        hint: 'Write one amount for both directions, or up:AMOUNT,down:AMOUNT',
      })
    }
    if (problems.read(flag, () => parse(amount), undefined) === undefined) continue
    if (direction !== 'down') amounts.up = amount.trim()
    if (direction !== 'up') amounts.down = amount.trim()
  }
  return amounts
}
