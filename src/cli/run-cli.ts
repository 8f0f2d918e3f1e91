import { CommanderError } from 'commander'
import { WeirError, isWeirError } from '../errors.js'
import { UsageError, usageOf } from './command.js'
import { COMPLETE } from './completion/scripts.js'
import { EXIT, exitCodeOf } from './exit-codes.js'
import { errorReport } from './error-report.js'
import { buildProgram } from './program.js'
import type { WeirCommand } from './command.js'
import type { CliContext } from './context.js'

/** Runs one command line (without `node` and the program's name) and resolves with the exit code. Never rejects. */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  let exitCode: number = EXIT.ok
  const program = buildProgram(context, (code) => {
    exitCode = code
  })
  if (argv[0] === COMPLETE) {
    return (await import('./completion/answer.js')).answerShell(program, argv.slice(1), context)
  }
  try {
    await program.parseAsync(argv, { from: 'user' })
    return exitCode
  } catch (error) {
    if (isHelp(error)) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    const isDebug = argv.includes('--debug') || isSet(context.environment.WEIR_DEBUG)
    const command = error instanceof UsageError ? error.command : program.running
    if (wantsNoColour(program) || wantsNoColour(command)) context.terminal.withoutColour()
    const shown = error instanceof UsageError ? usageError(error) : withAdvice(error)
    for (const line of errorReport(shown, context.terminal.talkStyle, isDebug)) context.terminal.talk(line)
    return exitCodeOf(shown, command?.runsProgram === true)
  }
}

/** What commander says, in our words: the suggestion when there is one, else how the command is written. */
function usageError({ message, command }: UsageError): WeirError {
  const [first = '', ...more] = message.replace(/^error: /, '').split('\n')
  const suggestion = /\((Did you mean .*)\)/.exec(more.join(' '))?.[1]
  const help = `see ${['weir', command.words, '--help'].filter((word) => word !== '').join(' ')}`
  const usage = `write ${usageOf(command)}, or ${help}`
  return new WeirError('cli.usage', `Cannot read the command line: ${first}`, {
    hint: suggestion ?? (command.commands.length > 0 ? help : usage),
  })
}

/** An unreachable server is the first thing new users meet. */
function withAdvice(error: unknown): unknown {
  if (!isWeirError(error, 'api.unreachable')) return error
  return new WeirError(error.code, error.message, {
    hint: error.hint ?? 'Start a server with `weir serve`, or say where it is with --api-host and --api-port',
    retryable: error.retryable,
    details: error.details,
    cause: error,
  })
}

function wantsNoColour(command: WeirCommand | undefined): boolean {
  return command?.opts<{ color?: boolean }>().color === false
}

function isHelp(error: unknown): error is CommanderError {
  return (
    error instanceof CommanderError &&
    ['commander.help', 'commander.helpDisplayed', 'commander.version'].includes(error.code)
  )
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '' && value !== '0' && value.toLowerCase() !== 'false'
}
