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

/** Nodes that refuse for the same reason. */
export interface Reason {
  readonly refusal: Refusal
  readonly count: number
  /** At most {@link NODES_NAMED_MAX}, the first by name. */
  readonly nodes: readonly NodeId[]
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
  /** Most frequent first. */
  readonly reasons: readonly Reason[]
}

/** Nodes that a reason names. */
export const NODES_NAMED_MAX = 10

const GROUPS_MAX = 10

/**
 * The reasons counted, most frequent first:
 * `0 of 5 nodes can run this: 3 do not accept networked jobs; 1 lacks domain cdn.example.net; 1 has 2 CPU free, 4 asked`.
 */
export function explainShortage(shortage: Shortage): string {
  if (shortage.nodes === 0) return 'No compute node has joined'
  const groups = shortage.reasons
  const said = groups
    .slice(0, GROUPS_MAX)
    .map(({ refusal, count }) => `${count} ${count === 1 ? refusal.one : refusal.many}`)
  if (groups.length > GROUPS_MAX) said.push(`${groups.length - GROUPS_MAX} more reasons`)
  const verdict = `${shortage.suitable} of ${shortage.nodes} ${shortage.nodes === 1 ? 'node' : 'nodes'} can run this`
  return said.length === 0 ? verdict : `${verdict}: ${said.join('; ')}`
}

/** The same for machines. All values are text: clients decode nothing else. */
export function shortageDetails(shortage: Shortage): Record<string, string> {
  const groups = shortage.reasons
  // A node that is merely busy needs nobody's help: that advice is the cheapest.
  const useful = groups.toSorted((a, b) => Number(isBusy(b.refusal)) - Number(isBusy(a.refusal)))
  const hint = useful.find(({ refusal }) => refusal.hint !== '')?.refusal.hint
  const reasons = groups.slice(0, GROUPS_MAX).map(({ refusal, count, nodes }) => ({
    code: refusal.code,
    message: refusal.one,
    count,
    nodes,
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

/** Counts refusals, one node or many at a time. */
export class ReasonCount {
  readonly #groups = new Map<string, { refusal: Refusal; count: number; nodes: NodeId[] }>()

  /** `nodes`: enough to find the first by name among them; all of `count` or the first so many. */
  add(refusal: Refusal, nodes: readonly NodeId[], count = nodes.length): void {
    if (count === 0) return
    const { many, code, hint, transient } = refusal
    const key = `${many}\n${code}\n${hint}\n${transient}`
    const group = this.#groups.get(key)
    if (group === undefined) this.#groups.set(key, { refusal, count, nodes: [...nodes] })
    else {
      group.count += count
      group.nodes.push(...nodes)
    }
  }

  /** Most frequent first; the same whatever the order of the nodes was. */
  reasons(): Reason[] {
    const found = [...this.#groups].toSorted(
      ([textA, a], [textB, b]) =>
        b.count - a.count || rank(a.refusal) - rank(b.refusal) || (textA < textB ? -1 : 1),
    )
    return found.map(([, { refusal, count, nodes }]) => ({
      refusal,
      count,
      nodes: nodes.toSorted().slice(0, NODES_NAMED_MAX),
    }))
  }
}

/** Of equally frequent reasons: what somebody has to change comes before what is only a matter of size. */
function rank({ code, transient }: Refusal): number {
  return Number(code === 'compute.resources') + Number(transient)
}
