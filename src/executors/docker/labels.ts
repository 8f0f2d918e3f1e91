import { createHash } from 'node:crypto'
import type { NodeId } from '../../model/index.js'
import { OWNER } from '../../owner-process.js'

/** Labels on everything that weir makes in the engine; the reaper finds leftovers by them. */
export const LABEL_NODE = 'weir.node'
export const LABEL_KIND = 'weir.kind'
export const LABEL_JOB = 'weir.job'
export const LABEL_EXECUTION = 'weir.execution'

/** Names the process that made something, so that a reaper leaves alone what is just being made. */
export const LABEL_PROCESS = 'weir.process'

export type DockerKind = 'job' | 'holder' | 'canary' | 'network'

/** The labels of everything this process makes for a node. */
export function ownLabels(nodeId: NodeId, kind: DockerKind): Record<string, string> {
  return { [LABEL_NODE]: nodeId, [LABEL_KIND]: kind, [LABEL_PROCESS]: OWNER }
}

/** Eight hexadecimal digits that stand for a node where names must be short (interfaces, tables). */
export function nodeHash(nodeId: NodeId): string {
  return createHash('sha256').update(nodeId).digest('hex').slice(0, 8)
}

/** A name the engine accepts: other characters become `_`. */
export function containerName(...parts: string[]): string {
  return `weir-${parts.join('-')}`.replaceAll(/[^a-zA-Z0-9_.-]/g, '_').slice(0, 120)
}
