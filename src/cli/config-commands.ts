import { listFlags, objectFlags } from './output-flags.js'
import type { WeirCommand } from './command.js'
import type { CliContext } from './context.js'
import type { ListFlags } from './output-format.js'
import type { Leaf } from './program.js'

/** `weir config …`. */
export function addConfigCommands(leaf: Leaf, config: WeirCommand, context: CliContext): void {
  listFlags(
    leaf<ListFlags>(config, 'list', 'Every key, its value and where it came from', async (_operands, flags) =>
      (await import('./commands/config.js')).configList(flags, context),
    ),
  )
  objectFlags(
    leaf<{ output?: string; pretty?: boolean }>(
      config,
      'get <KEY>',
      'Show one value',
      async (operands, flags) =>
        (await import('./commands/config.js')).configGet(operands[0] ?? '', flags, context),
    ),
  )
  leaf<object>(
    config,
    'set <KEY=VALUE...>',
    'Write values to the configuration file: all of them, or on any mistake none',
    async (operands, flags) => (await import('./commands/config.js')).configSet(operands, flags, context),
  )
  leaf<object>(config, 'unset <KEY>', 'Take a value out of the configuration file', async (operands, flags) =>
    (await import('./commands/config.js')).configUnset(operands[0] ?? '', flags, context),
  )
  leaf<{ path?: string }>(
    config,
    'default',
    'Print a complete configuration file with every default',
    async (_operands, flags) => (await import('./commands/config.js')).configDefault(flags, context),
  ).option('--path <FILE>', 'write it to this new file instead')

  const measure = leaf<import('./commands/config-auto-resources.js').AutoResourcesFlags>(
    config,
    'auto-resources',
    'Measure this machine and write how much of it jobs may use',
    async (_operands, flags) =>
      (await import('./commands/config-auto-resources.js')).configAutoResources(flags, context),
  )
    .option('--total-percentage <NUMBER>', 'share of the machine that all jobs together get (default 75)')
    .option('--default-job-percentage <NUMBER>', 'also: share of that for a job that asks for nothing')
    .option('--dry-run', 'write nothing, only show what would change') as WeirCommand
  // weir has no limit per job below that of the node, and the queue waits at the orchestrator.
  measure.hidden('--job-percentage <NUMBER>').hidden('--queue-job-percentage <NUMBER>')
  listFlags(measure)
}
