import type { KeptCase } from './target.js'

/** Counterexamples that were found once, as `scripts/fuzz.mjs` prints them. Every one is tried at each run of the tests. */
export const KEPT_CASES: readonly KeptCase[] = [
  {
    target: 'names',
    seed: 1924105855,
    path: '627:3',
    why: 'a sign beside an international letter came through as a name that nobody can ask for',
  },
  {
    target: 'allowlist-files',
    seed: 31415929,
    path: '1201:7:6:10:10:13:13:13:13:17:20:19:19:19:23:24:26:28:29:29:29:29:46:48:48',
    why: 'a carriage return alone ended no line, so that a comment hid the pattern behind it',
  },
]
