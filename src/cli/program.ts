import { VERSION } from '../version.js'
import { HELP_OPTION, WeirCommand, addGlobalFlags } from './command.js'
import {
  addAccessRequestCommands,
  addNetworkAllowlistCommands,
  addNodeAllowlistCommands,
} from './allowlist-commands.js'
import { addAuditCommands } from './audit-commands.js'
import { addKeyCommands } from './key-commands.js'
import { addAuthCommands } from './access-commands.js'
import { addCompletionCommand } from './completion-command.js'
import { addConfigCommands } from './config-commands.js'
import { addEgressCommands } from './egress-commands.js'
import { EXAMPLES } from './examples.js'
import { addJobVersionCommands } from './job-version-commands.js'
import { jobViewFlags } from './job-view-flags.js'
import { addMovedCommands } from './moved-commands.js'
import { addDevstackCommand, addNetworkCommands, addNodeTokenCommands } from './network-commands.js'
import { addRetiredFlags, addRetiredServeFlags, withoutRetired } from './retired-flags.js'
import { listFlags, objectFlags, pageFlags, readObjectFormat, watchFlag } from './output-flags.js'
import { templateFlags } from './template-flags.js'
import type { Command } from 'commander'
import type { CliContext, GlobalFlags } from './context.js'

/** What a command does; resolves with the exit code. */
type Action<Flags> = (operands: string[], flags: Flags & GlobalFlags) => Promise<number>

/**
 * The command tree. What a command needs is imported when it runs: start-up time is what users feel first.
 * `exit` is called with the exit code of the command that ran.
 */
export function buildProgram(context: CliContext, exit: (code: number) => void): WeirCommand {
  const program = new WeirCommand('weir')
  program
    .description(
      'Runs Docker containers and WebAssembly programs with exactly the network access that was granted',
    )
    .optionsGroup('Flags:')
    .enablePositionalOptions()
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .showSuggestionAfterError(true)
    .version(VERSION, '--version', 'show the version of this program')
    .addHelpOption(HELP_OPTION)
    .helpCommand('help [command]', 'show help for a command')
  addGlobalFlags(program)

  /** A leaf of the tree. */
  const leaf = <Flags>(
    parent: WeirCommand,
    usage: string,
    description: string,
    action: Action<Flags>,
  ): WeirCommand => {
    const command = addGlobalFlags(parent.command(usage).description(description) as WeirCommand)
    command.optionsGroup('Flags:')
    command.action(async () => {
      program.running = command
      const merged = mergeFlags(program.opts(), command.opts()) as Flags & GlobalFlags
      if (merged.color === false) context.terminal.withoutColour()
      exit(await action(command.args, withoutRetired(merged, command, context)))
    })
    return command
  }
  const group = (name: string, description: string): WeirCommand =>
    program.command(name).description(description) as WeirCommand

  addRunCommands(leaf, group, context)
  addJobCommands(leaf, group('job', 'Submit, inspect, stop jobs and fetch their results'), context)
  addNodeCommands(leaf, group('node', 'Inspect the nodes of the network'), context)
  const network = group('network', 'Find out what jobs may reach, ask for more, decide on it')
  addNetworkCommands(leaf, network, context)
  addNetworkAllowlistCommands(leaf, network, context)
  addAccessRequestCommands(leaf, network, context)
  addAuditCommands(leaf, group, context)
  addKeyCommands(leaf, group, context)
  addAuthCommands(leaf, group('auth', 'Log in, and manage tokens'), context)
  addEgressCommands(leaf, group('egress', 'The egress gateway for any program of this machine'), context)
  addServerCommands(leaf, program, group, context)
  addConfigCommands(leaf, group('config', 'Show and change the configuration'), context)
  addCompletionCommand(leaf, program, context)
  addMovedCommands(program)
  for (const { command } of [{ command: program }, ...leavesOf(program)])
    addRetiredFlags(command as WeirCommand)
  addExamples(program)
  return program
}

/** The commands of the tree that do something, with their words: `job run`. */
export function leavesOf(
  command: Command,
  words: readonly string[] = [],
): { words: string; command: Command }[] {
  if (command.commands.length === 0) return [{ words: words.join(' '), command }]
  const current = command.commands.filter((inner) => !(inner as WeirCommand).isRetired)
  return current.flatMap((inner) => leavesOf(inner, [...words, inner.name()]))
}

function addExamples(program: WeirCommand): void {
  for (const { words, command } of [{ words: '', command: program }, ...leavesOf(program)]) {
    const examples = EXAMPLES[words] ?? []
    if (examples.length === 0) continue
    const lines = examples.map((example) => `  ${example}`)
    command.addHelpText('after', `\n${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.join('\n')}`)
  }
}

