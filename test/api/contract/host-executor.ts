import type { RunningExecution, RunSpec } from '../../../src/ports/index.js'
import { ProcessExecutor } from '../../compute/process-executor.js'

/**
 * Runs `docker` jobs as processes of this machine: entry point and parameters are the command, the image is ignored. It
 * isolates nothing; it lets every API test run real programs where there is no Docker.
 */
export class HostExecutor extends ProcessExecutor {
  constructor() {
    super({ engine: 'docker' })
  }

  override start(
    run: RunSpec,
    progress: (message: string) => void,
    signal: AbortSignal,
  ): Promise<RunningExecution> {
    const { Entrypoint, Parameters } = (run.engine.Params ?? {}) as {
      Entrypoint?: string[] | null
      Parameters?: string[]
    }
    const command = [...(Entrypoint ?? []), ...(Parameters ?? [])]
    return super.start(
      { ...run, engine: { Type: 'process', Params: { Command: command } } },
      progress,
      signal,
    )
  }
}
