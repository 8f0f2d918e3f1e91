import { digestEgressLists, type EgressLists } from '../model/egress-lists.js'
import type { NodeEgressInfo } from '../model/state.js'
import type { KeyGrant } from '../model/trusted-key.js'

/** The egress lists of a node as it tells them to others. */
export interface ToldLists extends EgressLists {
  /** False: there was no room for all. What is not told is not offered; the node itself judges by all of them. */
  readonly isWhole: boolean
  /** Their part of the node's description: short lists themselves, long ones as a digest, to be asked for. */
  readonly description: Pick<
    NodeEgressInfo,
    'allow' | 'deny' | 'keys' | 'listsDigest' | 'allowCount' | 'denyCount' | 'keyCount'
  >
}

export function tellLists(
  allow: readonly string[],
  deny: readonly string[],
  keys: readonly KeyGrant[] = [],
): ToldLists {
  // The lists of all keys share what one list may take.
  const room = keys.length === 0 ? 0 : Math.floor(LIST_BYTES_MAX / keys.length)
  const grants = keys.map((grant) => ({ ...grant, allow: cut(grant.allow, room) }))
  const lists = { allow: cut(allow), deny: cut(deny), ...(grants.length === 0 ? {} : { keys: grants }) }
  const isWhole =
    lists.allow.length === allow.length &&
    lists.deny.length === deny.length &&
    grants.every((grant, index) => grant.allow.length === keys[index]?.allow.length)
  return { ...lists, isWhole, description: describe(lists) }
}

function describe(lists: EgressLists): ToldLists['description'] {
  const { allow, deny, keys = [] } = lists
  const ofKeys = keys.flatMap((grant) => [grant.name, grant.key, ...grant.allow])
  if (bytesOf([...allow, ...deny, ...ofKeys]) <= INLINE_BYTES_MAX) return lists
  return {
    allow: [],
    deny: [],
    listsDigest: digestEgressLists(lists),
    allowCount: allow.length,
    denyCount: deny.length,
    ...(keys.length === 0 ? {} : { keyCount: keys.length }),
  }
}

/** As many patterns as there is room for. */
function cut(patterns: readonly string[], bytesMax = LIST_BYTES_MAX): string[] {
  let bytes = 0
  const end = patterns.findIndex((text) => (bytes += text.length + 3) > bytesMax)
  return patterns.slice(0, end < 0 ? undefined : end)
}

function bytesOf(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + text.length + 3, 0)
}

/** About 200 patterns: a node says so much every 15 s. */
const INLINE_BYTES_MAX = 4 * 1024
/** 10,000 patterns of usual length; packed they are a third, and a message holds 1 MiB. */
const LIST_BYTES_MAX = 256 * 1024
