import { HostPatternSet, fetchedInputs, task, taskResources } from '../model/index.js'
import type { Constraint, HostPattern, JobSpec, NetworkType, Resources } from '../model/index.js'

/** What a job needs of a node, read from its specification once. */
export interface JobDemand {
  readonly engine: string
  readonly sources: readonly string[]
  /** Empty: none needed. */
  readonly publisher: string
  readonly network: NetworkType
  /** Hosts that an http job names. */
  readonly domains: readonly HostPattern[]
  readonly constraints: readonly Constraint[]
  readonly resources: Resources
}

export function readDemand(spec: JobSpec): JobDemand {
  const of = task(spec)
  const sources = new Set(fetchedInputs(of).map((input) => input.Source.Type.toLowerCase()))
  const publisher = of.Publisher.Type.toLowerCase()
  return {
    engine: of.Engine.Type.toLowerCase(),
    sources: [...sources],
    publisher: publisher === 'noop' ? '' : publisher,
    network: of.Network.Type,
    domains: of.Network.Type === 'HTTP' ? readDomains(of.Network.Domains) : [],
    constraints: spec.Constraints,
    resources: taskResources(of),
  }
}

/** An operator may have a private host listed, so a job may name one; the node's list decides. */
function readDomains(texts: readonly string[]): readonly HostPattern[] {
  return HostPatternSet.parse(texts, { allowPrivate: true, allowPublicSuffix: true }).patterns
}
