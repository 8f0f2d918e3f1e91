import { WeirError } from '../errors.js'
import { printable } from '../model/printable.js'

/** Throws `cli.usage` when the text is not a whole number. */
export function wholeNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^-?\d{1,15}$/.test(text.trim())) return Number(text)
  throw new WeirError('cli.usage', `Cannot use ${flag} ${printable(text, 40)}: it is not a whole number`)
}
