import { HostPatternSet, NO_RESOURCES, addResources } from '../model/index.js'
import type { JobId, NodeId, NodeInfo, NodeRecord, Resources, TimeMs } from '../model/index.js'

/** What a node offers, in a form that is quick to ask. Equal nodes may share one. Says nothing of labels and load. */
export interface NodeOffer {
  readonly runsJobs: boolean
  readonly engines: ReadonlySet<string>
  readonly engineProblems: Readonly<Record<string, string>>
  readonly sources: ReadonlySet<string>
  readonly publishers: ReadonlySet<string>
  readonly acceptsNetworkedJobs: boolean
  readonly httpEngines: ReadonlySet<string>
  readonly fullEngines: ReadonlySet<string>
  /** Why it cannot give networks; the first is the one to name. */
  readonly networkProblems: readonly string[]
  readonly allow: HostPatternSet
  readonly deny: HostPatternSet
  readonly maxCapacity: Resources
  readonly maxJobRequirements: Resources
}

/** A node that is kept free for a job that has waited too long. */
export interface Reservation {
  readonly jobId: JobId
  readonly priority: number
  /** It ends by itself then. */
  readonly untilMs: TimeMs
}

/** A node as the scheduler sees it. */
export interface NodeView {
  record: NodeRecord
  offer: NodeOffer
  /** Stands for the node's name, to spread ties: its place on a ring of 2^32. */
  readonly nameHash: number
  /** What its active executions hold; grows while a plan is made. */
  used: Resources
  /** True when the node was silent so long that its executions are given up. */
  lost: boolean
  reservation?: Reservation
}

/** All nodes by id. A map will do. */
export interface NodeViews {
  get(id: NodeId): NodeView | undefined
  values(): Iterable<NodeView>
}

export function viewNode(
  record: NodeRecord,
  parts: { offer?: NodeOffer; used?: Resources; lost?: boolean; reservation?: Reservation } = {},
): NodeView {
  return {
    record,
    offer: parts.offer ?? readOffer(record.info),
    nameHash: hashText(record.info.nodeId),
    used: parts.used ?? NO_RESOURCES,
    lost: parts.lost ?? false,
    ...(parts.reservation === undefined ? {} : { reservation: parts.reservation }),
  }
}

export function charge(view: NodeView, resources: Resources): void {
  view.used = addResources(view.used, resources)
}

/** Lists that cannot be read offer nothing. */
export function readOffer(info: NodeInfo): NodeOffer {
  const { egress } = info
  return {
    runsJobs: info.roles.includes('compute'),
    engines: lowerCase(info.engines),
    engineProblems: info.engineProblems,
    sources: lowerCase(info.sources),
    publishers: lowerCase(info.publishers),
    acceptsNetworkedJobs: egress.acceptsNetworkedJobs,
    httpEngines: lowerCase(egress.httpEngines),
    fullEngines: lowerCase(egress.fullEngines),
    networkProblems: egress.problems,
    allow: patterns(egress.allow),
    deny: patterns(egress.deny),
    maxCapacity: info.maxCapacity,
    maxJobRequirements: info.maxJobRequirements,
  }
}

/** Everything {@link readOffer} reads, as one text: equal texts, equal offers. */
export function offerText(info: NodeInfo): string {
  const { egress } = info
  return JSON.stringify([
    info.roles.includes('compute'),
    info.engines,
    info.engineProblems,
    info.sources,
    info.publishers,
    egress.acceptsNetworkedJobs,
    egress.httpEngines,
    egress.fullEngines,
    egress.problems,
    egress.allow,
    egress.deny,
    info.maxCapacity,
    info.maxJobRequirements,
  ])
}

/** FNV-1a with 32 bits, stirred at the end: similar names come to lie far apart. */
export function hashText(text: string): number {
  let value = 0x811c9dc5
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193)
  }
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35)
  return (value ^ (value >>> 16)) >>> 0
}

function patterns(texts: readonly string[]): HostPatternSet {
  try {
    return HostPatternSet.parse(texts, { allowPrivate: true, allowPublicSuffix: true })
  } catch {
    // Safe: the node itself is asked again before it runs anything, and an empty list allows nothing.
    return new HostPatternSet([])
  }
}

function lowerCase(words: readonly string[]): Set<string> {
  return new Set(words.map((word) => word.toLowerCase()))
}
