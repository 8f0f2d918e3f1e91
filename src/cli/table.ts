import { printable } from '../model/printable.js'
import type { Style } from './terminal.js'

export interface Column<Row> {
  header: string
  value: (row: Row) => string
  /**
   * Where the terminal is too narrow, columns with the highest number are cut first; the lowest last. Default 1. Columns
   * with 0 are not cut, because a part of them would be wrong or useless; those with 3 and more are left out rather than
   * cut to a few letters. Where even that is too wide, more are left out, from the right; the first stays.
   */
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
/** Columns of this rank and above are left out where those that are cut would have less room than this. */
const OPTIONAL_RANK = 3
const READABLE_WIDTH = 20

/** Rows below each other; cells are escaped, and cut with `…` where the terminal is too narrow. Ends with a newline. */
export function renderTable<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  layout: TableLayout,
): string {
  const shown = layout.wide === true ? columns : columnsThatFit(rows, columns, layout)
  const cells = cellsOf(rows, shown)
  const natural = naturalWidths(cells, shown, layout)
  const widths = layout.wide === true ? natural : fittedWidths(natural, shown, layout.columns)
  const headers = shown.map((column) => column.header)
  const line = (row: readonly string[]): string =>
    row
      .map((cell, index) => {
        const isLast = index === row.length - 1
        return padded(cell, widths[index] ?? 0, shown[index]?.alignRight === true, isLast)
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

/** All columns, or without the least important ones when even cutting does not make them fit. */
function columnsThatFit<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  layout: TableLayout,
): readonly Column<Row>[] {
  const natural = naturalWidths(cellsOf(rows, columns), columns, layout)
  const widths = fitted(natural, columns, layout.columns, READABLE_WIDTH)
  if (totalWidth(widths) <= layout.columns) return columns
  const rank = Math.max(...columns.map(rankOf))
  if (rank < OPTIONAL_RANK) return columnsCutToFit(natural, columns, layout)
  const least = columns.findLastIndex((column) => rankOf(column) === rank)
  return columnsThatFit(rows, columns.toSpliced(least, 1), layout)
}

/** Nothing is optional any more: cut to a few letters, or left out when that does not help either. */
function columnsCutToFit<Row>(
  natural: readonly number[],
  columns: readonly Column<Row>[],
  layout: TableLayout,
): readonly Column<Row>[] {
  if (columns.length <= 1) return columns
  if (totalWidth(fitted(natural, columns, layout.columns, WIDTH_MIN)) <= layout.columns) return columns
  return columnsCutToFit(natural.slice(0, -1), columns.slice(0, -1), layout)
}

/** The headers of columns that have no room; empty when all have. */
export function columnsLeftOut<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  layout: TableLayout,
): string[] {
  if (layout.wide === true) return []
  const shown = columnsThatFit(rows, columns, layout)
  return columns.filter((column) => !shown.includes(column)).map(({ header }) => header)
}

function cellsOf<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string[][] {
  return rows.map((row) => columns.map((column) => printable(column.value(row))))
}

function naturalWidths<Row>(
  cells: readonly string[][],
  columns: readonly Column<Row>[],
  { hideHeader }: TableLayout,
): number[] {
  return columns.map((column, index) => {
    const header = hideHeader === true ? 0 : width(column.header)
    return cells.reduce((widest, row) => Math.max(widest, width(row[index] ?? '')), header)
  })
}

/** Readable widths, and narrower ones only where even those are too wide. */
function fittedWidths<Row>(
  natural: readonly number[],
  columns: readonly Column<Row>[],
  room: number,
): number[] {
  const readable = fitted(natural, columns, room, READABLE_WIDTH)
  if (totalWidth(readable) <= room) return readable
  const narrow = fitted(natural, columns, room, WIDTH_MIN)
  // One column that is not to be cut, in a terminal that is narrower.
  return narrow.length === 1 ? narrow.map((size) => Math.min(size, room)) : narrow
}

/** Takes what is missing from the columns that may be cut, widest first within a rank. */
function fitted<Row>(
  natural: readonly number[],
  columns: readonly Column<Row>[],
  room: number,
  least: number,
): number[] {
  const widths = [...natural]
  const ranks = [...new Set(columns.map(rankOf))].filter((rank) => rank > 0)
  for (const rank of ranks.toSorted((a, b) => b - a)) {
    for (let excess = totalWidth(widths) - room; excess > 0; excess = totalWidth(widths) - room) {
      const candidates = widths
        .map((size, index) => ({ size, index }))
        .filter(({ size, index }) => rankOf(columns[index]) === rank && size > least)
      const widest = candidates.toSorted((a, b) => b.size - a.size)[0]
      if (widest === undefined) break
      widths[widest.index] = Math.max(least, widest.size - excess)
    }
  }
  return widths
}

function rankOf<Row>(column: Column<Row> | undefined): number {
  return column?.cutFirst ?? 1
}

function totalWidth(widths: readonly number[]): number {
  return widths.reduce((sum, size) => sum + size, 0) + GAP.length * Math.max(0, widths.length - 1)
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
