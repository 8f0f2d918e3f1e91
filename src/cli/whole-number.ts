import { WeirError } from '../errors.js'
import { quoted } from '../model/printable.js'

/** Throws `cli.usage` when the text is not a whole number. */
export function wholeNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^-?\d{1,15}$/.test(text.trim())) return Number(text)
  throw new WeirError('cli.usage', `Cannot use ${flag} ${quoted(text, 40)}: it is not a whole number`, {
    hint: 'Write digits alone, for example 10',
  })
}
