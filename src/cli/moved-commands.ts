import { WeirError } from '../errors.js'
import { shellWord } from './shell-word.js'
import type { WeirCommand } from './command.js'

/** Commands of older tools, and what they are called here. */
const MOVED: readonly (readonly [old: string, now: readonly string[]])[] = [
  ['cancel', ['job stop']],
  ['create', ['job run']],
  ['describe', ['job describe']],
  ['exec', ['docker run', 'job run']],
  ['get', ['job get']],
  ['id', ['agent node']],
  ['list', ['job list']],
  ['logs', ['job logs']],
  ['run', ['docker run', 'wasm run', 'job run']],
  ['validate', ['job validate']],
]

/**
 * Old names at the root. They do nothing but name the replacement, with the operands that were given, and end as a
 * mistake in the command line: a script that calls one must not believe that something happened.
 */
export function addMovedCommands(program: WeirCommand): void {
  for (const [old, now] of MOVED) {
    const command = program.command(`${old} [ARGUMENT...]`, { hidden: true }) as WeirCommand
    command.isRetired = true
    command
      .helpOption(false)
      .allowUnknownOption()
      .passThroughOptions()
      .action(() => {
        throw movedError(old, now, command.args)
      })
  }
}

function movedError(old: string, now: readonly string[], operands: readonly string[]): WeirError {
  const rest = operands.map((word) => ` ${shellWord(word)}`).join('')
  const commands = now.map((words) => `weir ${words}${rest}`)
  return new WeirError('cli.usage', `Cannot run "weir ${old}": the command has another name now`, {
    hint: `Write ${commands.length === 1 ? '' : 'one of '}${commands.join(' · ')}`,
  })
}
