import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PACKAGE_ROOT } from '../../../src/package-root.js'
import { HOSTILE_CALLS, HOSTILE_X64_CALLS, type HostileCall } from './hostile-calls.js'
import { kernelNumbers } from './kernel-headers.js'

const SOURCE = join(PACKAGE_ROOT, 'test/fixtures/sandbox/caller.c')

/** A program that makes the system calls it is told to, without any library behind it; undefined without a compiler. */
export function callerProgram(): string | undefined {
  const program = join(PACKAGE_ROOT, 'dist/test-fixtures/sandbox-caller')
  if (existsSync(program) && statSync(program).mtimeMs > statSync(SOURCE).mtimeMs) return program
  mkdirSync(join(program, '..'), { recursive: true })
  // Under a name of its own first: several test files may build it at the same time.
  const fresh = `${program}.${process.pid}`
  for (const compiler of ['gcc', 'clang-14', 'cc']) {
    const built = spawnSync(compiler, ['-static', '-O1', '-o', fresh, SOURCE], { encoding: 'utf8' })
    if (built.status === 0) return spawnSync('mv', [fresh, program]).status === 0 ? program : undefined
  }
  return undefined
}

/** Why machine code cannot be tried here, or undefined. */
export function callerProblem(): string | undefined {
  if (process.arch !== 'x64' && process.arch !== 'arm64') return `no list for ${process.arch}`
  if (callerProgram() === undefined) return 'needs gcc and libc6-dev'
  return kernelNumbers(process.arch) === undefined ? 'needs the kernel’s headers (linux-libc-dev)' : undefined
}

/** Every call of the table as a line for the program, with the numbers of this machine. */
export function hostileLines(): string[] {
  const calls = [...Object.values(HOSTILE_CALLS).flat(), ...(process.arch === 'x64' ? HOSTILE_X64_CALLS : [])]
  const numbers = kernelNumbers(process.arch as 'x64' | 'arm64') ?? new Map<string, number>()
  return calls.flatMap((one) => lineOf(one, numbers.get(one.name)))
}

function lineOf({ name, args }: HostileCall, number: number | undefined): string[] {
  // Older headers do not know the newest calls; then the machine's C library does not either.
  return number === undefined ? [] : [[labelOf(name, args), number, ...args].join(' ')]
}

function labelOf(name: string, args: HostileCall['args']): string {
  return `${name}(${args.join(',')})`
}

export interface Outcome {
  /** What each call answered: `ok` or the name of an error. */
  answers: Record<string, string>
  status: number | null
  signal: NodeJS.Signals | null
}

/** Runs the program with these lines, inside whatever `before` starts it in. */
export function runCaller(lines: string[], before: string[] = []): Outcome {
  const dir = mkdtempSync(join(tmpdir(), 'weir-caller-'))
  try {
    const file = join(dir, 'calls')
    writeFileSync(file, lines.join('\n'), { mode: 0o644 })
    const [command = '', ...args] = [before, callerProgram() ?? '', file].flat()
    const { stdout, status, signal } = spawnSync(command, args, {
      encoding: 'utf8',
      env: {},
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: 60_000,
    })
    return { answers: answersOf(stdout), status, signal }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

export function answersOf(text: string): Record<string, string> {
  const answers: Record<string, string> = {}
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const at = line.indexOf(' ')
    answers[line.slice(0, at)] = line.slice(at + 1)
  }
  return answers
}
