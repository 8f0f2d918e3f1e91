import { listFlags, objectFlags } from './output-flags.js'
import type { WeirCommand } from './command.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { Leaf } from './program.js'

type EditFlags = import('./commands/node-allowlist.js').AllowlistEditFlags
type ImportFlags = import('./commands/node-allowlist.js').AllowlistImportFlags

/** What `allowlist` commands do, for a node or for the network. */
export interface AllowlistActions {
  /** Whether `--begin` exists. */
  canBegin?: boolean
  list: (flags: GlobalFlags & import('./output-format.js').ListFlags) => Promise<number>
  add: (patterns: string[], flags: EditFlags) => Promise<number>
  remove: (patterns: string[], flags: EditFlags) => Promise<number>
  import: (file: string, flags: ImportFlags) => Promise<number>
}

/** `allowlist list|add|remove|import` below `parent`; returns the commands that change something. */
export function addAllowlistCommands(
  leaf: Leaf,
  parent: WeirCommand,
  { description, whose }: { description: string; whose: string },
  actions: AllowlistActions,
): WeirCommand[] {
  const group = parent.command('allowlist').description(description) as WeirCommand
  const changing = (command: WeirCommand, isAdding: boolean): WeirCommand => {
    if (isAdding) command.option('--comment <TEXT>', 'stands behind each new line, for example who asked')
    if (isAdding && actions.canBegin === true)
      command.option('--begin', 'also where there is no list yet: it closes everything else')
    command.option('--dry-run', 'write nothing, only show what would change')
    return objectFlags(command)
  }
  listFlags(
    leaf<import('./output-format.js').ListFlags>(
      group,
      'list',
      `The hosts that ${whose} lets jobs reach, and where each stands`,
      (_operands, flags) => actions.list(flags),
    ),
  )
  const add = leaf<EditFlags>(
    group,
    'add <PATTERN...>',
    'Let jobs reach these hosts as well: host, .host, *.host, https://host, @preset',
    (operands, flags) => actions.add(operands, flags),
  )
  const remove = leaf<EditFlags>(group, 'remove <PATTERN...>', 'Take patterns out', (operands, flags) =>
    actions.remove(operands, flags),
  )
  const fromFile = leaf<ImportFlags>(
    group,
    'import <FILE>',
    "Add the hosts of a list: one per line, as Bacalhau's, or Golem's JSON; - reads standard input",
    (operands, flags) => actions.import(operands[0] ?? '', flags),
  ).option('--skip-refused', 'take the good entries although others cannot be taken') as WeirCommand
  changing(add, true)
  changing(remove, false)
  changing(fromFile, true)
  return [add, remove, fromFile]
}

/** `weir node allowlist …`: on the machine of the node. */
export function addNodeAllowlistCommands(leaf: Leaf, node: WeirCommand, context: CliContext): void {
  const commands = () => import('./commands/node-allowlist.js')
  addAllowlistCommands(
    leaf,
    node,
    { description: "Edit the allowlist of this machine's node", whose: 'the node of this configuration' },
    {
      list: async (flags) => (await commands()).nodeAllowlistList(flags, context),
      add: async (patterns, flags) => (await commands()).nodeAllowlistAdd(patterns, flags, context),
      remove: async (patterns, flags) => (await commands()).nodeAllowlistRemove(patterns, flags, context),
      import: async (file, flags) => (await commands()).nodeAllowlistImport(file, flags, context),
    },
  )
}

/** `weir network allowlist …`: of the whole network, for its operators. */
export function addNetworkAllowlistCommands(leaf: Leaf, network: WeirCommand, context: CliContext): void {
  const commands = () => import('./commands/network-allowlist.js')
  addAllowlistCommands(
    leaf,
    network,
    { description: 'Edit the allowlist of the whole network', whose: 'the network' },
    {
      canBegin: true,
      list: async (flags) => (await commands()).networkAllowlistList(flags, context),
      add: async (patterns, flags) => (await commands()).networkAllowlistAdd(patterns, flags, context),
      remove: async (patterns, flags) => (await commands()).networkAllowlistRemove(patterns, flags, context),
      import: async (file, flags) => (await commands()).networkAllowlistImport(file, flags, context),
    },
  )
}

/** `weir network request|requests|approve|deny`. */
export function addAccessRequestCommands(leaf: Leaf, network: WeirCommand, context: CliContext): void {
  const commands = () => import('./commands/access-requests.js')
  objectFlags(
    leaf<import('./commands/access-requests.js').AccessFlags>(
      network,
      'request <DOMAIN...>',
      'Ask operators to let jobs reach hosts: host, .host, *.host, https://host, @preset',
      async (operands, flags) => (await commands()).networkRequest(operands, flags, context),
    ).option('--reason <TEXT>', 'what the job does with them (required)') as WeirCommand,
  )
  listFlags(
    leaf<import('./commands/access-requests.js').AccessListFlags>(
      network,
      'requests [ID]',
      'How requests for hosts stand: your own, for operators all; with an ID one of them',
      async (operands, flags) => (await commands()).networkRequests(operands[0], flags, context),
    ).option('--state <STATE>', 'only those that are open, approved, denied or expired') as WeirCommand,
  )
  objectFlags(
    leaf<import('./commands/access-requests.js').AccessFlags>(
      network,
      'approve <ID>',
      'Add the hosts of a request to the list of the network, and say which nodes still refuse',
      async (operands, flags) => (await commands()).networkApprove(operands[0] ?? '', flags, context),
    ).option('--reason <TEXT>', 'what the user is told') as WeirCommand,
  )
  objectFlags(
    leaf<import('./commands/access-requests.js').AccessFlags>(
      network,
      'deny <ID>',
      'Deny a request, with a reason that the user is told',
      async (operands, flags) => (await commands()).networkDeny(operands[0] ?? '', flags, context),
    ).option('--reason <TEXT>', 'why (required)') as WeirCommand,
  )
}
