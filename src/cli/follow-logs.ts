import type { LogChunk, LogsRequest, WeirClient } from '../client/index.js'
import type { Reconnection } from './reconnection.js'

/** Clocks of nodes may differ by so much: what was written since is asked for again, and what is known is left out. */
const CLOCKS_DIFFER_MS = 60_000

/**
 * The output of a job as it comes, each byte once, also when the server goes away and comes back. A server that does not say
 * when something was written (Bacalhau's) cannot be asked to go on: then the loss of the connection is an error.
 */
export async function* followLogs(
  client: Pick<WeirClient, 'logs'>,
  jobId: string,
  request: LogsRequest,
  reconnection: Reconnection,
  signal: AbortSignal,
): AsyncIterable<LogChunk> {
  const places = new Map<string, Place>()
  for (;;) {
    try {
      for await (const chunk of client.logs(jobId, goOn(request, places), { signal })) {
        const fresh = chunk.notice === undefined ? unseen(chunk, places) : chunk
        if (fresh !== undefined) yield fresh
      }
      return
    } catch (error) {
      if (places.has('')) throw error
      await reconnection.wait(error, signal)
      for (const place of places.values()) place.skips = { bytes: place.bytes }
    }
  }
}

/** How far the output of one execution is known. */
interface Place {
  /** When the last piece was written, by the clock of its node. */
  timeMs: number
  /** Bytes that are known of what was written then. */
  bytes: number
  /** After a loss, until something new comes: the known bytes of that time that are still to come again. */
  skips?: { bytes: number }
}

/** What to ask for: after a loss nothing that is certainly known. */
function goOn(request: LogsRequest, places: ReadonlyMap<string, Place>): LogsRequest {
  if (places.size === 0) return request
  const knownMs = Math.min(...[...places.values()].map(({ timeMs }) => timeMs)) - CLOCKS_DIFFER_MS
  const { fromEnd: _fromEnd, tailLines: _tailLines, sinceMs = 0, ...same } = request
  return { ...same, sinceMs: Math.max(sinceMs, knownMs, 0) }
}

/** What of a piece was not there before; remembers it. */
function unseen(chunk: LogChunk, places: Map<string, Place>): LogChunk | undefined {
  const timeMs = Date.parse(chunk.time)
  const key = Number.isNaN(timeMs) ? '' : chunk.executionId
  const place = places.get(key)
  if (place?.skips !== undefined) {
    if (timeMs < place.timeMs) return undefined
    const known = timeMs === place.timeMs ? Math.min(place.skips.bytes, chunk.data.length) : 0
    place.skips.bytes -= known
    if (known === chunk.data.length) return undefined
    place.skips = undefined
    return remember({ ...chunk, data: chunk.data.subarray(known) })
  }
  return remember(chunk)

  function remember(fresh: LogChunk): LogChunk {
    const bytes = fresh.data.length + (place?.timeMs === timeMs ? place.bytes : 0)
    places.set(key, { timeMs, bytes })
    return fresh
  }
}
