import type { AuditLog } from '../ports/index.js'
import { hasEnded, type ExecutionBook, type ExecutionRecord } from './execution-book.js'
import type { ComputeLimits, ComputeLogger } from './options.js'

/**
 * Removes ended executions with their logs and audit records: those older than `keepFinishedMs`, and the oldest while
 * there are more than `finishedMax` or their logs take more than `finishedBytesMax`. A report that nobody acknowledged
 * is kept seven times as long. `busy`: executions whose files are still in use.
 */
export async function sweepFinished(parts: {
  book: ExecutionBook
  auditLog?: AuditLog
  limits: ComputeLimits
  nowMs: number
  busy: (id: string) => boolean
  logger: ComputeLogger
}): Promise<number> {
  const { book, auditLog, logger } = parts
  const outdated = outdatedRecords(
    book.all().filter((record) => hasEnded(record) && !parts.busy(record.executionId)),
    parts.limits,
    parts.nowMs,
  )
  for (const { executionId } of outdated) {
    try {
      await auditLog?.remove?.(executionId)
      await book.forget(executionId)
    } catch (error) {
      logger.warn({ error, executionId }, 'an ended execution could not be removed')
    }
  }
  return outdated.length
}

/** Which of these ended executions go. */
export function outdatedRecords(
  ended: readonly ExecutionRecord[],
  limits: Pick<ComputeLimits, 'keepFinishedMs' | 'finishedMax' | 'finishedBytesMax'>,
  nowMs: number,
): ExecutionRecord[] {
  const newestFirst = ended.toSorted((a, b) => endMs(b) - endMs(a))
  let bytes = 0
  return newestFirst.filter((record, index) => {
    bytes += record.logBytes
    const ageMs = nowMs - endMs(record)
    const keepMs = limits.keepFinishedMs * (isAcknowledged(record) ? 1 : UNACKNOWLEDGED_FACTOR)
    return ageMs > keepMs || index >= limits.finishedMax || bytes > limits.finishedBytesMax
  })
}

const UNACKNOWLEDGED_FACTOR = 7

function endMs({ observed }: ExecutionRecord): number {
  return observed.endTimeMs ?? 0
}

function isAcknowledged({ acknowledged, observed }: ExecutionRecord): boolean {
  return acknowledged >= observed.sequence
}
