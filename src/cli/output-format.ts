import { readChoice } from './read-choice.js'
import { columnsLeftOut, renderCsv, renderTable } from './table.js'
import type { Column, TableLayout } from './table.js'
import type { Terminal } from './terminal.js'

export const LIST_FORMATS = ['table', 'csv', 'json', 'yaml'] as const
export type ListFormat = (typeof LIST_FORMATS)[number]
export const OBJECT_FORMATS = ['json', 'yaml'] as const
export type ObjectFormat = (typeof OBJECT_FORMATS)[number]

/** The format that an object is printed in for machines; undefined: people read it. Throws `cli.usage`. */
export function readObjectOutput({ output }: { output?: string }): ObjectFormat | undefined {
  return output === undefined ? undefined : readChoice('--output', output, OBJECT_FORMATS)
}

/** The flags of commands that print lists. */
export interface ListFlags {
  output?: string
  pretty?: boolean
  hideHeader?: boolean
  /** False with `--no-style`. */
  style?: boolean
  wide?: boolean
}

/** Prints a list: the rows as table or CSV, `items` as they came from the server otherwise. */
export async function printList<Row>(
  terminal: Terminal,
  list: { rows: readonly Row[]; columns: readonly Column<Row>[]; items: unknown },
  flags: ListFlags,
): Promise<ListFormat> {
  const format = readChoice('--output', flags.output ?? 'table', LIST_FORMATS)
  if (format === 'json' || format === 'yaml') {
    await printObject(terminal, list.items, format, flags.pretty ?? terminal.outIsTerminal)
  } else if (format === 'csv') {
    await terminal.data(renderCsv(list.rows, list.columns, flags.hideHeader ?? false))
  } else {
    const layout = tableLayout(terminal, flags)
    await terminal.data(renderTable(list.rows, list.columns, layout))
    const leftOut = columnsLeftOut(list.rows, list.columns, layout)
    if (leftOut.length > 0)
      terminal.talk(terminal.talkStyle.dim(`No room for ${leftOut.join(', ')}; --wide shows everything`))
  }
  return format
}

/** How wide a table may be and how it looks, as the flags and the terminal have it. */
export function tableLayout(terminal: Terminal, flags: ListFlags): TableLayout {
  return {
    columns: terminal.columns,
    hideHeader: flags.hideHeader,
    plain: flags.style === false || !terminal.outIsTerminal,
    wide: flags.wide,
    style: terminal.dataStyle,
  }
}

/** Prints one value. Nothing in it can control a terminal: JSON and YAML get escapes that mean the same. */
export async function printObject(
  terminal: Terminal,
  value: unknown,
  format: ObjectFormat,
  pretty: boolean,
): Promise<void> {
  await terminal.data(format === 'json' ? `${jsonOf(value, pretty)}\n` : await yamlOf(value))
}

/** As JSON, on one line unless `pretty`. */
export function jsonOf(value: unknown, pretty: boolean): string {
  return escaped(JSON.stringify(value, null, pretty ? 2 : undefined) ?? 'null')
}

/** As YAML, in which strings with unprintable characters stand in double quotes. */
export async function yamlOf(value: unknown): Promise<string> {
  const { Document, visit } = await import('yaml')
  const plain: unknown = JSON.parse(JSON.stringify(value) ?? 'null')
  const document = new Document(plain, { aliasDuplicateObjects: false })
  visit(document, {
    Scalar(_key, node) {
      if (typeof node.value === 'string' && escaped(node.value) !== node.value) node.type = 'QUOTE_DOUBLE'
    },
  })
  return escaped(document.toString({ lineWidth: 0 }))
}

/** JSON lets DEL, C1 and direction marks through; terminals act on them. Both formats know this escape in strings. */
function escaped(text: string): string {
  return text.replace(
    /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
