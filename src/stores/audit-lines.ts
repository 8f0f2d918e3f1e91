import { type FileHandle, open, stat } from 'node:fs/promises'
import type { AuditRecord } from '../model/index.js'

/** Where in its file a reader goes on who has read so far: the way from the beginning grows with each page. */
export class ReadPlaces {
  /** By file and sequence. */
  readonly #offsets = new Map<string, number>()

  take(path: string, after: number): number {
    const key = `${path} ${after}`
    const offset = this.#offsets.get(key) ?? 0
    this.#offsets.delete(key)
    return offset
  }

  put(path: string, after: number, offset: number): void {
    this.#offsets.set(`${path} ${after}`, offset)
    const oldest = this.#offsets.keys().next().value
    if (this.#offsets.size > READ_PLACES_MAX && oldest !== undefined) this.#offsets.delete(oldest)
  }
}

const READ_PLACES_MAX = 1_000

/** Records with `sequence > after`, at most `limit`. */
export async function readRecords(
  path: string,
  places: ReadPlaces,
  after: number,
  limit: number,
): Promise<AuditRecord[]> {
  const known = places.take(path, after)
  // The file may be another one than before, or its last lines may have been taken back.
  const page =
    (known === 0 ? undefined : await readPage(path, { from: known, next: after + 1, limit })) ??
    (await readPage(path, { from: 0, after, limit }))
  const last = page?.records.at(-1)?.sequence ?? after
  if (page !== undefined && page.end > 0) places.put(path, last, page.end)
  return page?.records ?? []
}

/** Undefined when the record at `from` is not number `next`, or `from` is not in the file. */
async function readPage(
  path: string,
  { from, after = 0, next, limit }: { from: number; after?: number; next?: number; limit: number },
): Promise<{ records: AuditRecord[]; end: number } | undefined> {
  const records: AuditRecord[] = []
  let end = from
  if (next !== undefined && (await sizeOf(path)) < from) return undefined
  for await (const read of linesOf(path, from)) {
    if (records.length >= limit) break
    const record = parseRecord(read.line)
    if (next !== undefined && records.length === 0 && record?.sequence !== next) return undefined
    // A line that is being written right now is read the next time.
    if (record === undefined) break
    end = read.end
    if (record.sequence > after) records.push(record)
  }
  return { records, end }
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  )
}

/** Complete lines of a file, each with the place where it ends; none when it does not exist. Only LF ends a line. */
export async function* linesOf(path: string, from = 0): AsyncGenerator<{ line: string; end: number }> {
  const file = await openIfThere(path)
  if (file === undefined) return
  try {
    let rest = Buffer.alloc(0)
    let at = from
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(65_536), 0, 65_536, at + rest.length)
      if (bytesRead === 0) return
      rest = Buffer.concat([rest, buffer.subarray(0, bytesRead)])
      let start = 0
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10, start)) {
        yield { line: rest.toString('utf8', start, end), end: at + end + 1 }
        start = end + 1
      }
      rest = rest.subarray(start)
      at += start
    }
  } finally {
    await file.close()
  }
}

/** Undefined when there is no such file. */
export async function openIfThere(path: string): Promise<FileHandle | undefined> {
  return open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
}

/** Undefined for a line that is no record. */
export function parseRecord(line: string): AuditRecord | undefined {
  try {
    const value = JSON.parse(line) as AuditRecord
    return typeof value.sequence === 'number' && typeof value.hash === 'string' ? value : undefined
  } catch {
    return undefined
  }
}
