import { listFlags, readObjectFormat } from './output-flags.js'
import type { WeirCommand } from './command.js'
import type { CliContext } from './context.js'
import type { Leaf } from './program.js'

/** `weir egress …`: the gateway for any program of this machine, without a network of nodes. */
export function addEgressCommands(leaf: Leaf, egress: WeirCommand, context: CliContext): void {
  const exec = leaf<import('./commands/egress-exec.js').ExecFlags>(
    egress,
    'exec <COMMAND...>',
    'Run a program of this machine that reaches the named hosts and nothing else',
    async (operands, flags) =>
      (await import('./commands/egress-exec.js')).egressExec(operands, flags, context),
  )
  exec.runsProgram = true
  exec
    .passThroughOptions()
    .optionsGroup('Network flags:')
    .collected(
      '--domain <PATTERN>',
      'host that it may reach: host, .host, *.host, each with :port; @preset; repeatable (default none)',
    )
    .collected('--outbound-url <URL>', 'the same with a scheme: https://host; repeatable')
    .option('--learn', 'open every public host to it, and say at the end which it needs')
    .option('--group', 'with --learn: neighbours as one pattern, .example.com, which holds more')
    .option('--rate <RATE>', 'bits per second at most: 2mbit, or up:500kbit,down:5mbit (default no limit)')
    .collected(
      '--budget <[DOMAIN=]BYTES>',
      'bytes it may send and receive: 100mb, up:10mb,down:1gb, example.com=5mb; repeatable',
    )
    .option('--requests <NUMBER>', 'requests per second at most')
    .option('--policy <FILE>', 'more rules: allow, deny, privateExceptions, hosts, dnsServers (YAML)')
    .optionsGroup('Program flags:')
    .collected('--allow-write <PATH>', 'it may write there, besides the working directory; repeatable')
    .collected('--hide <PATH>', 'it does not see this file or directory; repeatable')
    .collected('-e, --env <NAME=VALUE>', 'environment variable; repeatable')
    .option('--clear-env', 'give it nothing of the environment but PATH, HOME, TERM and the language')
    .option(
      '--unix-sockets',
      'it may make Unix sockets; then it also reaches new ones of services in directories that it sees',
    )
    .optionsGroup('Output flags:')
    .option(
      '--output <FORMAT>',
      'json or yaml: how the summary is written to standard error',
      readObjectFormat,
    )
    .option('--summary <FILE>', 'write the summary to this file as well, as JSON')
    .option('--audit-dir <DIR>', 'keep the record of every attempt there (default: not kept)')
    .option('--quiet', 'no summary on standard error')

  const conformance = leaf<import('./commands/egress-conformance.js').ConformanceFlags>(
    egress,
    'conformance [COMMAND...]',
    'Attack a proxy with every row of the corpus and say where it lets something out',
    async (operands, flags) =>
      (await import('./commands/egress-conformance.js')).egressConformance(operands, flags, context),
  )
  conformance
    .passThroughOptions()
    .optionsGroup('Proxy flags:')
    .requiredOption('--proxy <URL>', 'where it listens in the namespace of the test: http://127.0.0.1:PORT')
    .option('--user <NAME:PASSWORD>', 'credential for Proxy-Authorization')
    .option('--patience <SECONDS>', 'how long it may take to close a connection (default 12)')
    .option('--rows <LIST>', 'only rows whose ids begin so, comma separated: A,F-1')
    .option('--all', 'show rows that passed and those that do not apply, too')
    .option('--strict', 'end with 1 unless every row passes')
  listFlags(conformance)

  leaf<import('./commands/egress-gateway.js').GatewayFlags>(
    egress,
    'gateway',
    'Run the gateway alone, as a forward proxy for other programs, until Ctrl-C',
    async (_operands, flags) => (await import('./commands/egress-gateway.js')).egressGateway(flags, context),
  )
    .collected(
      '--listen <ADDRESS>',
      'where to listen: 127.0.0.1:3128, [::1]:3128; port 0: a free one; repeatable',
    )
    .collected(
      '--domain <PATTERN>',
      'host that clients without a credential may reach, or @preset; repeatable',
    )
    .collected('--outbound-url <URL>', 'the same with a scheme: https://host; repeatable')
    .option('--policy <FILE>', 'rules, identities and listeners (YAML); read again when it changes')
    .option('--audit-dir <DIR>', 'where the records go (default egress-gateway in the data directory)')
    .option('--insecure', 'listen beyond this machine although nobody is asked for a credential')
}