export type Leaf = <Flags>(
  parent: WeirCommand,
  usage: string,
  description: string,
  action: Action<Flags>,
) => WeirCommand
export type Group = (name: string, description: string) => WeirCommand

function addRunCommands(leaf: Leaf, group: Group, context: CliContext): void {
  const docker = group('docker', 'Run containers')
  const wasm = group('wasm', 'Run and check WebAssembly programs')

  type DockerFlags = import('./job-from-flags.js').DockerFlags & import('./run-flags.js').AllRunFlags
  const dockerRun = leaf<DockerFlags>(
    docker,
    'run <IMAGE> [COMMAND...]',
    'Run a container',
    async (operands, flags) => {
      const { dockerRun: run } = await import('./commands/docker-run.js')
      return run(operands[0] ?? '', programArguments(operands), flags, context)
    },
  )
  dockerRun
    .option('-w, --workdir <PATH>', 'working directory in the container')
    .option('--entrypoint <LIST>', 'replaces the entry point of the image, comma separated')
  addJobFlags(dockerRun)

  type WasmFlags = import('./job-from-flags.js').WasmFlags & import('./run-flags.js').AllRunFlags
  const wasmRun = leaf<WasmFlags>(
    wasm,
    'run <PROGRAM> [ARGUMENT...]',
    'Run a WebAssembly program: a local .wasm file, a URL or a CID',
    async (operands, flags) => {
      const { wasmRun: run } = await import('./commands/wasm-run.js')
      return run(operands[0] ?? '', programArguments(operands), flags, context)
    },
  )
  wasmRun
    .option('--entry-point <NAME>', 'exported function to call (default _start)')
    .collected(
      '--import-module <[NAME=]MODULE>',
      'module that provides imports, under NAME: a file, a URL or a CID; repeatable',
    )
    .collected(
      '-I, --import-module-volumes <FILE|CID:PATH>',
      'module that provides imports under its file name; repeatable',
    )
    .collected('-U, --import-module-urls <URL>', 'module that provides imports, by URL; repeatable')
  addJobFlags(wasmRun)

  const validate = leaf<import('./commands/wasm-validate.js').ValidateFlags>(
    wasm,
    'validate <FILE|CID>',
    'Say what a WebAssembly program is and needs, and whether weir can run it',
    async (operands, flags) => {
      const { wasmValidate } = await import('./commands/wasm-validate.js')
      return wasmValidate(operands[0] ?? '', flags, context)
    },
  )
  validate
    .option('--entry-point <NAME>', 'exported function to call (default _start)')
    .collected('-I, --import-module <[NAME=]MODULE>', 'module that provides imports; repeatable')
    .option('--namespace <NAME>', 'where a CID is looked up (default "default")')
    .option('--output <FORMAT>', 'json or yaml', readObjectFormat)

  leaf<{ namespace?: string }>(
    wasm,
    'upload <FILE>',
    'Upload a program without running it, and print its CID',
    async (operands, flags) =>
      (await import('./commands/wasm-store.js')).wasmUpload(operands[0] ?? '', flags, context),
  ).option('--namespace <NAME>', 'namespace whose jobs may name it (default "default")')

  listFlags(
    leaf<import('./output-format.js').ListFlags & { namespace?: string }>(
      wasm,
      'list',
      'List uploaded programs and data, last used first',
      async (_operands, flags) => (await import('./commands/wasm-store.js')).wasmList(flags, context),
    ).option('--namespace <NAME>', 'of this namespace (default "default")') as WeirCommand,
  )
}

/** Behind the image or program: everything, without the `--` that may separate it. */
function programArguments(operands: readonly string[]): string[] {
  return operands.slice(operands[1] === '--' ? 2 : 1)
}

