import {
  type HostPattern,
  type HostPatternOptions,
  makeHostPattern,
  type PatternService,
  parseHostPatterns,
  SCHEME_PORTS,
  type WebScheme,
} from './host-pattern.js'

/** Why a (host, port) pair is or is not in a set. */
export interface PatternExplanation {
  /** The most specific pattern that holds the pair; absent when none does. */
  match?: HostPattern
  /** When no pattern holds the pair: one that holds the host on other ports or by the other scheme. */
  otherPort?: HostPattern
  /** When no pattern holds the host: the one nearest to it, for a hint. Never shown to jobs: it is the owner's list. */
  nearest?: HostPattern
}

export interface HostPatternSetOptions {
  /** `any`, for deny lists: a pattern without port holds its hosts on every port and by both schemes. Default `web`. */
  portlessMeans?: 'web' | 'any'
}

/**
 * An immutable union of host patterns. A lookup asks for the host and for what is left of it behind each dot, so its cost
 * depends on the labels of the host and not on the number of patterns. The empty set holds nothing.
 */
export class HostPatternSet {
  readonly patterns: readonly HostPattern[]
  /** By the host of the patterns; as they were listed until somebody asks for them. */
  readonly #index = new Map<string, HostPattern[] | Rules>()
  readonly #portlessMeans: 'web' | 'any'
  /** Labels of the longest host in the list: names with more need not be looked up. */
  #depth = 0

  constructor(patterns: Iterable<HostPattern>, { portlessMeans = 'web' }: HostPatternSetOptions = {}) {
    this.#portlessMeans = portlessMeans
    const unique = new Map<string, HostPattern>()
    for (const pattern of patterns) unique.set(pattern.text, pattern)
    this.patterns = [...unique.values()]
    for (const pattern of this.patterns) this.#insert(pattern)
  }

  /** Reads texts by {@link parseHostPatterns}; rejects with `pattern.invalid`. */
  static parse(
    texts: readonly string[],
    options: HostPatternOptions & HostPatternSetOptions = {},
  ): HostPatternSet {
    return new HostPatternSet(parseHostPatterns(texts, options), options)
  }

  /** Everything there is, for whom no list is a limit. Its one pattern is written `*`, which nobody can list. */
  static everything(): HostPatternSet {
    return EVERYTHING
  }

  get isEmpty(): boolean {
    return this.patterns.length === 0
  }

  get isEverything(): boolean {
    return false
  }

  /**
   * The most specific pattern that holds this canonical host (IPv6 without brackets) and port, or undefined. Without
   * `scheme`: by either.
   */
  match(host: string, port: number, scheme?: WebScheme): HostPattern | undefined {
    const services = servicesOf({ port, ...(scheme === undefined ? {} : { scheme }) })
    return this.#find(host, (rules) => this.#pick(rules, services))
  }

  /** The most specific pattern that holds the host on any port. */
  matchHost(host: string): HostPattern | undefined {
    return this.#find(host, (rules) => rules.values().next().value)
  }

  /** True when every triple of `pattern` is in this set: also when only several patterns together hold them. */
  covers(pattern: HostPattern): boolean {
    const { host, reach } = pattern
    // One pass for both halves: asked for every pattern of a job on every node.
    let apexOpen = reach === 'below' ? NO_SERVICES : servicesOf(pattern)
    // Everything below a host can only be held by one suffix pattern at the host or above it.
    let belowOpen = reach === 'exact' ? NO_SERVICES : servicesOf(pattern)
    for (
      let start = this.#startOf(host);
      start < host.length;
      start = host.indexOf('.', start) + 1 || host.length
    ) {
      const rules = this.#rulesOf(start === 0 ? host : host.slice(start))
      if (rules === undefined) continue
      const suffix = rules['apex-and-below']
      const nearer = start === 0 ? rules.exact : rules.below
      apexOpen = this.#without(this.#without(apexOpen, suffix), nearer)
      belowOpen = this.#without(this.#without(belowOpen, suffix), rules.below)
      if (apexOpen.length === 0 && belowOpen.length === 0) return true
    }
    return false
  }

