import { WeirError } from '../errors.js'
import { parseJobSpec } from '../model/parse-job.js'
import { flagOf } from './flag-places.js'
import type { ParsedJob } from '../model/parse-job.js'
import type { SpecProblem } from '../model/spec-problem.js'

/** Collects what is wrong with the flags of one command line, so that everything is reported at once. */
export class FlagProblems {
  private readonly problems: SpecProblem[] = []
  private first: WeirError | undefined

  /** Reads one flag. A mistake is kept for the report, and `otherwise` stands in for the value. */
  read<Value, Otherwise>(flag: string, reader: () => Value, otherwise: Otherwise): Value | Otherwise {
    try {
      return reader()
    } catch (error) {
      this.add(flag, error)
      return otherwise
    }
  }

  /** Reads every value of a flag; those with mistakes are left out. */
  readAll<Value>(flag: string, texts: readonly string[], reader: (text: string) => Value): Value[] {
    return texts.flatMap((text) => this.read(flag, () => [reader(text)], []))
  }

  /** Keeps what `WeirError`s say; anything else is thrown again. */
  add(flag: string, error: unknown): void {
    if (!(error instanceof WeirError)) throw error
    this.first ??= error
    const inner = error.details.problems
    if (Array.isArray(inner)) {
      this.problems.push(...(inner as SpecProblem[]).map((problem) => ({ ...problem, path: flag })))
    } else {
      this.problems.push({ path: flag, message: error.message, hint: error.hint })
    }
  }

  /**
   * The job, when neither the flags nor the specification that was made of them has a mistake. Throws the error of a
   * single flag as it was, and `spec.invalid` with all of them otherwise.
   */
  parse(job: Record<string, unknown>): ParsedJob {
    let parsed: ParsedJob | undefined
    try {
      parsed = parseJobSpec(job)
    } catch (error) {
      if (!(error instanceof WeirError) || !Array.isArray(error.details.problems)) throw error
      this.addFromSpec(error, error.details.problems as SpecProblem[])
    }
    if (parsed !== undefined && this.first === undefined) return parsed
    this.throwSingle()
    throw new WeirError(
      'spec.invalid',
      this.problems.map(({ path, message }) => `${path}: ${message}`).join('\n'),
      { details: { problems: this.problems } },
    )
  }

  /** Throws the error of a single flag as it was, and `cli.usage` with all of them when there are several. */
  throwAny(): void {
    this.throwSingle()
    if (this.first === undefined) return
    const lines = this.problems.map(({ path, message, hint }) =>
      [path, ': ', message, hint === undefined ? '' : ` (${hint})`].join(''),
    )
    throw new WeirError('cli.usage', ['Cannot use these flags:', ...lines].join('\n  '))
  }

  private throwSingle(): void {
    const [problem] = this.problems
    if (this.first === undefined || problem === undefined || this.problems.length > 1) return
    const { code, message, hint, details } = this.first
    if (/^Cannot |\n/.test(message) || message.includes(problem.path)) throw this.first
    // What a value says of itself names no flag.
    throw new WeirError(code, `Cannot use ${problem.path}: ${message}`, { hint, details, cause: this.first })
  }

  /** What follows from a flag that was complained about already is not said again. */
  private addFromSpec(error: WeirError, found: readonly SpecProblem[]): void {
    const known = new Set(this.problems.map(({ path }) => path))
    const named = found.map((problem) => ({ ...problem, path: flagOf(problem.path) }))
    const fresh = named.filter(({ path }) => !known.has(path))
    if (fresh.length === 0) return
    this.first ??= new WeirError(error.code, error.message, {
      hint: error.hint,
      details: { ...error.details, problems: fresh },
      cause: error,
    })
    this.problems.push(...fresh)
  }
}
