import { fitsResources, type Resources } from '../model/resources.js'

/** An execution that waits for capacity. */
export interface Waiting {
  readonly id: string
  /** Higher goes first. */
  readonly priority: number
  /** Arrival number on this node; lower goes first among equal priorities. */
  readonly arrival: number
  readonly resources: Resources
  /** How often an execution behind this one was started while this one did not fit. */
  readonly overtaken: number
}

/** What to start next, and who was overtaken by it. */
export interface Turn {
  start: Waiting
  overtaken: readonly Waiting[]
}

/**
 * The next execution to start with `free` capacity, or undefined.
 *
 * In order of priority, then age, the first that fits. One that does not fit is passed at most `overtakesMax` times;
 * after that nobody behind it starts until it does, so a big execution waits for the running ones at worst.
 */
export function nextTurn(line: readonly Waiting[], free: Resources, overtakesMax: number): Turn | undefined {
  const overtaken: Waiting[] = []
  for (const waiting of line.toSorted(byPriorityThenAge)) {
    if (fitsResources(waiting.resources, free)) return { start: waiting, overtaken }
    if (waiting.overtaken >= overtakesMax) return undefined
    overtaken.push(waiting)
  }
  return undefined
}

function byPriorityThenAge(a: Waiting, b: Waiting): number {
  return b.priority - a.priority || a.arrival - b.arrival
}
