import { WeirError, toWeirError } from '../errors.js'
import type { Clock, Executor } from '../ports/index.js'
import { bounded } from './bounded-work.js'
import { hasEnded, type ExecutionBook } from './execution-book.js'
import { removeWorkDirs } from './execution-dirs.js'
import { failed } from './run-execution.js'
import type { ComputeLogger } from './options.js'

/**
 * Clears up after an earlier process: engines remove what they find, work directories go, and what was active is
 * reported as lost. Nothing here stops the node from starting: what cannot be removed is logged.
 */
export async function reap(parts: {
  book: ExecutionBook
  executors: Iterable<Executor>
  clock: Clock
  logger: ComputeLogger
}): Promise<void> {
  const { book, executors, logger } = parts
  await book.load()
  await Promise.all([...executors].map((executor) => reapEngine(executor, parts)))
  for (const record of book.all()) {
    try {
      await removeWorkDirs(record.dirs)
    } catch (error) {
      logger.warn({ error, executionId: record.executionId }, 'leftover directories could not be removed')
    }
    if (hasEnded(record)) continue
    const { observed, event } = failed(restarted())
    await book.end(record.executionId, observed, event)
    logger.info(
      { executionId: record.executionId },
      'reports an execution that was active before the restart as lost',
    )
  }
}

async function reapEngine(
  executor: Executor,
  { clock, logger }: { clock: Clock; logger: ComputeLogger },
): Promise<void> {
  try {
    const removed = await bounded(() => executor.reap(new Set()), {
      clock,
      signal: new AbortController().signal,
      ms: REAP_MS,
      timeout: () => new WeirError('engine.unavailable', `${executor.engine} does not finish clearing up`),
    })
    if (removed.length > 0)
      logger.info({ engine: executor.engine, removed }, 'removed what an earlier process left')
  } catch (error) {
    const { message } = toWeirError(error)
    logger.warn({ engine: executor.engine, message }, 'the engine could not clear up')
  }
}

const REAP_MS = 60_000

function restarted(): WeirError {
  return new WeirError('execution.lost', 'Failing due to node restart', {
    retryable: true,
    hint: 'The job is tried again if its type allows',
  })
}