function addJobFlags(command: WeirCommand): void {
  command
    .passThroughOptions()
    .optionsGroup('Job flags:')
    .option('--name <NAME>', 'name of the job (default its id)')
    .option('--namespace <NAME>', 'namespace (default "default")')
    .option('--priority <NUMBER>', 'higher is placed first (default 0)')
    .option('--count <NUMBER>', 'executions wanted, each on a node of its own (default 1)')
    .collected('-l, --labels <KEY=VALUE>', 'label of the job; repeatable')
    .option('--target <any|all>', 'any: count nodes; all: every matching node (default any)')
    .option('--constraints <EXPRESSION>', 'labels that nodes must have, for example region=eu,gpu')
    .option('--task-name <NAME>', 'name of the task (default "main")')
    .collected('-e, --env <NAME=VALUE>', 'environment variable; repeatable')
    .option('--cpu <CORES>', 'for example 2, 0.5 or 500m')
    .option('--memory <BYTES>', 'for example 512mb or 1gi')
    .option('--disk <BYTES>', 'for example 10gb')
    .option('--gpu <NUMBER>', 'whole devices')
    .option('--force', 'make a new version of the named job although nothing changed')
    .option('--timeout <SECONDS>', 'limit for the whole job')
    .option('--queue-timeout <SECONDS>', 'how long the job may wait for a node (default 0: fail at once)')
    .optionsGroup('Data flags:')
    .collected(
      '-i, --input <URI[:PATH]>',
      'data to fetch: https://, file://, ./local, s3://, ipfs://; default path /inputs',
    )
    .collected(
      '-o, --output <NAME:PATH>',
      'directory that becomes part of the result; or json|yaml: print the job at the end',
    )
    .option('-p, --publisher <PUBLISHER>', 'where results go: local, s3://bucket/key, ipfs, noop')
    .option('--download', 'download the results when the job has ended')
    .option('--output-dir <DIR>', 'where to (default ./job-<id>)')
    .optionsGroup('Network flags:')
    .option('--network <none|http|full>', 'none (default); http: the listed hosts only; full: the internet')
    .collected(
      '--domain <PATTERN>',
      'host that an http job may reach: host, .host, *.host, each with :port; repeatable',
    )
    .collected(
      '--outbound-url <URL>',
      'the same with a scheme: https://host for TLS only, http://host:8080; repeatable',
    )
    .option('--learn', 'open every public host to it and say at the end which it needs; needs the operator')
    .option('--egress-rate <RATE>', 'bits per second of an http job at most: 2mbit, or up:500kbit,down:5mbit')
    .collected(
      '--egress-budget <[DOMAIN=]BYTES>',
      'bytes an http job may send and receive: 100mb, up:10mb,down:1gb, example.com=5mb; repeatable',
    )
    .option('--egress-requests <NUMBER>', 'requests per second of an http job at most')
    .option('--sign-key <FILE>', 'sign the job with this key; the image by digest: name@sha256:…')
    .option('--sign-expires <DURATION>', 'how long the signature is good (default 1d)')
    .hidden('--concurrency <NUMBER>')
    .hidden('-s, --selector <EXPRESSION>')
    .hidden('-u, --input-urls <URL>', true)
    .hidden('-v, --input-volumes <CID:PATH>', true)
    .hidden('--output-volumes <NAME:PATH>', true)
  addWatchFlags(command)
}

function addWatchFlags(command: WeirCommand): void {
  command.runsProgram = true
  command
    .optionsGroup('Run flags:')
    .option('--wait', 'wait for the end of the job (default true)')
    .option('--no-wait', 'same as --wait=false: print the id and leave')
    .option('-d, --detach', 'same as --wait=false')
    .option('-f, --follow', 'stream the output instead of the progress')
    .option('--id-only', 'print the id of the job and nothing else')
    .option('--dry-run', 'print the job instead of submitting it')
    .option('--node-details', 'say which nodes ran it')
    .option(
      '--wait-timeout-secs <SECONDS>',
      'stop waiting after this time; the job goes on (default 0: never)',
    )
    .option('--on-interrupt <stop|detach>', 'what the first Ctrl-C does to the job (default stop)')
    .option('--hide-warnings', 'do not show what was ignored')
    .hidden('--show-warnings')
    .hidden('--group-events')
}

