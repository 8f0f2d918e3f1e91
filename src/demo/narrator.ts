import { spawn } from 'node:child_process'
import { entryPoint, PACKAGE_ROOT } from '../package-root.js'
import { colours } from './colours.js'

/** What a command left behind. */
export interface CommandResult {
  exitCode: number
  stdout: string
  stderr: string
}

/** Prints what the demo does and runs weir as a reader would. */
export class Narrator {
  readonly #environment: Record<string, string>
  #chapter = 0

  /** `environment` reaches every command; a reader who repeats them exports the same variables. */
  constructor(environment: Record<string, string>) {
    this.#environment = environment
  }

  /** Goes on telling, with commands that reach another server. */
  elsewhere(environment: Record<string, string>): Narrator {
    const other = new Narrator(environment)
    other.#chapter = this.#chapter
    return other
  }

  chapter(title: string): void {
    this.#chapter += 1
    console.log(`\n${colours.bold(`${this.#chapter}. ${title}`)}`)
  }

  say(text: string): void {
    console.log(colours.dim(`   ${text}`))
  }

  /** Prints the command, runs it with the demo's environment and shows its output as it comes. */
  weir(
    args: string[],
    options: { quiet?: boolean; environment?: Record<string, string> } = {},
  ): Promise<CommandResult> {
    console.log(`${colours.green('$')} ${colours.bold(['weir', ...args.map(quoted)].join(' '))}`)
    return run(process.execPath, [entryPoint('cli/main.js'), ...args], {
      environment: { ...this.#environment, ...options.environment },
      show: options.quiet !== true,
    })
  }
}

/** Runs a program to its end; its output is kept and, with `show`, passed on indented. */
export function run(
  command: string,
  args: string[],
  options: { environment?: Record<string, string>; show?: boolean } = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: PACKAGE_ROOT,
      // What the program says is read here, so it must not be coloured.
      env: { ...process.env, FORCE_COLOR: undefined, NO_COLOR: '1', ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const result = { exitCode: 0, stdout: '', stderr: '' }
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8')
      child[stream].on('data', (text: string) => {
        result[stream] += text
        if (options.show === true) process.stdout.write(text.replace(/^(?=.)/gm, '  '))
      })
    }
    child.once('error', reject)
    child.once('close', (code) => {
      resolve({ ...result, exitCode: code ?? 1 })
    })
  })
}

/** As a person would type it into a shell. */
function quoted(argument: string): string {
  return /^[\w./:=@,+-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`
}
