import { WeirError } from '../errors.js'
import { printable } from './printable.js'
import type { Complaint } from './labels.js'

/** One mistake in a job specification. */
export interface SpecProblem {
  /** For example `Tasks[0].Network.Domains[1]`; empty for the specification as a whole. */
  path: string
  /** What is wrong, without the path. */
  message: string
  hint?: string
  /** The offending value as text, at most 80 characters. */
  value?: string
  /** Position in the text, from 1; only when the specification was read from text. */
  line?: number
  column?: number
}

/** Where a value stands: `path` for people with canonical keys, `keys` as the document spells them. */
export interface Place {
  path: string
  keys: readonly (string | number)[]
}

export const ROOT_PLACE: Place = { path: '', keys: [] }

export function fieldPlace(at: Place, name: string, spelling: string = name): Place {
  const plain = /^[A-Za-z_][\w-]*$/.test(name)
  const shown = plain ? (at.path === '' ? name : `.${name}`) : `[${JSON.stringify(printable(name, 60))}]`
  return { path: `${at.path}${shown}`, keys: [...at.keys, spelling] }
}

export function itemPlace(at: Place, index: number): Place {
  return { path: `${at.path}[${index}]`, keys: [...at.keys, index] }
}

/** Finds the position of a place in the text it was read from. */
export type Locate = (keys: readonly (string | number)[]) => { line: number; column: number } | undefined

/** Collects what is wrong, so that everything is reported at once. */
export class ProblemList {
  readonly warnings: string[] = []
  /** Named in messages about the task. */
  taskName = ''
  private readonly found: { place: Place; complaint: Complaint; value: string | undefined }[] = []
  private omitted = 0

  add(place: Place, complaint: Complaint, value?: unknown): void {
    if (this.found.length >= PROBLEMS_MAX) this.omitted += 1
    else this.found.push({ place, complaint, value: shown(value) })
  }

  /** The specification is fine except for this, which is ignored. */
  warn(message: string): void {
    if (this.warnings.length < PROBLEMS_MAX) this.warnings.push(printable(message, 400))
  }

  get isEmpty(): boolean {
    return this.found.length === 0
  }

  /** Everything as one error, `spec.invalid`; `details.problems` holds the list. */
  toError(locate?: Locate): WeirError {
    const problems = this.found.map(({ place, complaint, value }): SpecProblem => {
      return {
        path: place.path,
        ...complaint,
        ...(value === undefined ? {} : { value }),
        ...locate?.(place.keys),
      }
    })
    const lines = problems.map((problem) => problemLine(problem, this.taskName))
    if (this.omitted > 0) lines.push(`and ${this.omitted} more`)
    return new WeirError('spec.invalid', lines.join('\n'), {
      hint: problems.length === 1 ? problems[0]?.hint : undefined,
      details: { problems },
    })
  }
}

/** One line for people and for clients that search for Bacalhau's words: context, message, position. */
export function problemLine(problem: SpecProblem, taskName = ''): string {
  const where = [
    problem.path,
    problem.line === undefined ? '' : `line ${problem.line}, column ${problem.column ?? 1}`,
  ].filter((part) => part !== '')
  return `${context(problem.path, taskName)}${problem.message}${where.length === 0 ? '' : ` (${where.join(', ')})`}`
}

const PROBLEMS_MAX = 100

/** The words that Bacalhau puts before a message, by path. */
const CONTEXTS: readonly (readonly [RegExp, (match: RegExpExecArray, taskName: string) => string])[] = [
  [/^Constraints\[(\d+)\]/, (match) => `constraint ${match[1]} validation failed: `],
  [
    /^Tasks\[\d+\]/,
    (_match, taskName) => `task ${printable(taskName, 60)} validation failed: `.replace('  ', ' '),
  ],
  [/^Tasks\[\d+\]\.Engine/, () => 'engine validation failed: '],
  [/^Tasks\[\d+\]\.Publisher/, () => 'publisher validation failed: '],
  [/^Tasks\[\d+\]\.Timeouts/, () => 'task timeouts validation failed: '],
  [/^Tasks\[\d+\]\.Resources/, () => 'task resources validation failed: '],
  [/^Tasks\[\d+\]\.Network/, () => 'task network validation failed: '],
  [/^Tasks\[\d+\]\.InputSources/, () => 'artifact validation failed: '],
  [/^Tasks\[\d+\]\.ResultPaths/, () => 'output validation failed: '],
]

function context(path: string, taskName: string): string {
  return CONTEXTS.map(([pattern, words]) => {
    const match = pattern.exec(path)
    return match === null ? '' : words(match, taskName)
  }).join('')
}

function shown(value: unknown): string | undefined {
  if (typeof value === 'string') return printable(value, 80)
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined
}
