import { WeirError } from '../errors.js'
import { nearestName } from '../model/nearest-name.js'
import { quoted } from '../model/printable.js'

/** Reads a flag that takes one of some words, in any case. Throws `cli.usage`. */
export function readChoice<Choice extends string>(
  flag: string,
  text: string,
  choices: readonly Choice[],
): Choice {
  const found = choices.find((choice) => choice === text.trim().toLowerCase())
  if (found !== undefined) return found
  const nearest = nearestName(text, choices)
  throw new WeirError('cli.usage', `Cannot use ${flag} ${quoted(text, 40)}`, {
    hint: nearest === undefined ? `Use one of: ${choices.join(', ')}` : `Did you mean ${nearest}?`,
  })
}
