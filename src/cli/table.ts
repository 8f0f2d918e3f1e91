import { printable } from '../model/printable.js'
import type { Style } from './terminal.js'

export interface Column<Row> {
  header: string
  value: (row: Row) => string
  /** Narrower columns are cut first; the lowest number last. Default 1. Columns with 0 are never cut. */
  cutFirst?: number
  alignRight?: boolean
}

export interface TableLayout {
  /** Infinity = as wide as needed. */
  columns: number
  hideHeader?: boolean
  /** No line under the header. */
  plain?: boolean
  /** Cut nothing. */
  wide?: boolean
  style: Style
}

const GAP = '  '
const WIDTH_MIN = 6

/** Rows below each other; cells are escaped, and cut with `…` where the terminal is too narrow. Ends with a newline. */
export function renderTable<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  layout: TableLayout,
): string {
  const cells = rows.map((row) => columns.map((column) => printable(column.value(row))))
  const headers = columns.map((column) => column.header)
  const all = layout.hideHeader === true ? cells : [headers, ...cells]
  const natural = columns.map((_column, index) => Math.max(0, ...all.map((row) => width(row[index] ?? ''))))
  const widths = layout.wide === true ? natural : fitted(natural, columns, layout.columns)
  const line = (row: readonly string[]): string =>
    row
      .map((cell, index) => {
        const isLast = index === row.length - 1
        return padded(cell, widths[index] ?? 0, columns[index]?.alignRight === true, isLast)
      })
      .join(GAP)
      .trimEnd()
  const lines = cells.map(line)
  if (layout.hideHeader !== true) {
    if (layout.plain !== true)
      lines.unshift(layout.style.dim(widths.map((size) => '─'.repeat(size)).join(GAP)))
    lines.unshift(layout.style.bold(line(headers)))
  }
  return lines.map((text) => `${text}\n`).join('')
}

/** RFC 4180. */
export function renderCsv<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  hideHeader: boolean,
): string {
  const lines = rows.map((row) => columns.map((column) => printable(column.value(row))))
  if (!hideHeader) lines.unshift(columns.map((column) => column.header.toLowerCase().replace(/\W+/g, '_')))
  return lines.map((cells) => `${cells.map(csvCell).join(',')}\n`).join('')
}

function csvCell(cell: string): string {
  // A spreadsheet takes a cell that begins like this for a formula.
  const safe = /^[=+\-@]/.test(cell) && Number.isNaN(Number(cell)) ? `'${cell}` : cell
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

/** Takes what is missing from the columns that may be cut, widest first within a rank. */
function fitted<Row>(natural: readonly number[], columns: readonly Column<Row>[], room: number): number[] {
  const widths = [...natural]
  const total = (): number => widths.reduce((sum, size) => sum + size, 0) + GAP.length * (widths.length - 1)
  const ranks = [...new Set(columns.map((column) => column.cutFirst ?? 1))].filter((rank) => rank > 0)
  for (const rank of ranks.toSorted((a, b) => b - a)) {
    while (total() > room) {
      const candidates = widths
        .map((size, index) => ({ size, index }))
        .filter(({ size, index }) => (columns[index]?.cutFirst ?? 1) === rank && size > WIDTH_MIN)
      const widest = candidates.toSorted((a, b) => b.size - a.size)[0]
      if (widest === undefined) break
      widths[widest.index] = Math.max(WIDTH_MIN, Math.min(widest.size - 1, widest.size - (total() - room)))
    }
  }
  return widths
}

function padded(cell: string, size: number, alignRight: boolean, isLast: boolean): string {
  const text = width(cell) > size ? `${cut(cell, Math.max(1, size - 1))}…` : cell
  const blanks = ' '.repeat(Math.max(0, size - width(text)))
  if (alignRight) return `${blanks}${text}`
  return isLast ? text : `${text}${blanks}`
}

/** Characters by code point; wide characters of East Asia and emoji count two. */
function width(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let sum = 0
  for (const character of text) sum += characterWidth(character)
  return sum
}

function characterWidth(character: string): number {
  if (/\p{Mark}/u.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}

const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u

function cut(text: string, size: number): string {
  let result = ''
  let used = 0
  for (const character of text) {
    used += characterWidth(character)
    if (used > size) return result
    result += character
  }
  return result
}
