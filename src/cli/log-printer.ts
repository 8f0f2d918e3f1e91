import { shortId } from '../model/ids.js'
import { printable } from '../model/printable.js'
import type { LogChunk } from '../client/index.js'
import type { Style, Terminal } from './terminal.js'

export interface LogLayout {
  /** The time before each line. */
  timestamps: boolean
  /** The execution before each line: from the start, as soon as there are two, or never. */
  prefix: 'always' | 'several' | 'never'
}

/** A line without an end is printed when it is so long. */
const LINE_BYTES_MAX = 64 * 1024
const NEWLINE = 0x0a

/**
 * Prints the output of executions: what was written to standard output to ours, what was written to standard error to
 * ours. Byte for byte where nothing stands before the lines; otherwise whole lines, so that those of several executions do
 * not run into each other.
 */
export class LogPrinter {
  readonly #terminal: Pick<Terminal, 'data' | 'programError' | 'talk' | 'dataStyle' | 'talkStyle'>
  readonly #layout: LogLayout
  readonly #order = new Map<string, number>()
  readonly #begun = new Map<string, Line>()

  constructor(
    terminal: Pick<Terminal, 'data' | 'programError' | 'talk' | 'dataStyle' | 'talkStyle'>,
    layout: LogLayout,
  ) {
    this.#terminal = terminal
    this.#layout = layout
  }

  /** Resolves when the reader keeps up. */
  async print(chunk: LogChunk): Promise<void> {
    if (chunk.notice !== undefined) return this.#say(chunk.executionId, chunk.notice)
    if (!this.#order.has(chunk.executionId)) this.#order.set(chunk.executionId, this.#order.size)
    if (!this.#isByLine) return this.#write(chunk.stream, chunk.data)
    const key = `${chunk.executionId}/${chunk.stream}`
    const line = this.#begun.get(key) ?? { chunk, parts: [], bytes: 0 }
    const data = Buffer.from(chunk.data)
    for (let at = 0; at < data.length; ) {
      const end = data.indexOf(NEWLINE, at)
      const part = data.subarray(at, end < 0 ? data.length : end + 1)
      if (line.parts.length === 0) line.chunk = chunk
      line.parts.push(part)
      line.bytes += part.length
      at += part.length
      if (end >= 0 || line.bytes >= LINE_BYTES_MAX) await this.#end(line)
    }
    if (line.bytes > 0) this.#begun.set(key, line)
    else this.#begun.delete(key)
  }

  /** Prints lines that never got an end. */
  async finish(): Promise<void> {
    for (const line of this.#begun.values()) await this.#end(line)
    this.#begun.clear()
  }

  get #isByLine(): boolean {
    return this.#layout.timestamps || this.#hasPrefix
  }

  get #hasPrefix(): boolean {
    return this.#layout.prefix === 'always' || (this.#layout.prefix === 'several' && this.#order.size > 1)
  }

  async #end(line: Line): Promise<void> {
    const { stream, executionId, time } = line.chunk
    const style = stream === 'stdout' ? this.#terminal.dataStyle : this.#terminal.talkStyle
    const head = [
      ...(this.#layout.timestamps ? [style.dim(printable(time))] : []),
      ...(this.#hasPrefix
        ? [colourOf(style, this.#order.get(executionId) ?? 0)(`${shortId(executionId)} |`)]
        : []),
    ]
    const body = Buffer.concat(line.parts)
    const isOpen = body.at(-1) !== NEWLINE
    line.parts = []
    line.bytes = 0
    const before = Buffer.from(`${head.join(' ')} `)
    await this.#write(stream, Buffer.concat([before, body, ...(isOpen ? [Buffer.from('\n')] : [])]))
  }

  #write(stream: LogChunk['stream'], data: Uint8Array): Promise<void> {
    return stream === 'stdout' ? this.#terminal.data(data) : this.#terminal.programError(data)
  }

  #say(executionId: string, text: string): void {
    const who = executionId === '' ? '' : `${shortId(executionId)}: `
    this.#terminal.talk(this.#terminal.talkStyle.yellow(`── ${who}${printable(text)}`))
  }
}

interface Line {
  /** Where the line began: it says when. */
  chunk: LogChunk
  parts: Uint8Array[]
  bytes: number
}

function colourOf(style: Style, index: number): (text: string) => string {
  const colours = [style.cyan, style.yellow, style.green, style.bold, style.red]
  return colours[index % colours.length] ?? style.bold
}
