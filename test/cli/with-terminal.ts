import { spawn, spawnSync } from 'node:child_process'
import { entryPoint } from '../../src/package-root.js'
import { cleanEnvironment } from './with-cli.js'

/** Why nothing can be run on a terminal here; empty when it can. */
export const noTerminal =
  process.platform === 'linux' && spawnSync('script', ['--version'], { stdio: 'ignore' }).status === 0
    ? ''
    : 'needs script of util-linux'

export interface OnTerminal {
  /** Everything that the terminal got, standard output and error together. */
  seen: string
  code: number | null
}

export interface TerminalOptions {
  columns?: number
  rows?: number
  cwd?: string
  env?: Record<string, string>
  /** Called as output arrives; what it returns is typed. `\u0003` is Ctrl-C. */
  type?: (seen: string) => string | undefined
}

/** Runs a shell line on a terminal of its own, where `weir` is the built program. */
export function onTerminal(line: string, options: TerminalOptions = {}): Promise<OnTerminal> {
  const { columns = 80, rows = 24 } = options
  const program = `weir() { '${process.execPath}' '${entryPoint('cli/main.js')}' "$@"; }`
  // Both get a Ctrl-C; the shell goes on with the line, whichever of them notices it first.
  const whole = `trap : INT; stty cols ${columns} rows ${rows} -echo; ${program}; ${line}`
  return new Promise((resolve, reject) => {
    const child = spawn('script', ['-qec', `bash -c '${whole.replaceAll("'", `'\\''`)}'`, '/dev/null'], {
      cwd: options.cwd,
      env: {
        ...cleanEnvironment(options.env),
        NO_COLOR: options.env?.NO_COLOR ?? '',
        TERM: options.env?.TERM ?? 'xterm',
      },
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    let seen = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      seen += text
      const typed = options.type?.(seen)
      if (typed !== undefined) child.stdin.write(typed)
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ seen: seen.replaceAll('\r\n', '\n'), code }))
  })
}

/** The text without colours and movements of the cursor. */
export function plain(text: string): string {
  return text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '')
}

/** What the screen shows in the end: understands the movements that weir uses. */
export function screenOf(text: string): string[] {
  const lines: string[] = ['']
  let [row, column] = [0, 0]
  for (const token of text.match(/\u001b\[[0-9;?]*[A-Za-z]|\n|\r|[^\u001b\r\n]+/g) ?? []) {
    if (token === '\n') {
      row += 1
      column = 0
      lines[row] ??= ''
    } else if (token === '\r') column = 0
    else if (!token.startsWith('\u001b')) {
      const before = (lines[row] ?? '').padEnd(column)
      lines[row] = before.slice(0, column) + token + before.slice(column + token.length)
      column += token.length
    } else if (token.endsWith('A')) row = Math.max(0, row - Number(token.slice(2, -1)))
    else if (token.endsWith('K')) lines[row] = (lines[row] ?? '').slice(0, column)
    else if (token.endsWith('J')) {
      lines[row] = (lines[row] ?? '').slice(0, column)
      lines.length = row + 1
    }
  }
  return lines.map((line) => line.trimEnd())
}
