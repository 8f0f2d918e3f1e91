import type { WeirClient, WireHistoryItem } from '../client/index.js'
import type { Reconnection } from './reconnection.js'

/**
 * Every event of a job (of the version that is named; absent = the latest) from its beginning to its end, once each, also
 * when the server goes away and comes back. Rejects with the signal's reason, or with what cannot be waited for.
 */
export async function* watchJob(
  client: WeirClient,
  job: { id: string; version?: number },
  reconnection: Reconnection,
  signal: AbortSignal,
): AsyncIterable<WireHistoryItem> {
  let lastSeen = 0
  const request = { eventType: 'all', jobVersion: job.version } as const
  for (;;) {
    try {
      for await (const item of client.pollHistory(job.id, request, { signal })) {
        if (item.SeqNum <= lastSeen) continue
        lastSeen = item.SeqNum
        yield item
      }
      return
    } catch (error) {
      await reconnection.wait(error, signal)
    }
  }
}
