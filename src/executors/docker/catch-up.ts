import type Docker from 'dockerode'
import type { OutputStream } from '../../model/index.js'
import type { OutputSink } from '../../ports/index.js'
import { LineRestorer, entryBytesMax, readKeptEntries, timeMsOf } from './kept-output.js'

/** What was handed to the sink, by whatever process: bytes of each stream, and when the last of them came (0 = nothing). */
export interface Delivered {
  stdout: number
  stderr: number
  untilMs: number
}

export interface CatchUpInput {
  container: Docker.Container
  /** Size of one of the engine's files; see `keptFileBytes`. */
  fileBytes: number
  sink: OutputSink
  /** Grows with every delivery, so that a broken reading can be begun again. */
  delivered: Delivered
  /** Called with all output of the container from its beginning, delivered before or not. */
  seen?: (stream: OutputStream, data: Uint8Array) => void
  /** Called whenever the engine says something. */
  heard: () => void
}

/**
 * Delivers what the engine has kept of a container's output and was not delivered yet: exactly the bytes behind those, each
 * once. With `follow` until the container ends, otherwise what is there now.
 *
 * That needs the engine's copy from its first byte, which is certain as long as the copy is smaller than one of its files.
 * If it is not, the sink is told that output may be missing, and gets what is certainly new: what the engine heard after the
 * last delivery. Nothing is ever delivered twice.
 *
 * While the sink's promise is pending nothing is read. Rejects when the reading breaks.
 */
export async function catchUp(
  input: CatchUpInput,
  { follow }: { follow: boolean },
  signal: AbortSignal,
): Promise<void> {
  const { container, fileBytes, sink, delivered, heard } = input
  const fromStart = await isWhole(input, signal)
  if (!fromStart) sink.missing?.()
  const restorers = { stdout: new LineRestorer(), stderr: new LineRestorer() }
  const seen = { stdout: 0, stderr: 0 }
  // Fixed: entries of one millisecond belong together.
  const { untilMs } = delivered
  let bytes = 0
  for await (const batch of readKeptEntries(container, { follow }, signal)) {
    heard()
    const fresh = new Gathering()
    const last = batch.at(-1)
    const untilMsOfBatch = last === undefined ? 0 : timeMsOf(last.time)
    for (const entry of batch) {
      const { stream } = entry
      bytes += entryBytesMax(entry.data)
      for (const data of restorers[stream].restore(entry)) {
        input.seen?.(stream, data)
        const skip = fromStart
          ? Math.min(data.length, Math.max(0, delivered[stream] - seen[stream]))
          : timeMsOf(entry.time) <= untilMs
            ? data.length
            : 0
        seen[stream] += data.length
        if (skip < data.length) fresh.add(stream, data.subarray(skip))
      }
    }
    // While we read, the engine may throw away what we have not reached.
    if (fromStart && bytes >= fileBytes) sink.missing?.()
    for (const { stream, parts } of fresh.runs) {
      const data = parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts)
      delivered[stream] += data.length
      delivered.untilMs = Math.max(delivered.untilMs, untilMsOfBatch)
      await sink.write(stream, data)
      heard()
    }
  }
}

/** True when the engine has certainly thrown nothing away: all that it holds fits into one file. */
async function isWhole({ container, fileBytes, heard }: CatchUpInput, signal: AbortSignal): Promise<boolean> {
  let bytes = 0
  for await (const batch of readKeptEntries(container, { follow: false }, signal)) {
    heard()
    for (const { data } of batch) bytes += entryBytesMax(data)
    if (bytes >= fileBytes) return false
  }
  return true
}

/** Neighbouring pieces of one stream, together. */
class Gathering {
  readonly runs: { stream: OutputStream; parts: Uint8Array[] }[] = []

  add(stream: OutputStream, data: Uint8Array): void {
    const last = this.runs.at(-1)
    if (last?.stream === stream) last.parts.push(data)
    else this.runs.push({ stream, parts: [data] })
  }
}
