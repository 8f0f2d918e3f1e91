import { createHash } from 'node:crypto'
import { type Stats, constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { CODE_HEAD_BYTES } from './sandbox/job.js'

/** Links and the time of the last use change without the content; these do not. */
export function looksOf({ ino, size, mtimeMs }: Stats): string {
  return `${ino} ${size} ${mtimeMs}`
}

const PIECE_BYTES = 1024 * 1024
/** A sandbox may have left anything there. */
const READ_ONLY_FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** What stands in a file's head, and what should. Rejects when it is no file that can be read. */
export async function readChecksum(path: string, key: string): Promise<{ head: Buffer; checksum: Buffer }> {
  const file = await open(path, READ_ONLY_FILE)
  try {
    const hash = createHash('sha256').update(key)
    const head = Buffer.alloc(CODE_HEAD_BYTES)
    await file.read(head, 0, head.length, 0)
    for await (const piece of pieces(file)) hash.update(piece)
    return { head, checksum: hash.digest() }
  } finally {
    await file.close()
  }
}

/** Returns the size of the new file; undefined when `from` is not one that can be kept. The head of `from` is room only. */
export async function copyWithChecksum(
  from: string,
  to: string,
  key: string,
  bytesMax: number,
): Promise<number | undefined> {
  const source = await open(from, READ_ONLY_FILE)
  try {
    const found = await source.stat()
    const fits = found.size > CODE_HEAD_BYTES && found.size <= bytesMax
    if (!found.isFile() || !fits) return undefined
    const hash = createHash('sha256').update(key)
    const file = await open(to, 'w', 0o400)
    try {
      let at = CODE_HEAD_BYTES
      for await (const piece of pieces(source)) {
        hash.update(piece)
        await file.write(piece, 0, piece.length, at)
        at += piece.length
      }
      await file.write(hash.digest(), 0, CODE_HEAD_BYTES, 0)
      return at
    } finally {
      await file.close()
    }
  } finally {
    await source.close()
  }
}

/** What follows the head, in pieces that do not hold up anybody else. Each is valid until the next. */
async function* pieces(file: FileHandle): AsyncGenerator<Buffer> {
  const buffer = Buffer.alloc(PIECE_BYTES)
  for (let at = CODE_HEAD_BYTES; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
    at += bytesRead
  }
}
