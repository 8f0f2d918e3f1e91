import { HostPatternSet, NO_RESOURCES, addResources } from '../model/index.js'
import type { NodeId, NodeInfo, NodeRecord, Resources } from '../model/index.js'

/** What a node offers, in a form that is quick to ask. Made once per change of the node. */
export interface NodeOffer {
  readonly runsJobs: boolean
  /** A number that stands for the node's name, to spread ties. */
  readonly nameHash: number
  readonly engines: ReadonlySet<string>
  readonly sources: ReadonlySet<string>
  readonly publishers: ReadonlySet<string>
  readonly httpEngines: ReadonlySet<string>
  readonly fullEngines: ReadonlySet<string>
  readonly allow: HostPatternSet
  readonly deny: HostPatternSet
}

/** A node as the scheduler sees it. */
export interface NodeView {
  readonly record: NodeRecord
  readonly offer: NodeOffer
  /** What its active executions hold; grows while a plan is made. */
  used: Resources
  /** True when the node was silent so long that its executions are given up. */
  readonly lost: boolean
}

/** All nodes by id. */
export type NodeViews = ReadonlyMap<NodeId, NodeView>

export function viewNode(
  record: NodeRecord,
  parts: { offer?: NodeOffer; used?: Resources; lost?: boolean } = {},
): NodeView {
  return {
    record,
    offer: parts.offer ?? readOffer(record.info),
    used: parts.used ?? NO_RESOURCES,
    lost: parts.lost ?? false,
  }
}

export function charge(view: NodeView, resources: Resources): void {
  view.used = addResources(view.used, resources)
}

/** Lists that cannot be read offer nothing. */
export function readOffer(info: NodeInfo): NodeOffer {
  return {
    runsJobs: info.roles.includes('compute'),
    nameHash: hashText(info.nodeId),
    engines: lowerCase(info.engines),
    sources: lowerCase(info.sources),
    publishers: lowerCase(info.publishers),
    httpEngines: lowerCase(info.egress.httpEngines),
    fullEngines: lowerCase(info.egress.fullEngines),
    allow: patterns(info.egress.allow),
    deny: patterns(info.egress.deny),
  }
}

/** FNV-1a, 32 bits. */
export function hashText(text: string): number {
  let value = 0x811c9dc5
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193)
  }
  return value >>> 0
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
