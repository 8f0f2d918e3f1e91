import { wholeNumber } from './whole-number.js'
import type { WeirCommand } from './command.js'

/** The flags that say which job a name means and which of its versions is asked for. */
export interface JobViewFlags {
  namespace?: string
  version?: string
  allVersions?: boolean
}

/** Adds `--namespace` and, for what belongs to versions, `--version` and `--all-versions`. */
export function jobViewFlags(command: WeirCommand, of: 'namespace' | 'version' | 'versions'): WeirCommand {
  command.option('--namespace <NAME>', 'where a job that is named is looked up (default "default")')
  if (of !== 'namespace') command.option('--version <NUMBER>', 'version of the job (default the latest)')
  if (of === 'versions') command.option('--all-versions', 'of all versions of the job')
  return command
}

/** What the flags say, for the client. Throws `cli.usage`. */
export function readJobView(flags: JobViewFlags): {
  namespace?: string
  jobVersion?: number
  allVersions?: boolean
} {
  return {
    namespace: flags.namespace,
    jobVersion: wholeNumber('--version', flags.version),
    allVersions: flags.allVersions,
  }
}
