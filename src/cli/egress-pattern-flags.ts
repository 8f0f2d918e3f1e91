import { WeirError } from '../errors.js'
import { parseHostPattern } from '../model/host-pattern.js'
import { NO_PRESETS, presetNameOf, presetReader, readPresets, type Presets } from '../model/presets.js'
import { quoted } from '../model/printable.js'
import { readConfig } from './context.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { FlagProblems } from './flag-problems.js'

export interface EgressPatternFlags {
  domain?: string[]
  outboundUrl?: string[]
}

/** `--domain` and `--outbound-url` as canonical patterns, each once; `@name` by the presets of the configuration here. */
export async function egressPatterns(
  flags: EgressPatternFlags & GlobalFlags,
  problems: FlagProblems,
  context: CliContext,
): Promise<string[]> {
  const { domain = [], outboundUrl = [] } = flags
  const presets = await presetsHere(domain, flags, context)
  const expand = presetReader(presets)
  const domains = problems.readAll('--domain', domain, (text) =>
    presetNameOf(text) === undefined ? parseHostPattern(text).text : expand(text),
  )
  const urls = problems.readAll('--outbound-url', outboundUrl, readOutboundUrl)
  return [...new Set([...domains.flat(), ...urls])]
}

/** The presets of the configuration of this machine, which is read only when one of the texts names a preset. */
export async function presetsHere(
  texts: readonly string[],
  flags: GlobalFlags,
  context: CliContext,
): Promise<Presets> {
  if (texts.every((text) => presetNameOf(text) === undefined)) return NO_PRESETS
  const { values } = await readConfig(flags, context)
  return readPresets(values['Egress.Presets'])
}

function readOutboundUrl(text: string): string {
  if (text.includes('://')) return parseHostPattern(text).text
  if (presetNameOf(text) !== undefined)
    throw new WeirError(
      'pattern.invalid',
      `Cannot use outbound URL ${quoted(text)}: it is the name of a preset`,
      {
        hint: `Presets are for --domain: write --domain ${text.trim()}`,
      },
    )
  const host = text.split(/[/?#]/, 1)[0] || text // A path is not part of it.
  throw new WeirError('pattern.invalid', `Cannot use outbound URL ${quoted(text)}: it has no scheme`, {
    hint: `Write ${quoted(`https://${host}`)}, or --domain ${host}`,
  })
}
