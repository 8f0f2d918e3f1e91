import { NO_RESOURCES, addResources } from '../model/index.js'
import type { JobId, LearningOffer, NodeId, NodeInfo, NodeRecord, Resources, TimeMs } from '../model/index.js'
import { type EgressOffer, readEgressOffer } from './egress-offers.js'

/** What a node offers, in a form that is quick to ask. Equal nodes may share one. Says nothing of labels and load. */
export interface NodeOffer {
  readonly runsJobs: boolean
  readonly engines: ReadonlySet<string>
  readonly engineProblems: Readonly<Record<string, string>>
  readonly sources: ReadonlySet<string>
  readonly publishers: ReadonlySet<string>
  readonly acceptsNetworkedJobs: boolean
  /** Whose jobs may learn there. Absent: nobody's. */
  readonly learning?: LearningOffer | undefined
  readonly httpEngines: ReadonlySet<string>
  readonly fullEngines: ReadonlySet<string>
  /** Why it cannot give networks; the first is the one to name. */
  readonly networkProblems: readonly string[]
  readonly egress: EgressOffer
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

/** `egressOffer`: what `info` says of egress with the list of the network; by default without any. */
export function readOffer(info: NodeInfo, egressOffer = readEgressOffer(info.egress)): NodeOffer {
  const { egress } = info
  return {
    runsJobs: info.roles.includes('compute'),
    engines: lowerCase(info.engines),
    engineProblems: info.engineProblems,
    sources: lowerCase(info.sources),
    publishers: lowerCase(info.publishers),
    acceptsNetworkedJobs: egress.acceptsNetworkedJobs,
    learning: egress.learning,
    httpEngines: lowerCase(egress.httpEngines),
    fullEngines: lowerCase(egress.fullEngines),
    networkProblems: egress.problems,
    egress: egressOffer,
    maxCapacity: info.maxCapacity,
    maxJobRequirements: info.maxJobRequirements,
  }
}

/** Everything {@link readOffer} reads, as one text: equal texts, equal offers. `egressKey` stands for the lists. */
export function offerText(info: NodeInfo, egressKey: string): string {
  const { egress } = info
  return JSON.stringify([
    info.roles.includes('compute'),
    info.engines,
    info.engineProblems,
    info.sources,
    info.publishers,
    egress.acceptsNetworkedJobs,
    egress.learning,
    egress.httpEngines,
    egress.fullEngines,
    egress.problems,
    egressKey,
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

function lowerCase(words: readonly string[]): Set<string> {
  return new Set(words.map((word) => word.toLowerCase()))
}
