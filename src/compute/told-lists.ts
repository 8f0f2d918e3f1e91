import { digestEgressLists, type EgressLists } from '../model/egress-lists.js'
import type { NodeEgressInfo } from '../model/state.js'

/** The egress lists of a node as it tells them to others. */
export interface ToldLists extends EgressLists {
  /** False: there was no room for all. What is not told is not offered; the node itself judges by all of them. */
  readonly isWhole: boolean
  /** Their part of the node's description: short lists themselves, long ones as a digest, to be asked for. */
  readonly description: Pick<NodeEgressInfo, 'allow' | 'deny' | 'listsDigest' | 'allowCount' | 'denyCount'>
}

export function tellLists(allow: readonly string[], deny: readonly string[]): ToldLists {
  const lists = { allow: cut(allow), deny: cut(deny) }
  const isWhole = lists.allow.length === allow.length && lists.deny.length === deny.length
  return { ...lists, isWhole, description: describe(lists) }
}

function describe(lists: EgressLists): ToldLists['description'] {
  const { allow, deny } = lists
  if (bytesOf([...allow, ...deny]) <= INLINE_BYTES_MAX) return { allow, deny }
  const listsDigest = digestEgressLists(lists)
  return { allow: [], deny: [], listsDigest, allowCount: allow.length, denyCount: deny.length }
}

/** As many patterns as there is room for. */
function cut(patterns: readonly string[]): string[] {
  let bytes = 0
  const end = patterns.findIndex((text) => (bytes += text.length + 3) > LIST_BYTES_MAX)
  return patterns.slice(0, end < 0 ? undefined : end)
}

function bytesOf(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + text.length + 3, 0)
}

/** About 200 patterns: a node says so much every 15 s. */
const INLINE_BYTES_MAX = 4 * 1024
/** 10,000 patterns of usual length; packed they are a third, and a message holds 1 MiB. */
const LIST_BYTES_MAX = 256 * 1024
