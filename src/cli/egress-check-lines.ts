import { shortId } from '../model/ids.js'
import { shellWord } from './shell-word.js'
import type { WireEgressCheck, WireEgressNodeCheck } from '../client/index.js'
import type { Column } from './table.js'

/** Each node with what keeps a job from it. */
export function checkColumns(isWide: boolean): Column<WireEgressNodeCheck>[] {
  return [
    { header: 'NODE', value: ({ NodeID }) => (isWide ? NodeID : shortId(NodeID)), cutFirst: 0 },
    { header: 'FITS', value: ({ Fits }) => (Fits ? 'yes' : 'no'), cutFirst: 0 },
    { header: 'WHAT PREVENTS IT', value: preventing },
  ]
}

/** Where no node would take it: the question that says why, or what the first node advises. */
export function whatToDo(check: WireEgressCheck): (readonly [string, string])[] {
  const { Fitting, Nodes } = check
  if (Fitting > 0) return []
  const missing = Nodes.find(({ Missing }) => Missing.length > 0)
  if (missing?.Missing[0] !== undefined) {
    const { Pattern } = missing.Missing[0]
    const host = Pattern.replace(/^([a-z]+:\/\/)?\*?\./, '$1')
    const explain = `weir network explain ${shellWord(host)} --domain ${shellWord(Pattern)} --node ${shortId(missing.NodeID)}`
    return [['Why:', explain], ...requestFor(check)]
  }
  const hint = Nodes.flatMap(({ Reasons }) => Reasons.map(({ Hint }) => Hint)).find((one) => one !== '')
  return hint === undefined ? [] : [['Hint:', hint]]
}

/** What an operator could open; what somebody denied is not asked for. */
function requestFor({ Nodes, Domains }: WireEgressCheck): [string, string][] {
  const missing = Nodes.flatMap(({ Missing }) => Missing)
  const denied = new Set(
    missing.filter(({ Code }) => Code === 'egress.denied_by_operator').map(({ Pattern }) => Pattern),
  )
  const wanted = Domains.filter(
    ({ Pattern, Accepting }) =>
      Accepting === 0 && !denied.has(Pattern) && missing.some((one) => one.Pattern === Pattern),
  ).slice(0, REQUESTED_MAX)
  if (wanted.length === 0) return []
  const names = wanted.map(({ Pattern }) => shellWord(Pattern)).join(' ')
  return [['Ask for it:', `weir network request ${names} --reason TEXT`]]
}

const REQUESTED_MAX = 100

export function fittingLine({ Fitting, Nodes }: WireEgressCheck, what: string): string {
  const some = Fitting === 0 ? 'None' : String(Fitting)
  return `${some} of ${Nodes.length} ${Nodes.length === 1 ? 'node' : 'nodes'} would take ${what}`
}

/** Patterns with the same fault together: `packages.example.net, github.com: not in the node's list`. */
function preventing({ Fits, Keys = [], Reasons, Missing, MissingCount }: WireEgressNodeCheck): string {
  if (Fits && Keys.length > 0) return `nothing: the job is signed with key ${Keys.join(', ')}`
  const groups = new Map<string, string[]>()
  for (const { Pattern, Owner, Code, Rule } of Missing) {
    const isDenied = Code === 'egress.denied_by_operator'
    const fault = isDenied
      ? `denied by the ${Owner}${Rule === '' ? '' : ` (${Rule})`}`
      : `not in the ${Owner}'s list`
    groups.set(fault, [...(groups.get(fault) ?? []), Pattern])
  }
  const unnamed = MissingCount - Missing.length
  return [
    ...Reasons.map(({ Message }) => Message),
    ...[...groups].map(([fault, patterns]) => `${patterns.join(', ')}: ${fault}`),
    ...(unnamed > 0 ? [`and ${unnamed} more`] : []),
  ].join('; ')
}
