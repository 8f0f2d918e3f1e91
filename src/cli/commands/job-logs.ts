import { withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { listenForInterrupts } from '../interrupt.js'
import { streamOutput } from '../program-output.js'
import type { CliContext, GlobalFlags } from '../context.js'

/** `weir job logs ID`: the program's standard output to ours, its standard error to ours. */
export async function jobLogs(
  id: string,
  flags: GlobalFlags & { follow?: boolean; tail?: boolean; executionId?: string },
  context: CliContext,
): Promise<number> {
  const interrupts = listenForInterrupts()
  const request = { executionId: flags.executionId, follow: flags.follow, fromEnd: flags.tail }
  try {
    await withClient(flags, context, (client) =>
      streamOutput(client, id, request, context.terminal, interrupts.first),
    )
    return EXIT.ok
  } catch (error) {
    // Looking away changes nothing about the job.
    if (interrupts.first.aborted) return interrupts.exitCode
    throw error
  } finally {
    interrupts.dispose()
  }
}
