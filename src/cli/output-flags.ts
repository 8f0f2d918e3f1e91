import { LIST_FORMATS, OBJECT_FORMATS } from './output-format.js'
import { readChoice } from './read-choice.js'
import type { WeirCommand } from './command.js'

/** The flags of commands that print a list. */
export function listFlags(command: WeirCommand): WeirCommand {
  return command
    .optionsGroup('Output flags:')
    .option('--output <FORMAT>', 'table, csv, json or yaml (default table)', readListFormat)
    .option('--pretty', 'indent JSON')
    .option('--hide-header', 'no header line')
    .option('--no-style', 'no line under the header')
    .option('--wide', 'cut nothing, full ids') as WeirCommand
}

// Read with the command line: a typing mistake must not cost a request.
function readListFormat(text: string): string {
  return readChoice('--output', text, LIST_FORMATS)
}

/** Throws `cli.usage`. */
export function readObjectFormat(text: string): string {
  return readChoice('--output', text, OBJECT_FORMATS)
}

/** The flag of commands that can be looked at while something changes. */
export function watchFlag(command: WeirCommand): WeirCommand {
  return command.option(
    '--watch',
    'go on showing what changes: in place on a terminal, else one line per change',
  ) as WeirCommand
}

/** The flags of commands that print one value. */
export function objectFlags(command: WeirCommand): WeirCommand {
  return command
    .optionsGroup('Output flags:')
    .option('--output <FORMAT>', 'json or yaml', readObjectFormat)
    .option('--pretty', 'indent JSON') as WeirCommand
}

/** The flags of commands that print a list page by page. */
export function pageFlags(command: WeirCommand, limit: string, orders?: string): void {
  command
    .option('--limit <NUMBER>', `at most so many (default ${limit})`)
    .option('--next-token <TOKEN>', 'the page that this token begins')
    .option('--order-reversed', 'in reverse order')
  if (orders !== undefined) command.option('--order-by <FIELD>', orders)
}
