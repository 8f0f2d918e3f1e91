import { setTimeout as sleep } from 'node:timers/promises'
import { isWeirError } from '../errors.js'
import { printable } from '../model/printable.js'
import { EXIT } from './exit-codes.js'
import { listenForInterrupts } from './interrupt.js'
import type { Terminal } from './terminal.js'

/** What a command with `--watch` does again and again. */
export interface Watched<View> {
  /** Asks the server; the signal is aborted by Ctrl-C and when the reader of the output has gone. */
  load(signal: AbortSignal): Promise<View>
  /** Shows what was loaded; `note` says that the connection is lost, and it is what was known before. */
  show(view: View, note: string): Promise<void>
  /** Nothing will change any more. */
  isOver(view: View): boolean
  /** Called at the end, whatever it is: leaves the terminal as it was. */
  close?(): void
}

/** Never more often than this: people read no faster, and servers have other work. */
const PAUSE_MS = 1000
/** A server that is away for longer ends the watch. */
const FAILURES_MAX = 30

/**
 * Looks until nothing can change any more, the reader has gone, or Ctrl-C, which ends with 130. The first answer has to
 * come; later a lost connection is waited for half a minute.
 */
export async function watch<View>(terminal: Terminal, watched: Watched<View>): Promise<number> {
  const interrupts = listenForInterrupts()
  const signal = AbortSignal.any([interrupts.first, terminal.outputClosed])
  let last: { view: View } | undefined
  try {
    for (let failures = 0; ; ) {
      try {
        last = { view: await watched.load(signal) }
        failures = 0
        await watched.show(last.view, '')
        if (watched.isOver(last.view)) return EXIT.ok
      } catch (error) {
        failures += 1
        if (signal.aborted || last === undefined || failures > FAILURES_MAX || !isPassing(error)) throw error
        await watched.show(
          last.view,
          `Connection lost, trying again (${printable((error as Error).message, 80)})`,
        )
      }
      await sleep(PAUSE_MS, undefined, { signal })
    }
  } catch (error) {
    if (!signal.aborted) throw error
    return interrupts.first.aborted ? interrupts.exitCode : EXIT.ok
  } finally {
    watched.close?.()
    interrupts.dispose()
  }
}

function isPassing(error: unknown): boolean {
  return isWeirError(error, 'api.unreachable') || (isWeirError(error) && error.retryable)
}

/**
 * A part of the terminal that is drawn again in place. What has no room is counted in the last line.
 * While it is there, the cursor is hidden and long lines are clipped.
 */
export class Screen {
  private readonly terminal: Terminal
  private height = 0
  private isOpen = false

  constructor(terminal: Terminal) {
    this.terminal = terminal
  }

  /** The last drawing may scroll: it is there to be read. */
  async draw(text: string, isLast = false): Promise<void> {
    const lines = text.replace(/\n$/, '').split('\n')
    const room = isLast ? lines.length : Math.max(2, this.terminal.rows - 1)
    const shown =
      lines.length <= room
        ? lines
        : [
            ...lines.slice(0, room - 1),
            this.terminal.dataStyle.dim(`… ${lines.length - room + 1} more lines`),
          ]
    const back = this.height === 0 ? '' : `\u001b[${this.height}A`
    const start = this.isOpen ? '' : '\u001b[?25l\u001b[?7l'
    this.isOpen = true
    this.height = shown.length
    // One write, and every line is cleared behind its text: nothing flickers.
    await this.terminal.data(`${start}\r${back}${shown.map((line) => `${line}\u001b[K\n`).join('')}\u001b[J`)
  }

  /** What was drawn last stays. */
  close(): void {
    if (this.isOpen) void this.terminal.data('\u001b[?7h\u001b[?25h')
    this.isOpen = false
  }
}
