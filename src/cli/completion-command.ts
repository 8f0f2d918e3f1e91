import { COMPLETION_SCRIPTS, SHELLS } from './completion/scripts.js'
import { EXIT } from './exit-codes.js'
import { readChoice } from './read-choice.js'
import type { WeirCommand } from './command.js'
import type { CliContext } from './context.js'
import type { Leaf } from './program.js'

/** `weir completion SHELL`: prints the script that makes a shell complete weir's command lines. */
export function addCompletionCommand(leaf: Leaf, program: WeirCommand, { terminal }: CliContext): void {
  leaf<object>(
    program,
    'completion <SHELL>',
    `Print what makes a shell complete command lines: ${SHELLS.join(', ')}`,
    async ([shell = '']) => {
      await terminal.data(COMPLETION_SCRIPTS[readChoice('the shell', shell, SHELLS)])
      return EXIT.ok
    },
  )
}
