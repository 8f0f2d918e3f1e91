import { listFlags, objectFlags } from './output-flags.js'
import { templateFlags } from './template-flags.js'
import type { WeirCommand } from './command.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { Leaf } from './program.js'

/** `weir node token …`. */
export function addNodeTokenCommands(leaf: Leaf, node: WeirCommand, context: CliContext): void {
  const token = node
    .command('token')
    .description('Tokens with which machines join the network') as WeirCommand
  objectFlags(
    leaf<import('./commands/node-tokens.js').TokenCreateFlags>(
      token,
      'create',
      'Make a token with which a machine can join',
      async (_operands, flags) => (await import('./commands/node-tokens.js')).nodeTokenCreate(flags, context),
    )
      .option('--expires <DURATION>', 'how long it can be used, for example 1h, or never (default 24h)')
      .option('--uses <NUMBER>', 'how many machines may join with it; 0 = any number (default 1)')
      .option('--description <TEXT>', 'what it is for') as WeirCommand,
  )
  listFlags(
    leaf<import('./output-format.js').ListFlags>(
      token,
      'list',
      'List the tokens that can still be used',
      async (_operands, flags) => (await import('./commands/node-tokens.js')).nodeTokenList(flags, context),
    ),
  )
  leaf<GlobalFlags>(
    token,
    'revoke <ID>',
    'Make a token useless; machines that joined with it stay',
    async (operands, flags) =>
      (await import('./commands/node-tokens.js')).nodeTokenRevoke(operands[0] ?? '', flags, context),
  )
}

/** `weir network …`: what jobs may reach, asked before anything runs. */
export function addNetworkCommands(leaf: Leaf, network: WeirCommand, context: CliContext): void {
  const hosts = (command: WeirCommand): WeirCommand =>
    command
      .collected(
        '--domain <PATTERN>',
        'host that the job names: host, .host, *.host, each with :port; @preset; repeatable',
      )
      .collected('--outbound-url <URL>', 'the same with a scheme: https://host; repeatable')
      .collected(
        '--signed-by <KEY>',
        'as if the job were signed with this public key; repeatable',
      ) as WeirCommand
  const check = leaf<import('./commands/network-check.js').NetworkCheckFlags>(
    network,
    'check [JOBFILE]',
    'Which nodes would take a job with these hosts, or a whole job, and what keeps the others from it',
    async (operands, flags) =>
      (await import('./commands/network-check.js')).networkCheck(operands[0], flags, context),
  )
  hosts(check).option('--engine <NAME>', 'only nodes that can give networks to this engine: docker, wasm')
  listFlags(templateFlags(check))

  listFlags(
    leaf<import('./output-format.js').ListFlags>(
      network,
      'presets [NAME]',
      'Named lists of hosts, which jobs may name as --domain @NAME',
      async (operands, flags) =>
        (await import('./commands/network-presets.js')).networkPresets(operands[0], flags, context),
    ),
  )

  const explain = leaf<import('./commands/network-explain.js').NetworkExplainFlags>(
    network,
    'explain <HOST>',
    'What the gateway would decide about a host or URL, by which rule, and what would change it',
    async (operands, flags) =>
      (await import('./commands/network-explain.js')).networkExplain(operands[0] ?? '', flags, context),
  )
  hosts(explain).option(
    '--node <ID>',
    'ask the gateway of this node (default: judge by the configuration here)',
  )
  objectFlags(explain)
}

/** `weir devstack`. */
export function addDevstackCommand(leaf: Leaf, program: WeirCommand, context: CliContext): void {
  leaf<import('./commands/devstack.js').DevstackFlags>(
    program,
    'devstack',
    'Run a network of several nodes on this machine until Ctrl-C',
    async (_operands, flags) => (await import('./commands/devstack.js')).devstack(flags, context),
  )
    .option('--compute-nodes <NUMBER>', 'compute nodes, each in a process of its own (default 3)')
    .option('--orchestrators <NUMBER>', 'exactly 1')
    .option('--hybrid-nodes <NUMBER>', '1: the orchestrator runs jobs as well (default 0)')
    .option('--stack-repo <DIR>', 'keep the data of all nodes here (default a temporary directory)')
    .option('--standard-ports', 'API on 1234, nodes on 4222 (default free ports)')
    .option('--accept-networked-jobs', 'accept jobs with network access')
    .collected('--allow-domain <PATTERN>', 'host that networked jobs may reach; repeatable')
    .collected('--allow-listed-local-paths <PATH[:ro|:rw]>', 'path that jobs may use as input; repeatable')
    .hidden('--computes <NUMBER>')
    .hidden('--hybrids <NUMBER>')
    .hidden('--requester-nodes <NUMBER>')
}