function addJobCommands(leaf: Leaf, job: WeirCommand, context: CliContext): void {
  const run = leaf<Parameters<typeof import('./commands/job-run.js').jobRun>[1]>(
    job,
    'run [FILE]',
    'Submit a job from a YAML or JSON file, or from standard input',
    async (operands, flags) => (await import('./commands/job-run.js')).jobRun(operands[0], flags, context),
  )
  templateFlags(run)
    .option('--download', 'download the results when the job has ended')
    .option('--output-dir <DIR>', 'where to (default ./job-<id>)')
    .option('--output <FORMAT>', 'json or yaml: print the job at the end', readObjectFormat)
    .option('--force', 'make a new version of the named job although nothing changed')
  addWatchFlags(run)

  templateFlags(
    leaf<import('./commands/job-run.js').TemplateFlags>(
      job,
      'validate [FILE]',
      'Check a job file: every mistake with its place',
      async (operands, flags) =>
        (await import('./commands/job-run.js')).jobValidate(operands[0], flags, context),
    ),
  )

  const list = leaf<Parameters<typeof import('./commands/job-lists.js').jobList>[0]>(
    job,
    'list',
    'List jobs',
    async (_operands, flags) => (await import('./commands/job-lists.js')).jobList(flags, context),
  )
  list
    .option('--labels <SELECTOR>', 'only jobs with such labels')
    .option('--namespace <NAME>', 'only jobs of this namespace (default all)')
    .collected('--state <STATE>', 'only jobs in this state; repeatable, or several with commas')
  pageFlags(watchFlag(listFlags(list)), '10', 'created_at or modified_at')

  const describe = objectFlags(
    leaf<import('./commands/job-describe.js').DescribeFlags>(
      job,
      'describe <ID>',
      'Show everything about a job',
      async (operands, flags) =>
        (await import('./commands/job-describe.js')).jobDescribe(operands[0] ?? '', flags, context),
    ),
  )
  jobViewFlags(watchFlag(describe), 'versions')
  const executions = leaf<import('./commands/job-lists.js').PageFlags>(
    job,
    'executions <ID>',
    'List the executions of a job',
    async (operands, flags) =>
      (await import('./commands/job-lists.js')).jobExecutions(operands[0] ?? '', flags, context),
  )
  jobViewFlags(executions, 'versions')
  pageFlags(watchFlag(listFlags(executions)), '20', 'created_at or modified_at')

  const history = leaf<Parameters<typeof import('./commands/job-lists.js').jobHistory>[1]>(
    job,
    'history <ID>',
    'List what happened to a job',
    async (operands, flags) =>
      (await import('./commands/job-lists.js')).jobHistory(operands[0] ?? '', flags, context),
  )
  history
    .option('--event-type <all|job|execution>', 'only events of this level (default all)')
    .option('--execution-id <ID>', 'only events of this execution')
  jobViewFlags(history, 'versions')
  pageFlags(listFlags(history), 'all')

  const logs = leaf<import('./commands/job-logs.js').LogFlags>(
    job,
    'logs <ID>',
    'Show the output of a job: of every execution, also of those that were tried again',
    async (operands, flags) =>
      (await import('./commands/job-logs.js')).jobLogs(operands[0] ?? '', flags, context),
  )
  logs
    .option('-f, --follow', 'go on until the job ends, through new tries')
    .optionalNumber(
      '-t, --tail [LINES]',
      'only so many last lines of each execution; alone: skip what is there',
    )
    .option('--since <TIME>', 'only what was written since: 10m, 2h30m, 1d, or 2024-11-29T08:46:40Z')
    .option('--timestamps', 'the time before each line')
    .option('--no-prefix', 'no execution before each line')
    .option('-e, --execution-id <ID>', 'only of this execution')
  jobViewFlags(logs, 'versions')

  const stop = leaf<{ quiet?: boolean; namespace?: string }>(
    job,
    'stop <ID>',
    'Stop a job',
    async (operands, flags) =>
      (await import('./commands/job-stop.js')).jobStop(operands[0] ?? '', flags, context),
  ).option('--quiet', 'print only the id of the evaluation') as WeirCommand
  jobViewFlags(stop, 'namespace')

  addJobVersionCommands(leaf, job, context, addWatchFlags)

  leaf<Parameters<typeof import('./commands/job-get.js').jobGet>[2]>(
    job,
    'get <ID[/PATH]> [PATH]',
    'Download the results of a job, or one file or directory of them',
    async (operands, flags) =>
      (await import('./commands/job-get.js')).jobGet(operands[0] ?? '', operands[1], flags, context),
  )
    .option('--output-dir <DIR>', 'where to (default ./job-<id>)')
    .option('--raw', 'one folder per result instead of merging them')
    .option('--download-timeout-secs <DURATION>', 'give up after this time (default never)')

  const egress = leaf<import('./commands/job-egress.js').EgressFlags>(
    job,
    'egress <ID>',
    'List what a job tried to reach, and why it was refused',
    async (operands, flags) =>
      flags.suggest === true
        ? (await import('./commands/job-egress-suggest.js')).jobEgressSuggest(
            operands[0] ?? '',
            flags,
            context,
          )
        : (await import('./commands/job-egress.js')).jobEgress(operands[0] ?? '', flags, context),
  )
  egress
    .option('-f, --follow', 'go on until the job ends')
    .option('--denied', 'only what was refused')
    .option(
      '--suggest',
      'instead: the flags, or with --output yaml the Network of a job file, that would allow it',
    )
    .option('--group', 'with --suggest: neighbours as one pattern, .example.com, which holds more')
    .option('-e, --execution-id <ID>', 'of this execution (default all)')
    .option('--limit <NUMBER>', 'at most so many')
    .option('--next-token <TOKEN>', 'the page that this token begins')
  listFlags(egress)
}

