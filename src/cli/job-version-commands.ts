import { jobViewFlags } from './job-view-flags.js'
import { listFlags } from './output-flags.js'
import { templateFlags } from './template-flags.js'
import type { WeirCommand } from './command.js'
import type { CliContext } from './context.js'
import type { Leaf } from './program.js'

/** `weir job rerun`, `versions` and `diff`. */
export function addJobVersionCommands(
  leaf: Leaf,
  job: WeirCommand,
  context: CliContext,
  watchFlags: (command: WeirCommand) => void,
): void {
  const rerun = leaf<Parameters<typeof import('./commands/job-versions.js').jobRerun>[1]>(
    job,
    'rerun <ID>',
    'Run a job again, as its next version; what still runs of it is stopped first',
    async (operands, flags) =>
      (await import('./commands/job-versions.js')).jobRerun(operands[0] ?? '', flags, context),
  )
  jobViewFlags(rerun, 'version').option('--reason <TEXT>', 'for the history')
  watchFlags(rerun)

  const versions = leaf<Parameters<typeof import('./commands/job-versions.js').jobVersions>[1]>(
    job,
    'versions <ID>',
    'List the versions of a job',
    async (operands, flags) =>
      (await import('./commands/job-versions.js')).jobVersions(operands[0] ?? '', flags, context),
  )
  listFlags(jobViewFlags(versions, 'namespace'))

  templateFlags(
    leaf<import('./commands/job-run.js').TemplateFlags>(
      job,
      'diff [FILE]',
      'Show what submitting a job file would change of the job that has its name',
      async (operands, flags) =>
        (await import('./commands/job-versions.js')).jobDiff(operands[0], flags, context),
    ),
  )
}
