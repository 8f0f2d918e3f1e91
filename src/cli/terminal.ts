import pc from 'picocolors'

/** Where a command writes: data to standard output, talk to standard error. */
export interface Terminal {
  /** Data, as it is. Resolves when the reader keeps up. */
  data(chunk: string | Uint8Array): Promise<void>
  /** The program's own standard error, as it is. */
  programError(chunk: string | Uint8Array): Promise<void>
  /** One line of talk. */
  talk(line: string): void
  /** Rewrites the last line of standard error; on anything but a terminal it does nothing. */
  progress(line: string): void
  /** Aborted when the reader of standard output has gone. */
  readonly outputClosed: AbortSignal
  readonly outIsTerminal: boolean
  readonly errorIsTerminal: boolean
  /** Width for tables on standard output; unlimited when it is not a terminal. */
  readonly columns: number
  /** Height of the terminal on standard output; unlimited when it is none. */
  readonly rows: number
  /** From now on nothing is coloured. */
  withoutColour(): void
  /** Colours for data and for talk: identity functions where colours are unwanted. */
  readonly dataStyle: Style
  readonly talkStyle: Style
}

export type Style = Pick<
  ReturnType<typeof pc.createColors>,
  'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan'
>

/** Below that tables are clipped by the terminal rather than cut to nothing. */
const COLUMNS_MIN = 20

/**
 * The process's own streams. Colours: NO_COLOR wins over FORCE_COLOR and CLICOLOR_FORCE, those over CLICOLOR=0 and
 * `TERM=dumb`, and where nobody says anything a terminal gets them. COLUMNS replaces the width of the terminal.
 */
export function processTerminal(
  environment: Readonly<Record<string, string | undefined>>,
  { stdout, stderr }: Pick<NodeJS.Process, 'stdout' | 'stderr'>,
): Terminal {
  const own = readColumns(environment.COLUMNS)
  const closed = new AbortController()
  stdout.on('error', () => closed.abort())
  stderr.on('error', () => undefined) // Nobody reads the talk any more; the data may still have a reader.
  let dataStyle: Style = pc.createColors(wantsColour(environment, stdout))
  let talkStyle: Style = pc.createColors(wantsColour(environment, stderr))
  let hasProgress = false
  const clearProgress = (): void => {
    if (hasProgress) stderr.write('\r\u001b[K')
    hasProgress = false
  }
  return {
    outIsTerminal: stdout.isTTY,
    errorIsTerminal: stderr.isTTY,
    // Asked again and again: people change the size of their windows.
    get columns() {
      return stdout.isTTY ? Math.max(COLUMNS_MIN, own ?? stdout.columns) : Number.POSITIVE_INFINITY
    },
    get rows() {
      return stdout.isTTY ? stdout.rows : Number.POSITIVE_INFINITY
    },
    outputClosed: closed.signal,
    get dataStyle() {
      return dataStyle
    },
    get talkStyle() {
      return talkStyle
    },
    withoutColour() {
      dataStyle = talkStyle = pc.createColors(false)
    },
    data(chunk) {
      clearProgress()
      return closed.signal.aborted ? Promise.resolve() : written(stdout, chunk)
    },
    programError(chunk) {
      clearProgress()
      return written(stderr, chunk)
    },
    talk(line) {
      clearProgress()
      stderr.write(`${line}\n`)
    },
    progress(line) {
      if (!stderr.isTTY) return
      stderr.write(`\r\u001b[K${line.slice(0, Math.max(20, stderr.columns - 1))}`)
      hasProgress = true
    },
  }
}

function wantsColour(
  environment: Readonly<Record<string, string | undefined>>,
  // Absent on a pipe, whatever its type says; the library would then decide by itself.
  { isTTY = false }: { isTTY?: boolean },
): boolean {
  if ((environment.NO_COLOR ?? '') !== '') return false
  for (const force of [environment.FORCE_COLOR, environment.CLICOLOR_FORCE]) {
    if ((force ?? '') !== '') return force !== '0' && force !== 'false'
  }
  return isTTY && environment.TERM !== 'dumb' && environment.CLICOLOR !== '0'
}

function readColumns(text: string | undefined): number | undefined {
  return text !== undefined && /^[1-9]\d{0,4}$/.test(text) ? Number(text) : undefined
}

function written(stream: NodeJS.WriteStream, chunk: string | Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    // The error arrives at the stream's listener as well; a reader that has gone holds nobody up.
    stream.write(chunk, () => resolve())
  })
}
