import { egressVerdictToWire } from '../api/index.js'
import type { Config, ConfigName } from '../config/index.js'
import { compileJobRules, compileNodeRules, explainRequests, ownInterfaceAddresses } from '../egress/index.js'
import type { EgressQuestion } from '../ports/index.js'
import { EgressInForce } from './egress-in-force.js'
import { readEgressPolicy, readNetworkLists } from './egress-policy.js'

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
  const own = await readEgressPolicy(config.values, [])
  const lists = await readNetworkLists(config.values, isSet)
  const hasOwn = (['Egress.Mode', 'Egress.Allow', 'Egress.AllowFile'] as const).some(isSet)
  const { rules } = new EgressInForce(hasOwn ? own : { ...own, mode: 'all' }, { version: 0, ...lists })
  const verdicts = explainRequests(question, {
    mode: 'http',
    job: compileJobRules({ allow: [...question.domains] }),
    node: compileNodeRules(rules, 0),
    ownAddresses: ownInterfaceAddresses()(),
  })
  const judgedBy: Judge[] = ['job', 'gateway']
  if (hasOwn || own.deny.length > 0) judgedBy.push('node')
  if (lists.allow !== undefined || lists.deny.length > 0) judgedBy.push('network')
  return { verdicts: verdicts.map(egressVerdictToWire), judgedBy }
}
