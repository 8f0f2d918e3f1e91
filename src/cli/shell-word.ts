import { printable } from '../model/printable.js'

/** A word as a shell reads it back; what could control a terminal is escaped. */
export function shellWord(word: string): string {
  const text = printable(word, 500)
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}
