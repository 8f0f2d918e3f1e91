import type Docker from 'dockerode'
import { WeirError } from '../../errors.js'
import type { OutputStream } from '../../model/index.js'
import { askForStream } from './engine-stream.js'

/**
 * The engine's own copy of a container's output, written while the container runs, whoever watches. The only driver that
 * keeps bytes as they are; two files, of which the older one goes when the newer one is full.
 */
export function keptOutputLog(bytesMax: number): { Type: string; Config: Record<string, string> } {
  return {
    Type: KEPT_DRIVER,
    Config: { 'max-size': String(fileBytes(bytesMax)), 'max-file': '2', compress: 'false' },
  }
}

export const KEPT_DRIVER = 'local'

/** How large one file may get, read back from a container's settings; 0 when its output is not kept. */
export function keptFileBytes(
  config: { Type?: string; Config?: Record<string, string> } | undefined,
): number {
  return config?.Type === KEPT_DRIVER ? Number(config.Config?.['max-size'] ?? 0) : 0
}

/** One entry of the engine's log, as it was written. */
export interface KeptEntry {
  stream: OutputStream
  /** When the engine got it: RFC 3339 with nanoseconds, as the engine writes it. */
  time: string
  data: Buffer
}

/**
 * Reads the engine's log from its beginning, with `follow` until the container ends. Rejects when the engine's answer breaks or cannot be
 * read. Comes in batches, as they arrive. Destroyed by leaving the loop.
 */
export async function* readKeptEntries(
  container: Docker.Container,
  { follow }: { follow: boolean },
  signal: AbortSignal,
): AsyncGenerator<KeptEntry[]> {
  const options = { stdout: true, stderr: true, timestamps: true, follow }
  const stream = await askForStream(container, { method: 'GET', what: 'logs', options })
  const close = () => stream.destroy()
  signal.addEventListener('abort', close, { once: true })
  try {
    if (signal.aborted) return
    yield* entriesOf(stream)
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    signal.removeEventListener('abort', close)
    stream.destroy()
  }
}

/** Splits the engine's answer: frames of 8 bytes head (1 = stdout, 2 = stderr; length), the time, a blank, the entry. */
export async function* entriesOf(stream: AsyncIterable<Uint8Array>): AsyncGenerator<KeptEntry[]> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of stream) {
    const bytes = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk])
    const batch: KeptEntry[] = []
    let at = 0
    while (at + HEAD_BYTES <= bytes.length) {
      const length = bytes.readUInt32BE(at + 4)
      if (length > ENTRY_BYTES_MAX) throw unreadable(`an entry of ${length} bytes`)
      const end = at + HEAD_BYTES + length
      if (end > bytes.length) break
      const blank = bytes.indexOf(0x20, at + HEAD_BYTES)
      if (blank < 0 || blank >= end) throw unreadable('an entry without time')
      batch.push({
        stream: bytes[at] === 2 ? 'stderr' : 'stdout',
        time: bytes.toString('latin1', at + HEAD_BYTES, blank),
        data: bytes.subarray(blank + 1, end),
      })
      at = end
    }
    rest = bytes.subarray(at)
    yield batch
  }
  if (rest.length > 0) throw unreadable('half an entry')
}

/**
 * Makes of the entries of one stream the bytes that were written.
 *
 * The engine cuts output into lines, and lines that are longer than its buffer into pieces of that size. A line comes with its
 * newline, a line's last piece without, and what was written after the last newline without as well. Pieces of one
 * line have one time, which tells them from each other: a piece that is shorter than the first of its line is the last one,
 * so a newline followed it, which is handed out with it. (Newer engines hand it out themselves.)
 *
 * One thing cannot be told: whether a newline followed the last piece of a long line that is the very last output of the
 * program. It is taken for granted.
 */
export class LineRestorer {
  #pieceBytes = 0
  #pieceTime = ''

  restore({ time, data }: KeptEntry): Buffer[] {
    if (data.at(-1) === NEWLINE) {
      this.#pieceTime = ''
      return [data]
    }
    if (this.#pieceTime !== time) {
      this.#pieceTime = time
      this.#pieceBytes = data.length
      return [data]
    }
    if (data.length >= this.#pieceBytes) return [data]
    this.#pieceTime = ''
    return [data, NEWLINE_BYTE]
  }
}

/** At most what an entry takes in the engine's files. */
export function entryBytesMax(data: Uint8Array): number {
  return data.length + ENTRY_OVERHEAD_MAX
}

/** Milliseconds since the epoch of an engine's time, rounded down. */
export function timeMsOf(time: string): number {
  return Date.parse(time.replace(/(\.\d{3})\d*/, '$1'))
}

const HEAD_BYTES = 8
const ENTRY_BYTES_MAX = 2 * 1024 * 1024
/** Lengths, time, stream, and the mark of a line's pieces with its 64 digits. */
const ENTRY_OVERHEAD_MAX = 128
const NEWLINE = 10
const NEWLINE_BYTE = Buffer.from('\n')

/**
 * A quarter more than the node keeps: within that nothing is ever thrown away, so all that the node would keep can be had
 * again byte by byte.
 */
function fileBytes(bytesMax: number): number {
  return Math.ceil(Math.min(bytesMax, FILE_BYTES_MOST) * 1.25) + 1024 * 1024
}

const FILE_BYTES_MOST = 1024 ** 4

function unreadable(what: string): WeirError {
  return new WeirError('engine.failed', `Cannot read the engine's copy of the output: ${what}`, {
    retryable: true,
  })
}
