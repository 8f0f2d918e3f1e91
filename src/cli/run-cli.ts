import { CommanderError } from 'commander'
import { WeirError, isWeirError } from '../errors.js'
import { EXIT } from './exit-codes.js'
import { errorReport } from './error-report.js'
import { buildProgram } from './program.js'
import type { CliContext } from './context.js'

/** Runs one command line (without `node` and the program's name) and resolves with the exit code. Never rejects. */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  let exitCode: number = EXIT.ok
  try {
    const program = buildProgram(context, (code) => {
      exitCode = code
    })
    await program.parseAsync(argv, { from: 'user' })
    return exitCode
  } catch (error) {
    if (isHelp(error)) return error.exitCode === 0 ? EXIT.ok : EXIT.weir
    const isDebug = argv.includes('--debug') || isSet(context.environment.WEIR_DEBUG)
    const shown = error instanceof CommanderError ? usageError(error, argv) : withAdvice(error)
    for (const line of errorReport(shown, context.terminal.talkStyle, isDebug)) context.terminal.talk(line)
    return EXIT.weir
  }
}

/** Commands of older tools, and what they are called here. */
const MOVED: ReadonlyMap<string, string> = new Map([
  ['cancel', 'job stop'],
  ['create', 'job run'],
  ['describe', 'job describe'],
  ['get', 'job get'],
  ['list', 'job list'],
  ['logs', 'job logs'],
  ['run', 'docker run, wasm run or job run'],
  ['validate', 'job validate'],
  ['id', 'agent node'],
])

function usageError(error: CommanderError, argv: readonly string[]): WeirError {
  const [first = '', ...more] = error.message.replace(/^error: /, '').split('\n')
  const suggestion = /\((Did you mean .*)\)/.exec(more.join(' '))?.[1]
  const command = argv.filter((word) => /^[a-z]+$/.test(word)).slice(0, 2)
  const moved = error.code === 'commander.unknownCommand' ? MOVED.get(argv[0] ?? '') : undefined
  const help = `See weir ${isKnownCommand(error) ? `${command.join(' ')} ` : ''}--help`
  const hint = moved !== undefined ? `The command is now: weir ${moved}` : (suggestion ?? help)
  return new WeirError('cli.usage', `Cannot read the command line: ${first}`, { hint })
}

function isKnownCommand(error: CommanderError): boolean {
  return error.code !== 'commander.unknownCommand'
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

function isHelp(error: unknown): error is CommanderError {
  return (
    error instanceof CommanderError &&
    ['commander.help', 'commander.helpDisplayed', 'commander.version'].includes(error.code)
  )
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '' && value !== '0' && value.toLowerCase() !== 'false'
}
