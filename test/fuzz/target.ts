import fc from 'fast-check'

/** What a fuzz run needs to know of one parser or decision. */
export interface FuzzTarget {
  /** Kebab-case; kept counterexamples name it. */
  readonly name: string
  /** What must hold, as a sentence. */
  readonly promise: string
  /** Made anew for each run. `close` ends what the property has opened. */
  open(): { property: fc.IRawProperty<unknown>; close?: () => void }
}

/** A counterexample that was found once: replayed by every run of the tests. */
export interface KeptCase {
  target: string
  seed: number
  /** Absent: the whole run of that seed, as long as the tests' own runs. */
  path?: string
  /** What was wrong, for the reader. */
  why: string
}

/** The answer of one run: undefined when the promise held. */
export interface Counterexample {
  seed: number
  path: string
  example: string
  error: string
}

export async function fuzz(
  target: FuzzTarget,
  parameters: { seed: number; numRuns: number; path?: string },
): Promise<Counterexample | undefined> {
  const { property, close } = target.open()
  try {
    const result = await fc.check(property, parameters)
    if (!result.failed) return undefined
    return {
      seed: result.seed,
      path: result.counterexamplePath ?? '',
      example: fc.stringify(result.counterexample).slice(0, 4_000),
      error:
        result.errorInstance instanceof Error ? result.errorInstance.message.slice(0, 4_000) : 'it failed',
    }
  } finally {
    close?.()
  }
}
