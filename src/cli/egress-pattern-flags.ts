import { WeirError } from '../errors.js'
import { parseHostPattern } from '../model/host-pattern.js'
import { quoted } from '../model/printable.js'
import type { FlagProblems } from './flag-problems.js'

export interface EgressPatternFlags {
  domain?: string[]
  outboundUrl?: string[]
}

/** `--domain` and `--outbound-url` as canonical patterns, each once. */
export function egressPatterns(
  { domain = [], outboundUrl = [] }: EgressPatternFlags,
  problems: FlagProblems,
): string[] {
  const domains = problems.readAll('--domain', domain, (text) => parseHostPattern(text).text)
  const urls = problems.readAll('--outbound-url', outboundUrl, readOutboundUrl)
  return [...new Set([...domains, ...urls])]
}

function readOutboundUrl(text: string): string {
  if (text.includes('://')) return parseHostPattern(text).text
  const host = text.split(/[/?#]/, 1)[0] || text // A path is not part of it.
  throw new WeirError('pattern.invalid', `Cannot use outbound URL ${quoted(text)}: it has no scheme`, {
    hint: `Write ${quoted(`https://${host}`)}, or --domain ${host}`,
  })
}
