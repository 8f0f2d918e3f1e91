import { type HostPattern, type HostPatternOptions, parseHostPattern } from './host-pattern.js'

/**
 * Remembers what the patterns of lists were read as at the last reading: of 10,000 only those that changed are parsed again,
 * so that a change is in force in time. Holds nothing but what it parsed itself, and as much as one reading asked for.
 */
export class PatternMemo {
  #known = memory()
  #used = memory()

  /** As {@link parseHostPattern}; remembered until the reading after next. Throws `pattern.invalid`. */
  read(text: string, options: HostPatternOptions): HostPattern {
    const kind = kindOf(options)
    const pattern = this.#known[kind].get(text) ?? parseHostPattern(text, options)
    this.#used[kind].set(text, pattern)
    return pattern
  }

  /** The same for lists that come and go: what is known is used, and nothing more is remembered. */
  readOnce(text: string, options: HostPatternOptions): HostPattern {
    const kind = kindOf(options)
    return this.#known[kind].get(text) ?? this.#used[kind].get(text) ?? parseHostPattern(text, options)
  }

  /** Ends a reading: what it did not ask for is forgotten. */
  forgetUnused(): void {
    this.#known = this.#used
    this.#used = memory()
  }
}

/** What may stand in a list depends on whose list it is. */
type Memory = Readonly<Record<Kind, Map<string, HostPattern>>>
type Kind = 'strict' | 'suffixes' | 'private' | 'lenient'

function memory(): Memory {
  return { strict: new Map(), suffixes: new Map(), private: new Map(), lenient: new Map() }
}

function kindOf({ allowPublicSuffix = false, allowPrivate = false }: HostPatternOptions): Kind {
  if (allowPublicSuffix) return allowPrivate ? 'lenient' : 'suffixes'
  return allowPrivate ? 'private' : 'strict'
}
