import { EXIT } from './exit-codes.js'

/** What the user's signals mean while a command runs. */
export interface Interrupts {
  /** Aborted by the first signal. */
  readonly first: AbortSignal
  /** Aborted by the second one: leave now. */
  readonly second: AbortSignal
  /** What the process ends with: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP. */
  readonly exitCode: number
  /** Gives the signals back to the process. */
  dispose(): void
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
const CODES = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated, SIGHUP: EXIT.hangup } as const

/** Takes over Ctrl-C, SIGTERM and SIGHUP until disposed. */
export function listenForInterrupts(source: Pick<NodeJS.Process, 'on' | 'off'> = process): Interrupts {
  const [first, second] = [new AbortController(), new AbortController()]
  let exitCode: number = EXIT.interrupted
  const take = (signal: (typeof SIGNALS)[number]): void => {
    if (first.signal.aborted) {
      second.abort()
      return
    }
    exitCode = CODES[signal]
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

/** Resolves when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
