import { parseJobSpec } from '../../src/model/index.js'
import type { JobSpec, ParseJobOptions, SpecProblem } from '../../src/model/index.js'
import { WeirError } from '../../src/errors.js'

/** A job that is fine; `task` and `job` replace fields. */
export function jobValue(task: Record<string, unknown> = {}, job: Record<string, unknown> = {}): unknown {
  return {
    Type: 'batch',
    Tasks: [{ Name: 'main', Engine: { Type: 'docker', Params: { Image: 'alpine:3.20' } }, ...task }],
    ...job,
  }
}

export function parsed(value: unknown, options?: ParseJobOptions): JobSpec {
  return parseJobSpec(value, options).spec
}

/** The error of a specification that must be refused. */
export function refusal(run: () => unknown): WeirError {
  try {
    run()
  } catch (error) {
    if (error instanceof WeirError) return error
    throw error
  }
  throw new Error('it was accepted')
}

export function problemsOf(value: unknown, options?: ParseJobOptions): SpecProblem[] {
  return refusal(() => parseJobSpec(value, options)).details.problems as SpecProblem[]
}

/** `path: message` of each problem. */
export function complaints(value: unknown, options?: ParseJobOptions): string[] {
  return problemsOf(value, options).map(({ path, message }) => `${path}: ${message}`)
}