function addNodeCommands(leaf: Leaf, node: WeirCommand, context: CliContext): void {
  const list = leaf<import('./commands/nodes.js').NodeListFlags>(
    node,
    'list',
    'List nodes',
    async (_operands, flags) => (await import('./commands/nodes.js')).nodeList(flags, context),
  )
  list
    .option(
      '--show <LIST>',
      'columns: labels, version, features, capacity, network (default labels,capacity)',
    )
    .option('--labels <SELECTOR>', 'only nodes with such labels')
    .option('--filter-approval <STATE>', 'approved, pending or rejected')
    .option('--filter-status <STATE>', 'connected or disconnected')
  pageFlags(
    watchFlag(listFlags(list)),
    'all',
    'id, type, available_cpu, available_memory, available_disk, available_gpu or status',
  )

  objectFlags(
    leaf<import('./output-format.js').ListFlags>(
      node,
      'describe <ID>',
      'Show everything about a node',
      async (operands, flags) =>
        (await import('./commands/nodes.js')).nodeDescribe(operands[0] ?? '', flags, context),
    ),
  )
  for (const [action, description] of [
    ['approve', 'Let a node take part'],
    ['reject', 'Keep a node from taking part'],
    ['delete', 'Forget a node'],
  ] as const) {
    leaf<{ message?: string }>(node, `${action} <ID>`, description, async (operands, flags) =>
      (await import('./commands/nodes.js')).nodeUpdate(operands[0] ?? '', action, flags, context),
    ).option('-m, --message <TEXT>', 'reason, for the record')
  }
  addNodeAllowlistCommands(leaf, node, context)
  addNodeTokenCommands(leaf, node, context)
}

function addServerCommands(leaf: Leaf, program: WeirCommand, group: Group, context: CliContext): void {
  const agent = group('agent', 'Ask the server about itself')
  const ask = (
    name: string,
    description: string,
    pick: 'agentAlive' | 'agentNode' | 'agentVersion' | 'agentConfig',
  ): void => {
    const command = leaf<import('./output-format.js').ListFlags>(
      agent,
      name,
      description,
      async (_operands, flags) => (await import('./commands/agent.js'))[pick](flags, context),
    )
    objectFlags(command)
  }
  ask('alive', 'Whether the server answers', 'agentAlive')
  ask('node', 'The node that answers', 'agentNode')
  ask('version', 'The version of the server', 'agentVersion')
  ask('config', 'The configuration of the server', 'agentConfig')

  const serve = leaf<import('./serve-flags.js').ServeFlags>(
    program,
    'serve',
    'Run a node until Ctrl-C',
    async (_operands, flags) => (await import('./commands/serve.js')).serve(flags, context),
  )
    .option('--orchestrator', 'run the orchestrator (with --compute: both, which is also the default)')
    .option('--compute', 'run a compute node; alone it needs an orchestrator to join')
    .collected(
      '--join <URL>',
      'run a compute node of the network of this orchestrator: nats://host:4222; repeatable',
    )
    .option('--token-file <FILE>', 'file with the join token, needed the first time')
    .option('--name <NAME>', 'name of the node, at its first start (default n- and a random UUID)')
    .option('--auth', 'callers have to authenticate, on this machine too (beyond it they always have to)')
    .option('--self-signed', 'speak TLS with a certificate of our own, which clients pin')
    .option('--insecure', 'listen beyond this machine without authentication, or without TLS')
    .option('--accept-networked-jobs', 'accept jobs with network access')
    .collected('--allow-domain <PATTERN>', 'host that networked jobs may reach; repeatable')
    .collected('--allow-listed-local-paths <PATH[:ro|:rw]>', 'path that jobs may use as input; repeatable')
    .collected('--labels <KEY=VALUE>', 'label of the node; repeatable')
  addRetiredServeFlags(serve)

  addDevstackCommand(leaf, program, context)

  listFlags(
    leaf<Parameters<typeof import('./commands/version.js').version>[0]>(
      program,
      'version',
      'The versions of this program and of the server',
      async (_operands, flags) => (await import('./commands/version.js')).version(flags, context),
    ).option('--client', 'only of this program'),
  )
}

/** Flags behind the command's name win over those in front of it; `-c` adds up. */
function mergeFlags(outer: GlobalFlags, inner: GlobalFlags): GlobalFlags {
  const config = [...(outer.config ?? []), ...(inner.config ?? [])]
  const color = outer.color !== false && inner.color !== false
  return { ...outer, ...inner, color, ...(config.length === 0 ? {} : { config }) }
}
