/**
 * What the process ends with. `docs/exit-codes.md` lists the same.
 *
 * A run ends with 0 only when the job succeeded; with one execution, with the program's own code.
 */
export const EXIT = {
  ok: 0,
  /** The answer is no: a module is not valid, one of several executions ended with another code than 0. */
  no: 1,
  /** A limit of time passed: the job's, or `--wait-timeout-secs`. */
  timeout: 124,
  /** weir itself failed or refused: wrong usage, unreachable server, invalid job, no node, failed execution. */
  weir: 125,
  interrupted: 130,
  terminated: 143,
} as const