  /** The patterns of `other` that this set does not cover, in order. Empty means: `other` is a subset. */
  uncovered(other: HostPatternSet): HostPattern[] {
    return other.patterns.filter((pattern) => !this.covers(pattern))
  }

  /** The set of triples that are in both. Only for sets whose patterns without port mean the web. */
  intersect(other: HostPatternSet): HostPatternSet {
    if (other.isEverything) return this
    return new HostPatternSet([...this.#within(other), ...other.#within(this)])
  }

  explain(host: string, port: number, scheme?: WebScheme): PatternExplanation {
    const match = this.match(host, port, scheme)
    if (match !== undefined) return { match }
    const otherPort = this.matchHost(host)
    if (otherPort !== undefined) return { otherPort }
    const nearest = this.#nearest(host)
    return nearest === undefined ? {} : { nearest }
  }

  #insert(pattern: HostPattern): void {
    const { host } = pattern
    const known = this.#index.get(host) as HostPattern[] | undefined
    if (known !== undefined) {
      known.push(pattern)
      return
    }
    this.#index.set(host, [pattern])
    let labels = 1
    for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) labels++
    if (labels > this.#depth) this.#depth = labels
  }

  #rulesOf(host: string): Rules | undefined {
    const known = this.#index.get(host)
    if (!Array.isArray(known)) return known
    const rules = sorted(known, this.#portlessMeans)
    this.#index.set(host, rules)
    return rules
  }

  #pick(rules: ServiceRules, services: readonly number[]): HostPattern | undefined {
    let best: HostPattern | undefined
    for (const service of services) {
      const rule = rules.get(service)
      if (rule !== undefined && (best === undefined || detail(rule) > detail(best))) best = rule
    }
    return best ?? (this.#portlessMeans === 'any' ? rules.get(ANY) : undefined)
  }

  /** Most specific first: exact, then the deepest suffix. */
  #find(host: string, pick: (rules: ServiceRules) => HostPattern | undefined): HostPattern | undefined {
    for (
      let start = this.#startOf(host);
      start < host.length;
      start = host.indexOf('.', start) + 1 || host.length
    ) {
      const rules = this.#rulesOf(start === 0 ? host : host.slice(start))
      if (rules === undefined) continue
      const nearer = start === 0 ? rules.exact : rules.below
      const suffix = rules['apex-and-below']
      const found =
        (nearer === undefined ? undefined : pick(nearer)) ?? (suffix === undefined ? undefined : pick(suffix))
      if (found !== undefined) return found
    }
    return undefined
  }

  /** The services that these rules do not hold. */
  #without(services: readonly number[], rules: ServiceRules | undefined): readonly number[] {
    if (rules === undefined || services.length === 0) return services
    if (this.#portlessMeans === 'any' && rules.has(ANY)) return NO_SERVICES
    if (services.every((service) => !rules.has(service))) return services
    return services.filter((service) => !rules.has(service))
  }

  /** Where to begin: names with more labels than any in the list need not be looked up. */
  #startOf(host: string): number {
    let start = host.length + 1
    for (let labels = 0; labels < this.#depth && start > 0; labels++)
      start = start < 2 ? 0 : host.lastIndexOf('.', start - 2) + 1
    return start
  }

  /** The rules for the host itself, then those for each name above it. */
  *#upwards(host: string): Iterable<[string, Rules]> {
    for (let name = host.slice(this.#startOf(host)); ; ) {
      const rules = this.#rulesOf(name)
      if (rules !== undefined) yield [name, rules]
      const dot = name.indexOf('.')
      if (dot < 0) return
      name = name.slice(dot + 1)
    }
  }

