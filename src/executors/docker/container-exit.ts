import type { RunExit } from '../../ports/index.js'

/** The part of the engine's account that tells how a container ended. */
export interface ContainerState {
  ExitCode: number
  OOMKilled: boolean
  Error: string
  /** RFC 3339; the year 1 while it has not ended. */
  FinishedAt: string
}

/** What the engine's account does not say. */
export interface ExitContext {
  /** We have killed it. */
  killed: boolean
  /** The beginning of what it wrote to its error output. */
  stderrHead: string
  /** The engine was stopped, and ended it. */
  engineStopped: boolean
}

/**
 * What ended a program, in this order:
 *
 * 1. the container is gone without an account: `engine.failed`
 * 2. the engine was stopped or restarted and ended it: `engine.failed`
 * 3. the kernel killed a process of the container for memory and the program did not end well: out of memory. That
 *    may have been a child whose death made the program fail; a program that goes on and ends with 0 has succeeded,
 *    and only `details.oomKilled` tells
 * 4. the init program could not execute the entry point: `engine.failed`
 * 5. otherwise the program ended by itself (or was stopped by us, which the caller knows)
 */
export function describeExit(
  state: ContainerState | undefined,
  { killed, stderrHead, engineStopped }: ExitContext,
): RunExit {
  if (state === undefined) return lost(killed)
  const { ExitCode: exitCode, OOMKilled } = state
  const details: Record<string, string> = OOMKilled ? { oomKilled: 'true' } : {}
  if (engineStopped) {
    return {
      exitCode,
      code: 'engine.failed',
      message: 'The Docker engine was stopped or restarted while the program ran, and ended it',
      hint: 'Run the job again; engines with "live-restore" leave containers alone',
      retryable: true,
      details,
    }
  }
  if (OOMKilled && exitCode !== 0) {
    return {
      exitCode,
      code: 'execution.out_of_memory',
      message:
        'The program needed more memory than its limit, so the kernel killed it or one of its processes',
      hint: 'Ask for more memory (--memory), or make the program use less',
      details,
    }
  }
  const command = notExecuted(exitCode, stderrHead)
  if (command !== undefined) return { exitCode, code: 'engine.failed', ...command, retryable: false, details }
  return { exitCode, code: '', message: '', hint: '', details }
}

/** Message and hint for a program that is not there or cannot be executed, whoever found it out. */
export function notStarted(command: string, reason: string): { message: string; hint: string } {
  const missing = /not found|no such file/i.test(reason)
  return {
    message: `Cannot start ${JSON.stringify(command)}: ${missing ? 'executable not found in the image' : reason}`,
    hint: missing
      ? 'Check the spelling and the PATH of the image; shell syntax needs a shell: sh -c "…"'
      : 'The file must be executable and made for the platform of the node',
  }
}

function lost(killed: boolean): RunExit {
  return {
    exitCode: 137,
    code: 'engine.failed',
    message: killed
      ? 'The program could not be killed: a process of it hangs in the kernel'
      : 'The container was removed or the Docker engine is gone, so nobody knows how the program ended',
    hint: killed
      ? 'The operator of the node finds the container by its labels; it is removed when the process lets go'
      : 'Look at the log of the Docker engine, then run the job again',
    details: {},
  }
}

/** The init program's own complaint: `[FATAL tini (7)] exec NAME failed: REASON`. */
function notExecuted(exitCode: number, stderrHead: string): { message: string; hint: string } | undefined {
  if (exitCode !== 126 && exitCode !== 127) return undefined
  const [, command, reason] = /^\[FATAL tini \([0-9]+\)\] exec (.*) failed: (.*)$/m.exec(stderrHead) ?? []
  return command === undefined || reason === undefined ? undefined : notStarted(command, reason)
}
