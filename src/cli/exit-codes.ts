import { isWeirError } from '../errors.js'
import type { ErrorCode } from '../errors.js'

/**
 * What the process ends with. `docs/exit-codes.md` lists the same.
 *
 * Commands that run a program (`docker run`, `wasm run`, `job run`) end with the program's own code; what weir itself has
 * to say about them is 124 and more. All other commands tell the kind of failure apart with small numbers.
 */
export const EXIT = {
  ok: 0,
  /** The answer is no: a module is not valid, one of several executions ended with another code than 0. */
  no: 1,
  /** The command line, a job file or the configuration is wrong. */
  usage: 2,
  /** There is no such job, execution, node or result, or several have ids that begin like this. */
  notFound: 3,
  /** Understood, and refused: by the state of the thing, by policy, by the rights of the credential. */
  refused: 4,
  /** Nobody answers where the server should be. */
  unreachable: 5,
  /** The server wants a credential, and there is none or not a valid one. */
  auth: 6,
  /** `audit verify` found nothing wrong, and cannot prove it either. */
  unproven: 7,
  /** A limit of time passed: the job's, or `--wait-timeout-secs`. */
  timeout: 124,
  /** Any other failure of weir itself; of commands that run a program every failure before there was a job. */
  weir: 125,
  /** The job exists and failed: no node for it, an execution that could not run, stopped by somebody else. */
  jobFailed: 126,
  hangup: 129,
  interrupted: 130,
  outOfMemory: 137,
  terminated: 143,
} as const

/** The exit code for an error. Commands that run a program leave the small numbers to it. */
export function exitCodeOf(error: unknown, runsProgram: boolean): number {
  if (!isWeirError(error)) return EXIT.weir
  const code = codeOf(error.code)
  return runsProgram && code < EXIT.timeout ? EXIT.weir : code
}

/** Single codes first, then whole families. */
const SINGLE: Readonly<Partial<Record<ErrorCode, number>>> = {
  'publisher.invalid': EXIT.usage,
  'job.not_found': EXIT.notFound,
  'job.ambiguous': EXIT.notFound,
  'execution.not_found': EXIT.notFound,
  'execution.ambiguous': EXIT.notFound,
  'node.not_found': EXIT.notFound,
  'node.ambiguous': EXIT.notFound,
  'node.token_not_found': EXIT.notFound,
  'access.not_found': EXIT.notFound,
  'request.not_found': EXIT.notFound,
  'request.invalid': EXIT.usage,
  'request.decided': EXIT.refused,
  'request.too_many': EXIT.refused,
  'network.no_list': EXIT.refused,
  'results.unavailable': EXIT.notFound,
  'api.not_found': EXIT.notFound,
  'api.bad_request': EXIT.usage,
  'access.invalid': EXIT.usage,
  'api.unreachable': EXIT.unreachable,
  'transport.no_responder': EXIT.unreachable,
  'api.unauthorized': EXIT.auth,
  'api.timeout': EXIT.timeout,
  'transport.timeout': EXIT.timeout,
  'api.forbidden': EXIT.refused,
  'api.refused': EXIT.refused,
  'api.version': EXIT.refused,
  'api.overload': EXIT.refused,
  'access.off': EXIT.refused,
  'access.too_many': EXIT.refused,
  'job.terminal': EXIT.refused,
  'job.unchanged': EXIT.refused,
  'job.too_many': EXIT.refused,
  'node.conflict': EXIT.refused,
  'results.unsafe': EXIT.refused,
  'results.conflict': EXIT.refused,
  'store.locked': EXIT.refused,
  'key.exists': EXIT.refused,
  'key.not_found': EXIT.notFound,
  'job.failed': EXIT.jobFailed,
  'scheduling.no_nodes': EXIT.jobFailed,
}

const FAMILIES: Readonly<Record<string, number>> = {
  cli: EXIT.usage,
  config: EXIT.usage,
  spec: EXIT.usage,
  pattern: EXIT.usage,
  preset: EXIT.usage,
  host: EXIT.usage,
  input: EXIT.usage,
  key: EXIT.usage,
  signature: EXIT.refused,
  compute: EXIT.refused,
  egress: EXIT.refused,
}

function codeOf(code: ErrorCode): number {
  return SINGLE[code] ?? FAMILIES[code.split('.')[0] ?? ''] ?? EXIT.weir
}
