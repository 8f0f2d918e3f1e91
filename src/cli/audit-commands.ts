import { listFlags } from './output-flags.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { Group, Leaf } from './program.js'

/** `weir audit …`: evidence of what left jobs. */
export function addAuditCommands(leaf: Leaf, group: Group, context: CliContext): void {
  const audit = group('audit', 'Check and keep the evidence of what left a job')
  const verify = leaf<import('./commands/audit.js').VerifyFlags>(
    audit,
    'verify <FILE|ID...>',
    'Check receipts and records: nothing was changed, removed, added or signed by somebody else',
    async (operands, flags) => (await import('./commands/audit.js')).auditVerify(operands, flags, context),
  )
  listFlags(verify).collected('--key <KEY>', 'public key of the node that must have signed; repeatable')
  leaf<GlobalFlags>(
    audit,
    'export <ID>',
    'Print receipts and records of a job, one JSON object per line',
    async (operands, flags) =>
      (await import('./commands/audit.js')).auditExport(operands[0] ?? '', flags, context),
  )
}
