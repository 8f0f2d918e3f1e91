import { createHash } from 'node:crypto'
import { isWeirError, WeirError } from '../errors.js'
import { PATTERNS_MAX, parseHostPattern } from './host-pattern.js'
import { nearestName } from './nearest-name.js'
import { quoted } from './printable.js'

/** A named list of host patterns, written `@name` where a pattern stands. */
export interface Preset {
  readonly name: string
  /** Canonical patterns, each once. Never empty. */
  readonly domains: readonly string[]
  /** SHA-256 of the patterns, base64url, 16 characters: equal for equal lists. */
  readonly digest: string
}

/** By name. */
export type Presets = ReadonlyMap<string, Preset>

export const NO_PRESETS: Presets = new Map()

const PRESETS_MAX = 200
const PRESET_NAME = /^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/** The name in `@name`; undefined for everything that does not begin with `@`. What stands there need not be a legal name. */
export function presetNameOf(text: string): string | undefined {
  const trimmed = text.trim()
  return trimmed.startsWith('@') ? trimmed.slice(1) : undefined
}

/** Rejects what can never be the name of a preset with `preset.unknown`. */
export function checkPresetName(name: string): void {
  if (PRESET_NAME.test(name)) return
  throw new WeirError('preset.unknown', `Cannot use preset ${quoted(`@${name}`)}: that is no name`, {
    hint: 'A name has 1 to 63 small letters, digits and "-", and begins with a letter',
  })
}

/**
 * Reads the presets of a configuration: names with their lists. Throws `config.invalid` with every mistake. A preset holds
 * patterns only, no other preset; an empty one is a mistake, since nobody means a list without anything.
 */
export function readPresets(lists: Readonly<Record<string, readonly string[]>>): Presets {
  const problems: string[] = []
  const presets = new Map<string, Preset>()
  const entries = Object.entries(lists)
  if (entries.length > PRESETS_MAX)
    problems.push(`${entries.length} presets are too many, at most ${PRESETS_MAX} are allowed`)
  for (const [name, texts] of entries.slice(0, PRESETS_MAX)) {
    const where = `Egress.Presets.${name}`
    if (!PRESET_NAME.test(name))
      problems.push(
        `${where}: a name has 1 to 63 small letters, digits and "-", and begins with a letter, found ${quoted(name)}`,
      )
    if (texts.length === 0) problems.push(`${where}: it holds no pattern`)
    if (texts.length > PATTERNS_MAX)
      problems.push(`${where}: ${texts.length} patterns are too many, at most ${PATTERNS_MAX} are allowed`)
    const domains = texts.slice(0, PATTERNS_MAX).flatMap((text, index) => {
      const problem = readEntry(text)
      if (problem.pattern === undefined) problems.push(`${where}[${index}]: ${problem.message}`)
      return problem.pattern ?? []
    })
    presets.set(name, presetOf(name, [...new Set(domains)]))
  }
  if (problems.length === 0) return presets
  throw new WeirError('config.invalid', ['Cannot use the presets:', ...problems].join('\n  '), {
    hint: 'write `name: [host, .host, "*.host"]`; a preset cannot hold another',
    details: { problems },
  })
}

/** Throws `preset.unknown`, which names a near one and those that there are. */
export function requirePreset<Found>(name: string, presets: ReadonlyMap<string, Found>): Found {
  const found = presets.get(name)
  if (found !== undefined) return found
  checkPresetName(name)
  throw new WeirError('preset.unknown', `Cannot find preset ${quoted(`@${name}`)}`, {
    hint: knownPresets(name, presets),
    details: { names: [...presets.keys()] },
  })
}

/** A list of patterns and presets as patterns alone, in order, and the presets that were in it. Throws as {@link requirePreset}. */
export function expandPresets(
  texts: readonly string[],
  presets: Presets,
): { domains: string[]; used: Preset[] } {
  const used = new Map<string, Preset>()
  const domains = texts.flatMap((text) => {
    const name = presetNameOf(text)
    if (name === undefined) return [text]
    // Once: what names a preset ten thousand times is still a short text.
    if (used.has(name)) return []
    const preset = requirePreset(name, presets)
    used.set(name, preset)
    return preset.domains
  })
  return { domains: [...new Set(domains)], used: [...used.values()] }
}

/** Near names are looked for the first unknown ones only: for thousands that costs more than reading all the rest. */
const NEAR_NAMES_MAX = 20

/** Reads many texts one by one, each as {@link expandPresets} does; texts that name no preset come back as they are. */
export function presetReader(presets: Presets): (text: string) => readonly string[] {
  let unknown = 0
  return (text) => {
    const name = presetNameOf(text)
    if (name === undefined) return [text]
    if (!presets.has(name) && ++unknown > NEAR_NAMES_MAX)
      throw new WeirError('preset.unknown', `Cannot find preset ${quoted(`@${name}`)}`)
    return requirePreset(name, presets).domains
  }
}

const NAMES_SHOWN = 20

function knownPresets(name: string, presets: ReadonlyMap<string, unknown>): string {
  if (presets.size === 0)
    return 'There are no presets here; an operator defines them with Egress.Presets, and hosts can be named one by one'
  const near = nearestName(name, presets.keys())
  const names = [...presets.keys()].slice(0, NAMES_SHOWN).map((one) => `@${one}`)
  const more = presets.size > NAMES_SHOWN ? ` and ${presets.size - NAMES_SHOWN} more` : ''
  return `${near === undefined ? '' : `Did you mean @${near}? `}There are: ${names.join(', ')}${more}`
}

function readEntry(text: string): { pattern?: string; message: string } {
  if (presetNameOf(text) !== undefined)
    return { message: `${quoted(text)} is a preset, and a preset cannot hold another: list its hosts` }
  try {
    return { pattern: parseHostPattern(text).text, message: '' }
  } catch (error) {
    if (!isWeirError(error)) throw error
    return { message: `${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}` }
  }
}

function presetOf(name: string, domains: readonly string[]): Preset {
  const digest = createHash('sha256').update(JSON.stringify(domains)).digest('base64url').slice(0, 16)
  return { name, domains, digest }
}
