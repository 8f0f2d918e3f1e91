import type { Readable } from 'node:stream'
import type { OutputSink, RunExit, RunningExecution } from '../../ports/index.js'
import { type EndContext, runExit } from './run-exit.js'
import type { Slot } from './slot.js'

/** Watches a program that has its job: delivers its output, ends it when it writes too much, and says how it ended. */
export function watchProgram(
  slot: Slot,
  sink: OutputSink,
  context: Omit<EndContext, 'wasStopped' | 'wroteTooMuch'>,
): RunningExecution {
  const seen = { wasStopped: false, wroteTooMuch: false }
  let bytes = 0
  const pump = async (stream: 'stdout' | 'stderr', from: Readable): Promise<void> => {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        bytes += chunk.length
        if (bytes > context.outputBytesMax && !seen.wroteTooMuch) {
          seen.wroteTooMuch = true
          slot.kill()
        }
        // Pending means: read no further; then the program waits in its write.
        if (!seen.wroteTooMuch) await sink.write(stream, chunk)
      }
    } catch {
      // A pipe that breaks with its process has nothing more to deliver.
    }
  }
  const pumps = Promise.all([pump('stdout', slot.stdout), pump('stderr', slot.stderr)])
  const exit: Promise<RunExit> = Promise.all([slot.end, pumps]).then(([end]) =>
    runExit(end, { ...context, ...seen }),
  )
  return {
    exit,
    async stop() {
      // A WebAssembly program cannot handle signals, so there is nothing to wait for.
      seen.wasStopped = true
      slot.kill()
      await slot.end
    },
  }
}
