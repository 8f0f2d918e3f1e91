import { createHash } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { WeirError } from '../errors.js'
import { PATTERNS_MAX, parseHostPatterns } from './host-pattern.js'
import { isPublicKey } from './key-pair.js'
import { type KeyGrant, keyNameProblem, TRUSTED_KEYS_MAX } from './trusted-key.js'

/** Which public hosts the operator of a node opens to jobs that name them: none, those of a list, or all. */
export const EGRESS_MODES = ['none', 'list', 'all'] as const
export type EgressMode = (typeof EGRESS_MODES)[number]

/** The egress lists of a node. Canonical patterns. */
export interface EgressLists {
  allow: string[]
  deny: string[]
  /** What is open beyond `allow` to jobs that were signed. Absent: nothing. */
  keys?: KeyGrant[]
}

/** Lists on their way through a message. */
export interface PackedEgressLists {
  digest: string
  /** JSON, raw DEFLATE (RFC 1951), base64. */
  data: string
}

/** The egress list of the whole network: published by its orchestrator, enforced by each node. */
export interface NetworkEgressPolicy {
  /** +1 with each change; 0 before the first. */
  version: number
  /** Canonical patterns. Absent: the network restricts nothing. Empty: nothing is allowed. */
  allow?: string[]
  /** Denied everywhere, whatever else is allowed; a host without port on every port. Empty: nothing more is denied. */
  deny: string[]
}

/** In force where nobody has said anything. */
export const NO_NETWORK_POLICY: NetworkEgressPolicy = Object.freeze({ version: 0, deny: [] })

/** Equal digests are equal policies, version included. */
export function digestNetworkPolicy({ version, allow, deny }: NetworkEgressPolicy): string {
  return digest([version, allow ?? null, deny])
}

export function digestEgressLists(lists: EgressLists): string {
  return digest(inOrder(lists))
}

/** Packed they take a third: 10,000 patterns are about 60 KB instead of 200. */
export function packEgressLists(lists: EgressLists): PackedEgressLists {
  const data = deflateRawSync(JSON.stringify(inOrder(lists))).toString('base64')
  return { digest: digestEgressLists(lists), data }
}

/** Without keys as nodes wrote it before there were any. */
function inOrder({ allow, deny, keys = [] }: EgressLists): unknown[] {
  if (keys.length === 0) return [allow, deny]
  return [allow, deny, keys.map((grant) => ({ name: grant.name, key: grant.key, allow: grant.allow }))]
}

/** True for grants as a node tells them. */
export function isKeyGrants(value: unknown): value is KeyGrant[] {
  return Array.isArray(value) && value.length <= TRUSTED_KEYS_MAX && value.every(isKeyGrant)
}

function isKeyGrant(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { name, key, allow } = value as Record<string, unknown>
  const isNamed = typeof name === 'string' && keyNameProblem(name) === undefined
  return isNamed && isPublicKey(key) && isTextList(allow) && allow.length <= PATTERNS_MAX
}

/**
 * Reads packed lists that nobody has checked yet. Undefined when they are damaged, too long or not those of their digest:
 * who sends lists under the digest of others must not change what is known of them.
 */
export function unpackEgressLists(packed: unknown): EgressLists | undefined {
  if (typeof packed !== 'object' || packed === null) return undefined
  const { digest: claimed, data } = packed as Record<string, unknown>
  if (typeof claimed !== 'string' || typeof data !== 'string') return undefined
  try {
    const bytes = inflateRawSync(Buffer.from(data, 'base64'), { maxOutputLength: UNPACKED_BYTES_MAX })
    const parsed: unknown = JSON.parse(bytes.toString())
    const [allow, deny, keys = []] = Array.isArray(parsed) ? (parsed as unknown[]) : []
    if (!isTextList(allow) || !isTextList(deny) || !isKeyGrants(keys)) return undefined
    const lists = { allow, deny, ...(keys.length === 0 ? {} : { keys }) }
    return digestEgressLists(lists) === claimed ? lists : undefined
  } catch {
    return undefined // Damaged: as good as not sent.
  }
}

/** Reads a network policy from outside. Throws `pattern.invalid`, or `config.invalid` when it has not even the shape. */
export function readNetworkPolicy(value: unknown): NetworkEgressPolicy {
  const policy = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  const { version, allow, deny } = policy
  const isList = (list: unknown): list is string[] => isTextList(list) && list.length <= PATTERNS_MAX
  if (!Number.isSafeInteger(version) || (allow !== undefined && !isList(allow)) || !isList(deny))
    throw new WeirError(
      'config.invalid',
      'Cannot read the egress list of the network: it has not the right shape',
    )
  const canonical = (texts: readonly string[]): string[] =>
    parseHostPatterns(texts, { allowPrivate: true, allowPublicSuffix: true }).map(({ text }) => text)
  return {
    version: version as number,
    ...(allow === undefined ? {} : { allow: canonical(allow) }),
    deny: canonical(deny),
  }
}

/** Twice 10,000 patterns of the greatest length would be more; nobody has those. */
const UNPACKED_BYTES_MAX = 4 * 1024 * 1024

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64url')
}
