import { matchConstraints, parseConstraints } from './constraints.js'
import type { Constraint } from './job-spec.js'

/** A query over labels of jobs or nodes. */
export interface LabelSelector {
  readonly constraints: readonly Constraint[]
  matches(labels: Readonly<Record<string, string>>): boolean
}

/**
 * Reads the values of repeated `labels` parameters, all of which must hold; an empty list matches everything.
 * Grammar: {@link parseConstraints}. Throws `spec.invalid`.
 */
export function parseLabelSelector(texts: readonly string[]): LabelSelector {
  const constraints = parseConstraints(texts.filter((text) => text.trim() !== '').join(','))
  return { constraints, matches: (labels) => matchConstraints(constraints, labels).matches }
}
