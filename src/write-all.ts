import type { FileHandle } from 'node:fs/promises'

/** Writes every byte of `chunk` at `position`; a single write may take only a part. Rejects with the system's error. */
export async function writeAll(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < chunk.byteLength; ) {
    const { bytesWritten } = await file.write(chunk, done, chunk.byteLength - done, position + done)
    done += bytesWritten
  }
}
