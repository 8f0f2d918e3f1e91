import { WeirError } from '../errors.js'

/** A mistake in a job template, with its line. */
export function templateError(line: number, reason: string, hint?: string): WeirError {
  return new WeirError('spec.template', `Cannot fill in the job template, line ${line}: ${reason}`, {
    hint: hint ?? 'See the page on job templates; --no-template takes the text as it is.',
    details: { line },
  })
}
