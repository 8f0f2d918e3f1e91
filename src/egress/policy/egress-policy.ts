import { WeirError } from '../../errors.js'
import {
  type HostPattern,
  HostPatternSet,
  type OfferedKey,
  offeredKeys,
  PatternMemo,
} from '../../model/index.js'
import type { LeasePolicy, NodeEgressPolicy } from '../../ports/index.js'

/** The operator's rules, compiled. */
export interface NodeRules {
  readonly generation: number
  /** True: learning executions may reach every public host that nobody denies. */
  readonly learning: boolean
  /** With mode `all` everything; with mode `none` nothing. */
  readonly allow: HostPatternSet
  /** A denied host without port is denied on every port. */
  readonly deny: HostPatternSet
  /** Absent: the network restricts nothing. */
  readonly network: HostPatternSet | undefined
  /** What is open beyond `allow` to those that a key vouches for. */
  readonly keys: readonly OfferedKey[]
  /** What the whole network denies, as `deny`. */
  readonly networkDeny: HostPatternSet
  /** Exact hosts with their ports. They count as allowed by the node. */
  readonly privateExceptions: HostPatternSet
  /** Canonical names that are the network itself. */
  readonly selfNames: ReadonlySet<string>
  /** Canonical addresses that are the network itself, beyond the node's own interfaces. */
  readonly selfAddresses: ReadonlySet<string>
}

/** Everything a decision needs: the rules of the job and of the node. */
export interface EgressRules {
  readonly mode: 'none' | 'http'
  /** The execution learns what it needs: it asks for every public host on the ports of the web, and for what `job` holds. */
  readonly learning?: boolean
  readonly job: HostPatternSet
  readonly node: NodeRules
  /** The trusted keys that vouch for the job at this moment; their lists count as the node's. Absent and empty: none. */
  readonly keys?: readonly OfferedKey[]
  /** Those whose signature of the job has expired. They open nothing; a refusal says that they would have. */
  readonly expiredKeys?: readonly OfferedKey[]
  /** Canonical addresses of this machine now, loopback left out. */
  readonly ownAddresses: ReadonlySet<string>
}

/** No list at all: nothing is allowed. In force until the operator's rules were set. */
export const NO_NODE_POLICY: NodeEgressPolicy = { allow: [], deny: [], privateExceptions: [], self: [] }

/**
 * Compiles the operator's rules. They were judged for sense where they were written (public suffixes, private
 * addresses); here only the grammar counts. Rejects with `pattern.invalid`: then the old rules stay in force. With the
 * `memo` of the last rules, those `before`, only patterns that they did not hold are parsed, and lists that did not change
 * are not built again.
 */
export function compileNodeRules(
  policy: NodeEgressPolicy,
  generation: number,
  memo: PatternMemo = new PatternMemo(),
  before?: NodeRules,
): NodeRules {
  try {
    return compileWith((text) => memo.read(text, LENIENT), policy, generation, before)
  } finally {
    memo.forgetUnused()
  }
}

type Read = (text: string) => HostPattern

function compileWith(
  read: Read,
  policy: NodeEgressPolicy,
  generation: number,
  before: NodeRules | undefined,
): NodeRules {
  const exceptions = compile(read, policy.privateExceptions, before?.privateExceptions)
  const wide = exceptions.patterns.find((pattern) => pattern.reach !== 'exact')
  if (wide !== undefined) {
    throw new WeirError(
      'pattern.invalid',
      `Cannot use private exception "${wide.text}": it is not one exact host`,
      {
        hint: `Write the name or address with its port, for example "${wide.host}:8080"`,
      },
    )
  }
  const self = policy.self.map(read)
  return {
    generation,
    // Mode `none` is the operator's last word on hosts.
    learning: policy.learning === true && policy.mode !== 'none',
    allow: allowed(read, policy, before?.allow),
    deny: compile(read, policy.deny, before?.deny, 'any'),
    keys: offeredKeys(policy.mode === 'none' ? [] : (policy.keys ?? [])),
    network: policy.network === undefined ? undefined : compile(read, policy.network, before?.network),
    networkDeny: compile(read, policy.networkDeny ?? [], before?.networkDeny, 'any'),
    privateExceptions: exceptions,
    selfNames: new Set(self.filter((pattern) => !pattern.isAddress).map((pattern) => pattern.host)),
    selfAddresses: new Set(self.filter((pattern) => pattern.isAddress).map((pattern) => pattern.host)),
  }
}

/**
 * Compiles what a job asked for. Rejects with `pattern.invalid`. What the node's rules hold, as most of it has to be, is not
 * parsed again with the `memo` of those. A job that asks for all that `node` allows shares its list.
 */
export function compileJobRules(
  { allow }: Pick<LeasePolicy, 'allow'> & Partial<LeasePolicy>,
  memo: PatternMemo = new PatternMemo(),
  node?: NodeRules,
): HostPatternSet {
  return compile((text) => memo.readOnce(text, LENIENT), allow, node?.allow)
}

/** An unknown mode opens nothing. */
function allowed(
  read: Read,
  { mode = 'list', allow }: NodeEgressPolicy,
  before: HostPatternSet | undefined,
): HostPatternSet {
  if (mode === 'all') return HostPatternSet.everything()
  return compile(read, mode === 'list' ? allow : [], before)
}

const LENIENT = { allowPublicSuffix: true, allowPrivate: true } as const

/** `before`: a set in which a pattern without port means the same. It is taken when it holds just these patterns. */
function compile(
  read: Read,
  texts: readonly string[],
  before?: HostPatternSet,
  portlessMeans: 'web' | 'any' = 'web',
): HostPatternSet {
  const patterns = texts.map(read)
  const isSame =
    before?.patterns.length === patterns.length &&
    before.patterns.every((pattern, index) => pattern === patterns[index])
  return isSame ? before : new HostPatternSet(patterns, { portlessMeans })
}
