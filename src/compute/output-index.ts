import { readOutput } from './output-log.js'

/** Where reading begins: so many bytes into the entry at `cursor`. */
export interface OutputStart {
  cursor: number
  /** Bytes of the first entry that come before the start. */
  skip: number
}

export interface OutputWish {
  /** So many lines before the end; 0 = the end. A last line without its end counts as one. */
  tailLines?: number
  /** Not before the first output that arrived at this time or later. */
  sinceMs?: number
}

/** A place in a log of which something is known. */
interface Mark {
  /** The border of two entries. */
  cursor: number
  /** Ends of lines before it. */
  lines: number
  /** True when what is before it does not end with the end of a line. */
  isOpen: boolean
  /** The latest time of an entry before it: grows from mark to mark, whatever clocks do. */
  untilMs: number
}

const MARK_EVERY_BYTES = 256 * 1024
const LOGS_MAX = 256
const NEWLINE = 0x0a

/**
 * Finds the last lines of a log, or what came since a time, without reading the log each time: every 256 KiB it keeps a
 * mark with the number of lines and the time. A log is read through once, when somebody asks first, and from there on
 * only what was added. Holds the marks of the 256 logs that were asked for last.
 */
export class OutputIndex {
  readonly #logs = new Map<string, Promise<Mark[]>>()

  /** `size`: the bytes of the log that count now. Neither wish: the beginning. Both: the later of the two. */
  async find(file: string, size: number, { tailLines, sinceMs }: OutputWish): Promise<OutputStart> {
    const marks = await this.#marks(file, size)
    const byLines = tailLines === undefined ? BEGINNING : await findLines(file, size, marks, tailLines)
    const byTime = sinceMs === undefined ? BEGINNING : await findTime(file, size, marks, sinceMs)
    const isLater = byTime.cursor - byLines.cursor || byTime.skip - byLines.skip
    return isLater > 0 ? byTime : byLines
  }

  /** Logs that are being looked at in turn share the work. */
  async #marks(file: string, size: number): Promise<Mark[]> {
    const known = this.#logs.get(file) ?? Promise.resolve([START])
    const extended = known.then((marks) => extend(file, marks, size))
    this.#logs.delete(file)
    this.#logs.set(file, extended)
    for (const oldest of this.#logs.keys()) {
      if (this.#logs.size <= LOGS_MAX) break
      this.#logs.delete(oldest)
    }
    try {
      return await extended
    } catch (error) {
      if (this.#logs.get(file) === extended) this.#logs.delete(file)
      throw error
    }
  }
}

const START: Mark = { cursor: 0, lines: 0, isOpen: false, untilMs: -Infinity }
const BEGINNING: OutputStart = { cursor: 0, skip: 0 }

/** The marks up to `size`. The marks that are there stay as they are: a log only grows. */
async function extend(file: string, marks: Mark[], size: number): Promise<Mark[]> {
  let last = marks.at(-1) as Mark
  const added: Mark[] = []
  let { cursor, lines, isOpen, untilMs } = last
  while (cursor < size) {
    const page = await readOutput(file, cursor, MARK_EVERY_BYTES)
    if (page.entries.length === 0) break
    for (const { data, timeMs } of page.entries) {
      lines += countLines(data)
      isOpen = data.at(-1) !== NEWLINE
      untilMs = Math.max(untilMs, timeMs)
    }
    cursor = page.cursor
    if (cursor - last.cursor < MARK_EVERY_BYTES || cursor > size) continue
    last = { cursor, lines, isOpen, untilMs }
    added.push(last)
  }
  return added.length === 0 ? marks : [...marks, ...added]
}

async function findLines(
  file: string,
  size: number,
  marks: readonly Mark[],
  tailLines: number,
): Promise<OutputStart> {
  const end = await readEnd(file, size, marks.at(-1) as Mark)
  // The start is behind this end of a line, counted from 1.
  const wanted = end.lines - tailLines + (end.isOpen ? 1 : 0)
  if (wanted <= 0) return BEGINNING
  if (wanted > end.lines) return { cursor: size, skip: 0 }
  const from = lastBefore(marks, (mark) => mark.lines < wanted)
  let { lines } = from
  return findEntry(file, size, from.cursor, (data) => {
    const ends = countLines(data)
    if (lines + ends < wanted) {
      lines += ends
      return undefined
    }
    let at = -1
    for (; lines < wanted; lines++) at = data.indexOf(NEWLINE, at + 1)
    return at + 1
  })
}

async function findTime(
  file: string,
  size: number,
  marks: readonly Mark[],
  sinceMs: number,
): Promise<OutputStart> {
  const from = lastBefore(marks, (mark) => mark.untilMs < sinceMs)
  return findEntry(file, size, from.cursor, (_data, timeMs) => (timeMs >= sinceMs ? 0 : undefined))
}

/** The first entry from `cursor` on for which `look` says how much of it comes before the start; else the end. */
async function findEntry(
  file: string,
  size: number,
  cursor: number,
  look: (data: Buffer, timeMs: number) => number | undefined,
): Promise<OutputStart> {
  while (cursor < size) {
    const page = await readOutput(file, cursor, MARK_EVERY_BYTES)
    if (page.entries.length === 0) break
    for (const { data, timeMs, bytes } of page.entries) {
      const skip = look(data, timeMs)
      if (skip === data.length) return { cursor: cursor + bytes, skip: 0 }
      if (skip !== undefined) return { cursor, skip }
      cursor += bytes
    }
  }
  return { cursor: Math.max(cursor, size), skip: 0 }
}

/** The number of lines at `size`, and whether the last one has no end. */
async function readEnd(file: string, size: number, mark: Mark): Promise<Pick<Mark, 'lines' | 'isOpen'>> {
  let { cursor, lines, isOpen } = mark
  while (cursor < size) {
    const page = await readOutput(file, cursor, MARK_EVERY_BYTES)
    if (page.entries.length === 0) break
    for (const { data, bytes } of page.entries) {
      // What is written meanwhile is not part of the end that was asked for.
      if (cursor >= size) break
      lines += countLines(data)
      isOpen = data.at(-1) !== NEWLINE
      cursor += bytes
    }
  }
  return { lines, isOpen }
}

function lastBefore(marks: readonly Mark[], isBefore: (mark: Mark) => boolean): Mark {
  let [low, high] = [0, marks.length - 1]
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (isBefore(marks[middle] as Mark)) low = middle
    else high = middle - 1
  }
  return marks[low] as Mark
}

function countLines(data: Buffer): number {
  let count = 0
  for (let at = data.indexOf(NEWLINE); at >= 0; at = data.indexOf(NEWLINE, at + 1)) count += 1
  return count
}
