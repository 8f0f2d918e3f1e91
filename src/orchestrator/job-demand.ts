import { HostPatternSet, fetchedInputs, task, taskResources, uncoveredPatterns } from '../model/index.js'
import type {
  Constraint,
  EgressOffering,
  HostPattern,
  JobSpec,
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
  /** Which of them a node does not offer. Found out once for all nodes with the same lists. */
  readonly uncovered: (offering: EgressOffering) => readonly UncoveredPattern[]
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
    constraints: spec.Constraints,
    resources: taskResources(of),
  })
}

/** Adds what follows from the rest. */
export function demandOf(asked: Omit<JobDemand, 'uncovered' | 'offerKey' | 'labelKey'>): JobDemand {
  const { engine, publisher, network, sources, domains, constraints } = asked
  return {
    ...asked,
    uncovered: onceFor((offering) => uncoveredPatterns(domains, offering)),
    offerKey: JSON.stringify([
      engine,
      publisher,
      network,
      sources.toSorted(),
      domains.map((domain) => domain.text),
    ]),
    labelKey: constraints.length === 0 ? '' : JSON.stringify(constraints),
  }
}

/** An operator may have a private host listed, so a job may name one; the node's list decides. */
function readDomains(texts: readonly string[]): readonly HostPattern[] {
  return HostPatternSet.parse(texts, { allowPrivate: true, allowPublicSuffix: true }).patterns
}

function onceFor<K extends object, V>(find: (key: K) => V): (key: K) => V {
  const known = new WeakMap<K, V>()
  return (key) => {
    let found = known.get(key)
    if (found === undefined) known.set(key, (found = find(key)))
    return found
  }
}
