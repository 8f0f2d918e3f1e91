import {
  type HostPattern,
  type HostPatternOptions,
  makeHostPattern,
  parseHostPatterns,
  WEB_PORTS,
} from './host-pattern.js'

/** Why a (host, port) pair is or is not in a set. */
export interface PatternExplanation {
  /** The most specific pattern that holds the pair; absent when none does. */
  match?: HostPattern
  /** When no pattern holds the pair: one that holds the host on other ports. */
  otherPort?: HostPattern
  /** When no pattern holds the host: the one nearest to it, for a hint. Never shown to jobs: it is the owner's list. */
  nearest?: HostPattern
}

/**
 * An immutable union of host patterns. Lookups walk the labels of the host from the right, so their cost does not
 * depend on the number of patterns. The empty set holds nothing.
 */
export class HostPatternSet {
  readonly patterns: readonly HostPattern[]
  readonly #root: Branch = new Map()

  readonly #portless: (port: number) => boolean

  /**
   * With `portlessMeans: 'any'`, for deny lists, a pattern without port holds its hosts on every port; the algebra
   * (`covers`, `intersect`) is for sets of the default kind only.
   */
  constructor(patterns: Iterable<HostPattern>, options: { portlessMeans?: 'web' | 'any' } = {}) {
    this.#portless = options.portlessMeans === 'any' ? () => true : isWebPort
    const unique = new Map<string, HostPattern>()
    for (const pattern of patterns) unique.set(pattern.text, pattern)
    this.patterns = [...unique.values()]
    for (const pattern of this.patterns) this.#insert(pattern)
  }

  /** Reads texts by {@link parseHostPatterns}; rejects with `pattern.invalid`. */
  static parse(texts: readonly string[], options: HostPatternOptions = {}): HostPatternSet {
    return new HostPatternSet(parseHostPatterns(texts, options))
  }

  get isEmpty(): boolean {
    return this.patterns.length === 0
  }

  /** The most specific pattern that holds this canonical host (IPv6 without brackets) and port, or undefined. */
  match(host: string, port: number): HostPattern | undefined {
    return this.#find(
      host,
      (rules) => rules.get(port) ?? (this.#portless(port) ? rules.get(ANY_WEB) : undefined),
    )
  }

  /** The most specific pattern that holds the host on any port. */
  matchHost(host: string): HostPattern | undefined {
    return this.#find(host, (rules) => rules.values().next().value)
  }

