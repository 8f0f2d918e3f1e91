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
  /** Colours for data and for talk: identity functions where colours are unwanted. */
  readonly dataStyle: Style
  readonly talkStyle: Style
}

export type Style = Pick<
  ReturnType<typeof pc.createColors>,
  'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan'
>

/** The process's own streams. Honours NO_COLOR, FORCE_COLOR and `TERM=dumb`. */
export function processTerminal(
  environment: Readonly<Record<string, string | undefined>>,
  { stdout, stderr }: Pick<NodeJS.Process, 'stdout' | 'stderr'>,
): Terminal {
  const closed = new AbortController()
  stdout.on('error', () => closed.abort())
  stderr.on('error', () => undefined) // Nobody reads the talk any more; the data may still have a reader.
  let hasProgress = false
  const clearProgress = (): void => {
    if (hasProgress) stderr.write('\r\u001b[K')
    hasProgress = false
  }
  return {
    outIsTerminal: stdout.isTTY,
    errorIsTerminal: stderr.isTTY,
    columns: stdout.isTTY ? Math.max(40, stdout.columns) : Number.POSITIVE_INFINITY,
    outputClosed: closed.signal,
    dataStyle: pc.createColors(wantsColour(environment, stdout.isTTY)),
    talkStyle: pc.createColors(wantsColour(environment, stderr.isTTY)),
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
  isTerminal: boolean,
): boolean {
  if ((environment.NO_COLOR ?? '') !== '') return false
  if ((environment.FORCE_COLOR ?? '') !== '') return environment.FORCE_COLOR !== '0'
  return isTerminal && environment.TERM !== 'dumb'
}

function written(stream: NodeJS.WriteStream, chunk: string | Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    // The error arrives at the stream's listener as well; a reader that has gone holds nobody up.
    stream.write(chunk, () => resolve())
  })
}
