import { EXIT } from './exit-codes.js'

/** What the user's signals mean while a command runs. */
export interface Interrupts {
  /** Aborted by the first signal. */
  readonly first: AbortSignal
  /** Aborted by the second one: leave now. */
  readonly second: AbortSignal
  /** What the process ends with: 130 after Ctrl-C, 143 after SIGTERM or SIGHUP. */
  readonly exitCode: number
  /** Gives the signals back to the process. */
  dispose(): void
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Takes over Ctrl-C, SIGTERM and SIGHUP until disposed. */
export function listenForInterrupts(source: Pick<NodeJS.Process, 'on' | 'off'> = process): Interrupts {
  const [first, second] = [new AbortController(), new AbortController()]
  let exitCode: number = EXIT.interrupted
  const take = (signal: NodeJS.Signals): void => {
    if (first.signal.aborted) {
      second.abort()
      return
    }
    exitCode = signal === 'SIGINT' ? EXIT.interrupted : EXIT.terminated
    first.abort()
  }
  for (const signal of SIGNALS) source.on(signal, take)
  return {
    first: first.signal,
    second: second.signal,
    get exitCode() {
      return exitCode
    },
    dispose() {
      for (const signal of SIGNALS) source.off(signal, take)
    },
  }
}
