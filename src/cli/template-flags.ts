import type { WeirCommand } from './command.js'

/** The flags of commands that read a job file, which may be a template. */
export function templateFlags(command: WeirCommand): WeirCommand {
  return command
    .collected('-V, --template-vars <NAME=VALUE>', 'value for {{.NAME}} in the file; repeatable')
    .option('-E, --template-envs <REGEX>', 'also values from environment variables with such names')
    .option('--no-template', 'take the file as it is') as WeirCommand
}