  /** True when every pair of `pattern` is in this set: also when only several patterns together hold them. */
  covers(pattern: HostPattern): boolean {
    const ports = pattern.port === undefined ? WEB_PORTS : [pattern.port]
    return ports.every((port) => {
      const apex = pattern.reach === 'below' || this.match(pattern.host, port) !== undefined
      // Everything below a host can only be held by one suffix pattern at the host or above it.
      return apex && (pattern.reach === 'exact' || this.#holdsBelow(pattern.host, port))
    })
  }

  /** The patterns of `other` that this set does not cover, in order. Empty means: `other` is a subset. */
  uncovered(other: HostPatternSet): HostPattern[] {
    return other.patterns.filter((pattern) => !this.covers(pattern))
  }

  /** The set of pairs that are in both. */
  intersect(other: HostPatternSet): HostPatternSet {
    return new HostPatternSet([...this.#within(other), ...other.#within(this)])
  }

  explain(host: string, port: number): PatternExplanation {
    const match = this.match(host, port)
    if (match !== undefined) return { match }
    const otherPort = this.matchHost(host)
    if (otherPort !== undefined) return { otherPort }
    const nearest = this.#nearest(host)
    return nearest === undefined ? {} : { nearest }
  }

  #insert(pattern: HostPattern): void {
    let branch = this.#root
    let twig: Twig | undefined
    for (const label of reversedLabels(pattern.host)) {
      twig = branch.get(label)
      if (twig === undefined) branch.set(label, (twig = { below: new Map(), rules: {} }))
      branch = twig.below
    }
    if (twig === undefined) return
    const rules = (twig.rules[pattern.reach] ??= new Map())
    rules.set(pattern.port ?? ANY_WEB, pattern)
  }

  /** Most specific first: exact, then the deepest suffix. */
  #find(host: string, pick: (rules: PortRules) => HostPattern | undefined): HostPattern | undefined {
    let found: HostPattern | undefined
    let branch = this.#root
    const labels = reversedLabels(host)
    for (const [index, label] of labels.entries()) {
      const twig = branch.get(label)
      if (twig === undefined) break
      const isHost = index === labels.length - 1
      const { exact, below } = twig.rules
      const suffix = twig.rules['apex-and-below']
      if (suffix !== undefined) found = pick(suffix) ?? found
      if (!isHost && below !== undefined) found = pick(below) ?? found
      if (isHost && exact !== undefined) found = pick(exact) ?? found
      branch = twig.below
    }
    return found
  }

  #holdsBelow(host: string, port: number): boolean {
    return this.#ancestors(host).some(
      (pattern) => pattern.reach !== 'exact' && (pattern.port === port || isWebOf(pattern, port)),
    )
  }

  /** Patterns whose host is `host` or above it. */
  #ancestors(host: string): HostPattern[] {
    const found: HostPattern[] = []
    let branch = this.#root
    for (const label of reversedLabels(host)) {
      const twig = branch.get(label)
      if (twig === undefined) break
      for (const rules of Object.values(twig.rules)) found.push(...rules.values())
      branch = twig.below
    }
    return found
  }

  /** What of this set's patterns lies inside `other`, taking only patterns of `other` at or above each host. */
  *#within(other: HostPatternSet): Iterable<HostPattern> {
    for (const pattern of this.patterns) {
      for (const above of other.#ancestors(pattern.host)) {
        const shared = intersectNested(pattern, above)
        if (shared !== undefined) yield shared
      }
    }
  }

  #nearest(host: string): HostPattern | undefined {
    const labels = reversedLabels(host)
    let best: HostPattern | undefined
    let depth = 1
    for (const pattern of this.patterns) {
      const shared = sharedLabels(labels, reversedLabels(pattern.host))
      if (shared > depth) {
        best = pattern
        depth = shared
      }
    }
    return best
  }
}

type PortRules = Map<number, HostPattern>
type Branch = Map<string, Twig>
interface Twig {
  below: Branch
  rules: Partial<Record<HostPattern['reach'], PortRules>>
}

/** Key of the patterns without port; no real port is 0. */
const ANY_WEB = 0

function isWebPort(port: number): boolean {
  return WEB_PORTS.includes(port)
}

function isWebOf(pattern: HostPattern, port: number): boolean {
  return pattern.port === undefined && isWebPort(port)
}

/** `a.b.c` → `c`, `b`, `a`. An address is one label: its dots mean nothing here. */
function reversedLabels(host: string): string[] {
  return host.includes(':') ? [host] : host.split('.').reverse()
}

/** Intersection of two patterns where `above.host` is `inner.host` or an ancestor of it. */
function intersectNested(inner: HostPattern, above: HostPattern): HostPattern | undefined {
  const port = sharedPort(inner, above)
  if (port === 'none') return undefined
  const same = inner.host === above.host
  if (!same) return above.reach === 'exact' ? undefined : makeHostPattern(inner.reach, inner.host, port)
  const reaches = new Set([inner.reach, above.reach])
  if (reaches.size === 1) return makeHostPattern(inner.reach, inner.host, port)
  if (!reaches.has('below')) return makeHostPattern('exact', inner.host, port)
  return reaches.has('exact') ? undefined : makeHostPattern('below', inner.host, port)
}

function sharedPort(a: HostPattern, b: HostPattern): number | undefined | 'none' {
  if (a.port === b.port) return a.port
  if (a.port === undefined) return isWebPort(b.port ?? 0) ? b.port : 'none'
  if (b.port === undefined) return isWebPort(a.port) ? a.port : 'none'
  return 'none'
}

function sharedLabels(a: readonly string[], b: readonly string[]): number {
  let count = 0
  while (count < a.length && a[count] === b[count]) count++
  return count
}
