import type { OutputStream } from '../../model/index.js'
import type { OutputSink } from '../../ports/index.js'

/**
 * Splits the engine's stream of both outputs and hands the pieces to the sink as they come.
 *
 * Each frame is one byte (1 = stdout, 2 = stderr), three zeros, a big-endian length and that many bytes. A frame is
 * passed on piece by piece, so memory does not grow with it. While the sink's promise is pending nothing is read,
 * so the program is held back. Resolves at the end of the stream; rejects when the stream breaks.
 */
export async function deliverOutput(
  stream: AsyncIterable<Uint8Array>,
  sink: OutputSink,
  heard: () => void = () => {},
): Promise<void> {
  const header = Buffer.alloc(HEADER_BYTES)
  let headerFilled = 0
  let remaining = 0
  for await (const chunk of stream) {
    let offset = 0
    heard()
    while (offset < chunk.length) {
      if (remaining === 0) {
        const taken = Math.min(HEADER_BYTES - headerFilled, chunk.length - offset)
        header.set(chunk.subarray(offset, offset + taken), headerFilled)
        headerFilled += taken
        offset += taken
        if (headerFilled < HEADER_BYTES) continue
        headerFilled = 0
        remaining = header.readUInt32BE(4)
        continue
      }
      const piece = chunk.subarray(offset, offset + remaining)
      offset += piece.length
      remaining -= piece.length
      await sink.write(streamOf(header[0]), piece)
      heard()
    }
  }
}

const HEADER_BYTES = 8

function streamOf(kind: number | undefined): OutputStream {
  return kind === 2 ? 'stderr' : 'stdout'
}
