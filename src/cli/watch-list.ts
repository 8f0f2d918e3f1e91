import { renderCsv, renderTable } from './table.js'
import { LIST_FORMATS, tableLayout, yamlOf, jsonOf } from './output-format.js'
import { readChoice } from './read-choice.js'
import { clockTime } from './times.js'
import { Screen, watch } from './watch.js'
import type { ListFlags } from './output-format.js'
import type { Column } from './table.js'
import type { Terminal } from './terminal.js'

/** A list at one moment. */
export interface ListView<Row> {
  rows: readonly Row[]
  /** Nothing in it will change any more. Default false: a list can always grow. */
  isOver?: boolean
}

/**
 * A list with `--watch`. On a terminal the table is drawn again in place. To a pipe or file, and in other formats, every
 * row that is new or has changed is appended: as a line of the table or of CSV, as one line of JSON, or as a YAML document.
 */
export function watchList<Row>(
  terminal: Terminal,
  list: {
    columns: readonly Column<Row>[]
    /** What makes a row the same row. */
    keyOf: (row: Row) => string
    load: (signal: AbortSignal) => Promise<ListView<Row>>
  },
  flags: ListFlags,
): Promise<number> {
  const format = readChoice('--output', flags.output ?? 'table', LIST_FORMATS)
  const { load } = list
  const isOver = (view: ListView<Row>): boolean => view.isOver === true
  if (format === 'table' && terminal.outIsTerminal) {
    const screen = new Screen(terminal)
    return watch(terminal, {
      load,
      isOver,
      show: async (view, note) => {
        const head = terminal.dataStyle.dim(
          note === '' ? `${clockTime(new Date().toISOString())}  (Ctrl-C to leave)` : note,
        )
        const table = renderTable(view.rows, list.columns, tableLayout(terminal, flags))
        await screen.draw(`${head}\n${table}`, isOver(view))
      },
      close: () => screen.close(),
    })
  }
  const seen = new Map<string, string>()
  let isFirst = true
  return watch(terminal, {
    load,
    isOver,
    show: async ({ rows }) => {
      const fresh = rows.filter((row) => {
        const text = JSON.stringify(row)
        if (seen.get(list.keyOf(row)) === text) return false
        seen.set(list.keyOf(row), text)
        return true
      })
      const gone = new Set(rows.map(list.keyOf))
      for (const key of seen.keys()) if (!gone.has(key)) seen.delete(key)
      const hideHeader = flags.hideHeader === true || !isFirst
      if (fresh.length > 0 || isFirst) await terminal.data(await appended(fresh, list.columns, hideHeader))
      isFirst = false
    },
  })

  async function appended(
    rows: readonly Row[],
    columns: readonly Column<Row>[],
    hideHeader: boolean,
  ): Promise<string> {
    if (format === 'json') return rows.map((row) => `${jsonOf(row, false)}\n`).join('')
    if (format === 'yaml') return (await Promise.all(rows.map(yamlOf))).map((text) => `---\n${text}`).join('')
    if (format === 'csv') return renderCsv(rows, columns, hideHeader)
    // Widths may differ from line to line: what comes later is not known yet.
    return renderTable(rows, columns, { ...tableLayout(terminal, flags), plain: true, hideHeader })
  }
}
