import { join } from 'node:path'
import { egressVerdictToWire } from '../api/index.js'
import type { Config, ConfigName } from '../config/index.js'
import { compileJobRules, compileNodeRules, explainRequests, ownInterfaceAddresses } from '../egress/index.js'
import { trustedAmong } from '../model/index.js'
import type { EgressQuestion } from '../ports/index.js'
import { EgressInForce } from './egress-in-force.js'
import { NETWORK_ALLOW_FILE, NODE_ALLOW_FILE, readNetworkLists } from './egress-policy.js'
import { ownEgress } from './own-egress.js'
import { REAL_CLOCK } from './real-time.js'

/** Whose rules a configuration holds, besides the job's and those of the gateway itself. */
type Judge = 'job' | 'gateway' | 'node' | 'network'

/**
 * What the gateway of a node with this configuration would decide, in the API's words, without starting anything. Lists that nobody has set
 * say nothing about the nodes of a network, so they are left out. Rejects with `config.invalid`, `host.invalid` or
 * `pattern.invalid`.
 */
export async function explainByConfig(
  config: Config,
  question: EgressQuestion,
): Promise<{ verdicts: ReturnType<typeof egressVerdictToWire>[]; judgedBy: Judge[] }> {
  const isSet = (name: ConfigName): boolean => config.origin(name) !== 'default'
  const standardFile = join(config.dataDir, NODE_ALLOW_FILE)
  const own = await ownEgress({
    config,
    self: [],
    reading: { standardFile },
    clock: REAL_CLOCK,
    warn: () => undefined, // Only a second reading can warn.
  }).read()
  const lists = await readNetworkLists(config.values, isSet, join(config.dataDir, NETWORK_ALLOW_FILE))
  const hasOwn =
    (['Egress.Mode', 'Egress.Allow', 'Egress.AllowFile'] as const).some(isSet) || own.allow.length > 0
  const { rules } = new EgressInForce(hasOwn ? own : { ...own, mode: 'all' }, { version: 0, ...lists })
  const node = compileNodeRules(rules, 0)
  const verdicts = explainRequests(question, {
    mode: 'http',
    job: compileJobRules({ allow: [...question.domains] }),
    node,
    keys: trustedAmong(question.signedBy ?? [], node),
    ownAddresses: ownInterfaceAddresses()(),
  })
  const judgedBy: Judge[] = ['job', 'gateway']
  if (hasOwn || own.deny.length > 0) judgedBy.push('node')
  if (lists.allow !== undefined || lists.deny.length > 0) judgedBy.push('network')
  return { verdicts: verdicts.map(egressVerdictToWire), judgedBy }
}
