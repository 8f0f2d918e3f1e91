import { listFlags, objectFlags } from './output-flags.js'
import type { WeirCommand } from './command.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { Leaf } from './program.js'

type EditFlags = import('./commands/node-allowlist.js').AllowlistEditFlags
type ImportFlags = import('./commands/node-allowlist.js').AllowlistImportFlags

/** What `allowlist` commands do, for a node or for the network. */
export interface AllowlistActions {
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
