import { readDestination } from '../../model/destination.js'
import { parseHostPatterns } from '../../model/host-pattern.js'
import { hostInUrl } from '../../model/host.js'
import { shortId } from '../../model/ids.js'
import { expandPresets, presetNameOf } from '../../model/presets.js'
import { readConfig, suggest, withClient } from '../context.js'
import { presetsHere } from '../egress-pattern-flags.js'
import { EXIT } from '../exit-codes.js'
import { printObject, readObjectOutput } from '../output-format.js'
import { shellWord } from '../shell-word.js'
import { readPublicKeys } from '../signing-key.js'
import type { WireEgressExplanation, WireEgressVerdict } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'

export interface NetworkExplainFlags extends GlobalFlags {
  domain?: string[]
  outboundUrl?: string[]
  signedBy?: string[]
  node?: string
  output?: string
  pretty?: boolean
}

/** What is shown: what a node said, or what was found out here. */
type Explanation = Omit<WireEgressExplanation, 'NodeID' | 'PolicyGeneration'> &
  Partial<Pick<WireEgressExplanation, 'NodeID' | 'PolicyGeneration'>> & { JudgedBy?: string[] }

/**
 * `weir network explain HOST[:PORT]`: what a gateway would decide, which rule, and what would change it. With `--node` its
 * gateway is asked; otherwise the same function judges here, by the lists of this machine's configuration where it has
 * any. 1 when nothing is allowed.
 */
export async function networkExplain(
  text: string,
  flags: NetworkExplainFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const format = readObjectOutput(flags)
  const asked = [...(flags.domain ?? []), ...(flags.outboundUrl ?? [])]
  const { node } = flags
  // What a preset stands for knows the server, or without one the configuration here.
  const named = asked.filter((one) => presetNameOf(one) !== undefined)
  const presets =
    node === undefined ? expandPresets(named, await presetsHere(named, flags, context)).domains : named
  const hosts = asked.filter((one) => !named.includes(one))
  const patterns = parseHostPatterns(hosts, { allowPrivate: true }).map((pattern) => pattern.text)
  const domains = [...new Set([...patterns, ...presets])]
  const signedBy = readPublicKeys(flags.signedBy)
  const explanation: Explanation =
    node === undefined
      ? await explainHere(text, { domains, signedBy }, flags, context)
      : await withClient(flags, context, (client) =>
          client.explainEgress(node, { host: text, domains, signedBy }),
        )
  const isAllowed = explanation.Verdicts.some(({ Allowed }) => Allowed)
  if (format === undefined) {
    await terminal.data(render(explanation))
    if (node === undefined) suggestNode(domains, explanation, context)
  } else await printObject(terminal, explanation, format, flags.pretty ?? terminal.outIsTerminal)
  return isAllowed ? EXIT.ok : EXIT.no
}

async function explainHere(
  text: string,
  { domains, signedBy }: { domains: string[]; signedBy: string[] },
  flags: GlobalFlags,
  context: CliContext,
): Promise<Explanation> {
  const { host, services, oddities } = readDestination(text)
  const { explainByConfig } = await import('../../node/index.js')
  const { verdicts, judgedBy } = await explainByConfig(await readConfig(flags, context), {
    host,
    services,
    domains,
    signedBy,
  })
  return { Host: host, Oddities: [...oddities], JudgedBy: judgedBy, Verdicts: verdicts }
}

function render({ Host, Oddities, NodeID, PolicyGeneration, JudgedBy, Verdicts }: Explanation): string {
  const where =
    NodeID === undefined
      ? `judged here by: ${(JudgedBy ?? []).join(', ')}`
      : `judged by ${shortId(NodeID)}, generation ${PolicyGeneration} of its rules`
  const lines = [`${Host}  (${where})`, ...Oddities.map((oddity) => `  ${oddity}`)]
  for (const verdict of Verdicts) lines.push('', ...verdictLines(Host, verdict))
  return `${lines.join('\n')}\n`
}

function verdictLines(
  host: string,
  { Scheme, Port, Allowed, Owner: owner, Rule, Objections }: WireEgressVerdict,
): string[] {
  const url = `${Scheme}://${hostInUrl(host)}:${Port}`
  if (Allowed) {
    const by = owner.startsWith('key ') ? `${Rule} of ${owner}` : `the job's ${Rule}`
    return [`${url}  allowed  by ${by}; its addresses are judged when it is looked up`]
  }
  return [
    `${url}  refused`,
    ...Objections.map(({ Code, Owner, Rule: by, Change }) => {
      const rule = by === '' ? '' : ` (${by})`
      const change = Change === '' ? 'nothing changes that' : `changes when ${Change}`
      return `  ${OWNERS[Owner] ?? Owner}${rule}: ${Code}; ${change}`
    }),
  ]
}

const OWNERS: Readonly<Record<string, string>> = {
  job: "the job's list",
  node: "the node's lists",
  network: "the network's lists",
  gateway: 'the gateway itself',
}

/** Who allows it is known only by the nodes. */
function suggestNode(
  domains: readonly string[],
  { Host, JudgedBy = [], Verdicts }: Explanation,
  { terminal }: CliContext,
): void {
  const isHopeless = Verdicts.every((verdict) => verdict.Objections.some(({ Change }) => Change === ''))
  if (JudgedBy.includes('node') || isHopeless) return
  const names = (domains.length === 0 ? [patternOf(Host, Verdicts)] : domains).map(
    (domain) => `--domain ${shellWord(domain)}`,
  )
  suggest(terminal, [['Which nodes allow it:', `weir network check ${names.join(' ')}`]])
}

/** What a job would name for exactly what was asked, whatever path or credentials stood around it. */
function patternOf(host: string, [verdict, other]: readonly WireEgressVerdict[]): string {
  if (verdict === undefined) return host
  const { Scheme, Port } = verdict
  const isUsual = Port === (Scheme === 'http' ? 80 : 443)
  const place = isUsual ? hostInUrl(host) : `${hostInUrl(host)}:${Port}`
  return other === undefined ? `${Scheme}://${place}` : place
}
