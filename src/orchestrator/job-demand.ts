import {
  HostPatternSet,
  fetchedInputs,
  learningWish,
  task,
  taskResources,
  uncoveredPatterns,
} from '../model/index.js'
import type {
  Constraint,
  EgressOffering,
  HostPattern,
  JobSpec,
  LearningWish,
  NetworkType,
  Resources,
  UncoveredPattern,
} from '../model/index.js'

/** What a job needs of a node, read from its specification once. */
export interface JobDemand {
  readonly engine: string
  readonly sources: readonly string[]
  /** Empty: none needed. */
  readonly publisher: string
  readonly network: NetworkType
  /** Hosts that an http job names. */
  readonly domains: readonly HostPattern[]
  /** Set for a job that is to learn which hosts it needs: no list of a node is compared then. */
  readonly learning?: LearningWish | undefined
  /** Keys that signed an http job; empty: nobody has. */
  readonly signedBy: readonly string[]
  /** Which of the hosts a node does not offer. Found out once for all nodes with the same lists. */
  uncovered(offering: EgressOffering): readonly UncoveredPattern[]
  readonly constraints: readonly Constraint[]
  readonly resources: Resources
  /** Equal for jobs that ask the same of what a node offers: engine, data, network. */
  readonly offerKey: string
  /** Equal for jobs that ask the same of a node's labels; empty when they ask nothing. */
  readonly labelKey: string
}

export function readDemand(spec: JobSpec): JobDemand {
  const of = task(spec)
  const sources = [...new Set(fetchedInputs(of).map((input) => input.Source.Type.toLowerCase()))]
  const type = of.Publisher.Type.toLowerCase()
  const network = of.Network.Type
  return demandOf({
    engine: of.Engine.Type.toLowerCase(),
    sources,
    publisher: type === 'noop' ? '' : type,
    network,
    domains: network === 'HTTP' ? readDomains(of.Network.Domains) : [],
    learning: learningWish(spec),
    signedBy: network === 'HTTP' ? (of.Network.Signatures ?? []).map(({ Key }) => Key) : [],
    constraints: spec.Constraints,
    resources: taskResources(of),
  })
}

type Asked = Omit<JobDemand, 'uncovered' | 'offerKey' | 'labelKey'>

/** Adds what follows from the rest. */
export function demandOf(asked: Asked): JobDemand {
  return new Demand(asked)
}

/** Values alone, equal for equal jobs: what was found out about nodes is remembered where nobody compares. */
class Demand implements JobDemand {
  readonly engine: string
  readonly sources: readonly string[]
  readonly publisher: string
  readonly network: NetworkType
  readonly domains: readonly HostPattern[]
  readonly learning: LearningWish | undefined
  readonly signedBy: readonly string[]
  readonly constraints: readonly Constraint[]
  readonly resources: Resources
  readonly offerKey: string
  readonly labelKey: string
  readonly #known = new WeakMap<EgressOffering, readonly UncoveredPattern[]>()

  constructor(asked: Asked) {
    const { engine, sources, publisher, network, domains, learning, signedBy } = asked
    const { constraints, resources } = asked
    this.engine = engine
    this.sources = sources
    this.publisher = publisher
    this.network = network
    this.domains = domains
    this.learning = learning
    this.signedBy = signedBy
    this.constraints = constraints
    this.resources = resources
    const hosts = domains.map((domain) => domain.text)
    this.offerKey = JSON.stringify([
      engine,
      publisher,
      network,
      sources.toSorted(),
      hosts,
      learning,
      signedBy,
    ])
    this.labelKey = constraints.length === 0 ? '' : JSON.stringify(constraints)
  }

  uncovered(offering: EgressOffering): readonly UncoveredPattern[] {
    let found = this.#known.get(offering)
    if (found === undefined) {
      found = this.learning === undefined ? uncoveredPatterns(this.domains, offering, this.signedBy) : []
      this.#known.set(offering, found)
    }
    return found
  }
}

/** An operator may have a private host listed, so a job may name one; the node's list decides. */
function readDomains(texts: readonly string[]): readonly HostPattern[] {
  return HostPatternSet.parse(texts, { allowPrivate: true, allowPublicSuffix: true }).patterns
}
