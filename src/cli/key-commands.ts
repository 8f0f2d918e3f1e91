import { listFlags, objectFlags, readObjectFormat } from './output-flags.js'
import { templateFlags } from './template-flags.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { Group, Leaf } from './program.js'

type Keys = typeof import('./commands/key.js')

/** `weir key …`: signed jobs, and who is trusted to sign them. */
export function addKeyCommands(leaf: Leaf, group: Group, context: CliContext): void {
  const key = group('key', 'Sign jobs, and choose whose signed jobs may reach more')
  const keys = (): Promise<Keys> => import('./commands/key.js')

  leaf<GlobalFlags>(
    key,
    'generate [FILE]',
    'Make a key, write it to a file (default signing-key.pem) and print its public half',
    async (operands, flags) => (await keys()).keyGenerate(operands[0], flags, context),
  )
  leaf<GlobalFlags>(key, 'show <FILE>', 'Print the public half of a key', async (operands, flags) =>
    (await keys()).keyShow(operands[0] ?? '', flags, context),
  )

  const sign = leaf<import('./commands/key.js').KeySignFlags>(
    key,
    'sign [JOBFILE]',
    'Sign a job as it is: image or module, command, inputs and network policy; prints the signed job',
    async (operands, flags) => (await keys()).keySign(operands[0], flags, context),
  )
  sign
    .requiredOption('--key <FILE>', 'private key, as "weir key generate" makes it')
    .requiredOption('--expires <DURATION>', 'how long the signature is good, at most 366d: 30d')
    .option('--not-before <TIME>', 'from when on, in UTC: 2026-01-31T12:00:00Z (default now)')
    .option('--for-namespace <NAME>', 'good in this namespace only (default in any)')
    .option('--unpinned-inputs', 'sign although the content of an input may change')
  templateFlags(sign).option('--output <FORMAT>', 'yaml (default) or json', readObjectFormat)

  listFlags(
    leaf<import('./commands/key.js').KeyVerifyFlags>(
      key,
      'verify [JOBFILE]',
      'Say who signed a job, whether each signature holds, and whom this machine trusts',
      async (operands, flags) => (await keys()).keyVerify(operands[0], flags, context),
    ),
  )

  const trust = leaf<import('./commands/key.js').KeyTrustFlags>(
    key,
    'trust <KEY>',
    'Let jobs that are signed with a key reach more hosts on the node of this machine; counts at once',
    async (operands, flags) => (await keys()).keyTrust(operands[0] ?? '', flags, context),
  )
  trust
    .option('--name <NAME>', 'what to call it in records (default from the key)')
    .collected('--domain <PATTERN>', 'host that its jobs may reach: host, .host, *.host; @preset; repeatable')
    .collected('--outbound-url <URL>', 'the same with a scheme: https://host; repeatable')
    .option('--expires <DURATION>', 'trust it for so long: 90d (default until it is taken back)')
    .option('--replace', 'replace what the key was trusted with before')
  objectFlags(trust)
  leaf<GlobalFlags>(
    key,
    'untrust <NAME|KEY>',
    'Take the trust back; connections that only it allowed are closed',
    async (operands, flags) => (await keys()).keyUntrust(operands[0] ?? '', flags, context),
  )
  listFlags(
    leaf<import('./output-format.js').ListFlags & GlobalFlags>(
      key,
      'list',
      'List the keys that the node of this machine trusts',
      async (_operands, flags) => (await keys()).keyList(flags, context),
    ),
  )
}
