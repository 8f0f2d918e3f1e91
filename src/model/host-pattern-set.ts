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
  /** By the host of the patterns. */
  readonly #index = new Map<string, HostRules | Listed>()
  readonly #portlessMeans: 'web' | 'any'
  /** Which numbers of labels the hosts of the list have, as bits: other names need not be looked up. */
  #lengths = 0
  #lastHost: string | undefined
  #lastServices: readonly number[] | undefined
  #lastFound: HostPattern | undefined

  constructor(patterns: Iterable<HostPattern>, { portlessMeans = 'web' }: HostPatternSetOptions = {}) {
    this.#portlessMeans = portlessMeans
    const unique: HostPattern[] = []
    for (const pattern of patterns) if (this.#insert(pattern)) unique.push(pattern)
    this.patterns = unique
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
    return this.#find(host, servicesAt(port, scheme))
  }

  /** The most specific pattern that holds the host on any port. */
  matchHost(host: string): HostPattern | undefined {
    return this.#find(host, undefined)
  }

  /** True when every triple of `pattern` is in this set: also when only several patterns together hold them. */
  covers(pattern: HostPattern): boolean {
    const { host, reach } = pattern
    // One pass for both halves: asked for every pattern of a job on every node.
    let apexOpen = reach === 'below' ? NO_SERVICES : servicesOf(pattern)
    // Everything below a host can only be held by one suffix pattern at the host or above it.
    let belowOpen = reach === 'exact' ? NO_SERVICES : servicesOf(pattern)
    const names = upwardsFrom(host)
    for (let index = 0; index < names.length; index++) {
      if ((this.#lengths & lengthBit(names.length - index)) === 0) continue
      const rules = this.#rulesOf(names[index] ?? '')
      if (rules === undefined) continue
      const suffix = rulesFor(rules, 'apex-and-below')
      const nearer = rulesFor(rules, index === 0 ? 'exact' : 'below')
      apexOpen = this.#without(this.#without(apexOpen, suffix), nearer)
      belowOpen = this.#without(this.#without(belowOpen, suffix), rulesFor(rules, 'below'))
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

  /** False when the very same pattern was listed already. */
  #insert(pattern: HostPattern): boolean {
    const { host, text } = pattern
    const known = this.#index.get(host)
    if (known === undefined) {
      this.#index.set(host, pattern)
      this.#lengths |= lengthBit(labelsOf(host))
      return true
    }
    // Only lookups put rules in the place of what was listed, and they come after the last insertion.
    const listed =
      known instanceof Map ? known : new Map([[(known as HostPattern).text, known as HostPattern]])
    if (listed.has(text)) return false
    this.#index.set(host, listed.set(text, pattern))
    return true
  }

  /** The rules for the host itself and for the names above it, nearest first. */
  #rulesFor(host: string): HostRules[] {
    const found: HostRules[] = []
    const names = upwardsFrom(host)
    for (let index = 0; index < names.length; index++) {
      if ((this.#lengths & lengthBit(names.length - index)) === 0) continue
      const rules = this.#rulesOf(names[index] ?? '')
      if (rules !== undefined) found.push(rules)
    }
    return found
  }

  #rulesOf(host: string): HostRules | undefined {
    const known = this.#index.get(host)
    if (known === undefined || isPattern(known) || !(known instanceof Map)) return known
    const rules = sorted(known.values(), this.#portlessMeans)
    this.#index.set(host, rules)
    return rules
  }

  #pick(rules: ServiceRules | undefined, services: readonly number[] | undefined): HostPattern | undefined {
    if (rules === undefined) return undefined
    if (services === undefined) return rules instanceof Map ? rules.values().next().value : rules
    let best: HostPattern | undefined
    for (const service of services) {
      const rule = this.#holder(rules, service)
      if (rule !== undefined && (best === undefined || detail(rule) > detail(best))) best = rule
    }
    return best ?? this.#holderOfAny(rules)
  }

  /** The pattern among `rules` that names this service. */
  #holder(rules: ServiceRules, service: number): HostPattern | undefined {
    if (rules instanceof Map) return rules.get(service)
    if (rules.port === undefined && this.#portlessMeans === 'any') return undefined
    return servicesOf(rules).includes(service) ? rules : undefined
  }

  /** The pattern without port where that means every port. */
  #holderOfAny(rules: ServiceRules): HostPattern | undefined {
    if (this.#portlessMeans !== 'any') return undefined
    if (rules instanceof Map) return rules.get(ANY)
    return rules.port === undefined ? rules : undefined
  }

  /**
   * Most specific first: exact, then the deepest suffix. Without services: by any. A decision asks a list several times about
   * one host, so the last answer is kept.
   */
  #find(host: string, services: readonly number[] | undefined): HostPattern | undefined {
    if (this.#lengths === 0) return undefined
    if (host === this.#lastHost && services === this.#lastServices) return this.#lastFound
    const found = this.#search(host, services)
    this.#lastHost = host
    this.#lastServices = services
    this.#lastFound = found
    return found
  }

  #search(host: string, services: readonly number[] | undefined): HostPattern | undefined {
    const names = upwardsFrom(host)
    for (let index = 0; index < names.length; index++) {
      // Most names have a length that no pattern of the list has.
      if ((this.#lengths & lengthBit(names.length - index)) === 0) continue
      const rules = this.#rulesOf(names[index] ?? '')
      if (rules === undefined) continue
      const nearer = rulesFor(rules, index === 0 ? 'exact' : 'below')
      const found = this.#pick(nearer, services) ?? this.#pick(rulesFor(rules, 'apex-and-below'), services)
      if (found !== undefined) return found
    }
    return undefined
  }

  /** The services that these rules do not hold. */
  #without(services: readonly number[], rules: ServiceRules | undefined): readonly number[] {
    if (rules === undefined || services.length === 0) return services
    if (this.#holderOfAny(rules) !== undefined) return NO_SERVICES
    // The usual list names the web, and the web is asked for.
    if (!(rules instanceof Map) && servicesOf(rules) === services) return NO_SERVICES
    const open = services.filter((service) => this.#holder(rules, service) === undefined)
    return open.length === services.length ? services : open
  }

  /** What of this set's patterns lies inside `other`, taking only patterns of `other` at or above each host. */
  *#within(other: HostPatternSet): Iterable<HostPattern> {
    for (const pattern of this.patterns) {
      for (const rules of other.#rulesFor(pattern.host)) {
        for (const services of isPattern(rules) ? [rules] : Object.values(rules)) {
          for (const above of services instanceof Map ? new Set(services.values()) : [services]) {
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
    return servicesAt(port, scheme).length > 0 ? ANYTHING : undefined
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
function sorted(patterns: Iterable<HostPattern>, portlessMeans: 'web' | 'any'): Rules {
  const rules: Partial<Record<HostPattern['reach'], Map<number, HostPattern>>> = {}
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

/** By service; one pattern alone, as hosts mostly have, stands for itself. */
type ServiceRules = Map<number, HostPattern> | HostPattern
type Rules = Partial<Record<HostPattern['reach'], ServiceRules>>
type HostRules = HostPattern | Rules
/** Several patterns of one host by their text, until somebody asks for them. */
type Listed = Map<string, HostPattern>

function isPattern(rules: HostRules | Listed): rules is HostPattern {
  return (rules as Partial<HostPattern>).reach !== undefined
}

function rulesFor(rules: HostRules, reach: HostPattern['reach']): ServiceRules | undefined {
  if (!isPattern(rules)) return rules[reach]
  return rules.reach === reach ? rules : undefined
}

function labelsOf(host: string): number {
  let labels = 1
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) labels++
  return labels
}

/** Names with more labels than a number has bits share one. */
function lengthBit(labels: number): number {
  return 1 << Math.min(labels, 30)
}

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

/** The same for what is asked for; that is mostly the web. */
function servicesAt(port: number, scheme: WebScheme | undefined): readonly number[] {
  if (scheme === 'https' && port === 443) return TLS_SERVICE
  if (scheme === 'http' && port === 80) return PLAIN_SERVICE
  return servicesOf(scheme === undefined ? { port } : { port, scheme })
}

const PLAIN_SERVICE: readonly number[] = [serviceOf(80, 'http')]
const TLS_SERVICE: readonly number[] = [serviceOf(443, 'https')]

/**
 * A host and what is left of it behind each dot. Many lists are asked for the same hosts one after the other, so the pieces
 * are kept for a moment, with the hashes that the engine keeps in them.
 */
function upwardsFrom(host: string): readonly string[] {
  if (host === newest[0]) return newest
  const known = upwards.get(host)
  if (known !== undefined) return known
  const names = [host]
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1))
    names.push(host.slice(dot + 1))
  if (upwards.size === UPWARDS_MAX) upwards.clear()
  upwards.set(host, names)
  newest = names
  return names
}

const UPWARDS_MAX = 2_048
const upwards = new Map<string, readonly string[]>()
let newest: readonly string[] = ['']

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
