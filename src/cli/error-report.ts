import { inspect } from 'node:util'
import { WeirError } from '../errors.js'
import { printable } from '../model/printable.js'
import type { SpecProblem } from '../model/spec-problem.js'
import type { Style } from './terminal.js'

/**
 * An error as people read it: what failed and why, then what to do. Lines of the message stay lines; everything else
 * that could control a terminal is escaped. The stack only with `debug`.
 */
export function errorReport(error: unknown, style: Style, debug: boolean): string[] {
  const problems = problemsOf(error)
  const lines =
    problems === undefined ? messageLines(error, style) : problemLines(error as WeirError, problems, style)
  if (!debug) return lines
  return [
    ...lines,
    ...inspect(error, { depth: 5, colors: false })
      .split('\n')
      .map((line) => style.dim(printable(line))),
  ]
}

function messageLines(error: unknown, style: Style): string[] {
  const message = error instanceof Error ? error.message : String(error)
  const [first = '', ...rest] = message.split('\n')
  const lines = [`${style.red('Error:')} ${printable(first)}`, ...rest.map((line) => printable(line))]
  if (error instanceof WeirError) {
    if (error.hint !== undefined) lines.push(`${style.green('Hint:')} ${printable(sentence(error.hint))}`)
  } else {
    lines.push(`${style.green('Hint:')} This is a defect in weir; run it again with --debug to see where`)
  }
  return lines
}

/** One block per mistake of a specification: place, what is wrong, what to write instead. */
function problemLines(error: WeirError, problems: readonly SpecProblem[], style: Style): string[] {
  const count = problems.length === 1 ? 'one mistake' : `${problems.length} mistakes`
  const file = /^Cannot use job file (".*"):\n/.exec(error.message)?.[1]
  const lines = [
    `${style.red('Error:')} The job${file === undefined ? '' : ` in ${printable(file)}`} has ${count}:`,
  ]
  for (const { path, message, hint, line, column } of problems) {
    const position = line === undefined ? '' : `line ${line}, column ${column ?? 1}`
    const place = [position, path].filter((part) => part !== '').join(', ')
    lines.push(`  ${place === '' ? '' : `${style.bold(printable(place))}: `}${printable(message)}`)
    if (hint !== undefined && hint !== '') lines.push(`    ${style.green(printable(sentence(hint)))}`)
  }
  return lines
}

function problemsOf(error: unknown): SpecProblem[] | undefined {
  if (!(error instanceof WeirError) || error.code !== 'spec.invalid') return undefined
  const { problems } = error.details
  const isList = Array.isArray(problems) && problems.length > 0
  return isList && problems.every(isProblem) ? problems : undefined
}

function isProblem(value: unknown): value is SpecProblem {
  const problem = value as Partial<SpecProblem> | null
  return (
    typeof problem === 'object' && typeof problem?.path === 'string' && typeof problem.message === 'string'
  )
}

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`
}
