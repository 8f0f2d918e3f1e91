import { suggest } from './context.js'
import { shellWord } from './shell-word.js'
import { WeirError } from '../errors.js'
import { quoted } from '../model/printable.js'
import type { Terminal } from './terminal.js'

/** Prints the whole command that shows the next page, with every flag that was given; nothing when this was the last. */
export function suggestNextPage(
  terminal: Terminal,
  command: readonly string[],
  flags: object,
  page: { limit: number; nextToken: string },
): void {
  if (page.nextToken === '') return
  const kept = Object.entries(flags as Record<string, unknown>).flatMap(([name, value]) =>
    LEFT_OUT.has(name) ? [] : flagWords(name, value),
  )
  const words = ['weir', ...command, ...kept, '--limit', String(page.limit), '--next-token', page.nextToken]
  suggest(terminal, [['Next page:', words.map(shellWord).join(' ')]])
}

const LEFT_OUT = new Set(['limit', 'nextToken', 'debug', 'watch'])

function flagWords(name: string, value: unknown): string[] {
  const flag =
    name === 'config' ? '-c' : `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
  if (Array.isArray(value)) return value.flatMap((one) => flagWords(name, one))
  if (typeof value === 'string') return [flag, value]
  // Those that are on unless `--no-` stands before them.
  if (name === 'style' || name === 'color') return value === false ? [`--no-${name}`] : []
  return value === true ? [flag] : []
}

/**
 * One page of a list that the server gives as a whole: its token is the number of entries before it. Throws `cli.usage`
 * for a token of another list.
 */
export function pageOf<Item>(
  items: readonly Item[],
  limit: number,
  token: string | undefined,
): { items: Item[]; nextToken: string } {
  if (token !== undefined && !/^\d{1,9}$/.test(token)) {
    throw new WeirError('cli.usage', `Cannot use --next-token ${quoted(token, 40)}`, {
      hint: 'Copy the whole command that was printed below the page before',
    })
  }
  const from = Number(token ?? 0)
  const end = limit === 0 ? items.length : from + limit
  return { items: items.slice(from, end), nextToken: end < items.length ? String(end) : '' }
}
