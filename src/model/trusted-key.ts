import { WeirError } from '../errors.js'
import { PATTERNS_MAX, parseHostPattern, type HostPatternOptions } from './host-pattern.js'
import { readTime } from './job-signature.js'
import { isPublicKey } from './key-pair.js'
import { quoted } from './printable.js'
import type { TimeMs } from './state.js'

/** What an operator lets jobs reach beyond the list of the node when they are signed with this key. */
export interface KeyGrant {
  /** What the operator calls it: stands in records. */
  name: string
  /** Public key. */
  key: string
  /** Canonical host patterns; empty: the key is known and opens nothing. */
  allow: string[]
}

/** A grant as its operator keeps it. */
export interface TrustedKey extends KeyGrant {
  /** RFC 3339, UTC; absent: until it is taken back. */
  expires?: string
}

export const TRUSTED_KEYS_MAX = 100

/** The grants that have not expired. */
export function grantsInForce(keys: readonly TrustedKey[], nowMs: TimeMs): KeyGrant[] {
  return keys
    .filter(({ expires }) => expires === undefined || nowMs < readTime(expires))
    .map(({ name, key, allow }) => ({ name, key, allow }))
}

/**
 * Reads the text of a file of trusted keys: `{"keys": [{"name", "key", "allow": [], "expires"}]}`. Throws `config.invalid`
 * with every mistake at once.
 */
export function parseTrustedKeys(text: string, file: string, options: HostPatternOptions = {}): TrustedKey[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw unreadable(file, ['it is not JSON; it may be half-written'])
  }
  const keys = isRecord(value) && Object.keys(value).length === 1 ? value.keys : undefined
  if (!Array.isArray(keys))
    throw unreadable(file, ['it is not an object with the list "keys" and nothing else'])
  if (keys.length > TRUSTED_KEYS_MAX) throw unreadable(file, [`it holds more than ${TRUSTED_KEYS_MAX} keys`])
  const problems: string[] = []
  const read = keys.map((item, index) => readTrustedKey(item, `keys[${index}]`, options, problems))
  for (const field of ['name', 'key'] as const) {
    const values = read.map((one) => one?.[field])
    const twice = values.find((one, index) => one !== undefined && values.indexOf(one) < index)
    if (twice !== undefined) problems.push(`the ${field} ${quoted(twice)} is there twice`)
  }
  const patterns = read.reduce((sum, one) => sum + (one?.allow.length ?? 0), 0)
  if (patterns > PATTERNS_MAX)
    problems.push(`${patterns} patterns are too many, at most ${PATTERNS_MAX} are allowed`)
  if (problems.length > 0) throw unreadable(file, problems)
  return read.filter((one) => one !== undefined)
}

/** Why a key cannot be called so; undefined when it can. */
export function keyNameProblem(name: string): string | undefined {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name) && !isPublicKey(name)) return undefined
  return `${quoted(name)} is no name: use at most 64 letters, digits, dots, dashes and underscores`
}

function readTrustedKey(
  item: unknown,
  where: string,
  options: HostPatternOptions,
  problems: string[],
): TrustedKey | undefined {
  const { name, key, allow, expires, ...rest } = isRecord(item) ? item : {}
  const mistakes: string[] = []
  const complain = (what: string | undefined): void => {
    if (what !== undefined) mistakes.push(`${where}: ${what}`)
  }
  complain(typeof name === 'string' ? keyNameProblem(name) : 'the name is missing')
  if (!isPublicKey(key))
    complain(
      `${typeof key === 'string' ? quoted(key) : 'nothing'} is no public key: U and 55 letters and digits`,
    )
  if (expires !== undefined && (typeof expires !== 'string' || Number.isNaN(readTime(expires))))
    complain('"expires" is no time in UTC like 2026-01-31T12:00:00Z')
  for (const unknown of Object.keys(rest)) complain(`nothing is called ${quoted(unknown)}`)
  const patterns = readPatterns(allow, complain, options)
  problems.push(...mistakes)
  if (mistakes.length > 0) return undefined
  return {
    name: name as string,
    key: key as string,
    allow: patterns,
    ...(expires === undefined ? {} : { expires: expires as string }),
  }
}

function readPatterns(
  allow: unknown,
  complain: (what: string) => void,
  options: HostPatternOptions,
): string[] {
  if (!Array.isArray(allow) || !allow.every((one) => typeof one === 'string')) {
    complain('"allow" is not a list of host patterns')
    return []
  }
  const patterns = allow.flatMap((text) => {
    try {
      return [parseHostPattern(text, options).text]
    } catch (error) {
      complain((error as Error).message)
      return []
    }
  })
  return [...new Set(patterns)]
}

function unreadable(file: string, problems: readonly string[]): WeirError {
  return new WeirError(
    'config.invalid',
    [`Cannot use the trusted keys in ${file}:`, ...problems].join('\n  '),
    {
      hint: 'weir key trust and weir key untrust write this file; to trust nobody, remove it',
      details: { problems: [...problems] },
    },
  )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
