import { Command, CommanderError, Help, Option } from 'commander'

/** A command whose on/off flags also take `=true` and `=false`, as users of other tools write them (`--wait=false`). */
export class WeirCommand extends Command {
  /** It ends with the exit code of a program that it runs. */
  runsProgram = false
  /** Of the whole program: the command whose action was started. */
  running: WeirCommand | undefined
  /** An old name: neither in the help nor in completions. */
  isRetired = false
  /** Long names of the flags made by {@link optionalNumber}. */
  private readonly numbers = new Set<string>()

  override createCommand(name?: string): WeirCommand {
    return new WeirCommand(name)
  }

  override parseOptions(argv: string[]): ReturnType<Command['parseOptions']> {
    return super.parseOptions(this.plainFlags(argv))
  }

  override createHelp(): Help {
    return Object.assign(new WeirHelp(), this.configureHelp())
  }

  /** A mistake in the command line; it knows the command that it was found in. */
  override error(message: string, options: { exitCode?: number; code?: string } = {}): never {
    throw new UsageError(this, options.code ?? 'commander.error', message)
  }

  /** The words that call it, without the program's name: `job run`. */
  get words(): string {
    const parent = this.parent as WeirCommand | null
    return parent === null ? '' : `${parent.words} ${this.name()}`.trim()
  }

  /** Repeatable: every value is kept. */
  collected(flags: string, description: string): this {
    const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value]
    return this.addOption(new Option(flags, description).argParser(collect))
  }

  /**
   * A flag that may stand alone or with a number behind it (`--tail`, `--tail 20`). What follows and is no number is not
   * its value: `logs --tail j-1` is the flag alone. Alone its value is true or an empty text.
   */
  optionalNumber(flags: string, description: string): this {
    const option = new Option(flags, description)
    this.numbers.add(option.long ?? '')
    return this.addOption(option)
  }

  /** An old name that still works, or a flag for few: not part of the help. */
  hidden(flags: string, isCollected = false): this {
    const option = new Option(flags).hideHelp()
    if (isCollected)
      option.argParser((value: string, before: string[] | undefined): string[] => [...(before ?? []), value])
    return this.addOption(option)
  }

  /** Up to where options of this command can stand: not behind `--`, nor behind the first operand of a run. */
  private plainFlags(argv: readonly string[]): string[] {
    const result: string[] = []
    for (let index = 0; index < argv.length; index++) {
      const token = argv[index] ?? ''
      if (token === '--' || !token.startsWith('-') || token === '-') return [...result, ...argv.slice(index)]
      const next = argv[index + 1]
      const { replaced, takesNext } = this.plainFlag(token, next)
      result.push(...replaced)
      if (takesNext && next !== undefined) {
        result.push(next)
        index += 1
      }
    }
    return result
  }

  private plainFlag(token: string, next: string | undefined): { replaced: string[]; takesNext: boolean } {
    const [name = '', value] = token.startsWith('--') ? token.split(/=(.*)/s) : [token]
    const option = this.options.find(({ long, short }) => long === name || short === name)
    if (option === undefined) return { replaced: [token], takesNext: false }
    if (this.numbers.has(option.long ?? '') && value === undefined) {
      const isNumber = /^\d/.test(next ?? '')
      return { replaced: [isNumber ? token : `${option.long}=`], takesNext: isNumber }
    }
    if (option.required || option.optional)
      return { replaced: [token], takesNext: option.required && value === undefined }
    if (value === 'true') return { replaced: [name], takesNext: false }
    if (value !== 'false') return { replaced: [token], takesNext: false }
    const negated = `--no-${name.slice(2)}`
    // Without a negated form the flag is off anyway.
    return { replaced: this.options.some(({ long }) => long === negated) ? [negated] : [], takesNext: false }
  }
}

/** Columns that a description has at least, beside or below what it describes. */
const DESCRIPTION_COLUMNS_MIN = 40

/**
 * Flags of the command first, those that every command takes last. A flag that is too long to have its description
 * beside it has it below, so that help fits 80 columns.
 */
class WeirHelp extends Help {
  override padWidth(command: Command, helper: Help): number {
    const most = (this.helpWidth ?? 80) - DESCRIPTION_COLUMNS_MIN - 4
    return Math.max(16, Math.min(super.padWidth(command, helper), most))
  }

  override formatItem(term: string, termWidth: number, description: string, helper: Help): string {
    if (helper.displayWidth(term) <= termWidth) return super.formatItem(term, termWidth, description, helper)
    return `  ${term}\n${super.formatItem('', termWidth, description, helper)}`
  }

  override groupItems<Item extends Command | Option>(
    unsortedItems: Item[],
    visibleItems: Item[],
    getGroup: (item: Item) => string,
  ): Map<string, Item[]> {
    const groups = super.groupItems(unsortedItems, visibleItems, getGroup)
    const globals = groups.get(GLOBAL_GROUP)
    if (globals === undefined) return groups
    groups.delete(GLOBAL_GROUP)
    return groups.set(GLOBAL_GROUP, globals)
  }
}

/** What commander found wrong with the command line. */
export class UsageError extends CommanderError {
  readonly command: WeirCommand

  constructor(command: WeirCommand, code: string, message: string) {
    super(2, code, message)
    this.command = command
  }
}

/** How a command is written: `weir job describe [flags] <ID>`. */
export function usageOf(command: WeirCommand): string {
  const operands = command.registeredArguments.map((one) => {
    const name = `${one.name()}${one.variadic ? '...' : ''}`
    return one.required ? `<${name}>` : `[${name}]`
  })
  return ['weir', command.words, '[flags]', ...operands].filter((word) => word !== '').join(' ')
}

const GLOBAL_GROUP = 'Global flags:'

/** The flag that shows the help, beside the other flags that every command takes. */
export const HELP_OPTION = new Option('-h, --help', 'show this help').helpGroup(GLOBAL_GROUP)

/** Flags that every command takes, also in front of its name. */
export function addGlobalFlags(command: WeirCommand): WeirCommand {
  const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value]
  const options = [
    new Option(
      '-c, --config <FILE|KEY=VALUE>',
      'configuration file (.yaml), or one value; repeatable',
    ).argParser(collect),
    new Option('--api-host <HOST>', 'server to talk to: host, or https://host:port, or unix:/path'),
    new Option('--api-port <PORT>', 'port of the server (default 1234)'),
    new Option('--data-dir <DIR>', 'state directory (default ~/.weir)'),
    new Option('--no-color', 'no colours, also on a terminal'),
    new Option('--debug', 'show details and stack traces of errors'),
  ]
  for (const option of options) command.addOption(option.helpGroup(GLOBAL_GROUP))
  return command
}
