import type { NodeInfo } from '../../model/index.js'

/**
 * Who needs no operator's word: the orchestrator's own node, everybody unless approval is manual, and otherwise who is
 * listed by id or by label (`region=eu`). A node chooses its labels itself: such a rule trusts whoever has a join token.
 */
export function autoApproval(rules: {
  ownId: string
  isManual: boolean
  listed: readonly string[]
}): (info: NodeInfo) => boolean {
  return (info) =>
    !rules.isManual ||
    info.nodeId === rules.ownId ||
    rules.listed.some((entry) => isListed(entry.trim(), info))
}

function isListed(entry: string, { nodeId, labels }: NodeInfo): boolean {
  const at = entry.indexOf('=')
  if (at < 0) return entry !== '' && entry === nodeId
  const key = entry.slice(0, at).trim()
  return Object.hasOwn(labels, key) && labels[key] === entry.slice(at + 1).trim()
}
