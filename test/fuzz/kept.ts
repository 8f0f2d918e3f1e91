import type { KeptCase } from './target.js'

/** Counterexamples that were found once, as `scripts/fuzz.mjs` prints them. Every one is tried at each run of the tests. */
export const KEPT_CASES: readonly KeptCase[] = [
  {
    target: 'names',
    seed: 1924105855,
    path: '627:3',
    why: 'a sign beside an international letter came through as a name that nobody can ask for',
  },
]
