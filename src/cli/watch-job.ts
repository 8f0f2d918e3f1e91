import { setTimeout as sleep } from 'node:timers/promises'
import { isWeirError } from '../errors.js'
import type { WeirClient, WireHistoryItem } from '../client/index.js'

/** Pauses after which a broken connection is tried again. */
const RETRY_PAUSES_MS = [100, 300, 1000, 2000, 4000] as const

/**
 * Every event of a job (of the version that is named; absent = the latest) from its beginning to its end, once each. A connection that breaks is opened again a few times;
 * `onRetry` hears of it. Rejects with the signal's reason, or with the last error.
 */
export async function* watchJob(
  client: WeirClient,
  job: { id: string; version?: number },
  signal: AbortSignal,
  onRetry: (error: unknown) => void,
): AsyncIterable<WireHistoryItem> {
  let lastSeen = 0
  const request = { eventType: 'all', jobVersion: job.version } as const
  for (let failures = 0; ; ) {
    try {
      for await (const item of client.pollHistory(job.id, request, { signal })) {
        failures = 0
        if (item.SeqNum <= lastSeen) continue
        lastSeen = item.SeqNum
        yield item
      }
      return
    } catch (error) {
      const pause = RETRY_PAUSES_MS[failures]
      const isTransient = isWeirError(error, 'api.unreachable') || (isWeirError(error) && error.retryable)
      if (!isTransient || pause === undefined || signal.aborted) throw error
      failures += 1
      onRetry(error)
      await sleep(pause, undefined, { signal })
    }
  }
}