  /** What of this set's patterns lies inside `other`, taking only patterns of `other` at or above each host. */
  *#within(other: HostPatternSet): Iterable<HostPattern> {
    for (const pattern of this.patterns) {
      for (const [, rules] of other.#upwards(pattern.host)) {
        for (const services of Object.values(rules)) {
          for (const above of new Set(services.values())) {
            const shared = intersectNested(pattern, above)
            if (shared !== undefined) yield shared
          }
        }
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

/** Stands for everything; the grammar cannot write it. */
const ANYTHING: HostPattern = Object.freeze({
  text: '*',
  reach: 'apex-and-below',
  host: '',
  isAddress: false,
})

/** The set that holds everything. */
class Everything extends HostPatternSet {
  constructor() {
    super([ANYTHING])
  }

  override get isEverything(): boolean {
    return true
  }

  override match(_host: string, port: number, scheme?: WebScheme): HostPattern | undefined {
    return servicesOf({ port, ...(scheme === undefined ? {} : { scheme }) }).length > 0 ? ANYTHING : undefined
  }

  override matchHost(): HostPattern {
    return ANYTHING
  }

  override covers(): boolean {
    return true
  }

  override intersect(other: HostPatternSet): HostPatternSet {
    return other
  }
}

/** The patterns of one host by reach and service. */
function sorted(patterns: readonly HostPattern[], portlessMeans: 'web' | 'any'): Rules {
  const rules: Rules = {}
  for (const pattern of patterns) {
    const services = (rules[pattern.reach] ??= new Map())
    const isAny = pattern.port === undefined && portlessMeans === 'any'
    for (const service of isAny ? [ANY] : servicesOf(pattern)) {
      const known = services.get(service)
      if (known === undefined || detail(pattern) >= detail(known)) services.set(service, pattern)
    }
  }
  return rules
}

type ServiceRules = Map<number, HostPattern>
type Rules = Partial<Record<HostPattern['reach'], ServiceRules>>

/** Key of the patterns without port where they mean every port; no real port is 0. */
const ANY = 0

const NO_SERVICES: readonly number[] = []

const WEB_SERVICES: readonly number[] = [serviceOf(80, 'http'), serviceOf(443, 'https')]

function serviceOf(port: number, scheme: WebScheme): number {
  return port * 2 + Number(scheme === 'https')
}

/** The pairs of port and scheme that a pattern holds: each as one number. Plain HTTP never goes to 443, TLS never to 80. */
function servicesOf({ port, scheme }: PatternService): readonly number[] {
  if (port === undefined) return WEB_SERVICES
  const services: number[] = []
  if (scheme !== 'https' && port !== SCHEME_PORTS.https) services.push(serviceOf(port, 'http'))
  if (scheme !== 'http' && port !== SCHEME_PORTS.http) services.push(serviceOf(port, 'https'))
  return services
}

const EVERYTHING: HostPatternSet = new Everything()

/** How much a pattern says beside the host; what says more is the rule to name. */
function detail({ port, scheme }: HostPattern): number {
  return scheme !== undefined ? 2 : Number(port !== undefined)
}

/** `a.b.c` → `c`, `b`, `a`. An address is one label: its dots mean nothing here. */
function reversedLabels(host: string): string[] {
  return host.includes(':') ? [host] : host.split('.').reverse()
}

/** Intersection of two patterns where `above.host` is `inner.host` or an ancestor of it. */
function intersectNested(inner: HostPattern, above: HostPattern): HostPattern | undefined {
  const service = sharedService(inner, above)
  if (service === undefined) return undefined
  const same = inner.host === above.host
  if (!same) return above.reach === 'exact' ? undefined : makeHostPattern(inner.reach, inner.host, service)
  const reaches = new Set([inner.reach, above.reach])
  if (reaches.size === 1) return makeHostPattern(inner.reach, inner.host, service)
  if (!reaches.has('below')) return makeHostPattern('exact', inner.host, service)
  return reaches.has('exact') ? undefined : makeHostPattern('below', inner.host, service)
}

/** Of two patterns one always holds the services that both hold and no more; undefined when there are none. */
function sharedService(a: HostPattern, b: HostPattern): PatternService | undefined {
  const [left, right] = [servicesOf(a), servicesOf(b)]
  const shared = left.filter((service) => right.includes(service))
  if (shared.length === 0) return undefined
  if (shared.length === right.length && (left.length > right.length || detail(b) > detail(a))) return b
  return a
}

function sharedLabels(a: readonly string[], b: readonly string[]): number {
  let count = 0
  while (count < a.length && a[count] === b[count]) count++
  return count
}
