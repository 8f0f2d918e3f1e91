import { createHash } from 'node:crypto'
import { open, rm } from 'node:fs/promises'
import { writeAll } from './write-all.js'

export interface WriteHashedOptions {
  /** Told the bytes so far before each chunk is written; may throw, for limits. */
  onChunk: (bytes: number) => void
  /** Default: readable by its owner only. */
  mode?: number
  /** Wait until everything is on the disk. */
  durable: boolean
}

/**
 * Writes a stream to a new file and hashes it on the way. Rejects with what the stream, `onChunk` or the system failed
 * with; no file is left then.
 */
export async function writeHashed(
  path: string,
  content: AsyncIterable<Uint8Array>,
  { onChunk, mode = 0o600, durable }: WriteHashedOptions,
): Promise<{ sha256: Buffer; bytes: number }> {
  const hash = createHash('sha256')
  const file = await open(path, 'wx', mode)
  let bytes = 0
  try {
    try {
      for await (const chunk of content) {
        onChunk(bytes + chunk.byteLength)
        hash.update(chunk)
        await writeAll(file, chunk, bytes)
        bytes += chunk.byteLength
      }
      if (durable) await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    await rm(path, { force: true })
    throw error
  }
  return { sha256: hash.digest(), bytes }
}
