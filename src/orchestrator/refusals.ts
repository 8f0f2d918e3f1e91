import type { NodeId } from '../model/index.js'

/** Why one node cannot take a job, in both numbers so that reasons can be counted. */
export interface Refusal {
  /** The catalogue's code where there is one, otherwise a word. */
  readonly code: string
  /** After "1": `does not accept networked jobs`. */
  readonly one: string
  /** After "3": `do not accept networked jobs`. */
  readonly many: string
  /** True when the reason can pass without anybody doing something. */
  readonly transient: boolean
  /** What would help; empty when nothing is known. */
  readonly hint: string
}

/** The nodes that were asked, and what they said. */
export interface Shortage {
  /** Executions that were looked for. */
  readonly requested: number
  /** Nodes known. */
  readonly nodes: number
  /** Of these: approved and connected. */
  readonly available: number
  /** Of these: able to run the job. */
  readonly suitable: number
  readonly refusals: ReadonlyMap<NodeId, Refusal>
}

interface ReasonGroup {
  refusal: Refusal
  nodes: NodeId[]
}

const GROUPS_MAX = 10
const NODES_NAMED_MAX = 10

/**
 * The reasons counted, most frequent first:
 * `0 of 5 nodes can run this: 3 do not accept networked jobs; 1 lacks domain cdn.example.net; 1 has 2 CPU free, 4 asked`.
 */
export function explainShortage(shortage: Shortage): string {
  if (shortage.nodes === 0) return 'No compute node has joined'
  const groups = groupReasons(shortage)
  const said = groups
    .slice(0, GROUPS_MAX)
    .map(({ refusal, nodes }) => `${nodes.length} ${nodes.length === 1 ? refusal.one : refusal.many}`)
  if (groups.length > GROUPS_MAX) said.push(`${groups.length - GROUPS_MAX} more reasons`)
  const verdict = `${shortage.suitable} of ${shortage.nodes} ${shortage.nodes === 1 ? 'node' : 'nodes'} can run this`
  return said.length === 0 ? verdict : `${verdict}: ${said.join('; ')}`
}

/** The same for machines. All values are text: clients decode nothing else. */
export function shortageDetails(shortage: Shortage): Record<string, string> {
  const groups = groupReasons(shortage)
  // A node that is merely busy needs nobody's help: that advice is the cheapest.
  const useful = groups.toSorted((a, b) => Number(isBusy(b.refusal)) - Number(isBusy(a.refusal)))
  const hint = useful.find(({ refusal }) => refusal.hint !== '')?.refusal.hint
  const reasons = groups.slice(0, GROUPS_MAX).map(({ refusal, nodes }) => ({
    code: refusal.code,
    message: refusal.one,
    count: nodes.length,
    nodes: nodes.slice(0, NODES_NAMED_MAX),
  }))
  return {
    ErrorCode: 'scheduling.no_nodes',
    NodesRequested: String(shortage.requested),
    NodesAvailable: String(shortage.available),
    NodesSuitable: String(shortage.suitable),
    ...(groups.some(({ refusal }) => refusal.transient) ? { Retryable: 'true' } : {}),
    Hint: hint ?? missingHint(shortage),
    Reasons: JSON.stringify(reasons),
  }
}

function missingHint({ nodes }: Shortage): string {
  return nodes === 0
    ? 'Start a compute node with "weir serve", or wait for one with a queue timeout'
    : 'Look at what the nodes offer with "weir node list" and "weir node describe"'
}

/** Bacalhau's kernel, then the reasons. */
export function notEnoughNodes(shortage: Shortage): string {
  const { requested, available, suitable } = shortage
  const kernel = `not enough nodes to run job. requested: ${requested}, available: ${available}, suitable: ${suitable}.`
  return `${kernel} ${explainShortage(shortage)}`
}

/** For jobs that run on every matching node. */
export function noMatchingNodes(shortage: Shortage): string {
  return `not matching nodes to run job out of ${shortage.available} available nodes. ${explainShortage(shortage)}`
}

function isBusy({ code, transient }: Refusal): boolean {
  return transient && code === 'compute.resources'
}

function groupReasons({ refusals }: Shortage): ReasonGroup[] {
  const groups = new Map<string, ReasonGroup>()
  for (const [nodeId, refusal] of refusals) {
    const group = groups.get(refusal.many)
    if (group === undefined) groups.set(refusal.many, { refusal, nodes: [nodeId] })
    else group.nodes.push(nodeId)
  }
  return [...groups.values()].toSorted((a, b) => b.nodes.length - a.nodes.length)
}
